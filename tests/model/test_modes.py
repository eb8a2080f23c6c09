"""Modes: within `mode` all modules are in one mode, and afterwards each is in its own."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

from regkit.model.modes import autocast, in_full, mode
from regkit.tasks.names import Pooling
from regkit.tasks.task import Task
from regkit.testing.tiny import tiny_kinds, tiny_tasks, tiny_trainer


@pytest.mark.parametrize(("outer", "inner", "training"), list(product([False, True], repeat=3)))
def test_every_module_is_in_the_mode_and_then_in_its_own_again(outer: bool, inner: bool, training: bool) -> None:
    model = nn.Sequential(nn.Dropout())
    model.training, model[0].training = outer, inner
    with mode(model, training=training):
        assert [each.training for each in model.modules()] == [training, training]
    assert [each.training for each in model.modules()] == [outer, inner]


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
@pytest.mark.parametrize("task", [*tiny_tasks(), *tiny_kinds()], ids=lambda task: task.name)
def test_a_head_computes_in_float32_what_the_encoder_gives_it_in_bf16(task: Task, pooling: Pooling) -> None:
    """In bf16, scores that lie close together would become one."""
    task = replace(task, pooling=pooling)
    model = tiny_trainer({}, tasks=[task], dropout=0.0).model.eval()
    examples = task.splits["dev"]
    batch = examples.batch(range(len(examples)))
    with torch.no_grad(), autocast(model.device, torch.bfloat16):
        vectors = model.encode(task, batch, model.embed(batch))
        found = model.predict(task, batch, model.embed(batch))
    with torch.no_grad():
        wanted = model.heads[task.name](vectors.float())
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_a_module_in_full_takes_what_a_plugin_has_made_in_bf16() -> None:
    layer, vectors = nn.Linear(4, 2), torch.rand(3, 4).bfloat16()
    with torch.no_grad(), autocast(torch.device("cpu"), torch.bfloat16):
        found = in_full(layer, vectors)
    assert torch.equal(found, layer(vectors.float()))
