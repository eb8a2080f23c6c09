"""Defaults: answer each hook as the Trainer does, where no plugin decides otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regkit.hf.batch import PaddedBatch
from regkit.hf.loss import OwnLoss, Part
from regkit.hf.model import TransformersModel
from regkit.hooks.spec import hookimpl
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task


@dataclass
class TrainerDefaults:
    """The Trainer's model, loss and optimizer, and its one task in every update."""

    own: OwnLoss
    make: Any  # the Trainer's own way to make an optimizer
    part: Part | None = None  # the micro-batch whose clean pass has not been made yet

    @hookimpl(trylast=True)
    def make_optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.make()
        return optimizer

    @hookimpl(trylast=True)
    def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return tasks

    @hookimpl(trylast=True)
    def embed(self, model: MultitaskModel, batch: Batch) -> Tensor:
        return model.embed(batch)

    @hookimpl(trylast=True)
    def augment(self, batch: Batch) -> Batch:
        return batch

    @hookimpl(trylast=True)
    def encode(self, embeddings: Tensor) -> Tensor:
        """Hand the word embeddings on: a Trainer's model is run as a whole, by `predict`."""
        return embeddings

    @hookimpl(trylast=True)
    def predict(self, model: TransformersModel, task: Task, batch: PaddedBatch, vectors: Tensor) -> Tensor:
        part, self.part = self.part, None
        with model.fed(batch, vectors):
            return self.own.clean(model, part, task) if part else self.own.again(model, batch, task)

    @hookimpl(trylast=True)
    def task_loss(self, task: Task, batch: PaddedBatch, output: Tensor) -> Tensor:
        return self.own.of(task, batch, output)

    @hookimpl(trylast=True)
    def model_to_evaluate(self, model: MultitaskModel) -> MultitaskModel:
        return model
