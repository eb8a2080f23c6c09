"""R3F against a slow, obvious version: one example at a time, one class at a time, in float64."""

import math
from itertools import product

import pytest
import torch
from regkit_plugins.r3f import R3F
from torch import Tensor

from regkit import Batch, Binary, Classification, MultitaskModel, Regression, Task
from regkit.data.order import Feed
from regkit.testing import gradients_of, tiny_tasks, tiny_trainer
from regkit.training.loop import Trainer
from tests.plugins.cases import table

KEYS = [11, 12, 13, 14]
ROWS = [0, 3, 5, 6]


def distance(task: Task, noisy: Tensor, clean: Tensor) -> Tensor:
    """The paper's KL_S of one example's two outputs; for a score the squared difference."""
    if isinstance(task.objective, Regression):
        return (noisy - clean) ** 2
    if isinstance(task.objective, Binary):
        p, q = (torch.stack([1 - each.sigmoid(), each.sigmoid()]) for each in (noisy, clean))
    else:
        assert isinstance(task.objective, Classification)
        p, q = noisy.softmax(0), clean.softmax(0)
    forth = sum(p[c] * (p[c].log() - q[c].log()) for c in range(len(p)))
    back = sum(q[c] * (q[c].log() - p[c].log()) for c in range(len(p)))
    return forth + back


def size(r3f: R3F, embeddings: Tensor) -> float:
    """Sigma in the unit of one example's word embeddings."""
    if r3f.unit == "absolute":
        return r3f.sigma
    numbers = embeddings.detach().flatten().tolist()
    return r3f.sigma * math.sqrt(sum(number**2 for number in numbers) / len(numbers))


def oracle(r3f: R3F, model: MultitaskModel, task: Task) -> Tensor:
    """The term of the examples `ROWS`, each read in a batch of its own."""
    terms = []
    for row, key in zip(ROWS, KEYS, strict=True):
        batch = task.splits["train"].batch([row], [key])
        embeddings = model.embed(batch)
        noise = batch.noise(embeddings, "r3f", r3f.noise)
        moved = embeddings + size(r3f, embeddings) * noise
        terms.append(distance(task, model.predict(task, batch, moved)[0], model.predict(task, batch, embeddings)[0]))
    return r3f.weight * sum(terms) / len(terms)


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch(ROWS, KEYS)


def term(r3f: R3F, task: Task, **options) -> Tensor:
    trainer = tiny_trainer({"r3f": r3f}, **options)
    trainer.model.train()
    found: Tensor = trainer.passes.losses(task, batch_of(task))["r3f"]
    return found


def nudge(r3f: R3F, trainer: Trainer, task: Task, batch: Batch, factor: float | Tensor = 1.0) -> Tensor:
    """What the plugin adds to the word embeddings, which are multiplied by `factor` first, `[tokens, width]`."""
    asked = []
    embeddings = trainer.model.embed(batch).detach() * factor

    def predict(embeddings: Tensor, **_: object) -> Tensor:
        asked.append(embeddings)
        return trainer.model.predict(task, batch, embeddings)

    r3f.extra_losses(task, batch, embeddings, predict)
    (found,) = [each - embeddings for each in asked if not torch.equal(each, embeddings)]
    return found


@pytest.mark.parametrize(
    ("unit", "noise"),
    table(product(["rms", "absolute"], ["normal", "uniform"]), [("rms", "normal"), ("absolute", "uniform")]),
)
@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_term_and_its_gradients_are_those_of_the_oracle(task: Task, unit: str, noise: str) -> None:
    r3f = R3F(weight=2.0, sigma=0.5 if unit == "rms" else 0.1, noise=noise, unit=unit)
    trainer = tiny_trainer({"r3f": r3f}, dropout=0.0)
    model = trainer.model.double().train()
    expected = oracle(r3f, model, task)
    wanted = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)

    found = trainer.passes.losses(task, batch_of(task))["r3f"]
    assert found > 1e-6
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)
    ours = torch.autograd.grad(found, list(model.parameters()), allow_unused=True)
    for (name, _), one, other in zip(model.named_parameters(), ours, wanted, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12, msg=(name + ": {}").format)


@pytest.mark.parametrize("side", ["noisy", "clean"])
def test_both_sides_are_differentiated(side: str) -> None:
    """A push on one side's output alone moves the term as the formula says."""
    task, r3f = tiny_tasks()[0], R3F()
    trainer = tiny_trainer({}, dropout=0.0)
    batch = batch_of(task)
    embeddings = trainer.model.embed(batch).detach()
    push = torch.zeros(4, 3, requires_grad=True)

    def predict(asked: Tensor, **_: object) -> Tensor:
        output = trainer.model.predict(task, batch, asked).detach()
        return output + push if torch.equal(asked, embeddings) == (side == "clean") else output

    (gradient,) = torch.autograd.grad(r3f.extra_losses(task, batch, embeddings, predict)["r3f"], push)
    assert float(gradient.abs().min()) > 0


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_with_dropout_on_the_term_goes_to_0_with_sigma(task: Task) -> None:
    """With masks of its own in the noisy pass, it would stay as large as R-Drop's."""
    large, small = (float(term(R3F(sigma=sigma), task, dropout=0.3).detach()) for sigma in (0.5, 1e-5))
    assert large > 1e-6
    assert abs(small) < 1e-4 * large


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_no_objective_and_no_way_to_read_a_pair_is_left_out(task: Task) -> None:
    assert float(term(R3F(sigma=0.5), task).detach()) > 0


