"""Modes: within `mode` all modules are in one mode, and afterwards each is in its own."""

from itertools import product

import pytest
from torch import nn

from regkit.model.modes import mode


@pytest.mark.parametrize(("outer", "inner", "training"), list(product([False, True], repeat=3)))
def test_every_module_is_in_the_mode_and_then_in_its_own_again(outer: bool, inner: bool, training: bool) -> None:
    model = nn.Sequential(nn.Dropout())
    model.training, model[0].training = outer, inner
    with mode(model, training=training):
        assert [each.training for each in model.modules()] == [training, training]
    assert [each.training for each in model.modules()] == [outer, inner]
