"""TorchJD: what the library's aggregators give, and what is refused."""

import pytest
import torch
from regkit_plugins.rrobin import RoundRobin
from regkit_plugins.torchjd import TorchJD

from regkit import PluginError
from regkit.testing import resume_is_exact
from tests.plugins.rows import matrix, three

aggregation = pytest.importorskip("torchjd.aggregation")


@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "PCGrad", "Mean", "Sum", "Random"])
def test_torchjd_gives_what_the_aggregator_gives(name: str) -> None:
    rows = matrix(5, 3)
    torch.manual_seed(7)
    ours = TorchJD(name).combine_gradients(rows.clone())
    torch.manual_seed(7)
    torch.testing.assert_close(ours, getattr(aggregation, name)()(rows), rtol=0, atol=0)


def test_torchjd_asks_for_upgrad_by_default() -> None:
    assert type(TorchJD().combine) is aggregation.UPGrad


def test_an_aggregator_that_does_not_exist_is_refused_with_the_choices() -> None:
    with pytest.raises(PluginError, match=r"^'torchjd' has no aggregator 'UPGrat'\. .*Available: .*UPGrad\b"):
        TorchJD("UPGrat")


def test_an_aggregator_that_needs_arguments_is_refused_with_what_it_says() -> None:
    with pytest.raises(PluginError, match=r"^'torchjd' cannot make FairGrad: .*alpha.*\.$"):
        TorchJD("FairGrad")


@pytest.mark.parametrize("name", ["UPGradWeighting", "Aggregator", "Weighting", "WeightedAggregator", "__name__"])
def test_what_is_not_an_aggregator_of_its_own_is_refused(name: str) -> None:
    """A weighting takes inner products, and fails late or gives shares instead of a gradient."""
    with pytest.raises(PluginError):
        TorchJD(name)


def test_only_aggregators_are_offered() -> None:
    with pytest.raises(PluginError) as caught:
        TorchJD("nothing")
    assert "Weighting" not in str(caught.value)


@pytest.mark.parametrize("name", ["GradVac", "PCD"])
def test_an_aggregator_that_remembers_is_resumed_exactly_or_refused(name: str) -> None:
    try:
        TorchJD(name)
    except PluginError as error:
        assert name in str(error)  # noqa: PT017
        return
    resume_is_exact(lambda: {"rrobin": RoundRobin(per_step=3), "torchjd": TorchJD(name)}, three)
