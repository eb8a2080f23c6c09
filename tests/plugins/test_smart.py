"""SMART against a slow, obvious version: transformers' padded BERT, one example at a time, coordinate by coordinate."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from regkit_plugins.smart import Smart
from torch import Tensor

from regkit.model import load_encoder
from regkit.tasks.task import Task
from regkit.testing import TINY, tiny, tiny_kinds, tiny_tasks, tiny_trainer
from tests.model.foreign_families import write_foreign
from tests.plugins.oracle import KEYS, FamilyOracle, Oracle, gradients_by_their_names

SET = {task.name: tasks for tasks in (tiny_tasks, tiny_kinds) for task in tasks()}  # who makes the task of a name


def cases() -> Iterator[Any]:
    """Every task with each unit, one step and three; by default all tasks with one, one and two texts with three."""
    for task, unit, steps in product([*tiny_tasks(), *tiny_kinds()], ("rms", "absolute"), (1, 3)):
        quick = (unit, steps) == ("rms", 1) or (unit, steps, task.name in ("classes", "cosine")) == (
            "absolute",
            3,
            True,
        )
        marks = () if quick else pytest.mark.slow
        yield pytest.param(task, unit, steps, id=f"{task.name}-{unit}-{steps}", marks=marks)


@pytest.mark.parametrize(("task", "unit", "steps"), [*cases()])
def test_the_perturbation_the_term_and_the_gradients_are_those_of_the_oracle(task: Task, unit: str, steps: int) -> None:
    scale = 1.0 if unit == "rms" else 0.02
    smart = Smart(epsilon=0.1 * scale, sigma=0.05 * scale, eta=0.3 * scale, steps=steps, unit=unit, weight=2.0)
    trainer = tiny_trainer({"smart": smart}, tasks=SET[task.name](), dropout=0.0)
    trainer.model.double()
    batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
    noise = batch.noise(torch.empty(len(batch.tokens), TINY.hidden_size, dtype=torch.float64), "smart")

    oracle = Oracle(trainer, smart)
    expected, nudge = oracle.term(task, batch, noise)
    head = list(trainer.model.heads[task.name].parameters())
    expected_head = torch.autograd.grad(2.0 * expected, [*oracle.bert.parameters(), *head], allow_unused=True)

    term = trainer.passes.losses(task, batch)["smart"]
    torch.testing.assert_close(term, 2.0 * expected, rtol=1e-8, atol=1e-12)
    embeddings = trainer.model.embed(batch).detach()
    output = trainer.model.predict(task, batch, embeddings).detach()
    found = smart.adversary(
        task, batch, embeddings, output, trainer.passes.predict_again(task, batch, embeddings, output)
    )
    torch.testing.assert_close(found.detach(), nudge, rtol=1e-7, atol=1e-10)

    ours_head = torch.autograd.grad(term, head, retain_graph=True) if head else []
    for one, other in zip(ours_head, expected_head[len(expected_head) - len(head) :], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)
    torch.autograd.backward(term)
    ours = gradients_by_their_names(trainer)
    for (name, parameter), gradient in zip(oracle.bert.named_parameters(), expected_head, strict=False):
        wanted = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(ours[name], wanted, rtol=1e-6, atol=1e-11, msg=(name + ": {}").format)


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
@pytest.mark.parametrize("family", ["roberta", "modernbert", "deberta-v2"])  # minBERT, packed and padded inside
def test_the_term_and_its_gradients_are_those_of_the_oracle_on_other_families(
    family: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {} if family == "modernbert" else {"type_vocab_size": 0 if family == "deberta-v2" else 1}
    write_foreign(tmp_path, family, vocab_size=TINY.vocab_size, **kinds)
    monkeypatch.setattr(tiny, "Bert", lambda config: load_encoder(tmp_path, dropout=0.0))
    smart = Smart(epsilon=0.1, sigma=0.05, eta=0.3)
    trainer = tiny_trainer({"smart": smart}, dropout=0.0)
    trainer.model.double().pooling = "cls"
    batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
    width = trainer.model.encoder.word.embedding_dim
    noise = batch.noise(torch.empty(len(batch.tokens), width, dtype=torch.float64), "smart")

    oracle = FamilyOracle(trainer, smart, tmp_path)
    expected, _ = oracle.term(task, batch, noise)
    term = trainer.passes.losses(task, batch)["smart"]
    torch.testing.assert_close(term, expected, rtol=1e-7, atol=1e-12)
    wanted = torch.autograd.grad(expected, list(oracle.bert.parameters()), allow_unused=True)
    torch.autograd.backward(term)
    prefix, found = f"{oracle.bert.base_model_prefix}.", gradients_by_their_names(trainer)
    for (name, parameter), gradient in zip(oracle.bert.named_parameters(), wanted, strict=True):
        gradient = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(found[prefix + name], gradient, rtol=1e-5, atol=1e-9, msg=(name + ": {}").format)


def test_no_coordinate_leaves_the_box_of_its_example() -> None:
    smart = Smart(steps=3)
    trainer = tiny_trainer({"smart": smart})
    for task in tiny_tasks():
        batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
        embeddings = trainer.model.embed(batch).detach()
        output = trainer.model.predict(task, batch, embeddings).detach()
        nudge = smart.adversary(
            task, batch, embeddings, output, trainer.passes.predict_again(task, batch, embeddings, output)
        )
        assert not nudge.requires_grad
        root = batch.per_example(embeddings.square(), "mean").sqrt()
        reach = batch.per_example(nudge.abs(), "amax") / root
        torch.testing.assert_close(reach, torch.full_like(reach, smart.epsilon))


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
def test_the_start_and_the_step_grow_with_the_radius_where_no_option_says_otherwise(epsilon: float) -> None:
    trainer = tiny_trainer({"smart": Smart(epsilon=epsilon)}, dropout=0.0)
    trainer.model.double()
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
    noise = batch.noise(torch.empty(len(batch.tokens), TINY.hidden_size, dtype=torch.float64), "smart")
    expected, _ = Oracle(trainer, Smart(epsilon=epsilon, sigma=epsilon, eta=100 * epsilon)).term(task, batch, noise)
    torch.testing.assert_close(trainer.passes.losses(task, batch)["smart"], expected, rtol=1e-8, atol=1e-14)


def test_with_dropout_on_the_term_is_the_adversary_and_not_the_dropout() -> None:
    """With masks of its own in each pass, the term would stay as large as R-Drop's when the radius goes to 0."""
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    sizes = []
    for radius in (0.5, 1e-6):
        trainer = tiny_trainer({"smart": Smart(epsilon=radius, sigma=radius, eta=100 * radius)}, dropout=0.3)
        sizes.append(float(trainer.passes.losses(task, batch)["smart"].detach()))
    assert abs(sizes[1]) < 1e-4 * sizes[0]


