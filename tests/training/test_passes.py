"""A micro-batch goes through the hooks as the contract draws it, and each is given what the one before answered."""

import copy
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from regkit_plugins.fixed_weights import FixedWeights
from regkit_plugins.label_smoothing import LabelSmoothing
from torch import Tensor
from torch.nn.utils import get_total_norm

from regkit import Batch, MultitaskModel, Stage, Task, hookimpl
from regkit.tasks.objectives import Classification
from regkit.testing import tiny_kinds, tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.passes import Passes

KEYS = [11, 12, 13, 14]


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch([0, 1, 2, 3], KEYS)


def small() -> list[Task]:
    return unscored([tiny_task("classes", Classification(3), size=12)])


@dataclass
class Masking:
    """Replaces some tokens by another one, drawn anew each time."""

    share: float = 0.5
    seen: list[Tensor] = field(default_factory=list)

    @hookimpl
    def augment(self, batch: Batch) -> Batch:
        return replace(batch, tokens=batch.tokens.where(torch.rand(len(batch.tokens)) > self.share, 4))

    @hookimpl
    def extra_losses(self, batch: Batch) -> Mapping[str, Tensor]:
        self.seen.append(batch.tokens)
        return {}


def test_the_batch_that_augment_returns_is_the_one_that_every_later_hook_gets() -> None:
    task, masking = tiny_tasks()[0], Masking()
    trainer = tiny_trainer({"masking": masking}, dropout=0.0)
    batch = batch_of(task)
    loss = trainer.passes.losses(task, batch)["task"]
    (tokens,) = masking.seen
    assert 0 < (tokens == 4).float().mean() < 1
    model = trainer.model
    changed = replace(batch, tokens=tokens)
    assert batch.labels is not None
    assert loss == task.objective.loss(model.predict(task, changed, model.embed(changed)), batch.labels)


def test_a_step_that_is_computed_again_sees_the_same_augmentation() -> None:
    class Twice(Masking):
        @hookimpl
        def before_step(self, recompute: Any) -> None:
            recompute()

    masking = Twice()
    tiny_trainer({"masking": masking}, tasks=small(), steps=1).train()
    first, second = masking.seen
    assert torch.equal(first, second)


def test_dev_splits_are_not_augmented() -> None:
    tasks = [tiny_task("classes", Classification(3), size=12)]
    plain, masked = (tiny_trainer(each, tasks=tasks) for each in ({}, {"masking": Masking(1.0)}))
    scores = [each.evaluator.scores(each.model, tasks, "dev") for each in (plain, masked)]
    assert scores[0] == scores[1]


@dataclass
class Vectors:
    """Adds to the text vectors, and keeps what the other hooks get."""

    shift: float = 0.0
    found: dict[str, Tensor] = field(default_factory=dict)

    @hookimpl(wrapper=True)
    def encode(self) -> Generator[None, Tensor, Tensor]:
        vectors = yield
        return vectors + self.shift

    @hookimpl(wrapper=True)
    def predict(self, vectors: Tensor) -> Generator[None, Tensor, Tensor]:
        self.found["read"] = vectors
        return (yield)

    @hookimpl
    def extra_losses(self, vectors: Tensor, output: Tensor) -> Mapping[str, Tensor]:
        self.found |= {"vectors": vectors, "output": output}
        return {}


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_head_reads_the_vectors_that_encode_returns_and_extra_losses_get_them(task: Task) -> None:
    keeps = Vectors(0.5)
    trainer = tiny_trainer({"vectors": keeps}, dropout=0.0)
    trainer.passes.losses(task, batch_of(task))
    model: MultitaskModel = trainer.model
    wanted = model.encode(task, batch_of(task), model.embed(batch_of(task))) + 0.5
    assert len(wanted) == 4 * (2 if task.pair_mode == "bi_encoder" else 1)
    assert torch.equal(keeps.found["vectors"], wanted)
    assert keeps.found["vectors"] is keeps.found["read"]
    assert torch.equal(keeps.found["output"], model.heads[task.name](wanted))


@dataclass
class Asks:
    """Asks for the loss of the clean output against other labels."""

    targets: Tensor | None = None
    found: Tensor = field(init=False)

    @hookimpl
    def extra_losses(self, output: Tensor, task_loss: Any) -> Mapping[str, Tensor]:
        self.found = task_loss(output) if self.targets is None else task_loss(output, targets=self.targets)
        return {}


