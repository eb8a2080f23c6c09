"""Token cutoff keeps regkit's promises, and erases what it says it erases."""

import pytest
import torch
from regkit_cutoff import Cutoff

from regkit.testing import PROMISES, tiny_tasks, tiny_trainer

torch.set_num_threads(1)  # several times faster on tensors as small as these
KEYS = [11, 12, 13, 14]  # a number for each example and update, from which the noise is drawn


@pytest.mark.parametrize("promise", PROMISES)
def test_cutoff_keeps_every_promise(promise):
    promise(lambda: {"cutoff": Cutoff(weight=0.5)})


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_term_is_zero_where_nothing_is_erased_and_positive_where_something_is(task):
    """With dropout on: both passes have the same masks."""
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    whole = tiny_trainer({"cutoff": Cutoff(share=0.0)}, dropout=0.3).passes.losses(task, batch)["cutoff"]
    erased = tiny_trainer({"cutoff": Cutoff(share=0.3)}, dropout=0.3).passes.losses(task, batch)["cutoff"]
    assert whole == 0
    assert erased > 1e-6


def second_pass(cutoff, keys, output, again):
    """What the second pass reads where every clean embedding is 1, and the term where it answers `again`."""
    task, read = tiny_tasks()[0], []
    batch = task.splits["train"].batch(range(len(keys)), keys)

    def predict(embeddings):
        read.append(embeddings)
        return again

    losses = cutoff.extra_losses(task, batch, torch.ones(len(batch.tokens), 16), output, predict)
    return read[0], losses["cutoff"]


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_whole_tokens_are_erased_as_many_as_the_share_says(share):
    outputs = torch.zeros(24, 3), torch.zeros(24, 3)
    read = torch.cat([second_pass(Cutoff(share=share), range(n, n + 24), *outputs)[0] for n in range(0, 240, 24)])
    assert torch.equal(read, read[:, :1].expand_as(read))
    assert set(read.unique().tolist()) <= {0.0, 1.0}
    assert 1 - read.mean() == pytest.approx(share, abs=0.03)


def test_both_passes_are_differentiated():
    output, again = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    _, term = second_pass(Cutoff(), KEYS, output, again)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(term, [output, again]))
