"""Scores: what each kind of task is scored by, known without torch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How a score is to be read, and when there is one."""

    lower_is_better: bool = False
    needs_contrast: bool = False  # compares examples whose labels differ: where all are alike, it is not defined


LOSS = Metric(lower_is_better=True)
CONTRAST = Metric(needs_contrast=True)

# Of each kind, every score that its `metrics` gives.
SCORES: Mapping[str, Mapping[str, Metric]] = {
    "classification": {"accuracy": Metric(), "macro_f1": Metric(), "loss": LOSS},
    "binary": {"accuracy": Metric(), "f1": Metric(), "auc": CONTRAST, "loss": LOSS},
    "regression": {"pearson": CONTRAST, "spearman": CONTRAST, "loss": LOSS},
    "multilabel": {"micro_f1": Metric(), "macro_f1": Metric(), "auc": CONTRAST, "loss": LOSS},
    "ordinal": {
        "quadratic_kappa": CONTRAST,
        "spearman": CONTRAST,
        "accuracy": Metric(),
        "mae": Metric(lower_is_better=True),
        "loss": LOSS,
    },
    "soft": {"accuracy": Metric(), "kl": Metric(lower_is_better=True), "loss": LOSS},
    "masked words": {"accuracy": Metric(), "perplexity": Metric(lower_is_better=True), "loss": LOSS},
}


def a_task(kind: str) -> str:
    """Name a task of a kind for a message: an ordinal task."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} task"