def asked(plugins: Mapping[str, object], task: Task, targets: Tensor | None) -> tuple[float, Passes]:
    asks = Asks(targets)
    trainer = tiny_trainer({**plugins, "asks": asks}, tasks=[task], dropout=0.0)
    trainer.passes.losses(task, batch_of(task))
    return float(asks.found.detach()), trainer.passes


@pytest.mark.parametrize("task", [*tiny_tasks(), *tiny_kinds()], ids=lambda task: task.name)
def test_the_loss_against_the_batchs_own_labels_is_the_clean_loss_however_they_are_written(task: Task) -> None:
    labels = batch_of(task).labels
    assert labels is not None
    written = task.objective.smoothed(labels, 0.0) if hasattr(task.objective, "smoothed") else labels.clone()
    clean, _ = asked({}, task, None)
    assert asked({}, task, written)[0] == pytest.approx(clean, abs=1e-6)


def test_smoothing_and_weights_apply_to_the_loss_against_mixed_labels() -> None:
    """Smoothing is linear: mixed targets that are smoothed are the mixture of smoothed ones."""
    (task,) = small()
    labels = batch_of(task).labels
    assert labels is not None
    one_hot = torch.eye(3)[labels]
    mixed = 0.3 * one_hot + 0.7 * one_hot.flip(0)
    plugins = {"fixed_weights": FixedWeights({"classes": 2.0}), "label_smoothing": LabelSmoothing(0.2)}
    found, passes = asked(plugins, task, mixed)
    log_p = passes.clean(task, batch_of(task)).output.log_softmax(-1)
    expected = -((0.8 * mixed + 0.2 / 3) * log_p).sum(-1).mean()
    assert found == pytest.approx(2 * float(expected.detach()), rel=1e-6)


@dataclass
class AtTheStep:
    """Keeps the gradient's norm as it is told, and as it is, and then sets the gradient to 0."""

    told: float = 0.0
    found: float = 0.0

    @hookimpl
    def clipped(self, model: MultitaskModel, norm: Tensor) -> None:
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        self.told, self.found = float(norm), float(get_total_norm(gradients))
        for gradient in gradients:
            gradient.zero_()


def test_clipped_comes_after_clipping_and_before_the_step() -> None:
    plugin = AtTheStep()
    trainer = tiny_trainer({"plugin": plugin}, tasks=small(), steps=1)
    trainer.clip = 0.01
    before = {name: each.clone() for name, each in trainer.model.named_parameters()}
    trainer.train()
    assert plugin.told > 0.1 == pytest.approx(10 * plugin.found, rel=1e-3)
    assert plugin.told == trainer.gradient_norm
    decayed = 1 - 1e-2 * 0.01  # nothing but weight decay is left: a bias has not moved
    for name, parameter in trainer.model.named_parameters():
        wanted = before[name] * (decayed if parameter.dim() > 1 else 1.0)
        torch.testing.assert_close(parameter, wanted, rtol=1e-6, atol=1e-9, msg=name)


@dataclass
class Halving:
    """Decides a schedule that halves the rate at each step."""

    @hookimpl
    def schedule(self, stage: Stage, step: int, total_steps: int) -> float:
        assert stage.name == "finetune"
        assert total_steps == 4
        return 0.5**step


@dataclass
class Rates:
    """An observer that keeps the learning rate of each step."""

    trainer: Trainer = field(init=False)
    found: list[float] = field(default_factory=list)

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        assert self.trainer.state.optimizer
        self.found.append(self.trainer.state.optimizer.param_groups[0]["lr"])


def test_a_plugin_decides_the_factor_on_the_peak_learning_rate() -> None:
    rates = Rates()
    trainer = tiny_trainer({"halving": Halving()}, tasks=small(), steps=4, observers=[rates])
    rates.trainer = trainer
    trainer.train()
    assert rates.found == [1e-2 * 0.5**step for step in range(4)]


@dataclass
class Scaled:
    """Evaluates a copy with another scale."""

    factor: float

    @hookimpl(wrapper=True)
    def model_to_evaluate(self) -> Generator[None, MultitaskModel, MultitaskModel]:
        model = copy.deepcopy((yield))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(self.factor)
        return model


def test_plugins_that_choose_the_model_to_evaluate_can_be_chained() -> None:
    trainer = tiny_trainer({"twice": Scaled(2.0), "thrice": Scaled(3.0)}, tasks=small())
    trainer.state.enter(0, "finetune")
    found = dict(trainer.state.evaluated_model().named_parameters())
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(found[name], parameter * 3.0 * 2.0), name
