"""Objectives: losses and divergences are means over examples, equal to slow ones, and finite wherever outputs go."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

from regkit.tasks.batch import Batch
from regkit.tasks.objectives import (
    SCALE,
    Binary,
    Classification,
    MaskedWords,
    Multilabel,
    Objective,
    Ordinal,
    Regression,
    Smoothable,
    SoftLabels,
    defined,
)
from regkit.tasks.task import Task
from regkit.testing import tiny_kinds, tiny_tasks

ONE_LABEL = [
    Classification(2),
    Classification(5),
    Binary(),
    Regression(0, 5),
    Regression(-1, 1),
    Ordinal(3),
    Ordinal(6),
]
WEIGHTED = [
    Classification(3, weights=(0.5, 2.0, 0.1)),
    Binary(weights=(0.5, 3.0)),
    Ordinal(4, weights=(0.5, 2.0, 0.1, 1.0)),
    Multilabel(3, weights=((0.5, 3.0), (1.0, 1.0), (2.0, 0.1))),
]
OBJECTIVES = [*ONE_LABEL, Multilabel(4), SoftLabels(3), *WEIGHTED]
EACH = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: f"{each!r}{' weighted' * (each in WEIGHTED)}")
EACH_OF_ONE_LABEL = pytest.mark.parametrize("objective", ONE_LABEL, ids=repr)


def outputs(objective: Objective, examples: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    shape = (examples,) if objective.width == 1 else (examples, objective.width)
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(objective: Objective, examples: int) -> Tensor:
    """Every class in turn, or scores from one end of the scale to the other."""
    if isinstance(objective, Regression):
        return torch.linspace(0, SCALE, examples)
    if isinstance(objective, SoftLabels):
        return outputs(objective, examples, seed=7).softmax(1)
    if isinstance(objective, Multilabel):
        return torch.arange(1, examples + 1)[:, None] // 2 ** torch.arange(objective.classes) % 2
    return torch.arange(examples) % getattr(objective, "classes", 2)


def chances(objective: Ordinal, row: Tensor) -> list[Tensor]:
    """The probability of each class of an example, by differences of P(y > k), of the tails where those are small."""
    logits = [row[0]]
    for number in row[1:]:
        logits.append(logits[-1] - (1 + number.exp()).log())
    tops = [torch.tensor(math.inf, dtype=row.dtype), *logits]
    ends = [*logits, torch.tensor(-math.inf, dtype=row.dtype)]
    return [
        (-end).sigmoid() - (-top).sigmoid() if end > 0 else top.sigmoid() - end.sigmoid()
        for top, end in zip(tops, ends, strict=True)
    ]


def slow_divergence(objective: Objective, output: Tensor, other: Tensor) -> Tensor:
    """Example by example, by torch's own distributions."""
    found = []
    for one, two in zip(output.double(), other.double(), strict=True):
        if isinstance(objective, Regression):
            found.append((one - two) ** 2)
        elif isinstance(objective, Ordinal):
            pairs = zip(chances(objective, one), chances(objective, two), strict=True)
            found.append(sum((p - q) * (p.log() - q.log()) for p, q in pairs))
        else:
            if isinstance(objective, Binary | Multilabel):  # torch's Bernoulli takes a chance of 1 - 1e-17 for 1
                one, two = (torch.stack([torch.zeros_like(each), each], -1) for each in (one, two))
            p, q = Categorical(logits=one), Categorical(logits=two)
            found.append((kl_divergence(p, q) + kl_divergence(q, p)).mean())  # over labels, where there are several
    return sum(found) / len(found)


