"""Freeze: the heads are trained, at their own learning rate, and the encoder is not."""

import pytest
import torch
from regkit_plugins.freeze import Freeze

from regkit import PluginError, Task
from regkit.hooks import catalog
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from tests.helpers import stages_of


def with_weights() -> list[Task]:
    """The tasks whose heads have weights; a cosine has none."""
    return [task for task in unscored(tiny_tasks()) if task.name != "cosine"]


def test_every_head_is_trained_and_the_encoder_stays_bit_for_bit_as_it_was() -> None:
    trainer = tiny_trainer({"freeze": Freeze()}, tasks=with_weights())
    before = {name: each.detach().clone() for name, each in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, each in trainer.model.named_parameters() if not torch.equal(each, before[name])}
    assert moved == {name for name in before if name.startswith("heads.")}


def test_the_heads_have_a_learning_rate_of_their_own_and_the_stage_keeps_its_length() -> None:
    plain, frozen = tiny_trainer({}, tasks=with_weights()), tiny_trainer({"freeze": Freeze(0.05)}, tasks=with_weights())
    ((stage, _),), ((before, _),) = stages_of(frozen), stages_of(plain)
    assert (stage.learning_rate, stage.trainable) == (0.05, "heads")
    assert before.learning_rate != 0.05
    assert (stage.name, stage.steps, stage.tasks) == (before.name, before.steps, before.tasks)


def test_a_learning_rate_of_0_is_refused() -> None:
    with pytest.raises(PluginError, match=r"^'freeze': learning_rate"):
        catalog.make("freeze", {"learning_rate": 0})
