"""FreeLB against a slow, obvious version: transformers' padded BERT, one example and one point of the climb at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from regkit_plugins.freelb import FreeLB
from torch import Tensor

from regkit import MultitaskModel, hookimpl
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.testing import TINY, tiny_tasks, tiny_trainer
from regkit.training.loop import Trainer
from tests.plugins.oracle import (
    KEYS,
    Double,
    InputDropout,
    Oracle,
    examples,
    loss_by_hand,
    same_value_and_gradients,
    total,
)

TASKS = pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
ONE_AND_TWO_TEXTS = pytest.mark.parametrize("task", tiny_tasks()[::4], ids=lambda task: task.name)


def norm(texts: list[Tensor]) -> float:
    """L2, of all texts of an example together."""
    return math.sqrt(sum(float(value) ** 2 for text in texts for value in text.flatten()))


def climb(
    oracle: Oracle,
    freelb: FreeLB,
    task: Task,
    texts: list[Tensor],
    segments: list[Tensor],
    masks: list[Tensor],
    uniform: list[Tensor],
    label: Tensor,
) -> list[list[Tensor]]:
    """The perturbations of one example at which the gradient is taken: delta_0 to delta_(K-1) of Algorithm 1."""
    unit = norm(texts) if freelb.unit == "norm" else 1.0
    coordinates = sum(text.numel() for text in texts)
    nudges = [freelb.epsilon * unit * part / math.sqrt(coordinates) for part in uniform]
    points = [nudges]
    while len(points) < freelb.steps:
        nudges = [nudge.requires_grad_() for nudge in nudges]
        moved = [(text + nudge) * mask for text, nudge, mask in zip(texts, nudges, masks, strict=True)]
        gradients = torch.autograd.grad(loss_by_hand(task, oracle.output(task, moved, segments), label), nudges)
        step = freelb.eta * unit / norm(list(gradients))
        nudges = [nudge.detach() + step * gradient for nudge, gradient in zip(nudges, gradients, strict=True)]
        if norm(nudges) > freelb.epsilon * unit:
            nudges = [nudge * freelb.epsilon * unit / norm(nudges) for nudge in nudges]
        points.append(nudges)
    return [[nudge.detach() for nudge in nudges] for nudges in points]


OPTIONS = [
    {"steps": 3, "epsilon": 0.1, "eta": 0.06},  # the first step stays inside the ball, the second leaves it
    {"steps": 1, "epsilon": 0.3, "weight": 0.4},
    {"steps": 3, "epsilon": 0.7, "eta": 0.5, "weight": 0.4, "unit": "absolute"},
]


def cases() -> Iterator[Any]:
    """Every task with all options; by default all tasks with the first, one and two texts with the others."""
    for task, options in product(tiny_tasks(), OPTIONS):
        quick = options == OPTIONS[0] or task.name in ("classes", "features")
        yield pytest.param(task, options, id=f"{task.name}-{options}", marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("task", "options"), [*cases()])
def test_the_points_the_loss_and_its_gradients_are_those_of_the_oracle(task: Task, options: dict[str, Any]) -> None:
    freelb, seen = FreeLB(**options), InputDropout()
    trainer = tiny_trainer({"freelb": freelb, "seen": seen}, dropout=0.0)
    trainer.model.double()
    batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
    losses = trainer.passes.losses(task, batch)

    oracle, terms, found = Oracle(trainer), [], []
    uniform = batch.noise(torch.empty(len(batch.tokens), TINY.hidden_size, dtype=torch.float64), "freelb", "uniform")
    both = zip(examples(batch, uniform), examples(batch, seen.masks[0]), batch.labels, strict=True)
    for (ids, segments, drawn), (_, _, masks), label in both:
        texts = [oracle.bert.embeddings.word_embeddings(text) for text in ids]
        points = climb(oracle, freelb, task, [text.detach() for text in texts], segments, masks, drawn, label)
        outputs = [
            oracle.output(
                task,
                [(text + nudge) * mask for text, nudge, mask in zip(texts, nudges, masks, strict=True)],
                segments,
            )
            for nudges in [[torch.zeros_like(text) for text in texts], *points]
        ]
        clean, *climbed = (loss_by_hand(task, output, label) for output in outputs)
        terms.append((1 - freelb.weight) * clean + freelb.weight * sum(climbed) / freelb.steps)
        found.append([torch.cat(nudges) for nudges in points])
    for step, nudge in enumerate(nudges_of(seen)):
        torch.testing.assert_close(nudge, torch.cat([points[step] for points in found]), rtol=1e-7, atol=1e-12)
    same_value_and_gradients(trainer, task, total(losses), oracle, torch.stack(terms).mean())


def nudges_of(seen: InputDropout) -> list[Tensor]:
    """`[tokens, width]` at each point, from the inputs of all passes."""
    clean, *points = seen.inputs
    return [(point - clean).detach() for point in points]


def passes(
    freelb: FreeLB, task: Task, *, rate: float = 0.3, dropout: float = 0.1
) -> tuple[Trainer, Batch, InputDropout]:
    """What the encoder was given for one batch, in float64: the clean embeddings and then each point."""
    seen = InputDropout(rate)
    trainer = tiny_trainer({"freelb": freelb, "seen": seen}, dropout=dropout)
    trainer.model.double()
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    trainer.passes.losses(task, batch)
    return trainer, batch, seen


def sizes(batch: Batch, values: Tensor) -> Tensor:
    """`[examples]`: the L2 norm of each, both texts of a pair together."""
    return batch.per_example(values.square(), "sum").sqrt()


@ONE_AND_TWO_TEXTS
def test_every_point_has_the_masks_of_the_clean_pass(task: Task) -> None:
    seen = passes(FreeLB(steps=4), task)[2]
    assert len(seen.masks) == 1 + 4  # and no pass more than there are points
    for mask in seen.masks[1:]:
        assert torch.equal(mask, seen.masks[0])


@ONE_AND_TWO_TEXTS
@pytest.mark.parametrize("steps", [1, 4])
def test_in_a_ball_of_no_size_it_is_plain_training_however_many_steps(task: Task, steps: int) -> None:
    """A gradient summed over the points would be `steps` times as large, and masks of each point's own would show."""
    gradients = []
    for plugins in ({"freelb": FreeLB(epsilon=1e-9, eta=1e-9, steps=steps)}, {}):
        trainer = tiny_trainer(plugins, dropout=0.3)
        trainer.model.double()
        torch.autograd.backward(total(trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS))))
        gradients.append([p.grad for p in trainer.model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@ONE_AND_TWO_TEXTS
@pytest.mark.parametrize("unit", ["norm", "absolute"])
def test_an_ascent_moves_an_example_by_eta_all_its_tokens_and_texts_together(task: Task, unit: str) -> None:
    _, batch, seen = passes(FreeLB(epsilon=10, eta=0.2, steps=3, unit=unit), task)
    length = sizes(batch, seen.inputs[0]) if unit == "norm" else torch.ones(len(batch))
    nudges = nudges_of(seen)
    for before, after in pairwise(nudges):
        torch.testing.assert_close(sizes(batch, after - before), 0.2 * length.double())


@dataclass
class Losses:
    """Keeps every loss of a task, in the order in which they are asked for."""

    found: list[float] = field(default_factory=list, init=False)

    @hookimpl(wrapper=True)
    def task_loss(self) -> Tensor:
        loss = yield
        self.found.append(float(loss.detach()))
        return loss


@TASKS
def test_an_ascent_goes_up(task: Task) -> None:
    losses = Losses()
    trainer = tiny_trainer({"freelb": FreeLB(epsilon=1.0, eta=0.002, steps=5), "losses": losses})
    trainer.model.double()
    trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS))
    _, *climbed = losses.found
    assert len(climbed) == 5
    assert all(before < after for before, after in pairwise(climbed))


