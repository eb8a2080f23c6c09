"""What tests of one update share: a float64 trainer, each task's own gradient, runs that resume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from regkit import hookimpl
from regkit.data.order import Feed
from regkit.tasks.objectives import Classification, Regression
from regkit.tasks.task import Task
from regkit.testing import Snapshot, same_weights, tiny_task, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import compute as update_of
from tests.helpers import stages_of

WHOLE, CUT = 10_000, 15  # tokens in a micro-batch: every batch in one, or in several


@dataclass
class Raw:
    """Named last, it sees the losses before any plugin weighs them, one a step and task."""

    losses: list[tuple[str, float]] = field(default_factory=list)

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task) -> Tensor:
        loss = yield
        self.losses.append((task.name, float(loss.detach())))
        return loss


class Noting:
    """An observer that notes a plugin's weights, and the losses that are told, after every step."""

    def __init__(self, plugin: Any) -> None:
        self.plugin, self.weights, self.told = plugin, [], []

    @hookimpl(tryfirst=True)  # before the plugin looks at the step
    def after_step(self, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.weights.append(dict(self.plugin.weights))
        self.told.append({name: float(terms["task"]) for name, terms in losses.items()})


class Stop(Snapshot):
    """Where an epoch ends with that step, the state after its evaluation, which is what a run keeps."""

    @hookimpl(trylast=True)
    def evaluated(self, step: int) -> None:
        self.after_step(step - 1)


def two() -> list[Task]:
    return unscored(
        [
            tiny_task("classes", Classification(3), size=10),
            tiny_task("score", Regression(0, 5), "cross_encoder", size=15),
        ]
    )


def prepared(plugins: Mapping[str, Any], tasks: Sequence[Task], dropout: float = 0.1) -> Trainer:
    """A trainer in float64, as it is when its first update begins."""
    trainer = tiny_trainer(plugins, tasks=tasks, dropout=dropout)
    trainer.model.double().train()
    ((stage, found),) = stages_of(trainer)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, found)
        trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
    return trainer


def compute(trainer: Trainer, tasks: Sequence[Task], budget: int = WHOLE) -> dict[str, dict[str, Tensor]]:
    """Leave the gradient of the first update in `.grad`; the losses."""
    chosen = [(task, Feed(task, 0, "finetune").micro_batches(0, budget)) for task in tasks]
    with trainer.streams.at("finetune", 0):
        return update_of(trainer, trainer.state.optimizer, chosen)


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in trainer.model.named_parameters() if each.grad is not None}


def weighed(weights: Mapping[str, float], tasks: Sequence[Task], budget: int = WHOLE) -> dict[str, Tensor]:
    """The sum of each task's own gradient times its weight, by separate backward passes of no plugin."""
    total: dict[str, Tensor] = {}
    for task in tasks:
        trainer = prepared({}, tasks)
        compute(trainer, [task], budget)
        for name, gradient in gradients(trainer).items():
            total[name] = total.get(name, 0) + weights[task.name] * gradient
    return total


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        scale = float(tensor.abs().max())
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-9, atol=1e-10 * scale + 1e-14, msg=(name + ": {}").format
        )


def resumed(plugins: Any, tasks: Any, after: int, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run once whole and once resumed; return the plugins of both, with the weights held equal."""
    whole, again, stop = plugins(), plugins(), Stop(after=after)
    stop.trainer = first = tiny_trainer(whole, tasks=tasks(), observers=[stop])
    first.train()
    second = tiny_trainer(again, tasks=tasks())
    second.model.load_state_dict(stop.model)
    second.state.load(stop.training)
    for name in names:
        assert stop.training["plugins"][name]
    second.train()
    same_weights(second, first)
    return whole, again


def told(losses: Mapping[str, float]) -> dict[str, dict[str, Tensor]]:
    return {name: {"task": torch.tensor(value, dtype=torch.float64)} for name, value in losses.items()}
