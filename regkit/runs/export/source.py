"""Source: read the best model of a run, its tokenizer, and its tasks without their data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regkit.base.errors import ConfigError, RunError
from regkit.base.files import follow, read_object
from regkit.data.encode import tokenized
from regkit.model import MultitaskModel
from regkit.model.merging import is_plain, merge
from regkit.model.modes import mode
from regkit.model.own.encoder import factory_of
from regkit.model.padded import runs_padded
from regkit.model.pooling import text_vectors
from regkit.model.tokenizer import Tokenizer
from regkit.runs import models
from regkit.runs.described import descriptions
from regkit.runs.settings import Settings
from regkit.tasks.batch import Batch
from regkit.tasks.task import Examples, Pooling, Task

Texts = Sequence[tuple[str, str]]


@dataclass
class Source:
    """A run's best model and the tasks to export."""

    folder: Path  # of the run
    settings: Settings
    tokenizer: Tokenizer
    model: MultitaskModel  # with plugins' modules merged into its weights where that can be done
    trained: MultitaskModel  # as it was trained, in whose outputs an export is compared
    tasks: Sequence[Task]
    longest: int  # tokens of the longest text; the rest is cut off

    def pooling(self, task: Task) -> Pooling:
        """Return the pooling that a task's head reads."""
        return task.pooling or self.model.pooling

    def linear(self, task: Task) -> tuple[Tensor, Tensor]:
        """Return the last layer of a task's head: the weight, `[outputs, width]`, and the bias."""
        layer: Any = self.model.heads[task.name].linear
        return layer.weight, layer.bias

    def pooler(self) -> tuple[Tensor, Tensor]:
        """Return the weight, `[width, width]`, and the bias of the pooler, which has a tanh."""
        layer: Any = self.model.encoder.pooler
        return layer.weight, layer.bias

    def read_by(self, task: Task, pair: tuple[str, str]) -> tuple[str, ...]:
        """Select what a task reads of a pair: both texts, or the first."""
        return pair if task.pair_mode else pair[:1]

    def outputs(self, task: Task, pairs: Texts) -> Tensor:
        """Compute regkit's own outputs for these pairs."""
        batch = self._batch(task, pairs)
        with torch.no_grad(), mode(self.trained, training=False):
            return self.trained.predict(task, batch, self.trained.embed(batch)).float()

    def vectors(self, task: Task, pairs: Texts) -> Tensor:
        """Compute the vectors that the task's head reads, `[sequences, width]`, the sides of a pair adjacent."""
        batch = self._batch(task, pairs)
        model = self.trained
        with torch.no_grad(), mode(model, training=False):
            return text_vectors(model.encoder, model.embed(batch), batch, self.pooling(task)).float()

    def check_form(self, task: Task, form: str) -> None:
        """Raise ConfigError, which names the plugins, if a form cannot hold the modules that they put in.

        A graph of ONNX holds all but other layers and other attention.
        """
        parts = {"encoder": "the encoder", f"heads.{task.name}": "its head"}
        changed = [said for part, said in parts.items() if not is_plain(self.model, part)]
        graph = runs_padded(self.model.encoder)
        if changed and not (form == "onnx" and graph):
            names = " and ".join(f"'{name}'" for name in (self.model.built.plugins if self.model.built else ()))
            remedy = "take --format onnx" if graph else "no format has their layers or attention"
            raise ConfigError(
                f"task '{task.name}' has modules of {names} in {changed[0]} that cannot be merged into its weights, so that "
                f"{form} cannot hold it; {remedy}."
            )

    def whole(self, task: Task, pairs: Texts) -> list[tuple[str, str]]:
        """Select the pairs that are read without being cut."""
        return [pair for pair in pairs if not self._examples(task, [pair]).truncated]

    def _batch(self, task: Task, pairs: Texts) -> Batch:
        examples = self._examples(task, pairs)
        return examples.batch(range(len(examples)))

    def _examples(self, task: Task, pairs: Texts) -> Examples:
        texts = list(zip(*(self.read_by(task, pair) for pair in pairs), strict=True))
        return tokenized(texts, self.tokenizer, self.longest, apart=task.pair_mode == "bi_encoder")


def read_source(folder: Path, settings: Settings, names: Sequence[str]) -> Source:
    """Read a run's best checkpoint with these of its tasks.

    Raises RunError for what was pretrained only, and for an encoder of the user's own.
    """
    best = follow(folder / "best")
    if factory := factory_of(read_object(best / "config.json")):
        raise RunError(
            f"{folder} has an encoder that {factory} builds, which other programs cannot; no format holds it."
        )
    read = models.read(best)
    tokenizer, encoder = read.tokenizer, read.encoder
    known = descriptions(best)
    tasks = [known[name].task(name) for name in names]
    trained = models.assemble(best, encoder, tasks, torch.device("cpu"), settings.pooling).requires_grad_(False)
    longest = min(settings.max_length or encoder.longest, encoder.longest)
    return Source(folder, settings, tokenizer, merge(trained) if trained.built else trained, trained, tasks, longest)