@ONE_AND_TWO_TEXTS
@pytest.mark.parametrize("unit", ["norm", "absolute"])
def test_a_long_ascent_ends_on_the_ball_of_its_example(task: Task, unit: str) -> None:
    _, batch, seen = passes(FreeLB(epsilon=0.1, eta=5, steps=4, unit=unit), task)
    radius = 0.1 * (sizes(batch, seen.inputs[0]) if unit == "norm" else torch.ones(len(batch)))
    for nudge in nudges_of(seen)[1:]:
        torch.testing.assert_close(sizes(batch, nudge), radius.double())


@ONE_AND_TWO_TEXTS
def test_a_short_ascent_is_not_pushed_out_to_the_ball(task: Task) -> None:
    _, batch, seen = passes(FreeLB(epsilon=0.1, eta=0.001, steps=3), task)
    for nudge in nudges_of(seen):
        assert (sizes(batch, nudge) < 0.08 * sizes(batch, seen.inputs[0])).all()


@ONE_AND_TWO_TEXTS
@pytest.mark.parametrize("unit", ["norm", "absolute"])
def test_the_climb_starts_uniformly_in_a_box_that_the_ball_holds(task: Task, unit: str) -> None:
    _, batch, seen = passes(FreeLB(epsilon=0.1, steps=1, unit=unit), task)
    (start,) = nudges_of(seen)
    length = sizes(batch, seen.inputs[0]) if unit == "norm" else torch.ones(len(batch))
    side = 0.1 * length / sizes(batch, torch.ones_like(start))
    shares = start / batch.to_tokens(side)[:, None]
    assert shares.abs().max() <= 1
    assert shares.min() < -0.95
    assert shares.max() > 0.95
    torch.testing.assert_close(shares.square().mean(), torch.tensor(1 / 3).double(), rtol=0.15, atol=0)


