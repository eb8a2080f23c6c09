"""Squares: what a text counts as is what it takes of memory, whatever its length."""

import numpy as np
import pytest
import torch

from regkit.base.randomness import Streams
from regkit.data.weights import weigh
from regkit.model import Bert, BertConfig
from regkit.model.own.encoder import Own
from regkit.model.squares import square
from regkit.tasks.batch import Batch
from regkit.training.estimate import Live

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = {"vocab_size": 100, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}


def taken(encoder: Bert, lengths: list[int]) -> int:
    """Count the bytes that a training pass takes at its peak."""
    batch = Batch.pack([np.arange(length) % 100 for length in lengths], [np.zeros(length) for length in lengths])
    with Live() as live, Streams(0).at("pass"):
        torch.autograd.backward(encoder.encode(encoder.embed(batch), batch, batch.starts).sum())
    encoder.zero_grad()
    return max(live.history)


@pytest.mark.parametrize("length", [64, 256])
def test_examples_that_count_alike_take_alike_however_long_they_are(length: int) -> None:
    """Against texts of 16 tokens, of which squares are nothing."""
    encoder = Bert(BertConfig(num_hidden_layers=6, **SHAPE)).train()
    weight, short = (int(weigh(np.array([[size]]), square(encoder, CPU))[0]) for size in (length, 16))
    long = taken(encoder, [length] * 4)
    assert long == pytest.approx(taken(encoder, [16] * round(4 * weight / short)), rel=0.15)


def test_half_the_heads_keep_half_of_the_squares_and_a_gpu_keeps_none() -> None:
    one, other = (Bert(BertConfig(**SHAPE | {"num_attention_heads": heads})) for heads in (2, 4))
    assert 2 * square(one, CPU) == square(other, CPU) > 0
    assert square(one, CUDA) == 0


def test_an_encoder_that_tells_no_heads_counts_as_a_bert_of_its_width() -> None:
    class Mine(torch.nn.Module):
        width = 128

    assert square(Own(Mine(), "mine:make"), CPU) == square(
        Bert(BertConfig(hidden_size=128, num_attention_heads=2)), CPU
    )
