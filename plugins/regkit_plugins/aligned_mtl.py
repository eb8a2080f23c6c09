"""Aligned-MTL: turn and scale the tasks' gradients so that none conflicts or dominates (Senushkin et al., CVPR 2023).

Algorithm 1 of arXiv 2305.19000: the matrix of gradients is replaced by the nearest one whose rows are orthogonal and equally
long, and these are summed. Only shared parameters take part. The result is found from the rows' inner products alone: with
their eigenvalues and eigenvectors (L, V), the rows' factors are those of V L^(-1/2) V^T times the chosen length.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from regkit import Tuned, hookimpl, inner_products, weighted_sum

SCALES: Mapping[str, Callable[[Tensor], Tensor]] = {"min": torch.min, "median": torch.median, "rmse": torch.mean}


@dataclass
class AlignedMTL:
    scale: Annotated[Literal["min", "median", "rmse"], Tuned()] = "min"
    """Length of the aligned gradients: the least, the median or the root mean square of the matrix's singular values."""

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        products = inner_products(gradients)
        return weighted_sum(gradients, factors(products, self.scale, torch.finfo(gradients.dtype).eps))


def factors(products: Tensor, scale: str, rounding: float) -> Tensor:
    """Compute each row's factor in the combined gradient, `[tasks]`, from inner products `[tasks, tasks]`.

    Directions along which the rows are 0, up to `rounding`, have no part in it.
    """
    values, vectors = torch.linalg.eigh(products)
    kept = values > values.max() * len(products) * rounding
    if not kept.any():
        return torch.ones_like(values)
    values, vectors = values[kept], vectors[:, kept]
    found: Tensor = vectors @ ((SCALES[scale](values) / values).sqrt() * vectors.sum(0))
    return found
