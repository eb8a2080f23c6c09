"""The oracle of several plugins: transformers' padded BERT, one example at a time, in float64."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from regkit_plugins.smart import Smart
from torch import Tensor

from regkit import hookimpl
from regkit.model import MultitaskModel, save_encoder
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import Binary, Classification, Multilabel, Ordinal, Regression, SoftLabels
from regkit.tasks.task import Task
from regkit.training.loop import Trainer

KEYS = [11, 12, 13, 14]
LONGEST = 20  # the oracle pads every text to this, so that pads would show


class Oracle:
    """SMART's Algorithm 1 as a reader of the paper would write it, in float64."""

    def __init__(self, trainer: Trainer, smart: Smart | None = None) -> None:
        transformers = pytest.importorskip("transformers")
        config, tensors = save_encoder(trainer.model.encoder)
        config = {key: value for key, value in config.items() if not key.endswith("dropout_prob")}
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.bert = transformers.BertModel(transformers.BertConfig(**config, attn_implementation="eager")).double()
        self.bert.load_state_dict({name.removeprefix("bert."): tensor for name, tensor in tensors.items()})
        self.heads, self.smart = trainer.model.heads, smart or Smart()

    def output(self, task: Task, texts: list[Tensor], segments: list[Tensor]) -> Tensor:
        """The head's output for one example, from the word embeddings of its one or two texts."""
        vectors = []
        for text, segment in zip(texts, segments, strict=True):
            pads = LONGEST - len(text)
            inputs = torch.cat([text, torch.full((pads, text.shape[1]), 3.0, dtype=text.dtype)])[None]
            mask = torch.tensor([[1] * len(text) + [0] * pads])
            kinds = torch.cat([segment, torch.zeros(pads, dtype=segment.dtype)])[None]
            found = self.bert(inputs_embeds=inputs, attention_mask=mask, token_type_ids=kinds)
            vectors.append(found.pooler_output[0])
        return self.heads[task.name](torch.stack(vectors))[0]

    def distance(self, task: Task, output: Tensor, other: Tensor) -> Tensor:
        if isinstance(task.objective, Classification | SoftLabels | Ordinal):
            p, q = (chances_by_hand(task, each) for each in (output, other))
            return sum(p[c] * (p[c] / q[c]).log() + q[c] * (q[c] / p[c]).log() for c in range(len(p)))
        if isinstance(task.objective, Binary | Multilabel):
            p, q = output.sigmoid(), other.sigmoid()
            there = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
            return (there + q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).mean()  # over labels
        return (output - other) ** 2

    def unit(self, texts: list[Tensor]) -> float:
        if self.smart.unit == "absolute":
            return 1.0
        values = [float(value) for text in texts for value in text.flatten()]
        return math.sqrt(sum(value**2 for value in values) / len(values))

    def nudges(self, task: Task, texts: list[Tensor], segments: list[Tensor], noise: list[Tensor]) -> list[Tensor]:
        """The worst perturbation of each text of one example."""
        smart, unit = self.smart, self.unit(texts)
        clean = self.output(task, texts, segments).detach()
        moved = [text + smart.sigma * unit * drawn for text, drawn in zip(texts, noise, strict=True)]
        for _ in range(smart.steps):
            moved = [each.detach().requires_grad_() for each in moved]
            gradients = torch.autograd.grad(self.distance(task, clean, self.output(task, moved, segments)), moved)
            moved = [each.detach() for each in moved]
            largest = max(abs(float(value)) for gradient in gradients for value in gradient.flatten())
            moved = [
                self.inside(text, each + smart.eta * unit * gradient / largest, smart.epsilon * unit)
                for text, each, gradient in zip(texts, moved, gradients, strict=True)
            ]
        return [(each - text).detach() for text, each in zip(texts, moved, strict=True)]

    def inside(self, text: Tensor, moved: Tensor, radius: float) -> Tensor:
        result = moved.clone()
        for row in range(len(text)):
            for column in range(text.shape[1]):
                low, high = float(text[row, column]) - radius, float(text[row, column]) + radius
                result[row, column] = min(max(float(moved[row, column]), low), high)
        return result

    def term(self, task: Task, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """R_s of a batch, and the perturbation, `[tokens, width]`."""
        terms, found = [], []
        for ids, segments, drawn in examples(batch, noise):
            texts = [self.bert.get_input_embeddings()(text) for text in ids]
            nudges = self.nudges(task, [text.detach() for text in texts], segments, drawn)
            moved = [text + nudge for text, nudge in zip(texts, nudges, strict=True)]
            terms.append(self.distance(task, self.output(task, moved, segments), self.output(task, texts, segments)))
            found += nudges
        return torch.stack(terms).mean(), torch.cat(found)


def examples(batch: Batch, noise: Tensor) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor]]]:
    """Token ids, segments and noise of each example, a list of one or two texts each."""
    parts = [torch.split(values, list(batch.lengths)) for values in (batch.tokens, batch.segments, noise)]
    for first in range(0, len(batch.lengths), batch.sides):
        yield tuple(list(part[first : first + batch.sides]) for part in parts)  # type: ignore[misc]


