"""Kinds: what is special of each - metrics by hand, thresholds in order, weights of classes, and plain values."""

import json
import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, rel_entr
from scipy.stats import rankdata
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional as F

from regkit.tasks.objectives import (
    KINDS,
    Binary,
    Classification,
    MaskedWords,
    Multilabel,
    Objective,
    OfWeights,
    Ordinal,
    Regression,
    SoftLabels,
    described,
    from_description,
    weighted,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_metrics_of_a_multilabel_task_are_counts_of_yes_and_pairs_in_order() -> None:
    output, truth = drawn(40, 4), (drawn(40, 4, seed=1) > 1).long()
    truth[:, 3] = 0  # a label that never holds has no AUC
    found = Multilabel(4).metrics(output, truth)
    yes, guess = truth.numpy().astype(bool), output.numpy() > 0
    hits, wrong = (yes & guess).sum(0), (yes ^ guess).sum(0)
    aucs = []
    for column in range(3):
        scores, held = output[:, column].tolist(), yes[:, column]
        pairs = [
            (a > b) for a, h in zip(scores, held, strict=True) if h for b, o in zip(scores, held, strict=True) if not o
        ]
        aucs.append(sum(pairs) / len(pairs))
    assert found["micro_f1"] == pytest.approx(2 * hits.sum() / (2 * hits.sum() + wrong.sum()))
    assert found["macro_f1"] == pytest.approx(np.mean(2 * hits / (2 * hits + wrong)))
    assert found["auc"] == pytest.approx(np.mean(aucs))
    assert found["loss"] == pytest.approx(float(Multilabel(4).loss(output, truth)))
    assert Multilabel(4).prediction(output).tolist() == guess.astype(int).tolist()
    assert "auc" not in Multilabel(4).metrics(output[:1], truth[:1])


def test_metrics_of_an_ordinal_task_are_those_of_its_definitions() -> None:
    objective, output, truth = Ordinal(5), drawn(60, 4), torch.arange(60) % 5
    found, guess = objective.metrics(output, truth), objective.prediction(output).numpy()
    seen, off = truth.numpy(), (np.arange(5)[:, None] - np.arange(5)) ** 2
    table = np.array([[np.sum((seen == i) & (guess == j)) for j in range(5)] for i in range(5)])
    chance = np.outer(table.sum(1), table.sum(0)) / 60
    assert found["quadratic_kappa"] == pytest.approx(1 - (off * table).sum() / (off * chance).sum())
    assert found["accuracy"] == pytest.approx(np.trace(table) / 60)
    assert found["mae"] == pytest.approx(np.abs(seen - guess).mean())
    expected = (objective.probabilities(output.double()).numpy() * np.arange(5)).sum(1)
    assert found["spearman"] == pytest.approx(np.corrcoef(rankdata(seen), rankdata(expected))[0, 1])


def test_metrics_of_soft_labels_are_those_of_their_definitions() -> None:
    objective, output, truth = SoftLabels(3), drawn(30, 3), drawn(30, 3, seed=1).softmax(1)
    truth[0], truth[1] = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0.5, 0.5])
    output[1] = torch.tensor([0.0, 0, 1])  # one of the two most probable
    found, p = objective.metrics(output, truth), truth.double().numpy()
    q = output.double().softmax(1).numpy()
    assert found["kl"] == pytest.approx(rel_entr(p, q).sum(1).mean(), rel=1e-5)
    assert found["loss"] == pytest.approx(-(p * np.log(q)).sum(1).mean(), rel=1e-5)
    right = [row[guess] == max(row) for row, guess in zip(p, q.argmax(1), strict=True)]
    assert found["accuracy"] == pytest.approx(np.mean(right))
    assert right[1]
    torch.testing.assert_close(objective.prediction(output).double().numpy(), q, rtol=1e-5, atol=1e-7)
    assert objective.metrics(truth.clamp(min=1e-30).log(), truth)["kl"] == pytest.approx(0, abs=1e-6)


@given(st.integers(3, 8), st.integers(0, 1000), st.sampled_from([0.1, 3.0, 100.0, 1e4]))
@settings(max_examples=50, deadline=None)
def test_thresholds_are_in_order_whatever_the_output(classes: int, seed: int, scale: float) -> None:
    objective, output = Ordinal(classes), scale * drawn(5, classes - 1, seed=seed)
    above, chances = objective.above(output), objective.probabilities(output)
    assert (above.diff(dim=1) <= 0).all()
    assert (chances >= 0).all()
    torch.testing.assert_close(chances.sum(1), torch.ones(5), rtol=1e-4, atol=1e-4)
    assert objective.log_probabilities(output).isfinite().all()