def test_each_example_starts_elsewhere() -> None:
    task = tiny_tasks()[0]
    trainer, _, seen = passes(FreeLB(steps=1), task)
    again = task.splits["train"].batch([0, 1, 2, 3], [key + 100 for key in KEYS])
    trainer.passes.losses(task, again)
    one, other = nudges_of(seen)[0], (seen.inputs[3] - seen.inputs[2]).detach()
    assert (one - other).abs().max() > 0.1 * one.abs().max()


def test_the_climb_leaves_no_gradient_in_the_parameters() -> None:
    for task in tiny_tasks():
        trainer = passes(FreeLB(), task)[0]
        assert [name for name, parameter in trainer.model.named_parameters() if parameter.grad is not None] == []


def test_each_point_is_a_place_and_not_a_function_of_the_point_before() -> None:
    seen = passes(FreeLB(steps=4), tiny_tasks()[0])[2]
    clean, *early, last = seen.inputs
    assert all(point.is_leaf for point in early)
    assert reached(last) == reached(clean)


def reached(tensor: Tensor) -> set[int]:
    """The leaves that a backward pass from here would reach."""
    found, ahead = set(), [tensor.grad_fn]
    while ahead:
        node = ahead.pop()
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        ahead += [each for each, _ in node.next_functions if each is not None]
    return found


@TASKS
def test_with_weight_1_the_loss_is_the_mean_over_the_points_and_else_the_clean_one_has_the_rest(task: Task) -> None:
    for weight in (0.25, 1.0):
        losses = Losses()
        trainer = tiny_trainer({"freelb": FreeLB(weight=weight, epsilon=0.5, eta=0.3, steps=4), "losses": losses})
        found = total(trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS)))
        clean, *climbed = losses.found
        assert max(climbed) - min(climbed) > 1e-3
        wanted = (1 - weight) * clean + weight * sum(climbed) / 4
        torch.testing.assert_close(found.detach(), torch.tensor(wanted))


def test_the_clean_output_gets_no_gradient_with_weight_1_and_no_backward_pass() -> None:
    output = torch.tensor([0.3, -0.2], requires_grad=True)
    task, batch = tiny_tasks()[1], tiny_tasks()[1].splits["train"].batch([0, 1], KEYS[:2])
    loss = task.objective.loss(output, batch.labels)
    embeddings = torch.randn(len(batch.tokens), 16, generator=torch.Generator().manual_seed(0))

    def predict(embeddings: Tensor, *, radius: float | None = None) -> Tensor:
        return batch.per_example(embeddings, "sum")

    term = FreeLB().extra_losses(
        batch=batch,
        embeddings=embeddings,
        loss=loss,
        predict=predict,
        task_loss=lambda other: task.objective.loss(other, batch.labels),
    )
    (gradient,) = torch.autograd.grad(loss + term["freelb"], output, allow_unused=True)
    assert gradient is None


