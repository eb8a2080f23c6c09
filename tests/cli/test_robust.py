"""`regkit eval --robust`: what a run loses on changed texts, for each task."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regkit.tasks.batch import Batch
from regkit.training.attack import Attack
from tests.helpers import regkit


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    given = ["--encoder", "encoder", "--data", "data", "--batch-size", "8", "--steps", "6", "--output", "run"]
    assert regkit("train", *given, cwd=place).status == 0
    return place / "run"


def test_each_task_has_a_line_with_each_change_and_its_difference(run: Path, place: Path) -> None:
    ran = regkit("eval", "run", "--robust", cwd=place)
    assert ran.status == 0, ran.err
    head, *lines = ran.out.splitlines()
    assert head.endswith("run: dev")
    assert [line.split(":")[0].strip() for line in lines] == ["mood", "same", "near"]
    one = r"  \w+: \w+ -?\.?[\d.]+; " + ", ".join(
        rf"{name} \S+ \([+-]\S+\)" for name in ("typos", "synonyms", "attack 0.03", "attack 0.1")
    )
    assert all(re.fullmatch(one, line) for line in lines), lines


def test_json_has_every_score_before_and_after_and_an_attack_does_not_help(run: Path, place: Path) -> None:
    found = json.loads(regkit("eval", "run", "--robust", "--json", cwd=place).out)
    (changes,) = found["runs"].values()
    assert list(changes) == ["typos", "synonyms", "attack 0.03", "attack 0.1", "notes"]
    plain = json.loads(regkit("eval", "run", "--json", cwd=place).out)["dev"]
    assert changes["typos"]["before"]["mood"] == pytest.approx(plain["mood"])
    before, near, far = (
        changes["attack 0.03"]["before"],
        changes["attack 0.03"]["after"],
        changes["attack 0.1"]["after"],
    )
    assert before == changes["attack 0.1"]["before"]
    assert before.keys() == near.keys() == far.keys() == plain.keys()
    assert all(before[task]["loss"] < near[task]["loss"] < far[task]["loss"] for task in plain)


def test_the_radii_of_the_attacks_may_be_given(run: Path, place: Path) -> None:
    found = json.loads(regkit("eval", "run", "--attack-radius", "0.2", "--json", cwd=place).out)
    assert list(*(changes for changes in found["runs"].values())) == ["typos", "synonyms", "attack 0.2", "notes"]
    ran = regkit("eval", "run", "--robust", "--attack-radius", "0.1,0", cwd=place)
    assert ran.status == 2
    assert ran.err == "regkit: --attack-radius is '0.1,0'; give numbers above 0, up to 1000, such as 0.03,0.1.\n"


@pytest.mark.slow
def test_passes_are_halved_when_memory_runs_out_and_the_scores_stay(
    run: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads(regkit("eval", "run", "--robust", "--json", cwd=place).out)
    largest: list[int] = []

    def few(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def outputs(self: object, model: object, task: object, batch: Batch, *more: object) -> Tensor:
            largest.append(len(batch))
            if len(batch) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
            return work(self, model, task, batch, *more)

        return outputs

    monkeypatch.setattr(Attack, "outputs", few(Attack.outputs))
    found = json.loads(regkit("eval", "run", "--robust", "--json", cwd=place).out)
    assert (max(largest) > 4, largest[-1] <= 4) == (True, True)
    (before,), (found,) = before["runs"].values(), found["runs"].values()
    for name in ("typos", "synonyms", "attack 0.1"):
        for task, scores in before[name]["after"].items():
            assert found[name]["after"][task]["loss"] == pytest.approx(scores["loss"], abs=1e-4)


@pytest.mark.parametrize("other", ["--report", "--ensemble"])
def test_what_does_not_go_with_it_is_refused(other: str, run: Path, place: Path) -> None:
    ran = regkit("eval", "run", "--robust", other, cwd=place)
    assert ran.status == 2
    assert ran.err == f"regkit: --robust is asked for by itself; leave {other} out.\n"


def test_a_split_without_labels_is_refused(run: Path, place: Path) -> None:
    ran = regkit("eval", "run", "--robust", "--split", "test", cwd=place)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
