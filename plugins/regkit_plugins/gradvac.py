"""GradVac: turn tasks' gradients together until as similar as usual (Wang et al., ICLR 2021).

Algorithm 1 of arXiv 2010.05874: as PCGrad, but the target cosine of a pair is the moving average of its cosine, not 0.
Only shared parameters take part, and the results are summed. As in `pcgrad`, the rows' inner products suffice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from regkit import Task, Tuned, hookimpl, inner_products, weighted_sum


@dataclass
class GradVac:
    beta: Annotated[float, Field(gt=0, le=1), Tuned(0.001, 0.1, log=True)] = 0.01
    """Share of the newest cosine in a pair's moving average."""
    aims: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # by pair, "one other"; 0 at first
    learned: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # the aims after this step

    @hookimpl
    def combine_gradients(self, tasks: Sequence[Task], gradients: Tensor) -> Tensor:
        orders = [torch.randperm(len(tasks)).tolist() for _ in tasks]
        products, aims = inner_products(gradients), dict(self.aims)
        shares = self.vaccine(products, orders, [task.name for task in tasks])
        self.learned, self.aims = self.aims, aims
        return weighted_sum(gradients, shares)

    @hookimpl
    def after_step(self) -> None:
        self.aims, self.learned = self.learned or self.aims, {}

    @hookimpl
    def skipped(self) -> None:
        """Discard the new aims, because the step that they come from is not taken."""
        self.learned = {}

    def vaccine(self, products: Tensor, orders: Sequence[Sequence[int]], names: Sequence[str]) -> Tensor:
        """Compute each row's factor in the combined gradient, `[tasks]`, and update the aims.

        `products` are the rows' inner products, `[tasks, tasks]`. `orders[i]` is the order in which row i meets the
        others; it may contain i, which is skipped.
        """
        # Row i: the running gradient of task i, in terms of the rows.
        parts = torch.eye(len(products), dtype=products.dtype)
        for own, order in enumerate(orders):
            for other in order:
                size = max(float(parts[own] @ products @ parts[own]), 0.0) ** 0.5
                whole = size * float(products[other, other]) ** 0.5
                if other == own or not whole:
                    continue
                pair = f"{names[own]} {names[other]}"
                cosine, aim = float(parts[own] @ products[other]) / whole, self.aims.get(pair, 0.0)
                cosine = min(max(cosine, -1.0), 1.0)  # rounding may exceed the range
                if cosine < aim < 1:
                    sine, aimed = math.sqrt(1 - cosine**2), math.sqrt(1 - aim**2)
                    parts[own, other] += size**2 * (aim * sine - cosine * aimed) / (whole * aimed)
                self.aims[pair] = (1 - self.beta) * aim + self.beta * cosine
        return parts.sum(0)

    def state_dict(self) -> dict[str, Any]:
        return {"aims": self.aims}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.aims = dict(state["aims"])
