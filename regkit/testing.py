"""Testing: regkit's promises as checks, on a tiny model, for the tests of any plugin.

    import pytest
    from regkit.testing import PROMISES

    @pytest.mark.parametrize("promise", PROMISES)
    def test_promise(promise):
        promise(lambda: {"mine": Mine(weight=0.5)})

Each check takes a factory: a function that makes the plugins of a run, by name, afresh at every call. It raises
AssertionError with what differed. A second argument, a function that makes tasks, is for plugins that cannot handle all of
`tiny_tasks`.
"""

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor

from regkit.batch import Batch
from regkit.catalog import strengths
from regkit.compose import Composition, compose
from regkit.data.order import Feed
from regkit.defaults import Defaults
from regkit.effects import SHARE, Meter, Record, summary
from regkit.errors import PluginError
from regkit.gradients import Gradients
from regkit.hookspecs import DECIDE, hookimpl
from regkit.model import Bert, BertConfig, MultitaskModel
from regkit.objectives import Binary, Classification, Objective, Regression
from regkit.processes import ALONE, Processes
from regkit.randomness import Streams
from regkit.sharding import agreed, shard, whole
from regkit.tasks import FINETUNE, Examples, PairMode, Stage, Task
from regkit.tokenizer import Tokenizer
from regkit.training import Trainer

Plugins = Mapping[str, Any]
Factory = Callable[[], Plugins]
Tasks = Callable[[], Sequence[Task]]

TINY = BertConfig(
    vocab_size=97,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    initializer_range=0.2,  # large enough for a few steps to matter
)
STEPS = 6


