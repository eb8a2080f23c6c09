"""Walking through a model: what torch lists, in its order."""

import torch
from torch import nn

from regkit.base.randomness import Streams
from regkit.model import MultitaskModel
from regkit.model.walk import modules_of, weights_of
from regkit.testing import tiny_tasks
from tests.model.test_model import tiny_bert


def test_modules_and_weights_are_those_that_torch_lists_each_once() -> None:
    shared, tied = nn.Linear(2, 2), nn.Linear(2, 2)
    tied.weight = shared.weight
    model = nn.Sequential(nn.Sequential(shared, nn.ReLU()), shared, tied, nn.LayerNorm(2, elementwise_affine=False))
    model.register_parameter("own", nn.Parameter(torch.zeros(1)))
    model[0].register_module("none", None)
    assert list(map(id, modules_of(model))) == list(map(id, model.modules()))
    assert list(map(id, weights_of(model))) == list(map(id, model.parameters()))


def test_a_model_lists_its_weights_as_torch_does() -> None:
    model = MultitaskModel(tiny_bert(), tiny_tasks(), Streams(0))
    assert list(map(id, model.parameters())) == list(map(id, nn.Module.parameters(model)))
    assert list(model.parameters(recurse=False)) == []
