"""Fixed weights: the run of losses times numbers of one's own."""

import re

import pytest
import torch
from regkit_plugins.fixed_weights import FixedWeights
from regkit_plugins.gradnorm import GradNorm
from regkit_plugins.pcgrad import PCGrad
from torch import Tensor

from regkit import PluginError, hookimpl
from regkit.tasks.task import Task
from regkit.testing import same_weights, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from tests.helpers import Both
from tests.plugins.updates import compute, gradients, prepared, same, two, weighed


def test_a_run_with_fixed_weights_is_that_of_losses_times_their_weights() -> None:
    class Times:
        @hookimpl(wrapper=True)
        def task_loss(self, task: Task) -> Tensor:
            loss = yield
            return 0.25 * loss if task.name == "score" else loss

    ours, theirs, plain = (
        tiny_trainer(plugins, tasks=unscored(tiny_tasks()))
        for plugins in ({"it": FixedWeights({"score": 0.25})}, {"it": Times()}, {})
    )
    for trainer in (ours, theirs, plain):
        trainer.train()
    same_weights(ours, theirs)
    with pytest.raises(AssertionError):
        same_weights(ours, plain)


def test_a_task_of_weight_0_is_not_learned_and_hurts_nobody() -> None:
    plugin = FixedWeights({"score": 0.0})
    trainer = prepared({"both": Both(), "it": plugin}, two())
    losses = compute(trainer, two())
    assert float(losses["score"]["task"]) == 0
    same(gradients(trainer), weighed({"classes": 1.0, "score": 0.0}, two()))
    run = tiny_trainer({"both": Both(), "it": plugin, "pcgrad": PCGrad(), "gradnorm": GradNorm()}, tasks=two())
    run.train()
    assert all(torch.isfinite(each).all() for each in run.model.parameters())


def test_an_unknown_task_is_refused_before_the_run() -> None:
    sentence = "'fixed_weights' knows no task 'clases'. Did you mean 'classes'? Available: classes, score."
    with pytest.raises(PluginError, match=f"^{re.escape(sentence)}$"):
        tiny_trainer({"it": FixedWeights({"clases": 2.0})}, tasks=two()).train()


def test_weights_of_0_alone_are_refused_before_the_run() -> None:
    sentence = "'fixed_weights' has only weights of 0; nothing would be trained."
    with pytest.raises(PluginError, match=f"^{re.escape(sentence)}$"):
        tiny_trainer({"it": FixedWeights({"classes": 0.0, "score": 0.0})}, tasks=two()).train()
    tiny_trainer({"it": FixedWeights({"classes": 0.0})}, tasks=two(), steps=1).train()
