"""Promises: checks that take what makes a run's plugins, and raise AssertionError on a difference."""

from collections.abc import Callable, Generator, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.hooks.catalog import needs_whole_batches, strengths
from regkit.hooks.spec import DECIDE, hookimpl
from regkit.model.built import merge
from regkit.tasks.task import Task
from regkit.testing.observers import Probe, Snapshot, exactly, gradients_of, same_weights
from regkit.testing.tiny import STEPS, Plugins, measured, tiny_run, tiny_tasks, tiny_trainer, unscored
from regkit.training.effects import SHARE, summary
from regkit.training.loop import Trainer
from regkit.training.stages import collect_stages, prepare

Factory = Callable[[], Plugins]
Tasks = Callable[[], Sequence[Task]]


def resume_is_exact(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 1: a run stopped and resumed has the weights of the run that never stopped."""
    whole = tiny_trainer(factory(), tasks=tasks())
    whole.train()
    stop = Snapshot(after=STEPS // 2, ends=True)
    first = tiny_trainer(factory(), tasks=tasks(), observers=[stop])
    stop.trainer = first
    first.train()
    second = tiny_trainer(factory(), tasks=tasks())
    second.model.load_state_dict(stop.model)
    second.state.load(stop.training)
    second.train()
    same_weights(second, whole)


def draws_are_its_own(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 1: the plugin changes neither what others draw nor the order of the data."""
    alone, beside = Probe(), Probe()
    tiny_trainer({"probe": alone}, tasks=unscored(tasks())).train()
    tiny_trainer({"probe": beside, **factory()}, tasks=unscored(tasks())).train()
    for place in alone.drawn.keys() & beside.drawn.keys():  # a scheduler may choose another task
        assert alone.drawn[place] == beside.drawn[place], f"another plugin draws other numbers at {place}"
    for task in alone.rows.keys() & beside.rows.keys():
        for number, (one, other) in enumerate(zip(alone.rows[task].values(), beside.rows[task].values(), strict=False)):
            assert one == other, f"batch {number} of task '{task}' became {other} instead of {one}"


def micro_batches_do_not_show(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 4: batches cut into micro-batches give the same gradients, dropout off.

    In float64, where rounding is not taken for a difference; but a plugin may hold a copy of the model in float32. A plugin
    that needs whole batches gets no others.
    """
    if any(needs_whole_batches(plugin) for plugin in factory().values()):
        return
    for task in tasks():
        whole, parts = (_cut_gradients(factory, tasks, task, tokens) for tokens in (10_000, 12))
        small = 1e-6 * max(float(gradient.abs().max()) for gradient in whole.values())
        for name, gradient in whole.items():
            said = f"{task.name}, {name}: {{}}".format
            torch.testing.assert_close(parts[name], gradient, rtol=1e-5, atol=small, msg=said)


def _cut_gradients(factory: Factory, tasks: Tasks, task: Task, tokens: int) -> dict[str, Tensor]:
    """Compute the gradients of a batch in float64, in micro-batches of at most so many tokens."""
    trainer = tiny_trainer(factory(), tasks=tasks(), dropout=0.0)
    trainer.model.double()
    return gradients_of(trainer, task, tokens)


def extra_passes_leave_no_trace(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 6: before the backward pass, losses change no gradient, mode or random state."""
    trainer = tiny_trainer(factory(), tasks=tasks())
    trainer.model.train()
    *_, (stage, prepared) = collect_stages(trainer.hook, trainer.tasks)
    prepare(trainer.hook, trainer.model, stage, prepared)
    modes = [module.training for module in trainer.model.modules()]
    weights = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    for task in tasks():
        state = torch.get_rng_state()
        trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2], keys=[7, 8, 9]))
        assert torch.equal(torch.get_rng_state(), state), "the random state differs"
        assert [module.training for module in trainer.model.modules()] == modes, "a module's mode differs"
        for name, parameter in trainer.model.named_parameters():
            assert parameter.grad is None, f"{name} has a gradient"
            assert torch.equal(parameter, weights[name]), f"{name} differs"


def strength_zero_is_no_plugin(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 3: with every strength at 0, a run is that of no plugin, bit for bit.

    Strengths are the options in the class attribute `neutral`, each with the value that alone makes the plugin do nothing;
    without one, `weight` at 0. Plugins that have neither, such as schedulers, are left out.
    """
    plugins = {name: plugin for name, plugin in factory().items() if strengths(plugin)}
    for chosen in range(max((len(strengths(plugin)) for plugin in plugins.values()), default=0)):
        quiet = {name: factory()[name] for name in plugins}
        for plugin in quiet.values():
            values = list(strengths(plugin).items())
            setattr(plugin, *values[chosen % len(values)])
        one, other = (tiny_trainer(each, tasks=unscored(tasks())) for each in (quiet, {}))
        one.train()
        other.train()
        same_weights(one, other)


def contradictions_do_not_start(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 7: a second plugin that decides the same is refused, and both are named."""
    composition = tiny_run(factory(), tasks())[1]
    for name in composition.plugins:
        for hook in composition.hooks_of(name):
            if hook in DECIDE and not composition.wraps(name, hook):
                said = refusal(factory(), hook, tasks())
                assert f"'{name}' and 'rival' both decide {hook}" in said, f"two may decide {hook}"


def refusal(plugins: Plugins, hook: str, tasks: Sequence[Task]) -> str:
    """Return what is said of one more plugin that decides a hook; nothing if the run would start."""
    rival = SimpleNamespace(**{hook: hookimpl(lambda: None)})
    try:
        tiny_run({**plugins, "rival": rival}, tasks)
    except PluginError as error:
        return str(error)
    return ""


def a_skipped_step_leaves_no_trace(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 9: a skipped step changes no weight, no optimizer and no plugin state."""
    spoiler = Spoiler(at=STEPS // 2)
    spoiler.trainer = trainer = tiny_trainer(factory(), tasks=unscored(tasks()), observers=[spoiler])
    trainer.train()
    assert spoiler.before == spoiler.after, "a step that was skipped changed the state of training"
    assert trainer.state.position.step == STEPS, "training did not go on"
    for name, parameter in trainer.model.named_parameters():
        assert parameter.isfinite().all(), f"{name} is not finite"


def merging_changes_no_output(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that modules which are merged into the weights, for other programs, compute the same as before."""
    trainer = tiny_trainer(factory(), tasks=unscored(tasks()))
    if trainer.model.built is None:
        return
    trainer.train()
    model, merged = trainer.model.eval(), merge(trainer.model)
    for task in tasks():
        batch = task.splits["train"].batch([0, 1, 2])
        found, wanted = (each.predict(task, batch, each.embed(batch)) for each in (merged, model))
        torch.testing.assert_close(found, wanted, msg=f"{task.name}: merged, its output differs: {{}}".format)


def effects_are_measured(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 8: a plugin's time, passes and terms are reported; measuring changes no weight."""
    watched, composition, records = measured(factory(), tasks=unscored(tasks()))
    unwatched = tiny_trainer(factory(), tasks=unscored(tasks()))
    unwatched.train()
    same_weights(watched, unwatched)
    found = summary(records)
    assert found["plugins"].keys() == set(composition.in_steps())
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
    merging_changes_no_output,
    effects_are_measured,
)


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
        """Write the training state as text, without the learning rate, which belongs to the step."""
        state = self.trainer.state.capture() | {"model": self.trainer.model.state_dict()}
        groups = [{**group, "lr": 0} for group in state["optimizer"]["param_groups"]]
        return exactly(state | {"position": None, "optimizer": state["optimizer"] | {"param_groups": groups}})
