"""By hand: the tightest loop around a model of another library - fused AdamW, clipping, no schedule and no log."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from regkit.data.order import Feed
from tests.benchmarks.alike import Outcome
from tests.benchmarks.ours import tokens_of
from tests.benchmarks.turns import Way

WHOLE = 10**12  # tokens of a micro-batch: no batch is cut


def by_hand(
    model: nn.Module,
    names: Mapping[str, nn.Parameter],
    feed: Feed,
    forward: Callable[[int], tuple[Tensor, Tensor]],
    loss: Callable[[int], Tensor] | None = None,
) -> Way:
    """Make an update of a model from batch n.

    `names` are those by which regkit knows the weights, and `forward` computes outputs and plain loss of batch n. `loss`
    is what is trained on, where that is more.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, fused=True)

    def step(number: int) -> None:
        optimizer.zero_grad()
        (loss(number) if loss else forward(number)[1]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    def outcome() -> Outcome:
        model.eval()
        outputs, plain = forward(0)
        plain.backward()
        found = {name: weight.grad.clone() for name, weight in names.items() if weight.grad is not None}
        model.zero_grad()
        model.train()
        return Outcome(outputs.detach().flatten(), found)

    return Way(step, outcome, tokens_of({feed.task.name: feed}))
