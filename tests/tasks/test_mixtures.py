"""The mean of several models' answers is an output like any other."""

import pytest
import torch

from regkit import Binary, Classification, Multilabel, Objective, Ordinal, Regression, SoftLabels
from regkit.tasks.objectives import MaskedWords, Mixable, Probabilistic

CLASSES = [Classification(4), Binary(), Multilabel(3), Ordinal(5), SoftLabels(3)]


def outputs(objective: Objective, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 20, objective.width)[: 3 if objective.width > 1 else 2]
    return spread * torch.randn(shape, generator=generator)


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("objective", CLASSES, ids=lambda each: each.kind)
def test_a_mixture_has_the_mean_of_the_probabilities(objective: Probabilistic, spread: float) -> None:
    given = outputs(objective, spread)
    assert isinstance(objective, Mixable)
    found = objective.mixture(given)
    assert found.shape == given.shape[1:]
    assert found.dtype == torch.float32
    expected = torch.stack([objective.probabilities(each.double()) for each in given]).mean(0)
    torch.testing.assert_close(objective.probabilities(found).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", CLASSES, ids=lambda each: each.kind)
def test_models_that_are_sure_of_opposites_are_mixed_without_a_number_that_is_not_finite(
    objective: Probabilistic,
) -> None:
    assert isinstance(objective, Mixable)
    sure = 1e4 * outputs(objective, 1.0).sign()
    assert objective.mixture(torch.stack([*sure, *-sure])).isfinite().all()


@pytest.mark.parametrize("objective", [*CLASSES, Regression(0, 5)], ids=lambda each: each.kind)
def test_a_mixture_of_a_model_with_itself_is_that_model(objective: Objective) -> None:
    assert isinstance(objective, Mixable)
    output = outputs(objective, 1.0)[0]
    assert objective.prediction(objective.mixture(torch.stack([output] * 3))).allclose(objective.prediction(output))


def test_scores_have_their_mean() -> None:
    assert Regression(0, 5).mixture(torch.tensor([[1.0, 6.0], [2.0, 5.0]])).tolist() == [1.5, 5.5]


def test_counts_of_masked_words_have_no_mixture() -> None:
    assert not isinstance(MaskedWords(10), Mixable)