def tiny_task(
    name: str, objective: Objective, pair_mode: PairMode | None = None, *, size: int = 24, batch_size: int = 5
) -> Task:
    """A task of random tokens in sequences of 3 to 14, with labels that depend on the first token."""
    random = np.random.default_rng(sum(map(ord, name)))
    sides = 2 if pair_mode == "bi_encoder" else 1
    lengths = random.integers(3, 15, size * sides)
    tokens = random.integers(1, TINY.vocab_size, lengths.sum())
    starts = np.cumsum(lengths) - lengths
    segments = np.concatenate([np.arange(n) >= n // 2 for n in lengths]) if pair_mode == "cross_encoder" else 0 * tokens
    share = tokens[starts[::sides]] / TINY.vocab_size
    if isinstance(objective, Regression):
        labels = torch.tensor(objective.low + (objective.high - objective.low) * share, dtype=torch.float32)
    else:
        labels = torch.tensor(share * (objective.width if objective.width > 1 else 2)).long()
    examples = Examples(
        tokens=tokens.astype(np.int32),
        segments=segments.astype(np.int8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=labels,
        sides=sides,
        ids=[str(row) for row in range(size)],
    )
    return Task(name, objective, {"train": examples, "dev": examples}, pair_mode, batch_size)


def tiny_tokenizer() -> Tokenizer:
    """A vocabulary of the size of the tiny model's: special tokens, and then numbers."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + [str(number) for number in range(TINY.vocab_size - len(special))]
    backend = Backend(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = BertPreTokenizer()
    return Tokenizer(backend)


def tiny_tasks() -> list[Task]:
    """One task of each objective, and of each way to read a pair."""
    return [
        tiny_task("classes", Classification(3)),
        tiny_task("binary", Binary(), "cross_encoder", size=18),
        tiny_task("score", Regression(0, 5), "cross_encoder", size=13),
        tiny_task("cosine", Regression(0, 5), "bi_encoder", size=16),
        tiny_task("features", Binary(), "bi_encoder", size=16),
    ]


def tiny_trainer(
    plugins: Plugins,
    *,
    tasks: Sequence[Task] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    dropout: float = 0.1,
    budget: int = 10_000,
    observers: Sequence[object] = (),
    stages: Mapping[str, Sequence[str]] | None = None,
    processes: Processes = ALONE,
) -> Trainer:
    """A trainer of a fresh tiny model on tiny tasks; `trainer.train()` takes a moment.

    `stages` says where some of the plugins act, as their option of that name does.
    """
    trainer, composition = _tiny(plugins, tasks, steps, seed, dropout, budget, stages, processes)
    for observer in observers:
        composition.observe(observer)
    return trainer


def measured(
    plugins: Plugins, *, tasks: Sequence[Task] | None = None, every: int = 1, budget: int = 10_000
) -> tuple[Trainer, Composition, list[Record]]:
    """A tiny run with the effect meter on: the trainer when it is done, and the records of the measured steps."""
    trainer, composition = _tiny(plugins, tasks, budget=budget)
    meter = Meter(trainer, composition, every)
    log = MeterLog(meter)
    composition.observe(log)
    composition.observe(meter)
    trainer.train()
    return trainer, composition, log.records


def _tiny(
    plugins: Plugins,
    tasks: Sequence[Task] | None,
    steps: int = STEPS,
    seed: int = 0,
    dropout: float = 0.1,
    budget: int = 10_000,
    stages: Mapping[str, Sequence[str]] | None = None,
    processes: Processes = ALONE,
) -> tuple[Trainer, Composition]:
    tasks = tiny_tasks() if tasks is None else tasks
    streams = Streams(seed)
    with streams.seeded("encoder"):
        encoder = Bert(replace(TINY, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout))
    stage = Stage(FINETUNE, [task.name for task in tasks], steps=steps, learning_rate=1e-2)
    composition = compose(plugins, Defaults(tasks, stage), streams, stages)
    tasks = composition.tasks(tasks, tiny_tokenizer(), encoder)
    model = MultitaskModel(encoder, tasks, streams, dropout=dropout)
    if processes.sharded:
        shard(encoder.layers, processes.device, processes.count)
    gradients = Gradients(model, composition.hook, streams, processes=processes)
    return Trainer(gradients, tasks, budget=budget, plugins=plugins, acts=composition.acts), composition


def same_weights(one: Trainer, other: Trainer) -> None:
    """AssertionError where a parameter differs in a single bit."""
    theirs = dict(other.model.named_parameters())
    for name, parameter in one.model.named_parameters():
        assert torch.equal(parameter, theirs[name]), f"{name} differs"


def resume_is_exact(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 1: a run stopped in the middle and resumed has the weights of the run that never stopped."""
    whole = tiny_trainer(factory(), tasks=tasks())
    whole.train()
    stop = Snapshot(after=STEPS // 2)
    first = tiny_trainer(factory(), tasks=tasks(), observers=[stop])
    stop.trainer = first
    first.train()
    second = tiny_trainer(factory(), tasks=tasks())
    second.model.load_state_dict(stop.model)
    second.load_state_dict(stop.training)
    second.train()
    same_weights(second, whole)


def draws_are_its_own(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 1: with the plugin or without, others draw the same numbers, and the data comes in the same order."""
    alone, beside = Probe(), Probe()
    tiny_trainer({"probe": alone}, tasks=tasks()).train()
    tiny_trainer({"probe": beside, **factory()}, tasks=tasks()).train()
    for place in alone.drawn.keys() & beside.drawn.keys():  # a scheduler may choose another task
        assert alone.drawn[place] == beside.drawn[place], f"another plugin draws other numbers at {place}"
    for task in alone.rows.keys() & beside.rows.keys():
        for number, (one, other) in enumerate(zip(alone.rows[task].values(), beside.rows[task].values(), strict=False)):
            assert one == other, f"batch {number} of task '{task}' became {other} instead of {one}"


def micro_batches_do_not_show(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 4: whole batches and batches cut into micro-batches give the same gradients, dropout off."""
    for task in tasks():
        whole = gradients_of(tiny_trainer(factory(), tasks=tasks(), dropout=0.0), task, budget=10_000)
        parts = gradients_of(tiny_trainer(factory(), tasks=tasks(), dropout=0.0), task, budget=12)
        small = 1e-6 * max(float(gradient.abs().max()) for gradient in whole.values())
        for name, gradient in whole.items():
            said = f"{task.name}, {name}: {{}}".format
            torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=small, msg=said)


def gradients_of(trainer: Trainer, task: Task, budget: int) -> dict[str, Tensor]:
    """The gradients of the task's second batch, in micro-batches of at most `budget` tokens, as a step would see them."""
    *_, (stage, tasks) = trainer.stages()
    trainer.prepare(stage, tasks)
    optimizer = trainer.make_optimizer(stage)
    chosen = [(task, Feed(task, 0, stage.name).micro_batches(1, budget, trainer.processes.count))]
    trainer.model.train()
    with trainer.streams.at(stage.name, 0):
        compute = partial(trainer.gradients.compute, optimizer, chosen)
        compute()
        with agreed():
            trainer.hook.before_step(model=trainer.model, optimizer=optimizer, recompute=compute)
    found = {name: whole(parameter.grad) for name, parameter in trainer.model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def extra_passes_leave_no_trace(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 6: before the backward pass, a plugin's losses change no gradient, no mode and no random state."""
    trainer = tiny_trainer(factory(), tasks=tasks())
    trainer.model.train()
    *_, (stage, prepared) = trainer.stages()
    trainer.prepare(stage, prepared)
    modes = [module.training for module in trainer.model.modules()]
    weights = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    for task in tasks():
        state = torch.get_rng_state()
        trainer.gradients.losses(task, task.splits["train"].batch([0, 1, 2], keys=[7, 8, 9]))
        assert torch.equal(torch.get_rng_state(), state), "the random state differs"
        assert [module.training for module in trainer.model.modules()] == modes, "a module's mode differs"
        for name, parameter in trainer.model.named_parameters():
            assert parameter.grad is None, f"{name} has a gradient"
            assert torch.equal(parameter, weights[name]), f"{name} differs"


def strength_zero_is_no_plugin(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 3: with every plugin's strength at 0, a run is that of no plugin, bit for bit.

    Strengths are the options in the class attribute `neutral`, each with the value that alone makes the plugin do nothing;
    without one, `weight` at 0. Plugins that have neither, such as schedulers, are left out.
    """
    plugins = {name: plugin for name, plugin in factory().items() if strengths(plugin)}
    for chosen in range(max((len(strengths(plugin)) for plugin in plugins.values()), default=0)):
        quiet = {name: factory()[name] for name in plugins}
        for plugin in quiet.values():
            values = list(strengths(plugin).items())
            setattr(plugin, *values[chosen % len(values)])
        one, other = tiny_trainer(quiet, tasks=tasks()), tiny_trainer({}, tasks=tasks())
        one.train()
        other.train()
        same_weights(one, other)


def contradictions_do_not_start(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 7: whatever the plugin decides, another that decides it too is refused, and both are named."""
    composition = _tiny(factory(), tasks())[1]
    for name in composition.plugins:
        for hook in composition.hooks_of(name):
            if hook in DECIDE and not composition.wraps(name, hook):
                said = refusal(factory(), hook, tasks())
                assert f"'{name}' and 'rival' both decide {hook}" in said, f"two may decide {hook}"


def refusal(plugins: Plugins, hook: str, tasks: Sequence[Task]) -> str:
    """What is said where one more plugin decides a hook; nothing where the run would start."""
    rival = SimpleNamespace(**{hook: hookimpl(lambda: None)})
    try:
        _tiny({**plugins, "rival": rival}, tasks)
    except PluginError as error:
        return str(error)
    return ""


def a_skipped_step_leaves_no_trace(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 9: where a loss is not finite, weights, optimizer and plugin state are what they were before the step."""
    spoiler = Spoiler(at=STEPS // 2)
    spoiler.trainer = trainer = tiny_trainer(factory(), tasks=tasks(), observers=[spoiler])
    trainer.train()
    assert spoiler.before == spoiler.after, "a step that was skipped changed the state of training"
    assert trainer.position.step == STEPS, "training did not go on"
    for name, parameter in trainer.model.named_parameters():
        assert parameter.isfinite().all(), f"{name} is not finite"


def effects_are_measured(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Promise 8: the time, the passes and every term of a plugin are reported, and measuring changes no weight."""
    watched, composition, records = measured(factory(), tasks=tasks())
    unwatched = tiny_trainer(factory(), tasks=tasks())
    unwatched.train()
    same_weights(watched, unwatched)
    found = summary(records)
    assert found["plugins"].keys() == composition.plugins.keys()
    assert found["terms"].keys() == {"task"} | composition.owners.keys()
    assert sum(term[SHARE] for term in found["terms"].values()) > 0.99


PROMISES: tuple[Callable[..., None], ...] = (
    resume_is_exact,
    draws_are_its_own,
    micro_batches_do_not_show,
    extra_passes_leave_no_trace,
    strength_zero_is_no_plugin,
    contradictions_do_not_start,
    a_skipped_step_leaves_no_trace,
    effects_are_measured,
)


class MeterLog:
    """An observer that keeps what the meter finds, as a run's recorder does."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.records: list[Record] = []

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        if found := self.meter.finish():
            self.records.append(found)


class Snapshot:
    """An observer that keeps the state after some steps."""

    trainer: Trainer

    def __init__(self, after: int) -> None:
        self.after = after
        self.model: dict[str, Tensor] = {}
        self.training: dict[str, Any] = {}

    @hookimpl(trylast=True)
    def after_step(self, step: int) -> None:
        if step + 1 == self.after:
            self.model = {name: tensor.clone() for name, tensor in self.trainer.model.state_dict().items()}
            self.training = copy.deepcopy(self.trainer.state_dict())


class Spoiler:
    """An observer that makes the losses of one step infinite, and keeps the state around it."""

    trainer: Trainer

    def __init__(self, at: int) -> None:
        self.at = at
        self.now = False
        self.before, self.after = "before", "never"

    @hookimpl(wrapper=True)
    def choose_tasks(self, step: int) -> Generator[None, Sequence[Task], Sequence[Task]]:
        self.now = step == self.at
        if self.now:
            self.before = self._state()
        return (yield)

    @hookimpl(wrapper=True)
    def task_loss(self) -> Generator[None, Tensor, Tensor]:
        loss = yield
        return loss * float("inf") if self.now else loss

    @hookimpl(trylast=True)
    def skipped(self) -> None:
        self.after = self._state()

    def _state(self) -> str:
        """Every number of the training state but the learning rate, which is the step's, as text."""
        state = self.trainer.state_dict() | {"model": self.trainer.model.state_dict()}
        groups = [{**group, "lr": 0} for group in state["optimizer"]["param_groups"]]
        return exactly(state | {"position": None, "optimizer": state["optimizer"] | {"param_groups": groups}})


def exactly(value: Any) -> str:
    """Every bit of a nesting of dicts, lists, tensors and plain values, as text that can be compared."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {value.tolist()}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {exactly(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(exactly, value))}]"
    return repr(value)


class Probe:
    """A plugin that notes what it draws at every place, and the batches of every task."""

    def __init__(self) -> None:
        self.step = 0
        self.drawn: dict[tuple[int, str], float] = {}  # by step and task
        self.rows: dict[str, dict[int, tuple[int, ...]]] = {}  # of each batch, by task and step

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch) -> Mapping[str, Tensor]:
        self.drawn[self.step, task.name] = float(torch.rand(()))
        self.rows.setdefault(task.name, {})[self.step] = batch.rows
        return {}

    @hookimpl
    def after_step(self, step: int) -> None:
        self.step = step + 1
