"""Mistakes and intervals: against scikit-learn, scipy and slow versions, on the same predictions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from sklearn.metrics import brier_score_loss, confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from regkit.tasks.objectives import Binary, Classification, Objective, Regression
from regkit.tasks.task import Examples, Task
from regkit.training import intervals as intervals_module
from regkit.training.intervals import intervals
from regkit.training.mistakes import BINS, WORST, expected_calibration_error, mistakes

SIZE = 300


def task_of(objective: Objective, labels: Tensor) -> Task:
    """A task with these labels and no tokens: what is asked of it looks at labels, names and texts only."""
    size = len(labels)
    examples = Examples(
        tokens=np.zeros(size, np.int32),
        segments=np.zeros(size, np.int8),
        offsets=np.arange(size + 1),
        labels=labels,
        ids=[f"row {number}" for number in range(size)],
        texts=[(f"text {number}",) for number in range(size)],
    )
    return Task("t", objective, {"dev": examples})


@pytest.fixture
def opinions() -> tuple[Task, Tensor]:
    """Three named classes, of which one is rare, and logits that are right more often than not."""
    random = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.6, 0.35, 0.05]), SIZE, replacement=True, generator=random)
    output = 2 * torch.randn(SIZE, 3, generator=random) + 2 * torch.nn.functional.one_hot(labels, 3)
    return task_of(Classification(3, ("bad", "fair", "good")), labels), output


def test_confusion_and_scores_of_classes_are_scikit_learns(opinions: tuple[Task, Tensor]) -> None:
    task, output = opinions
    found = mistakes(task, "dev", output)
    truth, guess = task.splits["dev"].labels, output.argmax(1)
    assert found["confusion"] == confusion_matrix(truth, guess).tolist()
    for row, wanted in zip(
        found["classes"].values(), zip(*precision_recall_fscore_support(truth, guess), strict=True), strict=True
    ):
        assert list(row.values()) == pytest.approx(wanted)
    assert list(found["classes"]) == ["bad", "fair", "good"]
    assert [row["count"] for row in found["classes"].values()] == torch.bincount(truth).tolist()  # type: ignore[arg-type]
    assert sum(map(sum, found["confusion"])) == SIZE


def test_a_class_that_never_comes_has_a_row_of_zeros() -> None:
    found = mistakes(task_of(Classification(3), torch.tensor([0, 2, 0])), "dev", torch.eye(3))
    assert found["classes"]["1"] == {"precision": 0, "recall": 0, "f1": 0, "count": 0}
    assert found["confusion"] == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_the_worst_errors_are_the_most_confident_ones(opinions: tuple[Task, Tensor]) -> None:
    task, output = opinions
    worst = mistakes(task, "dev", output)["worst"]
    labels = task.splits["dev"].labels
    assert labels is not None
    probability, guess = output.softmax(1).max(1)
    wrong = sorted((-p.item(), number) for number, p in enumerate(probability) if guess[number] != labels[number])
    assert len(worst) == WORST
    assert [each["id"] for each in worst] == [f"row {number}" for _, number in wrong[:WORST]]
    names = ("bad", "fair", "good")
    for each, (chance, number) in zip(worst, wrong, strict=False):
        assert each["text"] == f"text {number}"
        assert (each["truth"], each["prediction"]) == (names[labels[number]], names[guess[number]])
        assert each["probability"] == pytest.approx(-chance)


def test_calibration_is_the_gap_between_confidence_and_accuracy_in_15_bins() -> None:
    random = np.random.default_rng(0)
    confidence, right = random.uniform(0.2, 1, SIZE), random.uniform(size=SIZE) < 0.6
    wanted = 0.0
    for number in range(BINS):
        inside = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert BINS == 15
    assert expected_calibration_error(confidence, right) == pytest.approx(wanted)
    assert expected_calibration_error(np.ones(4), np.ones(4, bool)) == 0
    assert expected_calibration_error(np.full(4, 0.8), np.array([1, 1, 1, 0], bool)) == pytest.approx(0.05)


def test_yes_or_no_has_two_classes_and_the_confidence_of_the_one_that_was_chosen() -> None:
    output = torch.tensor([2.0, -1.0, 3.0, -2.0])
    found = mistakes(task_of(Binary(), torch.tensor([1, 1, 0, 0])), "dev", output)
    assert found["confusion"] == [[1, 1], [1, 1]]
    assert [(each["id"], each["truth"], each["prediction"]) for each in found["worst"]] == [
        ("row 2", "0", "1"),
        ("row 1", "1", "0"),
    ]
    chances = [each["probability"] for each in found["worst"]]
    assert chances == pytest.approx([torch.sigmoid(torch.tensor(3.0)).item(), torch.sigmoid(torch.tensor(1.0)).item()])


def test_errors_of_scores_are_in_the_unit_of_the_table() -> None:
    objective = Regression(0, 100)
    labels, output = torch.tensor([0.0, 2.5, 5.0]), torch.tensor([1.0, 2.5, 9.0])  # on the scale, where 9 is clipped
    found = mistakes(task_of(objective, labels), "dev", output)
    assert found["mean_absolute_error"] == pytest.approx(20 / 3)
    assert found["root_mean_squared_error"] == pytest.approx((400 / 3) ** 0.5)
    assert [each["id"] for each in found["worst"]] == ["row 0", "row 1", "row 2"]
    assert (found["worst"][0]["truth"], found["worst"][0]["prediction"], found["worst"][0]["error"]) == (
        0,
        20,
        pytest.approx(20),
    )


def test_a_kind_that_has_no_single_class_an_example_has_no_table(opinions: tuple[Task, Tensor]) -> None:
    _, output = opinions
    several = torch.ones(SIZE, 3)
    assert mistakes(task_of(Classification(3), several), "dev", output) == {}

    class Stranger:
        """An objective of which nothing is known but its metrics."""

    assert mistakes(task_of(Stranger(), torch.zeros(SIZE)), "dev", output) == {}  # type: ignore[arg-type]


def resampled(statistic: Callable[[np.ndarray], float], rows: np.ndarray) -> tuple[float, float]:
    """The percentile interval of a statistic of some rows, by scipy."""
    random = np.random.default_rng(1)
    drawn = np.arange(len(rows))  # scipy draws numbers: with rows it would hand over their columns one by one
    found = bootstrap(
        (drawn,),
        lambda chosen: statistic(rows[chosen]),
        vectorized=False,
        n_resamples=400,
        method="percentile",
        rng=random,
    )
    return found.confidence_interval.low, found.confidence_interval.high


def macro_f1(rows: np.ndarray) -> float:
    """The mean over classes that occur, of rows of truth and guess."""
    truth, guess = rows.T
    found = [
        2 * ((truth == c) & (guess == c)).sum() / ((truth == c).sum() + (guess == c).sum()) for c in np.unique(rows)
    ]
    return float(np.mean(found))


def test_intervals_are_scipys_but_for_the_draws(opinions: tuple[Task, Tensor]) -> None:
    task, output = opinions
    labels = task.splits["dev"].labels
    assert labels is not None
    rows = np.stack([labels.numpy(), output.argmax(1).numpy()], 1)
    found = intervals(task.objective, output, labels, 250)
    wanted = {"accuracy": lambda rows: float((rows[:, 0] == rows[:, 1]).mean()), "macro_f1": macro_f1}
    scores = task.objective.metrics(output, labels)
    for name, statistic in wanted.items():
        low, high = resampled(statistic, rows)
        assert found[name] == pytest.approx((low, high), abs=0.25 * (high - low))
        assert found[name][0] < scores[name] < found[name][1]
    assert intervals(task.objective, output, labels, 9) == intervals(task.objective, output, labels, 9)


def test_a_score_has_an_interval_where_the_labels_define_it_and_resamples_that_do_not_are_left_out() -> None:
    output = torch.tensor([1.0, -1.0, 2.0, 0.5])
    alike = intervals(Binary(), output, torch.ones(4, dtype=torch.int64), 10)
    assert set(alike) == {"accuracy", "f1", "loss"}
    rare = intervals(Binary(), output, torch.tensor([0, 1, 1, 1]), 40)  # three resamples in ten have no 0
    assert set(rare) == {"accuracy", "f1", "auc", "loss"}
    assert 0 <= rare["auc"][0] <= rare["auc"][1] <= 1


def test_an_interval_holds_the_true_score_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(100):
        right = torch.rand(100, generator=random) < 0.7
        output = torch.where(right, 1.0, -1.0)
        monkeypatch.setattr(intervals_module, "SEED", int(torch.randint(10**6, (), generator=random)))
        low, high = intervals(OnlyAccuracy(), output, torch.ones(100, dtype=torch.int64), 100)["accuracy"]  # type: ignore[arg-type]
        inside += low <= 0.7 <= high
    assert 88 <= inside <= 99


class OnlyAccuracy:
    """How often an output is positive."""

    def metrics(self, output: Tensor, labels: Tensor) -> dict[str, float]:
        return {"accuracy": (output > 0).double().mean().item()}


def test_the_brier_score_is_scikit_learns(opinions: tuple[Task, Tensor]) -> None:
    task, output = opinions
    truth = task.splits["dev"].labels
    wanted = brier_score_loss(truth, output.double().softmax(1), labels=[0, 1, 2], scale_by_half=False)
    assert mistakes(task, "dev", output)["brier_score"] == pytest.approx(wanted)
    yes = mistakes(task_of(Binary(), torch.tensor([0, 1])), "dev", torch.tensor([-9e9, 9e9]))
    assert yes["brier_score"] == 0
