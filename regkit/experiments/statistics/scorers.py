"""Scorers: compute a score from how often each example was drawn, for many draws at once.

They equal the objective's own `metrics` on the drawn rows; NaN is a draw whose labels do not define the score. What has no
scorer is computed anew from the drawn rows: losses, and scores that are rarely what decides.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regkit.runs.evidence import Evidence
from regkit.tasks.objectives import (
    Binary,
    Classification,
    MaskedWords,
    Multilabel,
    Ordinal,
    Probabilistic,
    Regression,
    SoftLabels,
)
from regkit.training.mistakes import BINS, bins_of, confidences

Floats = NDArray[np.float64]
Scorer = Callable[[Floats], Floats]  # from counts, [draws, examples], to scores, [draws]
CALIBRATION = ("calibration_error", "brier_score")  # of one class an example; of both, less is better

ONE_CLASS = (Binary, Classification, Ordinal)  # kinds with a probability of each class, one of which is the label
MOST_CLASSES = 64  # of an F1 that is computed from counts of each


def scorer(evidence: Evidence, metric: str) -> Scorer | None:
    """Find how a score is computed from counts; None for one that needs the drawn rows themselves."""
    found = SCORERS.get((evidence.objective.kind, metric))
    return found(evidence) if found else None


def is_scored(evidence: Evidence, metric: str) -> bool:
    """Tell whether the answers can be scored so."""
    return metric in evidence.objective.scores or (evidence.objective.kind, metric) in SCORERS


def _mean(values: Tensor) -> Scorer:
    """Average a number of each example."""
    each = values.double().numpy()
    return lambda counts: counts @ each / counts.sum(axis=1)


def _accuracy(evidence: Evidence) -> Scorer:
    return _mean(evidence.objective.prediction(evidence.output) == evidence.labels)


def _brier_score(evidence: Evidence) -> Scorer:
    _, _, probabilities = _confidences(evidence)
    wanted = np.eye(probabilities.shape[1])[evidence.labels.numpy()]
    return _mean(torch.from_numpy(np.square(probabilities - wanted).sum(axis=1)))


def _calibration_error(evidence: Evidence) -> Scorer:
    """Sum over bins how far the confidence is from the share that is right.

    See `expected_calibration_error`.
    """
    confidence, right, _ = _confidences(evidence)
    gaps = np.zeros((len(right), BINS))
    gaps[np.arange(len(right)), bins_of(confidence)] = right - confidence
    return lambda counts: np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1)


def _confidences(evidence: Evidence) -> tuple[Floats, Floats, Floats]:
    assert isinstance(evidence.objective, Probabilistic)  # by its kind
    return confidences(evidence.objective, evidence.output, evidence.labels)


def _soft_accuracy(evidence: Evidence) -> Scorer:
    """Count as right a prediction that is a most probable class of the label."""
    chosen = evidence.labels.gather(-1, evidence.output.argmax(-1, keepdim=True))
    return _mean(chosen.squeeze(-1) >= evidence.labels.max(-1).values)


def _absolute_error(evidence: Evidence) -> Scorer:
    return _mean((evidence.objective.prediction(evidence.output) - evidence.labels).abs())


def _masked_words(score: Callable[[Floats, Floats, Floats], Floats]) -> Callable[[Evidence], Scorer]:
    """Compute a score from sums over texts of masked words, losses and correct words."""

    def build(evidence: Evidence) -> Scorer:
        sums = evidence.output.double().numpy()
        return lambda counts: score(*(counts @ sums).T)

    return build


def _share_found(masked: Floats, loss: Floats, found: Floats) -> Floats:
    return found / np.maximum(masked, 1)


def _perplexity(masked: Floats, loss: Floats, found: Floats) -> Floats:
    with np.errstate(over="ignore"):  # it may be infinite
        return np.asarray(np.exp(loss / np.maximum(masked, 1)))


def _pearson(evidence: Evidence) -> Scorer:
    """Correlate labels and predictions, by their moments.

    Predictions that are all alike correlate with nothing.
    """
    truth, guess = evidence.labels.double().numpy(), evidence.output.double().numpy()
    x, y = truth - truth.mean(), guess - guess.mean()
    moments = np.stack([x, y, x * x, y * y, x * y], axis=1)
    truths_differ, guesses_differ = _differ(truth), _differ(guess)

    def score(counts: Floats) -> Floats:
        x, y, xx, yy, xy = (counts @ moments / counts.sum(axis=1, keepdims=True)).T
        found = _correlation(xy - x * y, xx - x**2, yy - y**2, guesses_differ(counts))
        return np.where(truths_differ(counts), found, np.nan)

    return score


def _spearman(evidence: Evidence) -> Scorer:
    """Correlate the ranks that the examples have within each draw."""
    truth, guess = evidence.labels.double().numpy(), evidence.output.double().numpy()
    truth_ranks, guess_ranks = _ranks(truth), _ranks(guess)
    truths_differ, guesses_differ = _differ(truth), _differ(guess)

    def score(counts: Floats) -> Floats:
        middle = (counts.sum(axis=1, keepdims=True) + 1) / 2  # the mean of ranks
        x, y = truth_ranks(counts) - middle, guess_ranks(counts) - middle
        xy, xx, yy = (np.einsum("de,de,de->d", counts, *pair) for pair in ((x, y), (x, x), (y, y)))
        return np.where(truths_differ(counts), _correlation(xy, xx, yy, guesses_differ(counts)), np.nan)

    return score


def _correlation(both: Floats, of_truth: Floats, of_guess: Floats, defined: NDArray[np.bool_]) -> Floats:
    """Divide covariances by spreads; 0 where that is not defined."""
    below = np.sqrt(np.maximum(of_truth * of_guess, 0))
    return np.asarray(np.where(defined, both, 0) / np.where(below > 0, below, 1))


def _differ(values: Floats) -> Callable[[Floats], NDArray[np.bool_]]:
    """Tell the draws whose examples differ in these values, `[draws]`."""
    order = np.argsort(values)
    rising = values[order]

    def differ(counts: Floats) -> NDArray[np.bool_]:
        drawn = (counts > 0)[:, order]
        return np.asarray(rising[drawn.argmax(axis=1)] < rising[-1 - drawn[:, ::-1].argmax(axis=1)])

    return differ


def _ranks(values: Floats) -> Callable[[Floats], Floats]:
    """Rank the examples within a draw: `[draws, examples]`.

    Those that are alike share the mean of their ranks.
    """
    known, places = np.unique(values, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.searchsorted(places[order], np.arange(len(known)))

    def rank(counts: Floats) -> Floats:
        groups = np.add.reduceat(counts[:, order], starts, axis=1)
        return np.asarray((groups.cumsum(axis=1) - (groups - 1) / 2)[:, places])

    return rank


def _auc(evidence: Evidence) -> Scorer:
    """Count how often a yes is above a no, by the sum of ranks (Mann & Whitney, 1947)."""
    rank, truth = _ranks(evidence.output.double().numpy()), evidence.labels.double().numpy()

    def score(counts: Floats) -> Floats:
        yes = counts @ truth
        pairs = yes * (counts.sum(axis=1) - yes)
        above = (counts * truth * rank(counts)).sum(axis=1) - yes * (yes + 1) / 2
        return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)

    return score


def _quadratic_kappa(evidence: Evidence) -> Scorer:
    """Compute 1 - E(t - g)² / E(t - g')², where g' is the prediction of another example (Cohen, 1968)."""
    truth = evidence.labels.double()
    guess = evidence.objective.prediction(evidence.output).double()
    moments = torch.stack([truth, guess, truth**2, guess**2, (truth - guess) ** 2], dim=1).numpy()

    truths_differ = _differ(moments[:, 0])

    def score(counts: Floats) -> Floats:
        t, g, tt, gg, off = (counts @ moments / counts.sum(axis=1, keepdims=True)).T
        defined = truths_differ(counts)
        return np.where(defined, 1 - off / np.where(defined, tt + gg - 2 * t * g, 1), np.nan)

    return score


def _f1(evidence: Evidence) -> Scorer:
    guess, truth = evidence.objective.prediction(evidence.output), evidence.labels
    hits, both = (guess * truth).double().numpy(), (guess + truth).double().numpy()
    return lambda counts: _ratio(2 * (counts @ hits), counts @ both)


def _micro_f1(evidence: Evidence) -> Scorer:
    guess, truth = evidence.objective.prediction(evidence.output), evidence.labels
    hits, both = (guess * truth).sum(-1).double().numpy(), (guess + truth).sum(-1).double().numpy()
    return lambda counts: _ratio(2 * (counts @ hits), counts @ both)


def _macro_f1(evidence: Evidence) -> Scorer | None:
    """Average F1 over classes: in a multilabel task all, otherwise those that occur in the draw."""
    objective = evidence.objective
    guess, truth = objective.prediction(evidence.output), evidence.labels
    if objective.width > MOST_CLASSES:
        return None
    if not isinstance(objective, Multilabel):
        guess, truth = (torch.nn.functional.one_hot(each, objective.width) for each in (guess, truth))
    hits, both = (guess * truth).double().numpy(), (guess + truth).double().numpy()

    def score(counts: Floats) -> Floats:
        occurs = counts @ both
        shares = _ratio(2 * (counts @ hits), occurs)
        if isinstance(objective, Multilabel):
            return np.asarray(shares.mean(axis=1))
        return np.asarray(shares.sum(axis=1) / np.maximum((occurs > 0).sum(axis=1), 1))

    return score


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide, and take 0 over 0 for 0."""
    return np.asarray(above / np.where(below > 0, below, 1))


SCORERS: Mapping[tuple[str, str], Callable[[Evidence], Scorer | None]] = {
    (Classification.kind, "accuracy"): _accuracy,
    (Classification.kind, "macro_f1"): _macro_f1,
    (Binary.kind, "accuracy"): _accuracy,
    (Binary.kind, "f1"): _f1,
    (Binary.kind, "auc"): _auc,
    (Regression.kind, "pearson"): _pearson,
    (Regression.kind, "spearman"): _spearman,
    (Multilabel.kind, "micro_f1"): _micro_f1,
    (Multilabel.kind, "macro_f1"): _macro_f1,
    (Ordinal.kind, "quadratic_kappa"): _quadratic_kappa,
    (Ordinal.kind, "accuracy"): _accuracy,
    (Ordinal.kind, "mae"): _absolute_error,
    (SoftLabels.kind, "accuracy"): _soft_accuracy,
    **{(each.kind, "brier_score"): _brier_score for each in ONE_CLASS},
    **{(each.kind, "calibration_error"): _calibration_error for each in ONE_CLASS},
    (MaskedWords.kind, "accuracy"): _masked_words(_share_found),
    (MaskedWords.kind, "perplexity"): _masked_words(_perplexity),
}
