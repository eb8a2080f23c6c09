"""PCGrad: if two tasks' gradients conflict, remove the parts against each other (Yu et al., 2020).

Algorithm 1 of arXiv 2001.06782. Where gradients conflict, each task's gradient is projected onto the normal plane of the
others' original gradients, one after the other in random order; the results are summed. Only shared parameters take part:
each head belongs to one task.

The projections are linear combinations of the rows, so they are found from the matrix of inner products alone; the rows are
read twice, once for that matrix and once for the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regkit import hookimpl, inner_products, weighted_sum


@dataclass
class PCGrad:
    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        orders = [torch.randperm(len(gradients)).tolist() for _ in gradients]
        products = inner_products(gradients)
        return weighted_sum(gradients, surgery(products, orders))


def surgery(products: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """Compute each row's factor in the combined gradient, `[tasks]`, from inner products `[tasks, tasks]`.

    `orders[i]` is the order in which row i meets the others; it may contain i, which is skipped.
    """
    # Row i: the running gradient of task i, in terms of the rows.
    parts = torch.eye(len(products), dtype=products.dtype)
    for own, order in enumerate(orders):
        for other in order:
            conflict = parts[own] @ products[other]
            if other != own and conflict < 0 < products[other, other]:  # the square of a tiny row may be 0
                parts[own, other] -= conflict / products[other, other]
    return parts.sum(0)
