"""Defaults: answer each hook where no plugin decides otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from regkit.hooks.adamw import AdamW
from regkit.hooks.spec import hookimpl
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Stage, Task


@dataclass
class Defaults:
    """The run's own tasks, a stage of fine-tuning, AdamW, and every example of every task once an epoch."""

    run_tasks: Sequence[Task]
    stage: Stage | None

    @hookimpl(trylast=True)
    def tasks(self) -> Sequence[Task]:
        return self.run_tasks

    @hookimpl(trylast=True)
    def stages(self) -> Sequence[Stage]:
        return [self.stage] if self.stage else []

    @hookimpl(trylast=True)
    def make_optimizer(self, model: MultitaskModel, stage: Stage) -> torch.optim.Optimizer:
        """Make a fused AdamW (Loshchilov and Hutter, 2019); biases and layer norms do not decay, as in BERT."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": stage.weight_decay},
            {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=stage.learning_rate, fused=True)

    @hookimpl(trylast=True)
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        return sum(task.batches for task in tasks)

    @hookimpl(trylast=True)
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        order = spread(tuple(task.batches for task in tasks))
        return [tasks[order[step % len(order)]]]

    @hookimpl(trylast=True)
    def schedule(self, stage: Stage, step: int, total_steps: int) -> float:
        """Rise in a straight line while warming up, then fall to 0 in another."""
        warmup = stage.warmup * total_steps
        return min(stage.warming(step, total_steps), (total_steps - step) / max(total_steps - warmup, 1))

    @hookimpl(trylast=True)
    def augment(self, batch: Batch) -> Batch:
        return batch

    @hookimpl(trylast=True)
    def embed(self, model: MultitaskModel, batch: Batch) -> Tensor:
        return model.embed(batch)

    @hookimpl(trylast=True)
    def encode(self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        return model.encode(task, batch, embeddings)

    @hookimpl(trylast=True)
    def predict(self, model: MultitaskModel, task: Task, vectors: Tensor) -> Tensor:
        output: Tensor = model.heads[task.name](vectors)
        return output

    @hookimpl(trylast=True)
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Tensor:
        assert batch.labels is not None
        return task.objective.loss(output, batch.labels)

    @hookimpl(trylast=True)
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        return gradients.sum(0)

    @hookimpl(trylast=True)
    def model_to_evaluate(self, model: MultitaskModel) -> MultitaskModel:
        return model


@lru_cache
def spread(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Spread numbers evenly, each as often as its count says: (3, 1) gives 0, 0, 1, 0."""
    places = [((turn + 0.5) / count, number) for number, count in enumerate(counts) for turn in range(count)]
    return tuple(number for _, number in sorted(places))