def gradients_by_their_names(trainer: Trainer) -> dict[str, Tensor]:
    """Our parameters' gradients, under the names of transformers' parameters."""
    for parameter in trainer.model.encoder.parameters():
        parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return {name.removeprefix("bert."): tensor for name, tensor in save_encoder(trainer.model.encoder)[1].items()}


class FamilyOracle(Oracle):
    """The same around another family's model of transformers, which a folder holds; a text's vector is that of [CLS]."""

    def __init__(self, trainer: Trainer, smart: Smart, folder: Path) -> None:
        transformers = pytest.importorskip("transformers")
        self.bert = transformers.AutoModel.from_pretrained(folder).double().eval()
        self.heads, self.smart = trainer.model.heads, smart

    def output(self, task: Task, texts: list[Tensor], segments: list[Tensor]) -> Tensor:
        vectors = []
        for text in texts:
            pads = LONGEST - len(text)
            inputs = torch.cat([text, torch.full((pads, text.shape[1]), 3.0, dtype=text.dtype)])[None]
            mask = torch.tensor([[1] * len(text) + [0] * pads])
            vectors.append(self.bert(inputs_embeds=inputs, attention_mask=mask).last_hidden_state[0, 0])
        return self.heads[task.name](torch.stack(vectors))[0]


@dataclass
class InputDropout:
    """Dropout of the word embeddings, drawn as a plugin draws, so that `replay` and `fresh` apply."""

    rate: float = 0.3
    masks: list[Tensor] = field(default_factory=list, init=False)  # [tokens, width] each
    inputs: list[Tensor] = field(default_factory=list, init=False)  # the same, before the mask

    @hookimpl
    def encode(self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        self.masks.append((torch.rand_like(embeddings) >= self.rate) / (1 - self.rate))
        self.inputs.append(embeddings)
        return model.encode(task, batch, embeddings * self.masks[-1])


@dataclass
class Double:
    """Counts every loss of a task twice."""

    @hookimpl(wrapper=True)
    def task_loss(self) -> Tensor:
        loss = yield
        return 2 * loss


def chances_by_hand(task: Task, output: Tensor) -> Tensor:
    """The probability of each class of one example: of an ordinal task, what is between two of P(y > k)."""
    if not isinstance(task.objective, Ordinal):
        return output.exp() / output.exp().sum()
    above, logit = [torch.ones_like(output[0])], output[0]
    for number in (None, *output[1:]):
        logit = logit if number is None else logit - (1 + number.exp()).log()
        above.append(1 / (1 + (-logit).exp()))
    return -torch.stack([*above, torch.zeros_like(logit)]).diff()


def loss_by_hand(task: Task, output: Tensor, label: Tensor) -> Tensor:
    """The loss of one example."""
    if isinstance(task.objective, Classification):
        return -(output[label].exp() / output.exp().sum()).log()
    if isinstance(task.objective, Regression):
        return (output - label) ** 2
    yes = 1 / (1 + (-output).exp())
    return -(yes if label else 1 - yes).log()


def total(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def same_value_and_gradients(trainer: Trainer, task: Task, ours: Tensor, oracle: Oracle, expected: Tensor) -> None:
    """Raise AssertionError if a loss or one of its gradients differs; uses up the weights."""
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    head = list(trainer.model.heads[task.name].parameters())
    encoder = list(oracle.bert.parameters())
    wanted = torch.autograd.grad(expected, [*encoder, *head], allow_unused=True)
    torch.autograd.backward(ours)
    for parameter, gradient in zip(head, wanted[len(encoder) :], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-7, atol=1e-12)
    found = gradients_by_their_names(trainer)
    for (name, parameter), gradient in zip(oracle.bert.named_parameters(), wanted, strict=False):
        gradient = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-11, msg=(name + ": {}").format)
