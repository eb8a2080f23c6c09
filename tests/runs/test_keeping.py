"""Which checkpoint is the best, when a stage ends early, which ones stay, and how a number that is not finite is explained."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regkit import Binary, Classification, ConfigError, MaskedWords, Ordinal, PluginError, Regression, Stage, hookimpl
from regkit.runs.keeping import Keeping, check_monitor, monitored
from regkit.testing import tiny_run, tiny_task
from regkit.testing.tiny import unscored
from regkit.training import suspects
from tests.helpers import regkit

SCORES = {"a": {"accuracy": 0.5, "loss": 1.5}, "b": {"accuracy": 0.7, "loss": 0.5}}


def tasks() -> list:
    return [tiny_task(name, Classification(3)) for name in "ab"]


def test_the_best_goes_by_the_mean_or_by_one_score_that_is_high_or_low() -> None:
    stage = Stage("s", ["a", "b"])
    assert monitored("mean", stage, tasks(), SCORES) == pytest.approx(0.6)
    assert monitored("b.accuracy", stage, tasks(), SCORES) == 0.7
    assert monitored("a.loss", stage, tasks(), SCORES) == -1.5
    words = tiny_task("mlm", MaskedWords(9))
    assert monitored("mlm.perplexity", Stage("s", ["mlm"]), [words], {"mlm": {"perplexity": 8.0}}) == -8


def test_of_a_tasks_own_score_less_is_better_where_the_kind_says_so() -> None:
    stars, mood = tiny_task("stars", Ordinal(4, metric="mae")), tiny_task("mood", Classification(3, metric="macro_f1"))
    scores = {"stars": {"mae": 0.5, "loss": 1.0}, "mood": {"macro_f1": 0.75, "accuracy": 0.1, "loss": 1.0}}
    assert monitored("mean", Stage("s", ["stars", "mood"]), [stars, mood], scores) == (0.75 - 0.5) / 2


def test_a_score_that_there_is_not_is_refused_before_training() -> None:
    a, b = tasks()
    known = r"a\.accuracy, a\.loss, a\.macro_f1, mean\."
    for monitor in ("a.acuracy", "b.accuracy", "accuracy", "", "mean.accuracy"):
        with pytest.raises(
            ConfigError, match=rf"^monitor is '{monitor}', and there is no such score\. .*Available: {known}"
        ):
            check_monitor(monitor, [a, *unscored([b])])
    for monitor in ("mean", "a.loss", "b.macro_f1"):
        check_monitor(monitor, [a, b])


def test_a_stage_without_the_task_goes_by_the_mean() -> None:
    assert monitored("b.accuracy", Stage("s", ["a"]), tasks(), {"a": SCORES["a"]}) == 0.5


def test_a_task_whose_own_score_is_not_defined_does_not_count_in_the_mean() -> None:
    stage, given = Stage("s", ["a", "b"]), [tasks()[0], tiny_task("b", Regression(0, 5))]
    assert monitored("mean", stage, given, {"a": SCORES["a"], "b": {"loss": 9.0}}) == 0.5
    assert monitored("mean", stage, given, {"b": {"loss": 9.0}}) == -9
    assert monitored("mean", stage, given, {}) == 0


def test_a_score_that_is_not_finite_is_no_better_than_any() -> None:
    keeping = Keeping()
    values = [math.nan, -math.inf, math.inf, math.nan, -7.0, math.nan, -6.0]
    judged = [keeping.judge("one", str(step), value, SCORES) for step, value in enumerate(values)]
    assert judged == [True, False, False, False, True, False, True]  # a run without a finite one has its first
    assert keeping.value == -6


def test_equal_is_not_better_and_another_stage_begins_anew() -> None:
    keeping = Keeping()
    judged = [keeping.judge("one", str(step), value, SCORES) for step, value in enumerate([0.3, 0.5, 0.5, 0.4, 0.6])]
    assert judged == [True, True, False, False, True]
    assert (keeping.best, keeping.since) == ("4", 0)
    assert keeping.judge("two", "5", 0.1, SCORES)
    assert keeping.best == "5"


def test_without_scores_the_newest_is_the_best() -> None:
    keeping = Keeping()
    assert all(keeping.judge("s", name, 0.0, {}) for name in "abc")
    assert keeping.best == "c"


def test_the_newest_stay_each_with_the_best_of_its_time() -> None:
    keeping = Keeping()
    kept = []
    for name, value in [("1", 0.9), ("2", 0.1), ("3", 0.2), ("4", 0.95), ("5", 0.3), ("6", 0.3)]:
        keeping.judge("s", name, value, SCORES)
        keeping.note(name, keep=2)
        kept.append(sorted(keeping.kept()))
    assert kept == [["1"], ["1", "2"], ["1", "2", "3"], ["1", "3", "4"], ["4", "5"], ["4", "5", "6"]]
    keeping.note("6", keep=2)  # the same one again
    assert keeping.kept() == {"4", "5", "6"}


def scores(folder: Path) -> dict[int, Mapping[str, Mapping[str, float]]]:
    """By step."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf8").splitlines()]
    return {record["step"]: record["scores"]["dev"] for record in records if "scores" in record}


