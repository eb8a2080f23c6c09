"""Adapters: regkit computes what transformers computes of each family, and one text does not change another."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from regkit.model import load_encoder
from regkit.model.adapter import Adapter
from tests.helpers import slow_but
from tests.model.foreign_families import FOREIGN, foreign_model
from tests.model.test_families import packed, padded_run

FAMILIES = slow_but(FOREIGN, ["modernbert", "deberta-v2"])


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_gradients_are_those_of_transformers_padded_run(family: str, tmp_path: Path) -> None:
    model, batch = foreign_model(family), packed(family)
    model.save_pretrained(tmp_path)
    ours = load_encoder(tmp_path).eval()
    assert (type(ours), ours.packed) == (Adapter, FOREIGN[family][1])
    embeddings = ours.embed(batch).detach().requires_grad_()
    again = embeddings.detach().clone().requires_grad_()
    found, wanted = ours.encode(embeddings, batch), padded_run(model, batch, again)
    goal = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    for hidden in (found, wanted):
        (hidden * goal).sum().backward()
    close("hidden states", found, wanted)
    close("hidden states from words", found, padded_run(model, batch))
    close("rows", ours.encode(embeddings, batch, torch.tensor([0, 7, 30])), wanted[[0, 7, 30]])
    close("gradient of the embeddings", embeddings.grad, again.grad)
    gradients = {name: weight.grad for name, weight in ours.model.named_parameters()}
    for name, weight in model.named_parameters():
        close(f"gradient of {name}", gradients[name], weight.grad)


def close(what: str, one: Tensor | None, other: Tensor | None) -> None:
    """Compare in units of the largest number."""
    assert (one is None) == (other is None), what
    if one is not None and other is not None:
        difference = ((one - other).abs().max() / other.abs().max().clamp(min=1e-3)).item()
        assert difference < 2e-5, f"{what}: {difference}"