def slow_loss(objective: Objective, output: np.ndarray, label: np.ndarray) -> float:
    """The loss of one example in double precision, by the chance of what its label says."""
    weights = getattr(objective, "weights", ())
    if isinstance(objective, Regression):
        return (output - label) ** 2
    if isinstance(objective, Binary | Multilabel):
        losses = []
        for place, (logit, truth) in enumerate(zip(np.atleast_1d(output), np.atleast_1d(label), strict=True)):
            weight = (weights[place] if isinstance(objective, Multilabel) else weights)[truth] if weights else 1
            losses.append(-weight * math.log(expit(logit if truth else -logit)))
        return sum(losses) / len(losses)
    if isinstance(objective, Ordinal):
        chance = [float(each) for each in chances(objective, torch.from_numpy(output))]
    else:
        chance = [math.exp(logit) / sum(map(math.exp, output)) for logit in output]
    if isinstance(objective, SoftLabels):
        return -sum(share * math.log(each) for share, each in zip(label, chance, strict=True))
    return -(weights[label] if weights else 1) * math.log(chance[label])


@EACH
def test_loss_is_a_slow_ones_mean_over_examples(objective: Objective) -> None:
    output, truth = outputs(objective, 7), labels(objective, 7)
    rows = zip(output.double().numpy(), truth.numpy(), strict=True)
    wanted = sum(slow_loss(objective, row, label) for row, label in rows) / 7
    assert objective.loss(output, truth).item() == pytest.approx(wanted, rel=1e-5)
    assert objective.loss(output, truth).shape == ()


@EACH
@given(examples=st.integers(1, 6), seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 10.0]))
@settings(max_examples=25, deadline=None)
def test_divergence_is_both_directions_summed_over_classes_and_averaged_over_examples(
    objective: Objective, examples: int, seed: int, scale: float
) -> None:
    output, other = outputs(objective, examples, seed, scale), outputs(objective, examples, seed + 1, scale)
    found, wanted = objective.divergence(output, other), slow_divergence(objective, output, other)
    assume(wanted.isfinite())  # two bounds of an ordinal task may be equal by chance
    rtol = 1e-2 if scale > 1 else 1e-4  # the difference of two large bounds that are nearly equal
    torch.testing.assert_close(found.double(), wanted, rtol=rtol, atol=3e-7 * scale)
    assert found.shape == ()


@EACH
def test_divergence_is_zero_for_equal_outputs_symmetric_and_positive_for_others(objective: Objective) -> None:
    output, other = outputs(objective, 6), outputs(objective, 6, seed=1)
    assert objective.divergence(output, output.clone()) == 0
    torch.testing.assert_close(objective.divergence(output, other), objective.divergence(other, output))
    for example in range(6):
        assert objective.divergence(output[[example]], other[[example]]) > 1e-3


@EACH
@pytest.mark.parametrize("term", ["loss", "divergence"])
def test_what_a_batch_gives_is_the_mean_of_what_its_examples_give(objective: Objective, term: str) -> None:
    output = outputs(objective, 6)
    other = labels(objective, 6) if term == "loss" else outputs(objective, 6, seed=1)
    measure = getattr(objective, term)
    alone = torch.stack([measure(output[[row]], other[[row]]) for row in range(6)])
    torch.testing.assert_close(measure(output, other), alone.mean())
    torch.testing.assert_close(measure(output[2:], other[2:]), alone[2:].mean())


@EACH
def test_gradient_of_the_divergence_reaches_both_sides(objective: Objective) -> None:
    output, other = (outputs(objective, 5, seed).double().requires_grad_() for seed in (0, 1))
    found = torch.autograd.grad(objective.divergence(output, other), (output, other))
    wanted = torch.autograd.grad(slow_divergence(objective, output, other), (output, other))
    for one, two in zip(found, wanted, strict=True):
        assert one.abs().min() > 0
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", [Binary(), Regression(0, 5)], ids=repr)
@pytest.mark.parametrize("shape", [(4, 1), (1,), (3,), (), (1, 4)], ids=str)
def test_shapes_that_would_broadcast_are_an_error(objective: Objective, shape: tuple[int, ...]) -> None:
    for output, other in ((torch.zeros(4), torch.zeros(shape)), (torch.zeros(shape), torch.zeros(4))):
        with pytest.raises(ValueError, match="shapes"):
            objective.divergence(output, other)
        with pytest.raises(ValueError, match="shapes"):
            objective.loss(output, other)


