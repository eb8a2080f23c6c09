"""Combine: multiply and add up the gradients of tasks, a block of columns at a time.

They are rows of millions of numbers.
"""

import torch
from torch import Tensor

BLOCK = 1 << 18  # columns: few enough that a block's sums need no memory of the system's, and are rounded little


def inner_products(rows: Tensor) -> Tensor:
    """Compute the inner products of rows with one another, in float64 on the CPU.

    The rows are `[tasks, parameters]`, the products `[tasks, tasks]`. Blocks are added up in float64: of 20 million
    squares, float32 alone would lose some thousandths.
    """
    products = [part @ part.T for part in torch.split(rows, BLOCK, dim=1)]
    return torch.stack(products).cpu().double().sum(0)  # note: waits for the GPU


def weighted_sum(rows: Tensor, weights: Tensor) -> Tensor:
    """Add up weighted rows into the first row.

    The rows are `[tasks, parameters]`, the weights `[tasks]`, the sum `[parameters]`. It is `weights @ rows`, bit for bit,
    in the memory of the rows: so the answer to `combine_gradients` takes none.
    """
    weights = weights.to(rows)
    for part in torch.split(rows, BLOCK, dim=1):
        part[0] = weights @ part
    return rows[0]
