"""An ensemble is scored beside its members, and refused where they do not answer the same questions."""

import csv
import json
import shutil
import string
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from regkit.base.errors import RunError
from regkit.runs import evidence
from regkit.runs.ensemble import Answered, answer, ensemble, mean_of
from regkit.tasks.task import Examples, Task
from regkit.testing import tiny_tasks
from regkit.training.intervals import intervals
from tests.helpers import SPECIAL, regkit, write_csv, write_encoder, write_tasks

SHORT = ["--batch-size", "8", "--steps", "4", "--lr", "0.01", "--seed"]
WORDS = ["the", "is", "cake", "soup", *string.ascii_lowercase]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `one`, `two` of another encoder and tokenizer, and `less` of fewer tasks."""
    folder = tmp_path_factory.mktemp("runs")
    write_tasks(folder / "data")
    write_encoder(folder / "encoder")
    write_encoder(folder / "other", vocabulary=[*SPECIAL, *WORDS, *(f"##{w}" for w in WORDS)], hidden_size=24)
    for name, seed, *more in (
        ("one", "1", "--encoder", "encoder"),
        ("two", "2", "--encoder", "other"),
        ("less", "1", "--encoder", "encoder", "--tasks", "mood"),
    ):
        ran = regkit("train", "--data", "data", *SHORT, seed, *more, "--output", name, cwd=folder)
        assert ran.status == 0, ran.err
    return folder


def output(run: Path, task: str) -> torch.Tensor:
    return answer(run, "dev").outputs[task]


def test_an_ensemble_of_two_encoders_is_scored_by_the_mean_of_their_answers(runs: Path) -> None:
    found = json.loads(regkit("eval", "one", "two", "--ensemble", "--json", cwd=runs).out)
    assert found["members"] == {
        name: json.loads(regkit("eval", name, "--json", cwd=runs).out)["dev"] for name in ("one", "two")
    }
    for task, values in found["mean"].items():
        for score, value in values.items():
            assert value == pytest.approx(sum(found["members"][name][task][score] for name in ("one", "two")) / 2)
    one, two = (output(runs / name, "mood") for name in ("one", "two"))
    labels = torch.arange(20) % 3
    chances = (one.double().softmax(-1) + two.double().softmax(-1)) / 2
    assert found["dev"]["mood"]["accuracy"] == pytest.approx(float((chances.argmax(-1) == labels).double().mean()))
    assert found["dev"]["mood"]["loss"] == pytest.approx(-float(chances.log()[range(20), labels].mean()), rel=1e-5)
    near = (output(runs / "one", "near") + output(runs / "two", "near")) / 2
    truth = torch.tensor([n % 11 / 2 for n in range(20)])
    assert found["dev"]["near"]["loss"] == pytest.approx(float((near - truth).square().mean()), rel=1e-5)


def test_an_ensemble_is_printed_beside_its_members_and_writes_reports_and_predictions(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regkit.cli.evaluate.intervals", partial(intervals, resamples=3))
    ran = regkit("eval", "one", "two", "--ensemble", "--report", "--predictions", tmp_path, cwd=runs)
    assert ran.status == 0, ran.err
    titles = ["one", "two", "mean of 2 runs", "ensemble of 2 runs"]
    shown = [line.partition(": dev: ")[0] for line in ran.out.splitlines() if ": dev: " in line]
    assert [title for title in dict.fromkeys(shown) if title in titles] == titles
    assert "mood: calibration error" in ran.out
    rows = list(csv.DictReader((tmp_path / "same-dev.csv").read_text().splitlines()))
    chances = (output(runs / "one", "same").sigmoid() + output(runs / "two", "same").sigmoid()) / 2
    assert [row["same"] for row in rows] == [str(int(chance > 0.5)) for chance in chances.tolist()]


def test_several_runs_are_scored_beside_each_other(runs: Path) -> None:
    found = json.loads(regkit("eval", "one", "less", "--json", cwd=runs).out)["runs"]
    assert {name: list(each["dev"]) for name, each in found.items()} == {
        "one": ["mood", "same", "near"],
        "less": ["mood"],
    }
    ran = regkit("eval", "one", "less", cwd=runs)
    assert [line.split(": ")[0] for line in ran.out.splitlines() if ": dev: " in line] == ["one"] * 3 + ["less"]


def test_a_run_that_has_kept_its_answers_and_not_its_weights_is_a_member(runs: Path, tmp_path: Path) -> None:
    whole = json.loads(regkit("eval", "one", "two", "--ensemble", "--json", cwd=runs).out)
    for name in ("one", "two"):
        shutil.copytree(runs / name, tmp_path / name, symlinks=True)
    found = answer(runs / "two", "dev")
    kept = {
        task.name: evidence.Evidence(task.objective, found.outputs[task.name], labels, task.splits["dev"].ids)
        for task in found.tasks
        if (labels := task.splits["dev"].labels) is not None
    }
    evidence.save(tmp_path / "two", {"dev": kept})
    shutil.rmtree(tmp_path / "two" / "checkpoints")
    for name in ("best", "last"):
        (tmp_path / "two" / name).unlink()
    again = json.loads(regkit("eval", "one", "two", "--ensemble", "--json", cwd=tmp_path).out)
    assert again["dev"] == whole["dev"]
    assert again["warnings"][0].startswith("two has no weights: these are the answers that it has kept")
    assert json.loads(regkit("eval", "two", "--json", cwd=tmp_path).out)["dev"] == whole["members"]["two"]
    refused = regkit("eval", "two", "--split", "test", cwd=tmp_path)
    assert refused.err == "regkit: two has no weights, and has kept its answers on dev alone; name another --split.\n"
    refused = regkit("eval", "two", "--precision", "bf16", cwd=tmp_path)
    assert refused.err == "regkit: two has no weights to answer in bf16; leave out --precision for what it kept.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one", "--ensemble"], "--ensemble needs two runs or more; name their folders."),
        (["--ensemble"], "--ensemble needs two runs or more; name their folders."),
        (["one", "./one", "--ensemble"], "one is the same run as one; name each once."),
        (["one", "twoo", "--ensemble"], "there is no run twoo. Did you mean 'two'?"),
        (["one", "two", "--report"], "--report is for one run or an ensemble; name one RUN, or add --ensemble."),
        (["one", "two", "--predictions", "p"], "--predictions is for one run or an ensemble; name one RUN, or add"),
        (["one", "less", "--ensemble"], "the tasks are mood, near, same in one, and mood in less; an ensemble needs runs of"),
    ],
)  # fmt: skip
def test_what_has_no_ensemble_is_refused_in_a_sentence(words: list[str], said: str, runs: Path) -> None:
    ran = regkit("eval", *words, cwd=runs)
    assert ran.status == 2
    assert ran.err.startswith(f"regkit: {said}")
    assert ran.err.count("\n") == 1


def test_runs_on_other_rows_or_other_classes_have_no_ensemble(tmp_path: Path) -> None:
    for name, classes in (("a", 2), ("b", 2), ("c", 3)):
        rows = [{"text": f"the {name}{n}", "label": f"{'xyz'[n % classes]}"} for n in range(12)]
        write_csv(tmp_path / f"{name}.csv", rows)
        write_encoder(tmp_path / "encoder") if name == "a" else None
        given = ["--data", f"{name}.csv", "--tasks", "mine", "--dev", "0.5", "--encoder", "encoder", "--steps", "1"]
        assert regkit("train", *given, "--output", name, cwd=tmp_path).status == 0
    said = regkit("eval", "a", "b", "--ensemble", cwd=tmp_path).err
    assert said.startswith(
        "regkit: task 'mine' has other dev examples in b than in a; name by --data a table that neither"
    )
    assert (
        regkit("eval", "a", "b", "--ensemble", "--data", "a.csv", cwd=tmp_path).status == 2
    )  # the rows that a held out
    assert regkit("eval", "a", "b", "--ensemble", "--data", "c.csv", cwd=tmp_path).status == 2
    said = regkit("eval", "a", "c", "--ensemble", cwd=tmp_path).err
    assert "task 'mine' is Classification(classes=2, names=('x', 'y')) in a, and Classification(" in said


def answered(name: str, tasks: list[Task], scale: float = 1.0) -> Answered:
    outputs = {task.name: scale * torch.ones(len(task.splits["dev"]), task.objective.width) for task in tasks}
    return Answered(name, tasks, outputs, {task.name: ("id", "label") for task in tasks})


def test_a_kind_whose_answers_have_no_mean_is_refused_by_name() -> None:
    class Own:
        kind = "own"
        width = 1

        def __repr__(self) -> str:
            return "Own()"

    own: Any = Own()
    tasks = [Task("mine", own, tiny_tasks()[0].splits)]
    with pytest.raises(RunError, match="task 'mine' is of kind own, whose answers have no mean"):
        ensemble([answered("a", tasks), answered("b", tasks)], "dev")


@pytest.mark.parametrize("part", ["ids", "labels", "texts"])
def test_examples_are_compared_by_name_label_and_text(part: str) -> None:
    """A run that has kept its answers alone has no texts, and those are not compared with anything."""
    task = tiny_tasks()[0]
    examples = cast(Examples, task.splits["dev"])
    texts = [(f"text {name}",) for name in examples.ids]
    kept = replace(task, splits={"dev": replace(examples, texts=texts)})
    assert examples.labels is not None
    changed: dict[str, Any] = {"ids": examples.ids[::-1], "labels": examples.labels.flip(0), "texts": texts[::-1]}
    other = replace(task, splits={"dev": replace(examples, **({"texts": texts} | {part: changed[part]}))})
    ensemble([answered("a", [kept]), answered("b", [task])], "dev")
    with pytest.raises(RunError, match="task 'classes' has other dev examples in b than in a"):
        ensemble([answered("a", [kept]), answered("b", [other])], "dev")


def test_another_number_of_examples_is_said() -> None:
    task = tiny_tasks()[0]
    examples = cast(Examples, task.splits["dev"])
    fewer = replace(task, splits={"dev": examples.only(range(len(examples) - 1))})
    said = f"task 'classes' has {len(examples)} dev examples in a, and {len(examples) - 1} in b; name by --data"
    with pytest.raises(RunError, match=said):
        ensemble([answered("a", [task]), answered("b", [fewer])], "dev")


def test_the_mean_is_that_of_each_score() -> None:
    assert mean_of([{"a": {"x": 1.0, "y": 0.0}}, {"a": {"x": 2.0, "y": 0.5}}]) == {"a": {"x": 1.5, "y": 0.25}}
