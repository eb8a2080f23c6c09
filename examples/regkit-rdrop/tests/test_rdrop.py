"""R-Drop keeps regkit's promises, and measures what it says it measures."""

import pytest
import torch
from regkit_rdrop import RDrop

from regkit.testing import PROMISES, tiny_tasks, tiny_trainer

torch.set_num_threads(1)  # several times faster on tensors as small as these


@pytest.mark.parametrize("promise", PROMISES)
def test_rdrop_keeps_every_promise(promise):
    promise(lambda: {"rdrop": RDrop(weight=0.5)})


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_term_is_zero_without_dropout_and_positive_with_it(task):
    batch = task.splits["train"].batch([0, 1, 2, 3])
    still = tiny_trainer({"rdrop": RDrop()}, dropout=0.0).gradients.losses(task, batch)["rdrop"]
    noisy = tiny_trainer({"rdrop": RDrop()}, dropout=0.3).gradients.losses(task, batch)["rdrop"]
    assert still.abs() < 1e-9
    assert noisy > 1e-6


def test_both_passes_are_differentiated():
    task = tiny_tasks()[0]
    trainer = tiny_trainer({"rdrop": RDrop()})
    output = torch.randn(4, 3, requires_grad=True)
    again = torch.randn(4, 3, requires_grad=True)
    embeddings = torch.zeros(1)
    (term,) = (
        answer["rdrop"]
        for answer in trainer.hook.extra_losses(
            model=trainer.model,
            task=task,
            batch=None,
            embeddings=embeddings,
            output=output,
            predict=lambda embeddings, dropout: again,
        )
    )
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(term, [output, again]))
