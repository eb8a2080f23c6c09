"""Label noise: wrong training labels, drawn by the seed alone."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regkit.base.errors import ConfigError
from regkit.base.kept import cache_root
from regkit.data.declare import TaskSpec
from regkit.data.label_noise import Noise
from regkit.data.load import load_task
from regkit.experiments.study.given import given
from regkit.model.tokenizer import Tokenizer
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.tasks.objectives import (
    Binary,
    Classification,
    Multilabel,
    Objective,
    Ordinal,
    Regression,
    SoftLabels,
    balanced,
)
from regkit.tasks.task import Examples, Task
from tests.helpers import regkit, sentence, write_csv

ROWS = 200


def labels_of_kinds() -> dict[Objective, Tensor]:
    """Labels of each kind of task; most sets and many scores are there several times."""
    random = torch.Generator().manual_seed(3)
    classes, scores = torch.randint(4, [ROWS], generator=random), torch.rand(ROWS, generator=random)
    sets = (torch.rand(ROWS, 3, generator=random) < 0.1).long()
    return {
        Classification(4): classes,
        Binary(): classes % 2,
        Ordinal(4): classes,
        Multilabel(3): sets,
        Regression(0.0, 5.0): (scores * 10).round() / 2,
        SoftLabels(4): torch.rand(ROWS, 4, generator=random).softmax(1),
    }


def wrong(before: Tensor, after: Tensor) -> set[int]:
    """The rows whose label is another."""
    return set((before != after).reshape(len(before), -1).any(1).nonzero().flatten().tolist())


def labels(task: Task, split: str = "train") -> Tensor:
    found = task.splits[split].labels  # type: ignore[index]
    assert found is not None
    return found


@pytest.mark.parametrize("objective", labels_of_kinds(), ids=lambda objective: objective.kind)
def test_of_one_seed_a_smaller_share_is_a_part_of_a_larger_one_and_every_label_replaced_is_wrong(
    objective: Objective,
) -> None:
    given = labels_of_kinds()[objective]
    before = given.clone()
    few, many, other = (
        Noise(share, seed).replaced("sst", objective, given) for share, seed in ((0.1, 0), (0.3, 0), (0.3, 1))
    )
    assert torch.equal(given, before)  # the labels of a table that others read, too
    assert (len(wrong(given, few)), len(wrong(given, many)), len(wrong(given, other))) == (20, 60, 60)
    assert wrong(given, few) < wrong(given, many)
    assert all(torch.equal(few[row], many[row]) for row in wrong(given, few))
    assert wrong(given, many) != wrong(given, other)
    assert wrong(given, many) != wrong(given, Noise(0.3, 0).replaced("sts", objective, given))
    assert len(wrong(given, Noise(1.0, 0).replaced("sst", objective, given))) == ROWS
    assert not wrong(given, Noise(0.0, 0).replaced("sst", objective, given))


def test_each_other_class_is_as_likely_and_rows_lend_whole_labels() -> None:
    right = torch.full([30_000], 2)
    found = Counter(Noise(1.0, 5).replaced("sst", Classification(4), right).tolist())
    assert set(found) == {0, 1, 3}
    assert all(abs(count - 10_000) < 300 for count in found.values())  # 3.7 standard deviations
    scores = torch.arange(50.0)
    assert Noise(1.0, 5).replaced("sts", Regression(0.0, 50.0), scores).sort().values.equal(scores)  # a permutation
    sets = next(given for objective, given in labels_of_kinds().items() if isinstance(objective, Multilabel))
    noisy = Noise(0.5, 5).replaced("tags", Multilabel(3), sets)
    assert {*map(tuple, noisy.tolist())} <= {*map(tuple, sets.tolist())}


def test_rows_that_all_have_one_score_cannot_lend_another() -> None:
    with pytest.raises(ConfigError, match="label_noise: all training labels of task 'sts' are the same"):
        Noise(0.5, 0).replaced("sts", Regression(0.0, 5.0), torch.full([9], 3.0))
    assert Noise(0.5, 0).replaced("sst", Binary(), torch.ones(8).long()).sum() == 4  # a class is known all the same


def test_every_set_of_plugins_has_the_same_wrong_labels_and_dev_stays_right(place: Path) -> None:
    plain = Settings(data=place / "data", encoder=str(place / "encoder"), subsample={"mood": 12})
    noisy = plain.model_copy(update={"label_noise": {"mood": 0.25, "near": 0.5}})
    right, one, two = (
        {task.name: task for task in Experiment.build(each).tasks}
        for each in (plain, noisy, noisy.model_copy(update={"plugins": {"rrobin": {}}}))
    )
    for name, count in {"mood": 3, "same": 0, "near": 12}.items():
        assert len(wrong(labels(right[name]), labels(one[name]))) == count
        assert torch.equal(labels(one[name]), labels(two[name]))
        assert torch.equal(labels(right[name], "dev"), labels(one[name], "dev"))
    mood = one["mood"].splits["train"]
    assert isinstance(mood, Examples)
    assert mood.ids == right["mood"].splits["train"].ids
    notes = list(one["mood"].notes)
    assert "train: 3 of 12 labels are replaced, drawn by the seed, which is 0" in notes
    assert sum("train rows by class" in note for note in notes) == 1  # of those that are trained on


def test_noise_neither_changes_the_tables_that_are_kept_nor_how_a_study_knows_them(place: Path) -> None:
    plain = Settings(data=place / "data", encoder=str(place / "encoder"))
    before = given(Experiment.build(plain))
    kept = sorted(path.name for path in (cache_root() / "tables").iterdir())
    noisy = given(Experiment.build(plain.model_copy(update={"label_noise": {"mood": 0.5}, "seed": 4})))
    assert sorted(path.name for path in (cache_root() / "tables").iterdir()) == kept
    assert noisy.items() < before.items()
    assert given(Experiment.build(plain)) == before  # the labels in the cache are as they were
    assert not any("train split of task 'mood'" in key for key in noisy)  # each seed has other labels


def test_weights_of_classes_are_those_of_the_labels_that_are_trained_on(place: Path, tmp_path: Path) -> None:
    rows = [{"text": sentence(number), "label": int(number < 5)} for number in range(30)]
    file = write_csv(tmp_path / "t.csv", rows)
    spec = TaskSpec(kind="binary", text="text", label="label", train=file, dev=file, class_weights="balanced")
    tokenizer, noise = Tokenizer.load(place / "encoder"), Noise(0.4, 1)
    task = load_task("t", spec, tokenizer, 40, noise=noise)
    assert task.objective == balanced(Binary(), labels(task))
    assert task.objective != load_task("t", spec, tokenizer, 40).objective
    assert load_task("t", spec, tokenizer, 40, splits=["dev"], noise=noise).objective == task.objective


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (
            {"sst": -0.1},
            "label_noise.sst is -0.1; give the share of its training labels that are replaced, from 0 to 1.",
        ),
        ({"sst": 1.5}, "label_noise.sst is 1.5"),
        ({"sst": 500}, "label_noise.sst is 500"),
        ({"sst": 10**400}, "from 0 to 1"),
        ({"sst": True}, "label_noise.sst is True"),
        ({"sst": "20%"}, "label_noise.sst is '20%'"),
        ({"sst": None}, "label_noise.sst is None"),
        ({"sst": [0.1]}, "label_noise.sst is [0.1]"),
        ({"sst": float("nan")}, "label_noise.sst is nan"),
        ("0.2", "label_noise is '0.2'; give TASK=SHARE, such as sst=0.2."),
        ("sst=0.1,sst=0.2", "task 'sst' is given twice."),
        (0.2, "label_noise is 0.2; give TASK=SHARE, such as sst=0.2."),
    ],
)
def test_noise_that_cannot_be_is_refused(noise: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.checked({"label_noise": noise}, "c.toml")
    assert said in str(refused.value)


def test_noise_is_read_from_text_as_from_a_table() -> None:
    for text in ("sst=1, sts=0.1", ["sst=1", "sts=0.1"], {"sst": 1, "sts": 0.1}, {"sst": "1", "sts": "0.1"}):
        assert Settings.checked({"label_noise": text}, "c.toml").label_noise == {"sst": 1.0, "sts": 0.1}


@pytest.mark.slow
def test_a_run_goes_on_with_its_wrong_labels_and_says_so_where_it_is_scored_on_them(
    place: Path, tmp_path: Path
) -> None:
    words = ("--encoder", place / "encoder", "--data", place / "data", "--tasks", "mood", "--steps", "1")
    ran = regkit("train", *words, "--label-noise", "mood=0.5", "--output", "run", cwd=tmp_path)
    assert (ran.status, "train: 12 of 24 labels are replaced, drawn by the seed, which is 0" in ran.out) == (0, True)
    ran = regkit("train", "--resume", "run", "--label-noise", "mood=0.25", cwd=tmp_path)
    assert (ran.status, "run has label_noise = {'mood': 0.5}, not {'mood': 0.25}" in ran.err) == (2, True)
    scored = regkit("eval", "run", "--split", "train", cwd=tmp_path)
    assert (scored.status, "no longer those" in scored.out) == (0, False)
    assert "task 'mood': train: 12 of 24 labels are replaced" in scored.out
    whole = regkit("eval", "run", "--split", "train", "--data", place / "data", cwd=tmp_path)
    assert (whole.status, "replaced" in whole.out) == (0, False)
