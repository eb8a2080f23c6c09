"""Evidence: the answers of a run come back as they were, without its model."""

from pathlib import Path

import pytest
import torch

from regkit.base.errors import RunError
from regkit.runs import evidence
from regkit.runs.evidence import Evidence
from regkit.tasks.objectives import Classification, Regression


def answers() -> evidence.Answers:
    classes = Evidence(Classification(3), torch.randn(4, 3), torch.tensor([0, 2, 1, 1]), ["a", "b", "c", "d"])
    scores = Evidence(Regression(0.0, 5.0), torch.randn(2), torch.tensor([1.5, 4.0]), ["0", "1"])
    return {"dev": {"sst": classes, "sts": scores}, "test": {"sst": classes}}


def test_answers_come_back_as_they_were_saved(tmp_path: Path) -> None:
    saved = answers()
    evidence.save(tmp_path, saved)
    found = evidence.load(tmp_path)
    assert {split: list(tasks) for split, tasks in found.items()} == {"dev": ["sst", "sts"], "test": ["sst"]}
    for split, tasks in saved.items():
        for task, each in tasks.items():
            other = found[split][task]
            assert (other.objective, other.ids) == (each.objective, each.ids)
            assert other.output.equal(each.output)
            assert other.labels.equal(each.labels)


def test_a_run_without_whole_answers_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"{tmp_path} has no answers that can be compared"):
        evidence.load(tmp_path)
    evidence.save(tmp_path, answers())
    whole = (tmp_path / evidence.NAMES).read_text()
    (tmp_path / evidence.NAMES).write_text(whole.replace('"0", "1"', '"0"'))
    with pytest.raises(RunError, match="dev/sts has 2 answers, 2 labels and 1 ids"):
        evidence.load(tmp_path)
    (tmp_path / evidence.NAMES).write_text(whole)
    (tmp_path / evidence.TENSORS).write_bytes(b"")
    with pytest.raises(RunError, match="no answers that can be compared"):
        evidence.load(tmp_path)
    (tmp_path / evidence.NAMES).write_text('{"dev": []}')
    with pytest.raises(RunError, match="no answers that can be compared"):
        evidence.load(tmp_path)
