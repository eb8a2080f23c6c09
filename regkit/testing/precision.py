"""Precision: the promise that a plugin does under bf16 autocast what it does in float32."""

from collections import defaultdict
from collections.abc import Mapping

import torch

from regkit.testing.observers import prepared
from regkit.testing.tiny import tiny_tasks, tiny_trainer
from regkit.testing.verdicts import Factory, Tasks, lean
from regkit.training.loop import Trainer

APART = 4.0  # a term that is so many times its size in float32, or a part of it as small, is made of rounding


def bf16_is_no_trouble(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that training under bf16 autocast ends with finite weights.

    No term of the loss may drown in rounding there.
    """
    trainer = _trainer(factory, tasks, torch.bfloat16)
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert parameter.isfinite().all(), f"{name} is not finite after training under bf16 autocast"
    fine, coarse = (_terms(factory, tasks, each) for each in (torch.float32, torch.bfloat16))
    for term, size in fine.items():
        assert size / APART <= coarse[term] <= size * APART, (
            f"the term '{term}' is {size:.3g} in float32 and {coarse[term]:.3g} under bf16 autocast, so it measures "
            "rounding; give predict the `radius` of a perturbation, so that its pass is in float32"
        )


def _terms(factory: Factory, tasks: Tasks, precision: torch.dtype) -> Mapping[str, float]:
    """Compute how large each extra term is on one batch of every task, by name."""
    trainer = _trainer(factory, tasks, precision)
    stage, there = prepared(trainer)
    trainer.model.train()
    found = defaultdict[str, float](float)
    for task in there:
        batch = task.splits["train"].batch([0, 1, 2, 3], keys=[7, 8, 9, 10]).to(trainer.streams.device)
        with trainer.streams.at(stage.name, 0, task.name, 0):
            for name, term in trainer.passes.losses(task, batch).items():
                found[name] += abs(float(term.detach()))
    return found


def _trainer(factory: Factory, tasks: Tasks, precision: torch.dtype) -> Trainer:
    trainer = tiny_trainer(factory(), tasks=lean(factory, tasks))
    trainer.passes.precision = precision
    return trainer