def test_every_pass_replays_the_masks_of_the_clean_one() -> None:
    task, asked = tiny_tasks()[0], []
    trainer = tiny_trainer({"smart": Smart(steps=2)})
    batch = task.splits["train"].batch([0, 1], KEYS[:2])
    embeddings = trainer.model.embed(batch)
    output = trainer.model.predict(task, batch, embeddings)
    again = trainer.passes.predict_again(task, batch, embeddings, output)

    def predict(embeddings: Tensor, *, dropout: str = "replay", radius: float | None = None) -> Tensor:
        asked.append(dropout)
        return again(embeddings, dropout=dropout, radius=radius)

    Smart(steps=2).extra_losses(task, batch, embeddings, predict)
    assert asked == ["replay"] * 4  # the first of them is answered by the clean output


def test_the_term_goes_through_the_head_of_its_own_task() -> None:
    trainer = tiny_trainer({"smart": Smart()})
    task = tiny_tasks()[1]
    torch.autograd.backward(trainer.passes.losses(task, task.splits["train"].batch([0, 1], KEYS[:2]))["smart"])
    with_gradient = {
        name for name, head in trainer.model.heads.items() if any(p.grad is not None for p in head.parameters())
    }
    assert with_gradient == {task.name}


@pytest.mark.parametrize(("unit", "radius"), [("absolute", 1e-5), ("rms", 0.01)])
def test_a_radius_too_fine_for_bf16_is_worked_on_in_float32(unit: str, radius: float) -> None:
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    smart = Smart(unit=unit, epsilon=radius, sigma=radius, eta=100 * radius)
    exact = tiny_trainer({"smart": smart}, dropout=0.0).passes.losses(task, batch)["smart"]
    halved = tiny_trainer({"smart": smart}, dropout=0.0)
    halved.passes.precision = torch.bfloat16
    rounded = halved.passes.losses(task, batch)["smart"]
    torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_the_adversary_beats_a_random_point_of_the_same_radius(course, bert_tiny) -> None:
    from tests.benchmarks.adversary import ratio

    assert ratio(bert_tiny, course, examples=64) > 3
