"""Metrics: compute scores from predictions and labels.

A dozen lines of NumPy stand for functions of scikit-learn and SciPy: importing those takes over a second, which every run
would pay at its first score. The tests compare each with theirs.
"""

import numpy as np


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """Compute the share of labels that are predicted, both `[examples]`."""
    return float((truth == guess).mean())


def f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """Compute the F1 of yes over arrays of 0 and 1 of any shape; 0 where nothing is yes."""
    found = truth.sum() + guess.sum()
    return float(2 * (truth * guess).sum() / found) if found else 0.0


def macro_f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """Compute the mean F1 of the classes that occur in labels or predictions, both `[examples]`."""
    classes = max(truth.max(), guess.max()) + 1
    right, of, given = (np.bincount(each, minlength=classes) for each in (truth[truth == guess], truth, guess))
    occur = of + given > 0
    return float((2 * right[occur] / (of + given)[occur]).mean())


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the correlation of two series that are not constant, both `[examples]`."""
    one, other = (each / np.abs(each).max() for each in (one - one.mean(), other - other.mean()))  # no square overflows
    return float(np.clip(one @ other / np.sqrt((one @ one) * (other @ other)), -1, 1))


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the correlation of the ranks of two series that are not constant, both `[examples]`."""
    return pearson(ranks(one), ranks(other))


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Compute how probably a yes scores above a no, ties half (Hanley & McNeil, 1982): `[examples]`."""
    yes = int(truth.sum())
    above = ranks(scores)[truth == 1].sum() - yes * (yes + 1) / 2  # pairs in which the yes is above
    return float(above / (yes * (len(truth) - yes)))


def quadratic_kappa(truth: np.ndarray, guess: np.ndarray) -> float:
    """Compute the agreement beyond chance (Cohen, 1968) of classes `[examples]`, labels not all alike.

    A pair counts by the squared difference of its classes.
    """
    by_chance = truth.var() + guess.var() + (truth.mean() - guess.mean()) ** 2
    return float(1 - np.mean((truth - guess) ** 2.0) / by_chance)


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank values from 1, `[examples]`; equal ones share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    mean: np.ndarray = (ends - (count - 1) / 2)[place]
    return mean