@dataclass
class Counted:
    """Counts the backward passes that reach the embeddings of each forward pass."""

    passes: list[int] = field(default_factory=list, init=False)

    @hookimpl
    def encode(self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        here, number = 1.0 * embeddings, len(self.passes)
        self.passes.append(0)
        here.grad_fn.register_hook(lambda _, slopes: self._count(number, slopes))
        return model.encode(task, batch, here)

    def _count(self, number: int, slopes: tuple[Tensor | None, ...]) -> None:
        self.passes[number] += slopes[0] is not None


@pytest.mark.parametrize(("weight", "clean"), [(1.0, 0), (0.4, 1)])
def test_one_backward_pass_a_point_gives_both_gradients_and_a_clean_pass_that_is_replaced_has_none(
    weight: float, clean: int
) -> None:
    counted, task = Counted(), tiny_tasks()[0]
    trainer = tiny_trainer({"freelb": FreeLB(weight=weight), "counted": counted}, dropout=0.3)
    total(trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS))).backward()
    assert counted.passes == [clean, 1, 1, 1]


@dataclass
class Learned:
    """Weighs losses by a function, computed once, of a number that only this plugin has."""

    def __post_init__(self) -> None:
        self.number = torch.tensor(0.3, requires_grad=True)
        self.weight = self.number.exp()

    @hookimpl(wrapper=True)
    def task_loss(self) -> Tensor:
        return self.weight * (yield)


def test_what_a_plugin_learns_beside_the_model_gets_the_gradient_of_every_point() -> None:
    learned, task = Learned(), tiny_tasks()[0]
    trainer = tiny_trainer({"freelb": FreeLB(epsilon=0.5, eta=0.3), "learned": learned})
    found = total(trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS)))
    found.backward()
    torch.testing.assert_close(learned.number.grad, found.detach())  # the derivative of the exponential is itself


def test_the_losses_at_the_points_go_through_the_wrappers_of_the_clean_one() -> None:
    for task in tiny_tasks():
        batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
        plain = total(tiny_trainer({"freelb": FreeLB()}).passes.losses(task, batch))
        doubled = total(tiny_trainer({"freelb": FreeLB(), "double": Double()}).passes.losses(task, batch))
        torch.testing.assert_close(doubled, 2 * plain)


@pytest.mark.parametrize(
    "options", [{"epsilon": 0.01, "eta": 0.01}, {"unit": "absolute", "epsilon": 0.02, "eta": 0.02}], ids=str
)
def test_a_radius_too_fine_for_bf16_is_worked_on_in_float32(options: dict[str, Any]) -> None:
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    exact = tiny_trainer({"freelb": FreeLB(**options)}, dropout=0.0)
    halved = tiny_trainer({"freelb": FreeLB(**options)}, dropout=0.0)
    halved.passes.precision = torch.bfloat16
    wanted, found = (total(trainer.passes.losses(task, batch)) for trainer in (exact, halved))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


def test_the_meter_hears_how_the_loss_rises_there_and_elsewhere() -> None:
    task = tiny_tasks()[0]
    trainer = tiny_trainer({"freelb": FreeLB(steps=5)}, dropout=0.0)
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    embeddings = trainer.model.embed(batch).detach()
    output = trainer.model.predict(task, batch, embeddings)
    predict = trainer.passes.predict_again(task, batch, embeddings, output)
    asked = {"model": trainer.model, "task": task, "batch": batch, "embeddings": embeddings, "output": output}
    (answer,) = trainer.hook.measure(**asked, predict=predict)
    found = answer["freelb"]
    assert found["rise"] > 3 * abs(found["rise at random"])
    assert found["at the edge"] == 1


@ONE_AND_TWO_TEXTS
def test_by_default_the_first_ascent_stays_inside_of_the_ball(task: Task) -> None:
    """So the second point is not where a single step of full length would end."""
    _, batch, seen = passes(FreeLB(), task)
    start, second, _ = (sizes(batch, nudge) / sizes(batch, seen.inputs[0]) for nudge in nudges_of(seen))
    assert (start < second).all()
    assert (second < 0.0095).all()
