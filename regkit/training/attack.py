"""Attack: move word embeddings within a box to where the loss is largest, and score that.

Projected gradient ascent (Madry et al., 2018, section 2.1) on the task's own loss with the true labels, from several random
starts; of each example, the point with the largest loss counts. The weights stay as they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task


@dataclass(frozen=True)
class Attack:
    """How far the embeddings are moved, and how hard the worst point is looked for."""

    radius: float  # of the box, in root mean squares of the example's word embeddings
    steps: int = 10
    starts: int = 1
    stride: float = 2.5  # of all steps together, in radii: enough to cross the box

    def outputs(self, model: MultitaskModel, task: Task, batch: Batch) -> Tensor:
        """Compute the outputs at the worst points found. The batch has labels and keys."""
        embeddings = model.embed(batch).detach()
        radius = self.radius * batch.rms(embeddings)
        worst = model.predict(task, batch, embeddings).detach()
        losses = _each(task, worst, batch)
        for start in range(self.starts):
            moved = self._climb(model, task, batch, embeddings, radius, start)
            output = model.predict(task, batch, moved).detach()
            found = _each(task, output, batch)
            worse = found > losses
            worst[worse], losses[worse] = output[worse], found[worse]
        return worst

    def _climb(
        self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor, radius: Tensor, start: int
    ) -> Tensor:
        nudge = radius * batch.noise(embeddings, f"attack {start}", "uniform")
        for _ in range(self.steps):
            moved = (embeddings + nudge).requires_grad_()
            with torch.enable_grad():
                loss = task.objective.loss(model.predict(task, batch, moved), labels_of(batch))
            (slope,) = torch.autograd.grad(loss, moved)
            nudge = nudge + self.stride / self.steps * radius * slope.sign()
            nudge = torch.maximum(torch.minimum(nudge, radius), -radius)
        return embeddings + nudge


def _each(task: Task, output: Tensor, batch: Batch) -> Tensor:
    """Compute the loss of each example: `[examples]`."""
    pairs = zip(torch.split(output, 1), torch.split(labels_of(batch), 1), strict=True)
    return torch.stack([task.objective.loss(*pair) for pair in pairs])


def labels_of(batch: Batch) -> Tensor:
    """Return the labels of a batch that has some."""
    assert batch.labels is not None
    return batch.labels
