"""The loop: without plugins it is plain PyTorch, and what it does at each place is what its docstring says."""

import copy
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from regkit import hookimpl
from regkit.base.errors import ConfigError, PluginError, RunError
from regkit.base.memory import Memory
from regkit.data.order import Feed
from regkit.hooks.defaults import spread
from regkit.hooks.spec import Predict
from regkit.tasks.task import Stage, Task
from regkit.testing import resume_is_exact, same_weights, tiny_tasks, tiny_trainer
from regkit.training.rows import give_gradient, room_for_gradients, take_gradient
from regkit.training.stages import set_rates
from tests.helpers import Both


def linear_schedule(step: int, total: int, warmup: int) -> float:
    return (step + 1) / warmup if step < warmup else (total - step) / (total - warmup)


def test_without_plugins_the_weights_after_20_steps_are_those_of_a_hand_written_loop() -> None:
    """Bit for bit, with dropout on: the hand-written loop takes only the order of the data and the dropout's seed."""
    trainer = tiny_trainer({}, steps=20)
    twin = copy.deepcopy(trainer)
    trainer.train()

    model, tasks, streams = twin.model, tiny_tasks(), twin.streams
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, fused=True)
    order = spread(tuple(task.batches for task in tasks))
    model.train()
    for step in range(20):
        task = tasks[order[step % len(order)]]
        number = [order[earlier % len(order)] for earlier in range(step)].count(order[step % len(order)])
        (batch,) = Feed(task, seed=0, stage="finetune").micro_batches(number, 10_000)
        with streams.at("finetune", step, task.name, 0), streams.seeded("dropout"):
            vectors = model.encoder.pool(model.encoder.encode(model.encoder.word(batch.tokens), batch, batch.starts))
            output = model.heads[task.name](vectors)
        loss = task.objective.loss(output, batch.labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * linear_schedule(step, 20, warmup=2)
        optimizer.step()
    same_weights(trainer, twin)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_0() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    optimizer.param_groups[0]["initial_lr"] = 4.0
    hook, rates = tiny_trainer({}).hook, []
    for step in range(20):
        set_rates(hook, optimizer, Stage("s", [], warmup=0.25), step, 20)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([4.0 * linear_schedule(step, 20, warmup=5) for step in range(20)])
    assert max(rates) == pytest.approx(4.0)
    assert all(rate > 0 for rate in rates)


def test_the_default_order_gives_each_task_its_batches_evenly() -> None:
    order = spread((10, 5, 1))
    assert [order.count(number) for number in range(3)] == [10, 5, 1]
    for end in range(1, 17):
        for number, count in enumerate((10, 5, 1)):
            assert abs(order[:end].count(number) - end * count / 16) <= 1.5


@dataclass
class Combine:
    """Keeps the matrix it was given, and answers with the default's sum."""

    seen: list[Tensor] = field(default_factory=list, init=False)

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        self.seen.append(gradients.clone())
        return gradients.sum(0)


def test_gradients_combined_by_their_sum_are_those_of_the_summed_losses() -> None:
    plain = tiny_trainer({"both": Both()}, steps=3)
    combine = Combine()
    combined = tiny_trainer({"both": Both(), "combine": combine}, steps=3)
    plain.train()
    combined.train()
    assert combine.seen[0].shape[0] == len(tiny_tasks())
    for (name, one), other in zip(plain.model.named_parameters(), combined.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=(name + ": {}").format)


def test_each_row_of_the_matrix_is_the_gradient_of_one_task_alone() -> None:
    combine = Combine()
    trainer = tiny_trainer({"both": Both(), "combine": combine}, steps=1, dropout=0.0)
    alone = copy.deepcopy(trainer.model)
    trainer.train()
    for row, task in zip(combine.seen[0], tiny_tasks(), strict=True):
        (batch,) = Feed(task, seed=0, stage="finetune").micro_batches(0, 10_000)
        alone.zero_grad()
        torch.autograd.backward(task.objective.loss(alone.predict(task, batch, alone.embed(batch)), batch.labels))
        expected = room_for_gradients(alone, 1, Memory())[0]
        take_gradient(alone, expected)
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-6)


@dataclass
class Keeping:
    """Notes where each matrix is, and may keep it."""

    keeps: bool
    places: set[int] = field(default_factory=set, init=False)
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list, init=False)  # each with a copy of what it was

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        self.places.add(gradients.data_ptr())
        if self.keeps:
            self.kept.append((gradients, gradients.clone()))
        return gradients.sum(0)


def test_a_matrix_takes_the_memory_of_the_one_before_unless_somebody_keeps_that() -> None:
    found = [Keeping(keeps=False), Keeping(keeps=True)]
    for keeping in found:
        tiny_trainer({"both": Both(), "keeping": keeping}, steps=3).train()
    assert [len(keeping.places) for keeping in found] == [1, 3]
    assert all(torch.equal(one, before) for one, before in found[1].kept)


