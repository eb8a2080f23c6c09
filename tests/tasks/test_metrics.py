"""Metrics: each is that of scikit-learn or SciPy, ties and rare classes included, and neither is imported by a run."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, roc_auc_score

from regkit.tasks.objectives import metrics

random = np.random.default_rng(0)
YES, GUESS = random.integers(2, size=(2, 50))
CLASSES, GUESSES = (
    random.choice([0, 2, 3, 7], size=50),
    random.choice([0, 1, 3], size=50),
)  # some never, some not predicted
SCORES = random.integers(6, size=50) / 4  # with ties
OTHERS = SCORES + random.normal(size=50)

CASES: list[tuple[Callable[..., float], tuple[np.ndarray, np.ndarray], float]] = [
    (metrics.accuracy, (CLASSES, GUESSES), accuracy_score(CLASSES, GUESSES)),
    (metrics.f1, (YES, GUESS), f1_score(YES, GUESS)),
    (metrics.f1, (0 * YES, 0 * YES), 0.0),
    (metrics.macro_f1, (CLASSES, GUESSES), f1_score(CLASSES, GUESSES, average="macro", zero_division=0.0)),
    (metrics.auc, (YES, SCORES), roc_auc_score(YES, SCORES)),
    (metrics.pearson, (SCORES, OTHERS), pearsonr(SCORES, OTHERS).statistic),
    (metrics.pearson, (SCORES, 1e200 * OTHERS), pearsonr(SCORES, OTHERS).statistic),
    (metrics.spearman, (SCORES, OTHERS), spearmanr(SCORES, OTHERS).statistic),
    (metrics.quadratic_kappa, (CLASSES, GUESSES), cohen_kappa_score(CLASSES, GUESSES, labels=range(8), weights="quadratic")),
    (metrics.quadratic_kappa, (CLASSES, 0 * CLASSES + 3), 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "given", "expected"), CASES)
def test_a_metric_is_that_of_the_library(
    metric: Callable[..., float], given: tuple[np.ndarray, np.ndarray], expected: float
) -> None:
    assert metric(*given) == pytest.approx(expected, abs=1e-12)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    np.testing.assert_array_equal(metrics.ranks(SCORES), rankdata(SCORES))


@pytest.mark.slow
def test_scores_of_every_kind_are_computed_without_importing_their_libraries() -> None:
    code = """
import sys, torch
from regkit.tasks.objectives import *
yes = torch.tensor([0, 1, 1])
for objective, output, labels in (
    (Classification(2), torch.randn(3, 2), yes),
    (Binary(), torch.randn(3), yes),
    (Multilabel(2, ("a", "b")), torch.randn(3, 2), torch.tensor([[0, 1], [1, 0], [1, 1]])),
    (Ordinal(3), torch.randn(3, 2), yes),
    (Regression(0, 5), torch.randn(3), yes.float()),
    (SoftLabels(2), torch.randn(3, 2), torch.full((3, 2), 0.5)),
):
    objective.metrics(output, labels.to(objective.label_type))
assert not {"scipy", "sklearn"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
