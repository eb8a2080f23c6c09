"""TransformersModel: a classifier of transformers as the model that plugins are given."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import ConfigError, EncoderError
from regkit.hf.batch import PaddedBatch, word_embeddings
from regkit.model import MultitaskModel
from regkit.model.adapter import layers_of
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import SCALE, Binary, Classification, Multilabel, Objective, Regression
from regkit.tasks.task import Task

NAME = "main"  # of the one task that a Trainer has
MULTILABEL = "multi_label_classification"  # as a config of transformers calls it


def objective_of(config: Any) -> Objective:
    """Choose the objective for a model's config: its `problem_type`, or else its number of labels.

    Scores are on the scale of their labels: a divergence is the squared difference. Raises ConfigError for several scores
    an example.
    """
    kind, count = getattr(config, "problem_type", None), config.num_labels
    if kind == MULTILABEL:
        return Multilabel(count, tuple(map(str, range(count)))) if count > 1 else Binary()
    if kind == "regression" and count > 1:
        raise ConfigError(f"the model gives {count} scores for a text (num_labels); plugins need a model with one.")
    return Regression(0, SCALE) if kind == "regression" or count == 1 else Classification(count)


class TransformersModel(MultitaskModel):
    """A model of transformers in the form of regkit's: an encoder, and a head for the one task.

    `encoder`, `heads` and `model` hold the same modules, so each parameter has a name under `encoder.` or `heads.`. A state
    is that of `model`, under the names of its checkpoints.
    """

    def __init__(self, model: Any, task: Task) -> None:
        nn.Module.__init__(self)  # not that of a MultitaskModel, which makes heads of its own
        self.encoder: Any = Base(model.base_model)
        self.heads = nn.ModuleDict({task.name: Head(model)})
        self.model = model
        self.pooling, self.forms, self.head_names = "pooler", {}, {}

    def embed(self, batch: Batch) -> Tensor:
        """Look up the word embeddings, `[tokens, width]`."""
        return self.encoder.embed(batch)  # type: ignore[no-any-return]  # an encoder of transformers

    def predict(self, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        """Compute the task's output from word embeddings, `[tokens, width]`: logits, or a score an example."""
        assert isinstance(batch, PaddedBatch)
        inputs = {name: value for name, value in batch.inputs.items() if name != "labels"}
        with self.fed(batch, embeddings):
            return output_of(self.model(**inputs), task)

    @contextmanager
    def fed(self, batch: PaddedBatch, embeddings: Tensor) -> Iterator[None]:
        """Let the model read these word embeddings, in the precision of the block around."""
        with self.own_forward(), word_embeddings(self.model, batch, embeddings):
            yield

    @contextmanager
    def own_forward(self) -> Iterator[None]:
        """Let the model run its own `forward`: accelerate puts one with mixed precision in its place."""
        patched = vars(self.model).pop("forward", None)
        try:
            yield
        finally:
            if patched is not None:
                self.model.forward = patched

    def take_over(self) -> None:
        """Give the model of transformers the modules that a plugin has put into the head."""
        for head in self.heads.values():
            for name, module in head.named_children():
                setattr(self.model, name, module)

    def state_dict(self, **options: Any) -> dict[str, Any]:  # type: ignore[override]  # torch has overloads
        """Collect the state of the model of transformers, once."""
        found: dict[str, Any] = self.model.state_dict(**options)
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what `state_dict` gave, or what a checkpoint of transformers holds."""
        return self.model.load_state_dict(state_dict, strict, assign)


class Base(nn.Module):
    """The encoder inside a classifier of transformers, as far as plugins ask for its parts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def word(self) -> nn.Module:
        """The word embeddings."""
        found: nn.Module = self.model.get_input_embeddings()
        return found

    @property
    def width(self) -> int:
        """The width of the hidden states."""
        found: int = self.model.config.hidden_size
        return found

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, bottom first. Raises EncoderError for a family that has no such list."""
        return layers_of(self.model)

    @property
    def pooler(self) -> nn.Module:
        """The family's pooler; without one, a module with no weights."""
        found = getattr(self.model, "pooler", None)
        return found if isinstance(found, nn.Module) else nn.Identity()

    def embed(self, batch: Batch) -> Tensor:
        """Look up word embeddings, `[tokens, width]`; some families' are narrower than the hidden states."""
        assert isinstance(batch, PaddedBatch)
        return batch.packed(self.word(batch.inputs["input_ids"]))

    @torch.no_grad()
    def reset(self, module: nn.Module) -> None:
        """Give a part of the encoder fresh weights as its family does, drawn from torch's default generator."""
        for part in reversed(list(module.modules())):  # a module may set the weights of those inside it
            for each in (part, *part.parameters(recurse=False), *part.buffers(recurse=False)):
                vars(each).pop("_is_hf_initialized", None)  # or else transformers keeps what it has read
            self.model._init_weights(part)


class Head(nn.Module):
    """What a classifier of transformers has on top of its encoder: the same modules, under the same names."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        for name, module in model.named_children():
            if module is not model.base_model:
                self.add_module(name, module)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)


def output_of(outputs: Any, task: Task) -> Tensor:
    """Read the output of a task: logits, `[examples, classes]`, or a score an example, `[examples]`.

    Raises EncoderError if the model gives none of that form.
    """
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
    width = task.objective.width
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] != width:
        raise EncoderError(f"it gives no logits of the shape [examples, {width}] for its {width} labels.")
    return logits.squeeze(1) if width == 1 else logits
