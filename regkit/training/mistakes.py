"""Mistakes: where a task's predictions are wrong."""

from typing import Any

import numpy as np
from torch import Tensor

from regkit.tasks.objectives import Objective, Probabilistic, Regression, class_names
from regkit.tasks.task import Dataset, Examples, Split, Task

WORST = 20  # examples
BINS = 15  # of confidence, equally wide, as in Guo et al.
COLUMNS = ("precision", "recall", "f1", "count")  # of each class; the last is how often it is the label
MOST_CLASSES = 1000  # of a confusion matrix


def mistakes(task: Task, split: Split, evidence: Tensor) -> dict[str, Any]:
    """Describe what is wrong with the predictions of a split, in plain values.

    `evidence` is the output of each example. Labels are one class an example, or one score.
    """
    examples = task.splits[split]
    labels, objective = examples.labels, task.objective
    if labels is None or labels.dim() != 1:
        return {}
    if isinstance(objective, Probabilistic):
        return _of_classes(objective, examples, labels, evidence)
    if isinstance(objective, Regression):
        return _of_scores(objective, examples, labels, objective.prediction(evidence))
    return {}


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Compute the expected calibration error over 15 bins (Guo et al., 2017, section 2).

    `confidence` is the probability of the predicted class, and `right` whether it is the label: `[examples]` each.
    """
    gaps = np.bincount(bins_of(confidence), weights=right.astype(float) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Find the bin of each confidence, which has its upper edge: (0, 1/15], (1/15, 2/15], ..."""
    return np.asarray(np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True))


def brier_score(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Compute the Brier score (Brier, 1950).

    It is the mean over examples of the squared error of all their probabilities. `probabilities` is `[examples, classes]`
    and `truth` `[examples]`. It is between 0 and 2, and less is better.
    """
    wanted = np.eye(probabilities.shape[1])[truth]
    return float(np.square(probabilities - wanted).sum(axis=1).mean())


def calibration(objective: Objective, evidence: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute how far the probabilities are off, for tasks of one class an example.

    Less is better. Other kinds have nothing here. `evidence` is the output of each example, `[examples, ...]`, and `labels`
    are `[examples]`.
    """
    if labels.dim() != 1 or not isinstance(objective, Probabilistic):
        return {}
    confidence, right, probabilities = confidences(objective, evidence, labels)
    error = expected_calibration_error(confidence, right)
    return {"calibration_error": error, "brier_score": brier_score(probabilities, labels.numpy())}


def confidences(
    objective: Probabilistic, evidence: Tensor, labels: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the probability of each predicted class, and whether it is the label.

    Returns the probabilities of all classes, too. They are `[examples]`, `[examples]` and `[examples, classes]`.
    """
    prediction, probabilities = objective.prediction(evidence), objective.probabilities(evidence.double())
    confidence = probabilities.gather(-1, prediction[:, None])[:, 0].numpy()
    return confidence, (prediction == labels).numpy(), probabilities.numpy()


def _of_classes(objective: Probabilistic, examples: Dataset, labels: Tensor, evidence: Tensor) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    confidence, _, _ = confidences(objective, evidence, labels)
    names, truth, guess = class_names(objective), labels.numpy(), objective.prediction(evidence).numpy()
    known = range(len(names))
    parts = precision_recall_fscore_support(truth, guess, labels=known, zero_division=0.0)
    rows = zip(*(part.tolist() for part in parts), strict=True)
    wrong = np.flatnonzero(truth != guess)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST].tolist()
    found: dict[str, Any] = {
        "classes": {name: dict(zip(COLUMNS, row, strict=True)) for name, row in zip(names, rows, strict=True)},
        **calibration(objective, evidence, labels),
        "worst": [
            _example(examples, row, names[truth[row]], names[guess[row]]) | {"probability": float(confidence[row])}
            for row in worst
        ],
    }
    if len(names) <= MOST_CLASSES:
        found["confusion"] = confusion_matrix(truth, guess, labels=known).tolist()  # a row for each true class
    return found


def _of_scores(objective: Regression, examples: Dataset, labels: Tensor, prediction: Tensor) -> dict[str, Any]:
    """Describe the errors of scores, in the unit of the table."""
    errors = ((prediction.double() - labels.double()) * objective.unit).numpy()
    worst = np.argsort(-np.abs(errors), kind="stable")[:WORST].tolist()
    truth, guess = (
        [float(objective.text(label)) for label in values[worst].tolist()] for values in (labels, prediction)
    )
    return {
        "mean_absolute_error": float(np.abs(errors).mean()),
        "root_mean_squared_error": float(np.sqrt((errors**2).mean())),
        "worst": [
            _example(examples, row, *each) | {"error": float(errors[row])}
            for row, *each in zip(worst, truth, guess, strict=True)
        ],
    }


def _example(examples: Dataset, row: int, truth: str | float, prediction: str | float) -> dict[str, Any]:
    texts = examples.texts[row] if isinstance(examples, Examples) and examples.texts else ()
    shown = texts[0] if len(texts) == 1 else list(texts)
    return {"id": examples.ids[row], "text": shown, "truth": truth, "prediction": prediction}