@pytest.mark.parametrize("noise", ["normal", "uniform"])
def test_noise_has_the_law_and_the_size_it_is_said_to_have(noise: str) -> None:
    r3f, task = R3F(sigma=0.25, noise=noise, unit="absolute"), tiny_tasks()[0]
    trainer = tiny_trainer({})
    batch = task.splits["train"].batch(range(24), list(range(24)))
    found = nudge(r3f, trainer, task, batch).flatten() / 0.25
    assert len(found) > 2000
    assert float(found.mean()) == pytest.approx(0.0, abs=0.1)
    if noise == "normal":
        assert float(found.std()) == pytest.approx(1.0, abs=0.07)
        assert float(found.abs().max()) > 2.5
    else:
        assert float(found.std()) == pytest.approx(1 / math.sqrt(3), abs=0.04)
        assert 0.99 < float(found.abs().max()) <= 1.0001


def test_in_units_of_rms_the_noise_grows_with_the_embeddings_of_its_own_example() -> None:
    trainer, task = tiny_trainer({}), tiny_tasks()[4]  # a pair: both of its texts have one unit
    batch = batch_of(task)
    factor = torch.ones(len(batch.tokens), 1)
    factor[: sum(batch.lengths[:2])] = 10.0  # the first example
    before, after = nudge(R3F(), trainer, task, batch), nudge(R3F(), trainer, task, batch, factor)
    torch.testing.assert_close(after, factor * before, rtol=1e-3, atol=1e-5)
    factor[: batch.lengths[0]] = 0.0  # its first text alone
    assert float(nudge(R3F(), trainer, task, batch, factor)[: batch.lengths[0]].abs().max()) > 0.1
    absolute = R3F(unit="absolute")
    before, after = nudge(absolute, trainer, task, batch), nudge(absolute, trainer, task, batch, factor)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("noise", ["normal", "uniform"])
@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_an_example_has_the_same_noise_however_the_batch_is_cut(task: Task, noise: str) -> None:
    trainer, r3f = tiny_trainer({}), R3F(noise=noise)
    whole = nudge(r3f, trainer, task, batch_of(task))
    parts = [task.splits["train"].batch([row], [key]) for row, key in zip(ROWS, KEYS, strict=True)]
    torch.testing.assert_close(torch.cat([nudge(r3f, trainer, task, part) for part in parts]), whole)


def test_gradients_of_an_update_do_not_show_how_the_batch_was_cut() -> None:
    for task in (tiny_tasks()[0], tiny_tasks()[3]):
        found = [gradients_of(tiny_trainer({"r3f": R3F(sigma=0.5)}, dropout=0.0), task, cut) for cut in (10_000, 12)]
        for name, gradient in found[0].items():
            torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6, msg=(name + ": {}").format)


def test_the_noise_of_the_next_update_and_of_another_example_is_another() -> None:
    trainer, task, r3f = tiny_trainer({}), tiny_tasks()[0], R3F(unit="absolute")
    feed = Feed(task, 0, "finetune")
    first, again = feed.micro_batches(0, 10_000)[0], feed.micro_batches(task.batches, 10_000)[0]
    assert not set(first.keys) & set(again.keys)
    here, there = (nudge(r3f, trainer, task, task.splits["train"].batch([0, 0], keys)) for keys in ([1, 2], [3, 4]))
    assert not torch.allclose(here, there)
    one, other = here.chunk(2)
    assert not torch.allclose(one, other)


def test_the_term_goes_through_the_head_of_its_own_task_and_reaches_the_word_embeddings() -> None:
    trainer, task = tiny_trainer({"r3f": R3F()}), tiny_tasks()[1]
    torch.autograd.backward(trainer.passes.losses(task, batch_of(task))["r3f"])
    heads = {name for name, head in trainer.model.heads.items() if any(p.grad is not None for p in head.parameters())}
    assert heads == {task.name}
    assert float(trainer.model.encoder.word.weight.grad.abs().max()) > 0


@pytest.mark.parametrize(("unit", "sigma"), [("absolute", 1e-5), ("rms", 0.01)])
def test_noise_too_fine_for_bf16_is_worked_on_in_float32(unit: str, sigma: float) -> None:
    task, r3f = tiny_tasks()[0], R3F(sigma=sigma, unit=unit, weight=1e4)
    exact = tiny_trainer({"r3f": r3f}, dropout=0.0).passes.losses(task, batch_of(task))["r3f"]
    halved = tiny_trainer({"r3f": r3f}, dropout=0.0)
    halved.passes.precision = torch.bfloat16
    rounded = halved.passes.losses(task, batch_of(task))["r3f"]
    torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=0)


def test_the_measured_floor_is_0_because_masks_are_replayed() -> None:
    task = tiny_tasks()[0]
    trainer = tiny_trainer({"r3f": R3F()}, dropout=0.3)
    trainer.model.train()
    batch = batch_of(task)
    embeddings = trainer.model.embed(batch)
    with trainer.streams.seeded("dropout"):
        output = trainer.model.predict(task, batch, embeddings)
    predict = trainer.passes.predict_again(task, batch, embeddings, output)
    assert float(R3F().measure(task, embeddings, predict)["floor"]) == 0.0