def test_giving_a_gradient_back_undoes_taking_it() -> None:
    model = tiny_trainer({}).model
    for parameter in model.shared_parameters():
        parameter.grad = torch.randn_like(parameter)
    before = [parameter.grad.clone() for parameter in model.shared_parameters()]
    row = room_for_gradients(model, 1, Memory())[0]
    take_gradient(model, row)
    assert all(parameter.grad is None for parameter in model.shared_parameters())
    give_gradient(model, row)
    for parameter, gradient in zip(model.shared_parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_a_weight_without_a_gradient_has_zeros_in_the_row() -> None:
    model = tiny_trainer({}).model
    row = room_for_gradients(model, 1, Memory())[0].fill_(torch.nan)  # what another update left there
    take_gradient(model, row)
    assert not row.any()


@dataclass
class Asks:
    """Keeps what `predict` answers to each kind of dropout, beside the clean output."""

    found: dict[str, Tensor] = field(default_factory=dict, init=False)

    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        self.found = {"clean": output, "replay": predict(embeddings), "off": predict(embeddings, dropout="off")}
        self.found |= {name: predict(embeddings, dropout="fresh") for name in ("fresh", "fresher")}
        return {}


def test_predict_replays_the_dropout_draws_it_anew_or_leaves_it_out() -> None:
    asks, task = Asks(), tiny_tasks()[0]
    trainer = tiny_trainer({"asks": asks}, dropout=0.3)
    trainer.model.train()
    batch = task.splits["train"].batch([0, 1, 2])
    trainer.passes.losses(task, batch)
    assert torch.equal(asks.found["replay"], asks.found["clean"])
    for one, other in (("fresh", "clean"), ("fresher", "fresh"), ("off", "clean")):
        assert not torch.allclose(asks.found[one], asks.found[other])
    trainer.model.eval()
    assert torch.equal(asks.found["off"], trainer.model.predict(task, batch, trainer.model.embed(batch)))


@dataclass
class Named:
    name: str
    words: str = "fresh"

    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        predict(embeddings, dropout=self.words)  # type: ignore[arg-type]
        return {self.name: output.sum()}


def test_an_unknown_kind_of_dropout_is_refused_with_the_choices() -> None:
    with pytest.raises(PluginError, match="Available: replay, fresh, off"):
        tiny_trainer({"a": Named("x", "again")}).train()


@dataclass
class Again:
    """Makes the gradients anew before each step, as SAM does, at unchanged weights."""

    equal: list[bool] = field(default_factory=list, init=False)

    @hookimpl
    def before_step(self, model: torch.nn.Module, recompute: object) -> None:
        before = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        recompute()  # type: ignore[operator]
        after = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        self.equal.append(all(map(torch.equal, before, after)))


def test_recompute_at_the_same_weights_gives_the_same_gradients() -> None:
    again = Again()
    tiny_trainer({"again": again}).train()
    assert again.equal
    assert all(again.equal)


@dataclass
class Rising:
    """A plugin with state, set up anew by every `prepare`, and with a parameter of its own in the optimizer."""

    factor: float = field(default=0.0, init=False)
    scale: Tensor = field(default_factory=lambda: torch.ones((), requires_grad=True), init=False)
    products: list[float] = field(default_factory=list, init=False)

    @hookimpl
    def prepare(self) -> None:
        self.factor, self.scale = 0.0, torch.ones((), requires_grad=True)

    @hookimpl(wrapper=True)
    def make_optimizer(self) -> Generator[None, torch.optim.Optimizer, torch.optim.Optimizer]:
        optimizer = yield
        optimizer.add_param_group({"params": [self.scale], "weight_decay": 0.0})
        return optimizer

    @hookimpl(wrapper=True)
    def task_loss(self) -> Generator[None, Tensor, Tensor]:
        loss = yield
        return (1 + self.factor) * self.scale * loss

    @hookimpl
    def before_step(self) -> None:
        self.products.append(float((self.scale.grad * self.scale).detach()))

    @hookimpl
    def after_step(self) -> None:
        self.factor += 0.5

    def state_dict(self) -> dict[str, object]:
        return {"factor": self.factor, "scale": self.scale.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.factor = state["factor"]
        self.scale.data = state["scale"]


def test_a_plugins_state_is_put_back_after_it_is_prepared() -> None:
    resume_is_exact(lambda: {"rising": Rising()})


def test_a_plugins_own_parameter_gets_the_gradient_of_one_step_only() -> None:
    rising = Rising()
    seen: list[float] = []

    class Losses:
        @hookimpl(trylast=True)
        def after_step(self, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
            seen.extend(float(terms["task"]) for terms in losses.values())

    tiny_trainer({"rising": rising}, observers=[Losses()], steps=4).train()
    assert rising.products == pytest.approx(seen, rel=1e-5)  # the loss is linear in the scale


@dataclass
class Events:
    """Notes what it is told."""

    told: list[str] = field(default_factory=list, init=False)

    @hookimpl
    def prepare(self) -> None:
        self.told.append("prepare")

    @hookimpl
    def before_step(self) -> None:
        self.told.append("before")

    @hookimpl
    def after_step(self, step: int) -> None:
        self.told.append(f"after {step}")

    @hookimpl
    def evaluated(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        self.told.append(f"scores {step} {len(scores)}")


def test_hooks_are_told_in_the_order_of_the_docstring() -> None:
    events = Events()
    tiny_trainer({"events": events, "both": Both()}, steps=5).train()
    steps = [part for step in range(5) for part in ("before", f"after {step}", *(["scores 4 5"] if step == 3 else []))]
    assert events.told == ["prepare", "scores 0 5", *steps, "scores 5 5"]


def test_an_epoch_shows_every_example_of_every_task_once() -> None:
    from regkit.testing import Probe

    probe, tasks = Probe(), tiny_tasks()
    tiny_trainer({"probe": probe}, steps=sum(task.batches for task in tasks)).train()
    for task in tasks:
        rows = [row for batch in probe.rows[task.name].values() for row in batch]
        assert sorted(rows) == list(range(len(task.splits["train"])))


def test_a_task_without_weights_is_refused_where_the_encoder_is_frozen() -> None:
    from regkit_plugins.freeze import Freeze

    with pytest.raises(ConfigError, match="'cosine' has nothing to train while the encoder is frozen"):
        tiny_trainer({"freeze": Freeze()}).train()


@dataclass
class Bad:
    """Makes the loss, or only its gradient, not a number in some steps; notes what it is told."""

    steps: Sequence[int]
    what: str = "loss"
    now: int = field(default=0, init=False)
    told: list[str] = field(default_factory=list, init=False)

    @hookimpl(wrapper=True)
    def choose_tasks(self, step: int) -> Generator[None, Sequence[Task], Sequence[Task]]:
        self.now = step
        return (yield)

    @hookimpl
    def extra_losses(self, output: Tensor) -> Mapping[str, Tensor]:
        if self.now not in self.steps:
            return {}
        zero = (output - output.detach()).square().sum()
        return {"bad": zero.sqrt() if self.what == "gradient" else torch.tensor(torch.nan)}

    @hookimpl
    def after_step(self, step: int) -> None:
        self.told.append(f"after {step}")

    @hookimpl
    def skipped(self, step: int) -> None:
        self.told.append(f"skipped {step}")


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_step_that_is_not_finite_is_skipped_and_training_goes_on(what: str, clip: float) -> None:
    """The gradient of sqrt at 0 is infinite, while its value is fine."""
    bad = Bad([2, 3], what)
    trainer = tiny_trainer({"bad": bad}, steps=5)
    trainer.clip = clip
    trainer.train()
    assert bad.told == ["after 0", "after 1", "skipped 2", "skipped 3", "after 4"]
    assert sum(trainer.state.position.seen.values()) == 5
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_a_learned_scalar_whose_gradient_is_not_finite_skips_the_step() -> None:
    rising, told = Rising(), []

    class Spoil:
        @hookimpl(trylast=True)
        def before_step(self) -> None:
            rising.scale.grad = torch.tensor(torch.nan)

        @hookimpl
        def skipped(self, step: int) -> None:
            told.append(step)

    tiny_trainer({"rising": rising}, observers=[Spoil()], steps=3).train()
    assert told == [0, 1, 2]
    assert rising.scale.item() == 1.0


def test_too_many_skipped_steps_in_a_row_end_training_with_the_task_named() -> None:
    trainer = tiny_trainer({"bad": Bad(range(3, 99))}, steps=20)
    with pytest.raises(
        RunError, match=r"in 5 steps in a row, the last of them step 8 with task '\w+'; the lines before name"
    ):
        trainer.train()
    assert trainer.state.consistent
    fine = Bad([1, 2, 3, 4, 6, 7, 8, 9])  # four in a row, twice
    tiny_trainer({"bad": fine}, steps=12).train()
    assert len(fine.told) == 12


def test_an_error_leaves_the_run_at_rest_unless_something_was_changed() -> None:
    """Before the update, all stands where the last one left it; afterwards, some plugins were told and others not."""

    class Fails:
        def __init__(self, hook: str) -> None:
            self.hook = hook

        @hookimpl
        def extra_losses(self) -> Mapping[str, Tensor]:
            if self.hook == "extra_losses" and trainer.state.position.step == 2:
                raise ValueError
            return {}

        @hookimpl
        def before_step(self, model: torch.nn.Module) -> None:
            if self.hook in ("before_step", "harm") and trainer.state.position.step == 2:
                if self.hook == "harm":
                    with torch.no_grad():
                        next(model.parameters()).add_(1.0)
                raise ValueError

        @hookimpl
        def after_step(self, step: int) -> None:
            if self.hook == "after_step" and step == 1:
                raise ValueError

        @hookimpl
        def evaluated(self, step: int) -> None:
            if self.hook == "evaluated" and step == 2:
                raise ValueError

    rests = {}
    for hook in ("extra_losses", "before_step", "harm", "after_step", "evaluated"):
        trainer = tiny_trainer({"both": Both()}, steps=2 if hook == "evaluated" else 4, observers=[Fails(hook)])
        with pytest.raises(ValueError):  # noqa: PT011
            trainer.train()
        assert trainer.state.position.step == 2
        rests[hook] = trainer.state.consistent
    assert rests == {
        "extra_losses": True,
        "before_step": True,
        "harm": False,
        "after_step": False,
        "evaluated": False,
    }
