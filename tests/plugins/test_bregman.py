"""Bregman against a slow, obvious version: two padded BERTs of transformers' own, and an average kept by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.sam import SAM
from torch import Tensor

from regkit import hookimpl
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.testing import Snapshot, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import stages_of
from tests.plugins.oracle import KEYS, Oracle, examples, same_value_and_gradients

TASKS = pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)


def prepared(bregman: Bregman, *, dropout: float = 0.0, **others: Any) -> Trainer:
    """A trainer at the start of its stage."""
    trainer = tiny_trainer({"bregman": bregman, **others}, dropout=dropout)
    ((stage, tasks),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, tasks)
    return trainer


def shake(model: MultitaskModel) -> None:
    """Move every weight a little, as if it had been trained for a while."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch([0, 3, 5, 6], KEYS)


@TASKS
def test_the_term_and_its_gradients_are_those_of_the_oracle(task: Task) -> None:
    bregman = Bregman(weight=0.7)
    trainer = prepared(bregman)
    trainer.model.double()
    shake(bregman.teacher.double())
    batch = batch_of(task)
    term = trainer.passes.losses(task, batch)["bregman"]

    student, teacher = Oracle(trainer), Oracle(SimpleNamespace(model=bregman.teacher))
    terms = []
    for ids, segments, _ in examples(batch, batch.tokens):
        now, before = (
            oracle.output(task, [oracle.bert.embeddings.word_embeddings(text) for text in ids], segments)
            for oracle in (student, teacher)
        )
        terms.append(student.distance(task, now, before.detach()))
    same_value_and_gradients(trainer, task, term, student, 0.7 * torch.stack(terms).mean())


@TASKS
def test_at_the_first_step_without_dropout_the_term_and_its_gradient_are_0(task: Task) -> None:
    trainer = prepared(Bregman())
    term = trainer.passes.losses(task, batch_of(task))["bregman"]
    torch.autograd.backward(term)
    assert float(term.detach()) == 0
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


def test_weights_that_differ_but_predict_the_same_cost_nothing() -> None:
    """A distance between weights would see the inner units of a layer in another order."""
    bregman = Bregman()
    trainer = prepared(bregman)
    trainer.model.double()
    inner = bregman.teacher.double().encoder.layers[0]
    with torch.no_grad():
        inner.up.weight.copy_(inner.up.weight.flip(0))
        inner.up.bias.copy_(inner.up.bias.flip(0))
        inner.down.weight.copy_(inner.down.weight.flip(1))
    for task in tiny_tasks():
        assert abs(float(trainer.passes.losses(task, batch_of(task))["bregman"].detach())) < 1e-20


@TASKS
def test_every_example_twice_gives_the_same_term(task: Task) -> None:
    bregman = Bregman()
    trainer = prepared(bregman)
    shake(bregman.teacher)
    once, twice = (
        trainer.passes.losses(task, task.splits["train"].batch(rows, KEYS))["bregman"]
        for rows in ([0, 3], [0, 3, 3, 0])
    )
    torch.testing.assert_close(twice, once)


@dataclass
class Watch:
    """Keeps what each pass was: the model, its mode, what it read and what it said."""

    passes: list[SimpleNamespace] = field(default_factory=list, init=False)

    @hookimpl(wrapper=True)
    def encode(self, model: MultitaskModel, embeddings: Tensor) -> Tensor:
        modes = {module.training for module in model.modules()}
        self.passes.append(SimpleNamespace(model=model, modes=modes, embeddings=embeddings))
        return (yield)

    @hookimpl(wrapper=True)
    def predict(self) -> Tensor:
        self.passes[-1].output = yield
        return self.passes[-1].output


@TASKS
def test_the_teacher_predicts_without_dropout_and_the_student_with_it(task: Task) -> None:
    bregman, watch = Bregman(), Watch()
    trainer = prepared(bregman, dropout=0.3, watch=watch)
    trainer.model.train()
    bregman.teacher.train()
    batch = batch_of(task)
    term = trainer.passes.losses(task, batch)["bregman"]
    student, teacher = watch.passes
    assert (student.model, student.modes) == (trainer.model, {True})
    assert (teacher.model, teacher.modes) == (bregman.teacher, {False})
    still = bregman.teacher.eval()
    target = still.predict(task, batch, still.embed(batch))
    torch.testing.assert_close(term, task.objective.divergence(student.output, target))