def test_class_outputs_of_different_shape_are_an_error() -> None:
    for shape in ((1, 3), (4, 1), (3,), (4, 2)):
        with pytest.raises(ValueError, match="shapes"):
            Classification(3).divergence(torch.zeros(4, 3), torch.zeros(shape))


@EACH
@pytest.mark.parametrize("size", [1e4, 1e-4, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_extreme_outputs_give_finite_numbers_and_gradients(
    objective: Objective, size: float, dtype: torch.dtype
) -> None:
    signs = outputs(objective, 8).sign()
    output, other = (
        (size * part).to(dtype).requires_grad_() for part in (signs, signs.flip(0))
    )  # opposite certainties among them
    for value in (objective.divergence(output, other), objective.loss(output, labels(objective, 8))):
        assert value.isfinite()
        assert all(part is None or part.isfinite().all() for part in _slopes(value, output, other))


def _slopes(value: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, inputs, allow_unused=True)


def test_divergence_of_opposite_certainties_is_their_distance() -> None:
    sure = torch.tensor([1e4])
    torch.testing.assert_close(Binary().divergence(sure, -sure), torch.tensor(2e4))
    one, other = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    torch.testing.assert_close(Classification(2).divergence(one, other), torch.tensor(2e4))


def test_a_certain_mistake_costs_its_certainty_and_still_has_a_gradient() -> None:
    for objective, output in ((Binary(), torch.tensor([1e4])), (Classification(2), torch.tensor([[0.0, 1e4]]))):
        output.requires_grad_()
        loss = objective.loss(output, torch.tensor([0]))
        loss.backward()
        assert (loss.item(), output.grad.flatten()[-1].item()) == (1e4, 1)


@EACH
def test_low_precision_outputs_are_computed_in_single_precision(objective: Objective) -> None:
    output, other = (outputs(objective, 64, seed).bfloat16() for seed in (0, 1))
    truth = labels(objective, 64)
    found, wanted = objective.divergence(output, other), objective.divergence(output.float(), other.float())
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert torch.equal(objective.loss(output, truth), objective.loss(output.float(), truth))
    assert objective.metrics(output, truth) == objective.metrics(output.float(), truth)


@EACH
def test_double_precision_outputs_keep_theirs(objective: Objective) -> None:
    output, truth = outputs(objective, 8).double(), labels(objective, 8)
    other = output + 1e-9 * outputs(objective, 8, seed=1)
    found = objective.divergence(output, other)
    torch.testing.assert_close(found, slow_divergence(objective, output, other), rtol=1e-4, atol=1e-20)
    assert objective.loss(output, truth).dtype == torch.float64


def test_two_classes_and_one_logit_agree_where_they_mean_the_same() -> None:
    one, other = outputs(Binary(), 9), outputs(Binary(), 9, seed=1)
    doubled = [torch.stack([torch.zeros(9), logit], dim=1) for logit in (one, other)]
    found = Binary().divergence(one, other)
    assert found > 0.1
    torch.testing.assert_close(found, Classification(2).divergence(*doubled))
    truth = labels(Binary(), 9)
    torch.testing.assert_close(Binary().loss(one, truth), Classification(2).loss(doubled[0], truth))


@pytest.mark.parametrize(("low", "high"), [(0, 5), (1, 5), (0, 100), (0, 0.005), (-1, 1), (1e6, 1e6 + 1)])
def test_whatever_the_unit_of_a_table_its_range_is_the_scale(low: float, high: float) -> None:
    objective = Regression(low, high)
    middle = (low + high) / 2
    assert [objective.label(repr(value)) for value in (low, middle, high)] == pytest.approx([0, 2.5, 5])
    assert [float(objective.text(label)) for label in (0, 2.5, 5)] == pytest.approx([low, middle, high], rel=1e-12)


def test_a_range_far_from_0_is_named_in_full() -> None:
    with pytest.raises(ValueError, match=r"^a number from 1000000 to 1000000\.5$"):
        Regression(1e6, 1e6 + 0.5).label("0")


def test_a_score_from_0_to_5_is_on_the_scale_as_it_is() -> None:
    objective = Regression(0, 5)
    for number in range(5001):
        text = f"{number / 1000:.3f}"
        assert objective.label(text) == float(text)
        assert float(objective.text(float(text))) == float(text)


@pytest.mark.parametrize("objective", [Classification(5), Classification(2), Binary()], ids=repr)
def test_class_metrics_are_those_of_scikit_learn(objective: Objective) -> None:
    output, truth = outputs(objective, 50), labels(objective, 50)
    found, guess = objective.metrics(output, truth), objective.prediction(output)
    wanted = {"accuracy": accuracy_score(truth, guess), "loss": float(objective.loss(output, truth))}
    if isinstance(objective, Binary):
        assert guess.tolist() == [int(logit > 0) for logit in output.tolist()]
        wanted |= {"f1": f1_score(truth, guess), "auc": roc_auc_score(truth, output)}
    else:
        assert guess.tolist() == [row.index(max(row)) for row in output.tolist()]
        wanted |= {"macro_f1": f1_score(truth, guess, average="macro")}
    assert found == pytest.approx(wanted)
    assert len(set(found.values())) == len(found)
    assert objective.metric in found
    assert guess.dtype == objective.label_type


def test_metrics_of_cases_worked_by_hand() -> None:
    found = Binary().metrics(torch.tensor([1.0, -1.0, 2.0, -2.0]), torch.tensor([1, 1, 0, 0]))
    loss = sum(math.log(1 + math.exp(x)) for x in (-1, 1, 2, -2)) / 4
    assert found == pytest.approx({"accuracy": 0.5, "f1": 0.5, "auc": 0.5, "loss": loss})
    logits = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 9, 0]])
    found = Classification(3).metrics(logits, torch.tensor([0, 0, 1, 2]))
    loss = math.log(math.exp(9) + 2) - 0.75 * 9
    assert found == pytest.approx({"accuracy": 0.75, "macro_f1": (1 + 2 / 3 + 0) / 3, "loss": loss})
    found = Regression(0, 5).metrics(torch.tensor([1.0, 2, 30]), torch.tensor([0.0, 1, 2]))
    assert found["spearman"] == pytest.approx(1)
    assert 0.8 < found["pearson"] < 0.95