def test_an_ordinal_output_is_a_score_and_distances_of_thresholds() -> None:
    """The proportional odds model by hand: P(y > k) is the sigmoid of the score less threshold k."""
    score, thresholds = torch.tensor([-1.0, 0.5, 4.0]), torch.tensor([-2.0, 0.25, 3.0])
    distances = thresholds.diff().expm1().log().expand(3, 2)
    output = torch.cat([(score - thresholds[0])[:, None], distances], dim=1)
    wanted = expit(score.numpy()[:, None] - thresholds.numpy())
    torch.testing.assert_close(Ordinal(4).above(output).sigmoid().numpy(), wanted, rtol=1e-5, atol=1e-6)
    below = np.pad(1 - wanted, ((0, 0), (0, 1)), constant_values=1)
    torch.testing.assert_close(
        Ordinal(4).probabilities(output).double().numpy(), np.diff(below, prepend=0), rtol=1e-4, atol=1e-6
    )
    assert Ordinal(4).prediction(output).tolist() == [1, 2, 3]  # between which thresholds the score is


def test_bf16_rounds_no_threshold_onto_another() -> None:
    """At a score of 40, bf16 has steps of a quarter; as logits, two thresholds 0.02 apart would be one."""
    output = torch.tensor([[40.0, math.log(math.expm1(0.02))]])
    loss = Ordinal(3).loss(output.bfloat16(), torch.tensor([1]))
    assert loss.item() == pytest.approx(Ordinal(3).loss(output, torch.tensor([1])).item(), rel=0.02)


@pytest.mark.parametrize("objective", [Classification(3), Ordinal(3), Multilabel(3), Binary(), SoftLabels(3)], ids=repr)
def test_probabilities_are_those_of_each_class(objective: Any) -> None:
    output = drawn(6, objective.width) if objective.width > 1 else drawn(6)
    found = objective.probabilities(output)
    assert found.shape == (6, 2 if isinstance(objective, Binary) else 3)
    if not isinstance(objective, Multilabel):
        torch.testing.assert_close(found.sum(1), torch.ones(6))
    truth = torch.arange(6) % 2
    if isinstance(objective, Binary | Classification | Ordinal):
        torch.testing.assert_close(objective.loss(output, truth), -found[torch.arange(6), truth].log().mean())


LABELS = torch.tensor([0] * 6 + [1] * 3 + [2] * 1)


@pytest.mark.parametrize("objective", [Classification(3), Ordinal(3)], ids=repr)
def test_balanced_weights_are_those_of_scikit_learn(objective: OfWeights) -> None:
    found = weighted(objective, LABELS, "balanced").weights
    assert found == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy()))
    yes = weighted(Binary(), LABELS.clamp(max=1), "balanced").weights
    assert yes == pytest.approx(compute_class_weight("balanced", classes=np.arange(2), y=LABELS.clamp(max=1).numpy()))


@pytest.mark.parametrize("given", ["balanced", (1.0, 2.0, 30.0), (7.0, 7.0, 7.0)], ids=str)
def test_the_mean_weight_of_the_training_rows_is_1(given: Any) -> None:
    found = torch.tensor(weighted(Classification(3), LABELS, given).weights)
    assert found[LABELS].mean() == pytest.approx(1)
    if given != "balanced":
        torch.testing.assert_close(found / found[0], torch.tensor(given) / given[0])


def test_given_weights_of_a_multilabel_task_are_torchs_pos_weight_up_to_a_factor_of_each_label() -> None:
    truth, output = F.one_hot(LABELS, 3), drawn(10, 3)
    objective = weighted(Multilabel(3), truth, (1.0, 2.0, 30.0))
    losses = F.binary_cross_entropy_with_logits(
        output, truth.float(), pos_weight=torch.tensor([1.0, 2, 30]), reduction="none"
    )
    share = truth.float().mean(0)
    wanted = (losses / (1 - share + share * torch.tensor([1.0, 2, 30]))).mean()
    torch.testing.assert_close(objective.loss(output, truth), wanted)
    balanced = weighted(Multilabel(3), truth, "balanced").weights
    assert balanced[1] == pytest.approx(compute_class_weight("balanced", classes=np.arange(2), y=truth[:, 1].numpy()))