def test_a_run_keeps_the_best_by_the_score_that_is_named_and_ends_when_patience_does(
    place: Path, tmp_path: Path
) -> None:
    """A low loss is better; with a high learning rate it soon gets no lower."""
    arguments = ["--encoder", place / "encoder", "--data", place / "data", "--tasks", "near", "--lr", 0.1]
    arguments += ["--epochs", 30, "--keep", 3, "--patience", 2, "--monitor", "near.loss"]
    ran = regkit("train", *arguments, "--output", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    losses = {step: found["near"]["loss"] for step, found in scores(tmp_path / "run").items() if step}
    best = min(losses, key=lambda step: losses[step])
    last = max(losses)
    assert last < 30
    assert last == best + 2
    assert f"stage finetune ends at step {last}: no better score in 2 evaluations" in ran.out
    assert (tmp_path / "run" / "best").resolve().name == f"finetune-{best}"
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {
        f"finetune-{step}" for step in range(best, last + 1)
    }
    evaluated = json.loads(regkit("eval", "run", "--json", cwd=tmp_path).out)["dev"]
    assert evaluated["near"]["loss"] == pytest.approx(losses[best])
    again = regkit("train", "--resume", "run", cwd=tmp_path)
    assert "run is finished" in again.out


def test_a_run_whose_score_is_never_finite_says_so_and_ends_with_its_first_checkpoint(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Binary, "metrics", lambda *given: {"accuracy": math.nan, "loss": 1.0})
    arguments = ["--encoder", place / "encoder", "--data", place / "data", "--tasks", "same", "--epochs", 2]
    ran = regkit("train", *arguments, "--output", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    for step in (1, 2):
        assert f"\nmean is not finite after step {step}: any checkpoint with a finite one is better\n" in ran.out
    assert (tmp_path / "run" / "best").resolve().name == "finetune-1"
    (tmp_path / "run" / "finished.json").unlink()
    again = regkit("train", "--resume", "run", cwd=tmp_path)
    assert again.status == 0, again.err


@dataclass
class Spoils:
    """Spoils the numbers of task `classes` in one place."""

    where: str

    @hookimpl
    def extra_losses(self, task: object, output: Tensor) -> Mapping[str, Tensor]:
        if getattr(task, "name", "") != "classes":
            return {}
        zero = (output - output.detach()).square().sum()
        found = {"loss": output.sum() * torch.nan, "gradient": zero.sqrt()}
        return {"spoilt": found[self.where]} if self.where in found else {"fine": zero}

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        return gradients.sum(0) * (torch.nan if self.where == "combine_gradients" else 1.0)

    @hookimpl
    def before_step(self, model: torch.nn.Module) -> None:
        if self.where == "before_step":
            next(model.parameters()).grad.fill_(torch.inf)

    @hookimpl
    def choose_tasks(self, tasks: list) -> list:
        return tasks

    @hookimpl
    def epoch_steps(self) -> int:
        return 4


@pytest.mark.parametrize("where", ["loss", "gradient", "combine_gradients", "before_step"])
def test_a_suspect_is_named_by_term_plugin_and_rows(where: str) -> None:
    given = [tiny_task("classes", Classification(3), size=20), tiny_task("binary", Binary(), "cross_encoder", size=20)]
    trainer, composition = tiny_run(
        {"spoils": Spoils(where)}, given, micro_batch_tokens=20
    )  # so that there are micro-batches
    told: list[suspects.Suspect] = []

    class Ask:
        @hookimpl
        def skipped(self, model: torch.nn.Module, recompute: Callable[[], None]) -> None:
            told.extend(suspects.find_suspects(composition, model, recompute))
            raise PluginError("enough")

    composition.observe(Ask())
    with pytest.raises(PluginError):
        trainer.train()
    (suspect,) = told
    assert suspect.plugins == ["spoils"]
    if where in ("loss", "gradient"):
        assert (suspect.what, suspect.term, suspect.tasks) == (where, "spoilt", ["classes"])
        assert len(suspect.rows) == 5  # all of the batch, over its micro-batches
        assert str(suspect).startswith(
            f"the {where} of 'spoilt' in task 'classes' (plugin 'spoils') is not finite; rows "
        )
    else:
        assert (suspect.what, suspect.term, suspect.tasks) == ("gradient", None, ["classes", "binary"])
        assert len(suspect.rows) == 10
        assert str(suspect).endswith(" and 2 more")
