"""Nash-MTL: take the update on which the tasks would agree if they bargained (Navon et al., ICML 2022).

Section 3 of arXiv 2202.01017: the bargaining solution is the sum of a_i g_i with positive a for which G G^T a = 1 / a. Only
shared parameters take part. Such an a is where the convex a^T G G^T a / 2 - sum(log a) is least, which Newton's method finds
with no solver; the authors' code approximates it by a sequence of programs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regkit import hookimpl, inner_products, weighted_sum

RIDGE = 1e-6  # added to each cosine of a task with itself: inner products in float32 do not tell less from 0
CLOSE = 1e-10  # how far Newton's decrement may be from 0 at the end
MOST = 200  # steps of Newton's method; it takes about 10


@dataclass
class NashMTL:
    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        products = inner_products(gradients)
        return weighted_sum(gradients, factors(products))


def factors(products: Tensor) -> Tensor:
    """Compute each row's factor in the combined gradient, `[tasks]`, from inner products `[tasks, tasks]`.

    The bargaining does not depend on the length of a row, and its solution has the same length for all gradients. So it is
    scaled by the root mean square of the rows' lengths: orthogonal rows of one length are summed. A row of zeros has no part.
    """
    lengths = products.diagonal().clamp(min=0).sqrt()
    there = lengths > 0
    if not there.any():
        return torch.ones_like(lengths)
    cosines = products[there][:, there] / lengths[there, None] / lengths[there]
    found = torch.zeros_like(lengths)
    found[there] = bargain(cosines + RIDGE * torch.eye(len(cosines))) / lengths[there]
    return found * lengths[there].square().mean().sqrt()


def bargain(products: Tensor) -> Tensor:
    """Solve `products @ a = 1 / a` for positive a, `[tasks]`, by damped Newton steps.

    The method is that of Boyd and Vandenberghe (2004, 9.6). `products` is positive definite. The potential is
    self-concordant, so that a step shortened by 1 + its decrement never leaves the positive numbers.
    """
    a = torch.ones(len(products), dtype=products.dtype)
    for _ in range(MOST):
        slope = products @ a - 1 / a
        step = torch.linalg.solve(products + torch.diag(a**-2), slope)
        decrement = float((slope @ step).clamp(min=0).sqrt())
        if decrement < CLOSE:
            break
        a = a - step / (1 + decrement if decrement > 0.25 else 1)
    return a