@dataclass
class Noise:
    """Moves every word embedding, as NEFTune does."""

    @hookimpl(wrapper=True)
    def embed(self) -> Tensor:
        embeddings = yield
        return embeddings + 1


@pytest.mark.parametrize("order", [("bregman", "noise"), ("noise", "bregman")])
def test_the_teacher_reads_the_clean_text_with_word_embeddings_of_its_own(order: tuple[str, str]) -> None:
    bregman, watch = Bregman(), Watch()
    plugins = {name: {"bregman": bregman, "noise": Noise()}[name] for name in order}
    trainer = tiny_trainer(plugins | {"watch": watch})
    ((stage, tasks),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, tasks)
    shake(bregman.teacher)
    batch = batch_of(tasks[0])
    trainer.passes.losses(tasks[0], batch)
    student, teacher = watch.passes
    assert torch.equal(student.embeddings, trainer.model.encoder.word.weight[batch.tokens] + 1)
    assert torch.equal(teacher.embeddings, bregman.teacher.encoder.word.weight[batch.tokens])


def test_no_gradient_reaches_the_teacher_and_no_optimizer_knows_it() -> None:
    bregman = Bregman()
    trainer = prepared(bregman, dropout=0.1)
    shake(bregman.teacher)
    for task in tiny_tasks():
        torch.autograd.backward(trainer.passes.losses(task, batch_of(task))["bregman"])
    assert all(parameter.grad is None for parameter in bregman.teacher.parameters())
    assert not any(parameter.requires_grad for parameter in bregman.teacher.parameters())
    assert any(parameter.grad is not None for parameter in trainer.model.parameters())
    ((stage, _),) = stages_of(trainer)
    stepped = {
        id(each)
        for group in make_optimizer(trainer.hook, trainer.model, stage).param_groups
        for each in group["params"]
    }
    assert stepped == {id(parameter) for parameter in trainer.model.parameters()}


def test_the_teacher_is_a_copy_heads_and_all() -> None:
    bregman = Bregman()
    trainer = prepared(bregman)
    ours, copies = trainer.model.state_dict(), bregman.teacher.state_dict()
    assert copies.keys() == ours.keys()
    assert any(name.startswith("heads.") for name in copies)
    for name, copy in copies.items():
        assert torch.equal(copy, ours[name]), name
        assert copy.data_ptr() != ours[name].data_ptr(), f"{name} is shared"
    before = {name: copy.clone() for name, copy in copies.items()}
    shake(trainer.model)
    for name, copy in bregman.teacher.state_dict().items():
        assert torch.equal(copy, before[name]), f"{name} follows the model by itself"


@dataclass
class Reset:
    """Changes weights while it prepares, as other plugins may."""

    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        shake(model)


@pytest.mark.parametrize("order", [("bregman", "reset"), ("reset", "bregman")])
def test_the_teacher_starts_where_training_starts_whatever_others_prepare(order: tuple[str, str]) -> None:
    plugins = {name: {"bregman": Bregman(), "reset": Reset()}[name] for name in order}
    trainer = tiny_trainer(plugins)
    ((stage, tasks),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, tasks)
    for name, copy in plugins["bregman"].teacher.named_parameters():
        assert torch.equal(copy, trainer.model.get_parameter(name)), name


@dataclass
class Diary:
    """The weights after every update."""

    weights: list[dict[str, Tensor]] = field(default_factory=list)
    teachers: list[dict[str, Tensor]] = field(default_factory=list)
    bregman: Bregman | None = None

    @hookimpl(trylast=True)
    def after_step(self, model: MultitaskModel) -> None:
        self.weights.append(copied(model))
        if self.bregman is not None:
            self.teachers.append(copied(self.bregman.teacher))


