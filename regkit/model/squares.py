"""Squares: say how much memory attention takes for the square of a text's length."""

import torch

from regkit.model.bert import Encoder

KEPT = 14  # floats that a layer keeps of a token until the backward pass, for each number of its width: measured


def square(encoder: Encoder, device: torch.device) -> float:
    """Compute the tokens that the square of a text's length counts as, in memory.

    Of a token, a layer keeps about `KEPT` floats for each number of its width, and of a pair of tokens, attention keeps one
    for each head. So a text of n tokens takes the memory of `n + n**2 * heads / (KEPT * width)` tokens that have no pairs.
    On CUDA, attention keeps nothing of pairs.
    """
    return 0.0 if device.type == "cuda" else encoder.attention_heads / (KEPT * encoder.width)
