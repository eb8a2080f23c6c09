"""Loss: the Trainer's own loss of a pass, as a mean over examples and as its share of an update."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from regkit.base.errors import ConfigError, PluginError
from regkit.hf.batch import PaddedBatch
from regkit.hf.model import TransformersModel, output_of
from regkit.tasks.task import Task


@dataclass
class Part:
    """One micro-batch of an update."""

    batch: PaddedBatch
    place: tuple[object, ...]  # of its random numbers
    items: Any  # labels in the whole update, as the Trainer counts them; None where it divides by micro-batches instead
    micro_batches: int
    clean: "Clean | None" = None  # of its clean pass, until the backward pass

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.batch)


class Clean(NamedTuple):
    """The Trainer's own loss of a micro-batch's clean pass."""

    mean: Tensor  # over the examples: what plugins see
    share: Tensor  # what the Trainer itself would add to the loss of the update


@dataclass
class OwnLoss:
    """Computes the loss as the Trainer does, by whichever of its ways it is told to."""

    trainer: Any

    def __post_init__(self) -> None:
        self.divides = True  # whether the loss is a sum divided by the number of labels that it is told
        self.known: Any = WeakTensorKeyDictionary()  # the mean loss of each output that the model gave

    def learn(self, batch: PaddedBatch) -> None:
        """Find out, without dropout, whether the loss is divided by the number of labels that it is told.

        Models that take the number and ignore it give a mean: a plain Trainer then adds up the means of micro-batches.
        """
        if (items := self.items(batch)) is not None:
            once, twice = (self._compute(self.trainer.model, batch, items * factor)[0] for factor in (1, 2))
            self.divides = not torch.equal(once, twice)

    def items(self, batch: PaddedBatch) -> Any:
        """Count the labels of a micro-batch, as the Trainer does; None where its loss does not ask for it."""
        return self.trainer._get_num_items_in_batch([batch.inputs], self.trainer.args.device)

    def weight(self, part: Part) -> Any:
        """Compute what a micro-batch's mean counts in the update's loss: all of its terms count the same."""
        if not self._scaled(part):
            return 1 / part.micro_batches
        if part.items is None or not self.divides:
            return 1.0
        return self.items(part.batch) / part.items

    def clean(self, model: TransformersModel, part: Part, task: Task) -> Tensor:
        """Make the clean pass: the output. The loss is computed exactly as the Trainer does."""
        loss, outputs = self._compute(model.model, part.batch, part.items)
        output = output_of(outputs, task)
        divided = self.divides and part.items is not None
        mean = loss * (part.items / self.items(part.batch)) if divided else loss
        part.clean = Clean(mean, loss if self._scaled(part) else loss / part.micro_batches)
        self.known[output] = mean
        return output

    def again(self, model: TransformersModel, batch: PaddedBatch, task: Task) -> Tensor:
        """Make another pass: the output, whose loss is a mean over the micro-batch's examples."""
        loss, outputs = self._compute(model.model, batch, self.items(batch))
        output = output_of(outputs, task)
        self.known[output] = loss
        return output

    def of(self, task: Task, batch: PaddedBatch, output: Tensor) -> Tensor:
        """Look up the mean loss of an output, or compute it if a plugin changed what the model gave.

        Raises PluginError if only the model could compute it.
        """
        if output in self.known:
            found: Tensor = self.known[output]
            return found
        kind = type(self.trainer.model)
        if not kind.__module__.startswith("transformers."):
            raise PluginError(
                f"a plugin changes the output of {kind.__name__}, and only the model itself can compute its loss; "
                "give the Trainer a compute_loss_func, or leave the plugin out."
            )
        assert batch.labels is not None
        loss = task.objective.loss(output, batch.labels.to(task.objective.label_type))
        logits = output[:, None] if output.dim() == 1 else output
        return self._compute(Answer(loss, logits), batch, self.items(batch))[0]

    def _compute(self, model: nn.Module, batch: PaddedBatch, items: Any) -> tuple[Tensor, Any]:
        """Compute loss and outputs as the Trainer does.

        It may take the labels out of the inputs, so it gets a copy.
        """
        with self.trainer.compute_loss_context_manager():
            found = self.trainer.compute_loss(model, dict(batch.inputs), return_outputs=True, num_items_in_batch=items)
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
            raise ConfigError(
                f"{type(self.trainer).__name__}.compute_loss gives no loss beside the model's outputs, with their logits; "
                "where return_outputs is true, it has to return (loss, outputs)."
            )
        return found

    def _scaled(self, part: Part) -> bool:
        """Tell whether the loss is scaled for an update of several micro-batches, as the Trainer decides."""
        said: bool | None = getattr(self.trainer, "loss_is_scaled_for_ga", None)
        if said is not None:
            return said
        counted = self.trainer.model_accepts_loss_kwargs and part.items is not None
        return bool(counted or self.trainer.compute_loss_func is not None)


class Answer(nn.Module):
    """A model that gives the same outputs whatever it is asked."""

    def __init__(self, loss: Tensor, logits: Tensor) -> None:
        from transformers.modeling_outputs import SequenceClassifierOutput

        super().__init__()
        self.outputs = SequenceClassifierOutput(loss=loss, logits=logits)

    def forward(self, **inputs: Any) -> Any:
        """Return the outputs."""
        return self.outputs