def copied(model: MultitaskModel) -> dict[str, Tensor]:
    return {name: parameter.detach().double().clone() for name, parameter in model.named_parameters()}


@dataclass
class Everything:
    """Every task in every update."""

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return tasks

    @hookimpl
    def epoch_steps(self) -> int:
        return 20


@pytest.mark.parametrize(
    ("others", "budget"),
    [((), 10_000), ((), 12), ((Everything,), 10_000), ((SAM,), 10_000)],
    ids=["one batch an update", "micro-batches", "several tasks an update", "a gradient made twice"],
)
def test_the_teacher_moves_once_an_update_as_an_average_kept_by_hand(others: Sequence[type], budget: int) -> None:
    bregman = Bregman(beta=0.8, early_beta=0.4)
    diary = Diary(bregman=bregman)
    plugins = {"bregman": bregman} | {kind.__name__: kind() for kind in others}
    trainer = tiny_trainer(
        plugins, tasks=unscored(tiny_tasks()), steps=10, micro_batch_tokens=budget, observers=[diary]
    )
    average = copied(trainer.model)
    trainer.train()
    assert len(diary.weights) == 10
    for step, (weights, teacher) in enumerate(zip(diary.weights, diary.teachers, strict=True)):
        beta = 0.4 if step < 1 else 0.8
        for name, value in weights.items():
            average[name] = (1 - beta) * value + beta * average[name]
            torch.testing.assert_close(teacher[name], average[name], rtol=1e-4, atol=1e-5, msg=f"{step}, {name}")


@pytest.mark.parametrize(("total_steps", "early"), [(1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (25, 3), (100, 10)])
def test_beta_is_99_percent_in_the_first_tenth_of_the_updates_and_999_thousandths_after(
    total_steps: int, early: int
) -> None:
    bregman = Bregman()
    trainer = prepared(bregman)
    teacher = next(bregman.teacher.parameters())
    moved = []
    for step in range(total_steps):
        with torch.no_grad():
            teacher.zero_()
            next(trainer.model.parameters()).fill_(1.0)
        bregman.after_step(trainer.model, step, total_steps)
        moved.append(round(float(teacher.flatten()[0]), 6))
    assert moved == [0.01] * early + [0.001] * (total_steps - early)


def test_the_teacher_is_kept_in_float32_where_the_model_is_in_bf16() -> None:
    """In bf16, 1 + 0.001 is 1: the teacher would never move."""
    bregman = Bregman()
    trainer = tiny_trainer({"bregman": bregman})
    trainer.model.to(torch.bfloat16)
    bregman.prepare(trainer.model)
    assert {parameter.dtype for parameter in bregman.teacher.parameters()} == {torch.float32}
    teacher = next(bregman.teacher.parameters())
    with torch.no_grad():
        teacher.fill_(1.0)
        next(trainer.model.parameters()).fill_(2.0)
    bregman.after_step(trainer.model, 5, 6)
    torch.testing.assert_close(teacher, torch.full_like(teacher, 1.001))


def test_the_teacher_is_in_the_checkpoint_and_comes_back_from_it() -> None:
    first, stop = Bregman(beta=0.7, early_beta=0.7), Snapshot(after=3)
    diary = Diary(bregman=first)
    stop.trainer = tiny_trainer(
        {"bregman": first, "everything": Everything()}, tasks=unscored(tiny_tasks()), observers=[stop, diary]
    )
    stop.trainer.train()

    again = Bregman(beta=0.7, early_beta=0.7)
    fresh = copied(prepared(again).model)
    again.load_state_dict(stop.training["plugins"]["bregman"])
    for name, value in copied(again.teacher).items():
        assert torch.equal(value, diary.teachers[2][name]), name
        assert not torch.equal(value, fresh[name]), f"{name} is where it began"
        assert not torch.equal(value, stop.model[name].double()), f"{name} is the model's"


def test_the_teacher_is_not_what_is_evaluated_and_kept() -> None:
    bregman = Bregman()
    trainer = tiny_trainer({"bregman": bregman})
    trainer.train()
    assert trainer.state.evaluated_model() is trainer.model
