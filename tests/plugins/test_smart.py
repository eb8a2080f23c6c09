"""SMART against a slow, obvious version: transformers' padded BERT, one example at a time, coordinate by coordinate."""

import math
from collections.abc import Iterator

import pytest
import torch
from regkit_plugins.smart import Smart
from torch import Tensor

from regkit.batch import Batch
from regkit.model import save_encoder
from regkit.objectives import Binary, Classification
from regkit.tasks import Task
from regkit.testing import TINY, tiny_tasks, tiny_trainer
from regkit.training import Trainer

KEYS = [11, 12, 13, 14]
LONGEST = 20  # the oracle pads every text to this, so that pads would show


class Oracle:
    """SMART's Algorithm 1 as a reader of the paper would write it, in float64."""

    def __init__(self, trainer: Trainer, smart: Smart) -> None:
        transformers = pytest.importorskip("transformers")
        config, tensors = save_encoder(trainer.model.encoder)
        config = {key: value for key, value in config.items() if not key.endswith("dropout_prob")}
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.bert = transformers.BertModel(transformers.BertConfig(**config, attn_implementation="eager")).double()
        self.bert.load_state_dict({name.removeprefix("bert."): tensor for name, tensor in tensors.items()})
        self.heads, self.smart = trainer.model.heads, smart

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
        if isinstance(task.objective, Classification):
            p, q = output.softmax(0), other.softmax(0)
            return sum(p[c] * (p[c] / q[c]).log() + q[c] * (q[c] / p[c]).log() for c in range(len(p)))
        if isinstance(task.objective, Binary):
            p, q = output.sigmoid(), other.sigmoid()
            there = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
            return there + q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
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
            texts = [self.bert.embeddings.word_embeddings(text) for text in ids]
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


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("unit", ["rms", "absolute"])
@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_perturbation_the_term_and_the_gradients_are_those_of_the_oracle(task: Task, unit: str, steps: int) -> None:
    scale = 1.0 if unit == "rms" else 0.02
    smart = Smart(epsilon=0.1 * scale, sigma=0.05 * scale, eta=0.3 * scale, steps=steps, unit=unit, weight=2.0)
    trainer = tiny_trainer({"smart": smart}, dropout=0.0)
    trainer.model.double()
    batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
    noise = batch.noise(torch.empty(len(batch.tokens), TINY.hidden_size, dtype=torch.float64), "smart")

    oracle = Oracle(trainer, smart)
    expected, nudge = oracle.term(task, batch, noise)
    head = list(trainer.model.heads[task.name].parameters())
    expected_head = torch.autograd.grad(2.0 * expected, [*oracle.bert.parameters(), *head], allow_unused=True)

    term = trainer.gradients.losses(task, batch)["smart"]
    torch.testing.assert_close(term, 2.0 * expected, rtol=1e-8, atol=1e-12)
    embeddings = trainer.model.embed(batch).detach()
    output = trainer.model.predict(task, batch, embeddings).detach()
    found = smart.adversary(task, batch, embeddings, output, trainer.gradients.predict_again(task, batch, embeddings, output))
    torch.testing.assert_close(found.detach(), nudge, rtol=1e-7, atol=1e-10)

    ours_head = torch.autograd.grad(term, head, retain_graph=True) if head else []
    for one, other in zip(ours_head, expected_head[len(expected_head) - len(head) :], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)
    torch.autograd.backward(term)
    ours = gradients_by_their_names(trainer)
    for (name, parameter), gradient in zip(oracle.bert.named_parameters(), expected_head, strict=False):
        wanted = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(ours[name], wanted, rtol=1e-6, atol=1e-11, msg=(name + ": {}").format)


def test_no_coordinate_leaves_the_box_of_its_example() -> None:
    smart = Smart(steps=3)
    trainer = tiny_trainer({"smart": smart})
    for task in tiny_tasks():
        batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
        embeddings = trainer.model.embed(batch).detach()
        output = trainer.model.predict(task, batch, embeddings).detach()
        nudge = smart.adversary(task, batch, embeddings, output, trainer.gradients.predict_again(task, batch, embeddings, output))
        assert not nudge.requires_grad
        root = batch.per_example(embeddings.square(), "mean").sqrt()
        reach = batch.per_example(nudge.abs(), "amax") / root
        torch.testing.assert_close(reach, torch.full_like(reach, smart.epsilon))


def test_with_dropout_on_the_term_is_the_adversary_and_not_the_dropout() -> None:
    """With masks of its own in each pass, the term would stay as large as R-Drop's when the radius goes to 0."""
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    sizes = []
    for radius in (0.5, 1e-6):
        trainer = tiny_trainer({"smart": Smart(epsilon=radius, sigma=radius, eta=100 * radius)}, dropout=0.3)
        sizes.append(float(trainer.gradients.losses(task, batch)["smart"].detach()))
    assert abs(sizes[1]) < 1e-4 * sizes[0]


def test_every_pass_replays_the_masks_of_the_clean_one() -> None:
    task, asked = tiny_tasks()[0], []
    trainer = tiny_trainer({"smart": Smart(steps=2)})
    batch = task.splits["train"].batch([0, 1], KEYS[:2])
    embeddings = trainer.model.embed(batch)
    output = trainer.model.predict(task, batch, embeddings)
    again = trainer.gradients.predict_again(task, batch, embeddings, output)

    def predict(embeddings: Tensor, *, dropout: str = "replay", radius: float | None = None) -> Tensor:
        asked.append(dropout)
        return again(embeddings, dropout=dropout, radius=radius)

    Smart(steps=2).extra_losses(task, batch, embeddings, predict)
    assert asked == ["replay"] * 4  # the first of them is answered by the clean output


def test_the_term_goes_through_the_head_of_its_own_task() -> None:
    trainer = tiny_trainer({"smart": Smart()})
    task = tiny_tasks()[1]
    torch.autograd.backward(trainer.gradients.losses(task, task.splits["train"].batch([0, 1], KEYS[:2]))["smart"])
    with_gradient = {
        name for name, head in trainer.model.heads.items() if any(p.grad is not None for p in head.parameters())
    }
    assert with_gradient == {task.name}


@pytest.mark.parametrize(("unit", "radius"), [("absolute", 1e-5), ("rms", 0.01)])
def test_a_radius_too_fine_for_bf16_is_worked_on_in_float32(unit: str, radius: float) -> None:
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    smart = Smart(unit=unit, epsilon=radius, sigma=radius, eta=100 * radius)
    exact = tiny_trainer({"smart": smart}, dropout=0.0).gradients.losses(task, batch)["smart"]
    halved = tiny_trainer({"smart": smart}, dropout=0.0)
    halved.gradients.precision = torch.bfloat16
    rounded = halved.gradients.losses(task, batch)["smart"]
    torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=0)


def test_the_adversary_beats_a_random_point_of_the_same_radius(course, bert_tiny) -> None:
    from tests.benchmarks.adversary import ratio

    assert ratio(bert_tiny, course, examples=64) > 3
