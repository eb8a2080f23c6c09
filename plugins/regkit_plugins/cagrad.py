"""CAGrad: step near the mean gradient where it helps the worst-off task most (Liu et al., 2021).

Algorithm 1 of arXiv 2110.14048: around the mean gradient lies a ball of radius c times its norm. Take the direction in
it whose smallest inner product with a task's gradient is largest, times the number of tasks, so that c = 0 is the plain sum.
Only shared parameters take part. SciPy solves the convex program over the tasks' shares from the rows' inner products.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import minimize
from torch import Tensor

from regkit import Tuned, hookimpl, inner_products, weighted_sum


@dataclass
class CAGrad:
    c: Annotated[float, Field(ge=0, lt=1), Tuned(0, 0.9)] = 0.4
    """Radius of the ball around the mean gradient, in units of that gradient's norm."""

    neutral: ClassVar[Mapping[str, float]] = {"c": 0.0}

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        if not self.c:
            return gradients.sum(0)
        products = inner_products(gradients).numpy()
        return weighted_sum(gradients, torch.from_numpy(shares(products, self.c)))


def shares(products: np.ndarray, c: float) -> np.ndarray:
    """Compute each row's factor in the combined gradient, `[tasks]`, from inner products `[tasks, tasks]`."""
    count = len(products)
    even = np.full(count, 1 / count)
    size = np.sqrt(max(even @ products @ even, 0.0))
    if size == 0:
        return np.ones(count)
    scaled = products / size**2  # the solver's tolerance depends on the scale, the program does not

    def worst(weights: np.ndarray) -> float:
        return float(weights @ scaled @ even + c * np.sqrt(max(weights @ scaled @ weights, 1e-16)))

    simplex = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    found = minimize(worst, even, bounds=[(0, 1)] * count, constraints=simplex, options={"ftol": 1e-12, "maxiter": 500})
    rounding = 1e-6 * (found.x**2 @ scaled.diagonal())  # inner products in float32 cannot tell this from 0
    length = np.sqrt(max(found.x @ scaled @ found.x, rounding, 1e-16))
    combined: np.ndarray = count * (even + c / length * found.x)
    return combined
