"""Caveats: what the scores of a split do not show is said in a sentence."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from regkit import (
    Binary,
    Classification,
    Examples,
    MaskedWords,
    Multilabel,
    Objective,
    Ordinal,
    Regression,
    SoftLabels,
    Task,
)
from regkit.testing import tiny_task
from regkit.training.caveats import left_out, one_sided

MOOD = Classification(3, ("bad", "fair", "good"))


def scored(objective: Objective, labels: list[float] | None) -> Task:
    """A task with these labels in its dev split."""
    task = tiny_task("x", objective)
    train = task.splits["train"]
    assert isinstance(train, Examples)
    truth = None if labels is None else torch.tensor(labels, dtype=objective.label_type)
    return replace(task, splits={"train": train, "dev": replace(train, labels=truth)})


@pytest.mark.parametrize(
    ("objective", "labels", "output", "says"),
    [
        (Binary(), [0, 0, 0, 1], -torch.ones(4), "class 0, as are 75 % of its labels: accuracy alone does not show it"),
        (Binary(), [0, 0, 0, 1], torch.ones(4), "class 1, as are 25 % of its labels: accuracy alone does not show it"),
        (MOOD, [0, 2], torch.eye(3)[[2, 2]], "class good, as are 50 % of its labels: accuracy alone does not show it"),
        (MOOD, None, torch.eye(3)[[2, 2]], "class good"),
        (
            Multilabel(3, ("a", "b", "c")),
            [[1, 0, 1], [0, 0, 0]],
            torch.tensor([[1.0, -1, 1], [2, -2, 2]]),
            "a|c, as are 50 % of its labels: accuracy alone does not show it",
        ),
        (
            Multilabel(3),
            [[1, 1, 0], [0, 1, 1]],
            -torch.ones(2, 3),
            "none, as are 0 % of its labels: accuracy alone does not show it",
        ),
        (
            SoftLabels(3),
            [[1, 0, 0], [0, 1, 0]],
            torch.zeros(2, 3),
            "about [0.333, 0.333, 0.333]: they tell no example from another",
        ),
        (Ordinal(3), [0, 2], torch.zeros(2, 2), "class 0, as are 50 % of its labels: accuracy alone does not show it"),
        (Regression(0, 100), [0, 5], torch.tensor([2.50001, 2.5]), "about 50: they tell no example from another"),
        (Regression(0, 1), [0, 5], torch.tensor([-9.0, -8]), "about 0: they tell no example from another"),
    ],
)
def test_predictions_that_are_all_the_same_are_named_with_their_share(
    objective: Objective, labels: list[float] | None, output: Tensor, says: str
) -> None:
    said = one_sided(scored(objective, labels), "dev", output)
    assert said == f"x: all {len(output)} predictions on dev are {says}"


@pytest.mark.parametrize(
    ("objective", "labels", "evidence"),
    [
        (Binary(), [0, 1], torch.tensor([-1.0, 1])),
        (Binary(), [1, 1], torch.ones(2)),  # as all are
        (Binary(), [1, 1], -torch.ones(2)),  # the scores show it
        (Binary(), None, torch.ones(1)),
        (MOOD, [0, 1], torch.eye(3)[[1, 2]]),
        (Multilabel(3), [[1, 0, 0], [0, 0, 0]], torch.tensor([[-1.0, -1, -1], [-1, -1, 1]])),
        (SoftLabels(2), [[1, 0], [0, 1]], torch.tensor([[0.0, 0], [0, 1]])),
        (Ordinal(3), [0, 2], torch.tensor([[0.0, 0], [1, 0]])),
        (Regression(0, 0.001), [0, 5], torch.tensor([2.5, 2.6])),
        (MaskedWords(7), [0, 0], torch.ones(2, 3)),  # counts and losses, which are no output
    ],
)
def test_of_predictions_that_differ_or_need_not_nothing_is_said(
    objective: Objective, labels: list[float] | None, evidence: Tensor
) -> None:
    assert one_sided(scored(objective, labels), "dev", evidence) == ""


def test_scores_that_labels_do_not_define_are_named_with_the_label() -> None:
    found = left_out(scored(Regression(0, 100), [2.5, 2.5]), "dev")
    assert found == "every dev label is 50: pearson and spearman are not defined, and left out"
    assert left_out(scored(Binary(), [1, 1]), "dev") == "every dev label is 1: auc is not defined, and left out"
    alike = scored(Multilabel(3, ("a", "b", "c")), [[0, 0, 0], [0, 0, 0]])
    assert left_out(alike, "dev") == "every dev label is none: auc is not defined, and left out"
    said = left_out(scored(Ordinal(3), [1, 1]), "dev")
    assert said == "every dev label is 1: quadratic_kappa and spearman are not defined, and left out"
    for objective, labels in ((Binary(), [0, 1]), (MOOD, [1, 1]), (Binary(), None), (MaskedWords(7), [0, 0])):
        assert left_out(scored(objective, labels), "dev") == ""
