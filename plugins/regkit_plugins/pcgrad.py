"""PCGrad: where two tasks' gradients conflict, each loses its part against the other (Yu et al., NeurIPS 2020).

Algorithm 1 of arXiv 2001.06782. Every task's gradient, in turn, is projected off the original gradients of the others, in
random order, where they conflict; the results are summed. Shared parameters only: each head belongs to one task.

The projections are linear combinations of the rows, so they are found from the matrix of inner products alone; the rows are
read twice, once for that matrix and once for the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regkit import hookimpl


@dataclass
class PCGrad:
    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        orders = [torch.randperm(len(gradients)).tolist() for _ in gradients]
        products = (gradients @ gradients.T).double().cpu()  # note: waits for the GPU
        return surgery(products, orders).to(gradients) @ gradients


def surgery(products: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """How much of each row the combined gradient has, `[tasks]`, from the rows' inner products, `[tasks, tasks]`.

    `orders[i]` is the order in which row i meets the others; i itself may be among them and is passed over.
    """
    # Row i: the running gradient of task i, in terms of the rows.
    parts = torch.eye(len(products), dtype=products.dtype)
    for own, order in enumerate(orders):
        for other in order:
            conflict = parts[own] @ products[other]
            if other != own and conflict < 0 < products[other, other]:  # the square of a tiny row may be 0
                parts[own, other] -= conflict / products[other, other]
    return parts.sum(0)