def test_score_metrics_are_the_correlations_of_scipy_on_unclamped_output() -> None:
    objective = Regression(0, 5)
    output, truth = outputs(objective, 50, scale=5), labels(objective, 50)
    found = objective.metrics(output, truth)
    assert found["pearson"] == pytest.approx(pearsonr(output.double(), truth.double()).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(output, truth).statistic)
    assert objective.metrics(-output, truth)["pearson"] == pytest.approx(-found["pearson"])
    assert objective.metric == "pearson"
    assert objective.prediction(torch.tensor([-1.0, 2.5, 7])).tolist() == [0, 2.5, 5]


@pytest.mark.parametrize("constant", [0.0, 0.1, 2.5, 1e4])
def test_a_constant_score_correlates_with_nothing(constant: float) -> None:
    objective = Regression(0, 5)
    found = objective.metrics(torch.full((50,), constant), labels(objective, 50))
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)


def answers(objective: Objective, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs that are wrong, and outputs that are right."""
    if isinstance(objective, Ordinal):
        gaps = torch.full((len(truth), objective.classes - 2), 4.0)
        turned = objective.classes - 1 - truth
        wrong, right = (torch.cat([4.0 * each[:, None] - 2, gaps], dim=1) for each in (turned, truth))
        return wrong, right
    if isinstance(objective, Classification):
        right = F.one_hot(truth, objective.classes).float()
    else:
        right = truth.log() if isinstance(objective, SoftLabels) else truth - truth.float().mean()
    return -right, right


@EACH
def test_an_objective_declares_its_scores_and_which_way_they_improve(objective: Objective) -> None:
    """From an output that is wrong to one that is right, every score goes the way that is declared."""
    truth = labels(objective, 6)
    bad, good = (
        objective.metrics(answers(objective, truth)[0], truth),
        objective.metrics(answers(objective, truth)[1], truth),
    )
    assert list(good) == list(objective.scores) == defined(objective, truth)
    for name, metric in objective.scores.items():
        assert (good[name] < bad[name]) == metric.lower_is_better, name
        assert good[name] != bad[name]
    assert objective.metric in objective.scores


@EACH
def test_labels_that_are_all_alike_leave_out_what_compares_them(objective: Objective) -> None:
    output, truth = outputs(objective, 9), labels(objective, 9)[[4] * 9]
    found = objective.metrics(output, truth)
    assert list(found) == defined(objective, truth)
    assert set(objective.scores) - set(found) == set(objective.scores) & {
        "auc",
        "pearson",
        "spearman",
        "quadratic_kappa",
    }
    assert all(math.isfinite(value) for value in found.values())


def test_one_class_guessed_throughout_warns_of_nothing() -> None:
    found = Binary().metrics(-torch.ones(4), torch.tensor([0, 1, 0, 1]))
    assert (found["accuracy"], found["f1"], found["auc"]) == (0.5, 0, 0.5)
    assert Classification(3).metrics(torch.eye(3)[[0, 0]], torch.tensor([0, 1]))["accuracy"] == 0.5


@EACH_OF_ONE_LABEL
def test_labels_as_tables_write_them_are_read(objective: Objective) -> None:
    texts = {"0": 0, "1": 1, "1.0": 1, "0.0": 0, "+1": 1, "1.": 1, "10e-1": 1, " 1 ": 1}
    if isinstance(objective, Binary):
        texts |= {"yes": 1, "No": 0, "TRUE": 1, "false": 0, "Y": 1, "n": 0, "t": 1, "F": 0}
    if isinstance(objective, Regression):
        texts |= {"0.25": 0.25, "1e-1": 0.1, ".5": 0.5}
        texts = {
            text: (value - objective.low) / (objective.high - objective.low) * SCALE for text, value in texts.items()
        }
    assert {text: objective.label(text) for text in texts} == pytest.approx(texts)


NO_NUMBERS = [
    "",
    " ",
    ".",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "abc",
    "5.01",
    "-1.5",
    "1,0",
    "0x1",
    "Truth",
    "None",
    "1e",
    "e1",
]
PYTHONS_OWN = ["0_1", "0.0_1", "1e-0_1", "\u0661", "\uff11", "infinity", "1e999"]  # float() takes them


@EACH_OF_ONE_LABEL
@pytest.mark.parametrize("text", [*NO_NUMBERS, *PYTHONS_OWN])
def test_what_is_no_label_is_refused_with_what_is_needed(objective: Objective, text: str) -> None:
    needed = "a number from" if isinstance(objective, Regression) else "a whole number from 0 to [245]|0 or 1"
    with pytest.raises(ValueError, match=f"^({needed})"):
        objective.label(text)


WORDS = MaskedWords(7)


def test_the_loss_of_masked_words_is_their_mean_and_of_none_is_nothing() -> None:
    output, truth = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    torch.testing.assert_close(WORDS.loss(output, truth), F.cross_entropy(output, truth))
    torch.testing.assert_close(WORDS.divergence(output, 2 * output), slow_divergence(WORDS, output, 2 * output).float())
    none = torch.zeros(0, 7, requires_grad=True)
    for loss in (WORDS.loss(none, truth[:0]), WORDS.divergence(none, none)):
        assert loss.item() == 0
        loss.backward()


def test_metrics_of_masked_words_are_over_words_however_texts_share_them() -> None:
    output = 3 * torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([0, 1, 2, 3, 4, 5])
    batch = Batch.pack([np.zeros(4)] * 3, [np.zeros(4)] * 3, labels=truth, targets=torch.tensor([1, 2, 3, 8, 9, 10]))
    evidence = WORDS.evidence(output, batch)
    assert evidence[:, 0].tolist() == [3, 0, 3]  # the second text has none
    found = WORDS.metrics(evidence, torch.zeros(3))
    loss = float(F.cross_entropy(output, truth))
    assert found["loss"] == pytest.approx(loss)
    assert found["perplexity"] == pytest.approx(math.exp(loss))
    assert found["accuracy"] == pytest.approx(float((output.argmax(1) == truth).float().mean()))
    assert list(found) == list(WORDS.scores)
    assert [name for name, metric in WORDS.scores.items() if metric.lower_is_better] == ["perplexity", "loss"]
    assert WORDS.metrics(torch.tensor([[1.0, 1e3, 0]]), torch.zeros(1))["perplexity"] == math.inf


@pytest.mark.parametrize("text", ["5", "1.5", "-1", "0.5", "1e9"])
def test_a_class_outside_the_range_or_between_two_is_refused(text: str) -> None:
    for objective in (Classification(5), Binary()):
        with pytest.raises(ValueError, match=r"from 0 to 4|0 or 1"):
            objective.label(text)
    assert Classification(6).label("5") == 5


@pytest.mark.parametrize("form", [Classification, Ordinal])
def test_named_classes_are_labelled_by_name_only(form: type[Classification | Ordinal]) -> None:
    objective = form(3, ("bad", "fair", "good"))
    assert [objective.label(name) for name in objective.names] == [0, 1, 2]
    assert [objective.text(label) for label in (0, 1.0, 2)] == list(objective.names)
    for text in ("0", "bat", "", "bad, fair"):
        with pytest.raises(ValueError, match="one of bad, fair, good"):
            objective.label(text)


@EACH
def test_a_label_survives_being_written_and_read(objective: Objective) -> None:
    for label in labels(objective, 10).tolist():
        again = np.float32(objective.label(objective.text(label)))
        assert np.allclose(again, label, rtol=0, atol=2e-6) if isinstance(label, list) else again == np.float32(label)


SCORES = st.floats(0, SCALE, width=32)


@given(SCORES)
def test_a_score_is_written_with_the_fewest_decimals_that_give_it_back(score: float) -> None:
    """By numpy's shortest decimals, where the scale is the table's own unit."""
    assert Regression(0, 5).text(score) == np.format_float_positional(np.float32(score), trim="-")


@given(SCORES, st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_a_score_in_any_unit_is_written_in_plain_digits_and_read_back(score: float, low: float, width: float) -> None:
    objective = Regression(low, low + width)
    text = objective.text(score)
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]*[1-9])?", text)
    lost = 1e-15 * (abs(low) + width) / width * SCALE  # to a float64 of the table's unit
    assert objective.label(text) == pytest.approx(score, rel=1.2e-7, abs=lost)


def test_a_head_on_the_scale_is_told_from_one_in_the_unit_of_the_table() -> None:
    """By what `tasks.json` holds: a run from before the scale has the plain range there."""
    assert repr(Regression(0.0, 5.0)) == "Regression(low=0.0, high=5.0)"
    assert repr(Regression(0.0, 100.0)) == "Regression(low=0.0, high=100.0, scale=5)"


@pytest.mark.parametrize("task", [*tiny_tasks(), *tiny_kinds()], ids=lambda task: task.name)
def test_chances_and_log_probabilities_give_the_loss_of_each_example_of_every_kind_of_classes(task: Task) -> None:
    """As the page of the nouns says; where each label is yes or no, the chances are those of yes."""
    assert isinstance(task.objective, Smoothable) == (task.objective.kind != "regression")
    if not isinstance(task.objective, Smoothable):
        return
    objective = replace(task.objective, weights=()) if hasattr(task.objective, "weights") else task.objective
    labels, output = task.splits["train"].labels[:4], torch.randn(4, objective.width).squeeze(1)
    log_p, chances = objective.log_probabilities(output), objective.smoothed(labels, 0.0)
    both = chances if chances.dim() == log_p.dim() else torch.stack([1 - chances, chances], dim=-1)
    each = -(both * log_p).sum(-1)
    assert each.mean().item() == pytest.approx(objective.loss(output, labels).item(), rel=1e-5)
    assert torch.equal(objective.smoothed(chances, 0.0), chances)
