"""The model: one encoder shared by all tasks, and one head for each task."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from regkit.base.errors import ConfigError
from regkit.base.randomness import Streams
from regkit.model.bert import Encoder
from regkit.model.built import Built
from regkit.model.heads import head_for
from regkit.model.pooling import text_vectors
from regkit.model.walk import weights_of
from regkit.tasks.batch import Batch
from regkit.tasks.description import describe
from regkit.tasks.task import Pooling, Task

OTHERS = "choose --pooling mean, cls or max"


class MultitaskModel(nn.Module):
    """An encoder and a head for each task. The encoder's parameters are the shared ones."""

    encoder: Encoder
    built: Built | None = None  # what plugins made of it, if any answers the hook `build`
    frozen: frozenset[str] = frozenset()  # names of the weights that no stage trains

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        streams: Streams,
        *,
        dropout: float = 0.1,
        pooling: Pooling = "pooler",
    ) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        self.heads = nn.ModuleDict()
        self.forms = {task.name: [repr(task.objective), task.pair_mode, task.pooling or pooling] for task in tasks}
        found = {task.name: describe(task, pooling) for task in tasks if not task.head_names}
        self.descriptions = {name: each for name, each in found.items() if each}
        self.head_names = {task.name: task.head_names for task in tasks if task.head_names}
        for task in tasks:
            if hasattr(self.heads, task.name):  # another task, or an attribute of every torch module
                raise ConfigError(f"a task cannot be called '{task.name}'; choose another name.")
            if (task.pooling or pooling) == "pooler" and not hasattr(encoder, "pool"):
                raise ConfigError(
                    f"task '{task.name}' reads the pooler's output, but the encoder has no 'pool'; {OTHERS}."
                )
            with streams.seeded("head", task.name):  # one more task leaves the other heads as they were
                self.heads[task.name] = head_for(task, encoder, dropout)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(super().parameters()).device

    def embed(self, batch: Batch) -> Tensor:
        """Look up the word embeddings, `[tokens, width]`."""
        return self.encoder.embed(batch)

    def encode(self, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        """Compute the vectors that the task's head reads, from word embeddings, `[tokens, width]`.

        They are those of the texts, `[texts, width]`, or of the words to predict, `[predictions, width]`.
        """
        if batch.targets is None:
            return text_vectors(self.encoder, embeddings, batch, task.pooling or self.pooling)
        return self.encoder.encode(embeddings, batch, batch.targets)

    def predict(self, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        """Compute the task's output from word embeddings, `[tokens, width]`.

        It is `[predictions, objective.width]`, or `[predictions]` if that width is 1.
        """
        output: Tensor = self.heads[task.name](self.encode(task, batch, embeddings))
        return output

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """List the weights as torch does, in a fifth of its time: plugins ask for them in each update."""
        return iter(weights_of(self)) if recurse else super().parameters(recurse=False)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """List the encoder's trainable parameters: those that all tasks train."""
        return (parameter for parameter in self.encoder.parameters() if parameter.requires_grad)