def test_a_class_that_never_comes_counts_as_if_it_came_once() -> None:
    assert weighted(Classification(4), LABELS, "balanced").weights[3] == pytest.approx(
        weighted(Classification(3), LABELS, "balanced").weights[2]
    )


def test_a_weight_changes_what_an_example_adds_and_not_what_the_others_do() -> None:
    """By torch's weighted mean, the loss of one example would depend on the classes of those beside it."""
    objective, output = Classification(3, weights=(0.5, 1.0, 4.0)), drawn(10, 3)
    plain = F.cross_entropy(output, LABELS, reduction="none")
    torch.testing.assert_close(objective.loss(output, LABELS), (plain * torch.tensor([0.5, 1, 4])[LABELS]).mean())
    parts = [objective.loss(output[rows], LABELS[rows]) for rows in ([0, 6, 7, 8, 9], [1, 2, 3, 4, 5])]
    torch.testing.assert_close(torch.stack(parts).mean(), objective.loss(output, LABELS))


@pytest.mark.parametrize("objective", [Classification(3), Ordinal(3), SoftLabels(3)], ids=repr)
def test_a_loss_takes_distributions_for_labels(objective: Any) -> None:
    output, truth = drawn(5, objective.width), drawn(5, 3, seed=1).softmax(1)
    each = [-(truth[:, place] * objective.probabilities(output)[:, place].log()) for place in range(3)]
    torch.testing.assert_close(objective.loss(output, truth), sum(each).mean())


OBJECTIVES = [
    Classification(3, ("a", "b", "c"), (0.5, 1.0, 2.0), "macro_f1"),
    Classification(2),
    Binary(),
    Binary(("no", "yes"), (0.5, 2.0), "auc"),
    Regression(-1.0, 1.0, "spearman"),
    Multilabel(2, ("a", "b"), ((0.5, 1.0), (2.0, 3.0)), "macro_f1"),
    Ordinal(4, metric="mae"),
    SoftLabels(3, metric="kl"),
    MaskedWords(97),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_an_objective_is_built_again_from_json(objective: Objective) -> None:
    again = from_description(json.loads(json.dumps(described(objective))))
    assert again == objective
    assert again.metric == objective.metric
    assert KINDS[objective.kind] is type(objective)


WRONG = [
    (
        {"kind": "clasification", "classes": 3},
        "there is no kind of task 'clasification'. Did you mean 'classification'?",
    ),
    ({"classes": 3}, "there is no kind of task 'None'."),
    ({"kind": "ordinal", "class": 3}, "an? ordinal task has no 'class'. Did you mean 'classes'?"),
    ({"kind": "ordinal"}, "needs 'classes'"),
    ({"kind": "ordinal", "classes": 2}, "needs 3 to 65536 classes, not 2"),
    ({"kind": "soft", "classes": "many"}, "classes is 'many'"),
    ({"kind": "classification", "classes": 1}, "needs 2 to 65536 classes, not 1"),
    ({"kind": "classification", "classes": 3, "names": ["a", "b"]}, "needs as many names that differ"),
    ({"kind": "classification", "classes": 2, "names": ["a", "a"]}, "needs as many names that differ"),
    ({"kind": "classification", "classes": 2, "weights": [1.0]}, "class weights are 2 positive numbers"),
    ({"kind": "classification", "classes": 2, "weights": [1.0, -1.0]}, "class weights are 2 positive numbers"),
    ({"kind": "binary", "weights": [1.0, math.inf]}, "class weights are 2 positive numbers"),
    ({"kind": "multilabel", "classes": 3, "weights": [1.0, 1.0, 1.0]}, "weights"),
    (
        {"kind": "binary", "metric": "f2"},
        "metric is 'f2', and a binary task has no such score. Available: accuracy, auc, f1, loss",
    ),
    ({"kind": "regression", "low": 1.0, "high": 1.0}, "its lowest score below its highest"),
    ({"kind": "regression", "low": 0.0, "high": math.nan}, "its lowest score below its highest"),
]


@pytest.mark.parametrize(("values", "said"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_values_that_describe_no_objective_are_refused_in_a_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        from_description(values)
    assert "\n" not in str(caught.value)


def test_kinds_have_names_of_their_own() -> None:
    assert all(one.kind != other.kind for one, other in combinations(KINDS.values(), 2))
    assert list(KINDS) == [form.kind for form in KINDS.values()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_a_head_is_known_by_its_classes_and_not_by_what_its_loss_weighs(objective: Any) -> None:
    assert "weights" not in repr(objective)
    assert "metric" not in repr(objective)
