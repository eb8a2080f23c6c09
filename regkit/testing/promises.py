"""Promises: checks that take what makes a run's plugins, and raise AssertionError on a difference."""

from collections.abc import Generator, Iterable, Sequence
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.hooks.spec import DECIDE, hookimpl
from regkit.hooks.traits import needs_whole_batches, strengths
from regkit.model.merging import merge
from regkit.tasks.task import Task
from regkit.testing import causes
from regkit.testing.causes import different, unlike
from regkit.testing.contract import watched
from regkit.testing.observers import Probe, Snapshot, exactly, gradients_of, prepared
from regkit.testing.tiny import STEPS, Plugins, measured, tiny_run, tiny_tasks, tiny_trainer
from regkit.testing.verdicts import Factory, NotApplicableError, Tasks, lean
from regkit.training.effects import SHARE, summary
from regkit.training.loop import Trainer

CUT = 12  # most tokens of a micro-batch: no batch of the tiny tasks fits into one


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
    if name := unlike(second, whole):
        cause = causes.of_a_resumed_run(factory, tasks, STEPS // 2)
        raise AssertionError(f"a resumed run has other weights than one that never stopped ({name}): {cause}")


def draws_are_its_own(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 1: the plugin changes neither what others draw nor the order of the data."""
    alone, beside = Probe(), Probe()
    tiny_trainer({"probe": alone}, tasks=lean(factory, tasks)).train()
    tiny_trainer({"probe": beside, **factory()}, tasks=lean(factory, tasks)).train()
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
    if whole := [name for name, plugin in factory().items() if needs_whole_batches(plugin)]:
        raise NotApplicableError(f"batches are never cut, because '{whole[0]}' says whole_batches")
    for task in tasks():
        uncut, parts = (_cut_gradients(factory, tasks, task, tokens) for tokens in (10_000, CUT))
        small = 1e-6 * max(float(gradient.abs().max()) for gradient in uncut.values())
        for name, gradient in uncut.items():
            if name not in parts or not torch.allclose(parts[name], gradient, rtol=1e-5, atol=small):
                cause = causes.of_a_cut(factory, tasks, task, CUT)
                raise AssertionError(f"micro-batches change the gradient of task '{task.name}' ({name}): {cause}")


def _cut_gradients(factory: Factory, tasks: Tasks, task: Task, tokens: int) -> dict[str, Tensor]:
    """Compute the gradients of a batch in float64, in micro-batches of at most so many tokens."""
    trainer = tiny_trainer(factory(), tasks=tasks(), dropout=0.0)
    trainer.model.double()
    return gradients_of(trainer, task, tokens)


def extra_passes_leave_no_trace(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 6: before the backward pass, losses change no gradient, mode or random state."""
    trainer = tiny_trainer(factory(), tasks=tasks())
    trainer.model.train()
    prepared(trainer)
    modes = [module.training for module in trainer.model.modules()]
    weights = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    for task in tasks():
        state = torch.get_rng_state()
        trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2], keys=[7, 8, 9]).to(trainer.streams.device))
        if not torch.equal(torch.get_rng_state(), state):
            raise AssertionError("computing the loss changes the random state")
        if [module.training for module in trainer.model.modules()] != modes:
            raise AssertionError("computing the loss changes a module's mode")
        for name, parameter in trainer.model.named_parameters():
            if parameter.grad is not None:
                raise AssertionError(f"computing the loss leaves a gradient in {name}")
            if not torch.equal(parameter, weights[name]):
                raise AssertionError(f"computing the loss changes the weight {name}")


def strength_zero_is_no_plugin(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 3: with every strength at 0, a run is that of no plugin, bit for bit.

    Strengths are the options in the class attribute `neutral`, each with the value that alone makes the plugin do nothing;
    without one, `weight` at 0. Plugins that have neither, such as schedulers, are left out.
    """
    plugins = {name: plugin for name, plugin in factory().items() if strengths(plugin)}
    if not plugins:
        raise NotApplicableError("it has no option `weight`, and no class attribute `neutral`")
    for chosen in range(max((len(strengths(plugin)) for plugin in plugins.values()), default=0)):
        quiet = _quiet(factory, plugins, chosen)
        one, other = (tiny_trainer(each, tasks=lean(factory, tasks)) for each in (quiet, {}))
        one.train()
        other.train()
        if name := different(one.model, other.model):
            calls = watched(partial(_quiet, factory, plugins, chosen), tasks).watch.calls
            still = ", ".join(dict.fromkeys(hook for _, hook in calls))
            raise AssertionError(
                f"a run with {_zeros(quiet, chosen)} has other weights than one without the plugin ({name}): at that "
                f"value return nothing, or the answer as it came, in {still}"
            )


def _quiet(factory: Factory, names: Iterable[str], chosen: int) -> Plugins:
    """Make these plugins, one strength of each, by its number, at the value at which it does nothing."""
    made = factory()
    quiet = {name: made[name] for name in names}
    for plugin in quiet.values():
        values = list(strengths(plugin).items())
        object.__setattr__(plugin, *values[chosen % len(values)])  # a frozen one, too
    return quiet


def _zeros(plugins: Plugins, chosen: int) -> str:
    values = [list(strengths(plugin).items()) for plugin in plugins.values()]
    return " and ".join("{}={:g}".format(*each[chosen % len(each)]) for each in values)


def contradictions_do_not_start(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 7: a second plugin that decides the same is refused, and both are named."""
    composition = tiny_run(factory(), tasks())[1]
    decided = {hook: name for hook in DECIDE for name in composition.deciders(hook)}
    if not decided:
        raise NotApplicableError("it decides no hook")
    for hook, name in decided.items():
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
    spoiler.trainer = trainer = tiny_trainer(factory(), tasks=lean(factory, tasks), observers=[spoiler])
    trainer.train()
    changed = [part for part, text in spoiler.before.items() if spoiler.after.get(part) != text]
    assert not changed, (
        f"an update that was skipped has changed {changed[0]}: keep in after_step what is learned from an update; nothing "
        "that a hook before it notes is taken back"
    )
    assert trainer.state.position.step == STEPS, "training did not go on"
    for name, parameter in trainer.model.named_parameters():
        assert parameter.isfinite().all(), f"{name} is not finite"


def merging_changes_no_output(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that modules which are merged into the weights compute the same as before.

    They are merged for other programs.
    """
    trainer = tiny_trainer(factory(), tasks=lean(factory, tasks))
    if trainer.model.built is None:
        raise NotApplicableError("it puts no modules into the model")
    trainer.train()
    model, merged = trainer.model.eval(), merge(trainer.model)
    for task in tasks():
        batch = task.splits["train"].batch([0, 1, 2]).to(trainer.streams.device)
        found, wanted = (each.predict(task, batch, each.embed(batch)) for each in (merged, model))
        torch.testing.assert_close(found, wanted, msg=f"{task.name}: merged, its output differs: {{}}".format)


def effects_are_measured(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check promise 8: a plugin's time, passes and terms are reported; measuring changes no weight."""
    measured_run, composition, records = measured(factory(), tasks=lean(factory, tasks))
    plain = tiny_trainer(factory(), tasks=lean(factory, tasks))
    plain.train()
    if name := different(measured_run.model, plain.model):
        cause = causes.of_two_runs(factory, tasks) or "`measure` changes what it is given"
        raise AssertionError(f"a run that is measured has other weights than one that is not ({name}): {cause}")
    found = summary(records)
    assert found["plugins"].keys() == set(composition.in_steps()), "the plugin's time and passes are not reported"
    assert found["terms"].keys() == {"task"} | composition.owners.keys(), "a term of its loss is not reported"
    assert sum(term[SHARE] for term in found["terms"].values()) > 0.99, "the shares of the gradient are not a whole"


class Spoiler:
    """An observer that makes the losses of one step infinite, and keeps the state around it."""

    trainer: Trainer

    def __init__(self, at: int) -> None:
        self.at = at
        self.now = False
        self.before: dict[str, str] = {}  # by what it is of
        self.after: dict[str, str] = {}

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

    def _state(self) -> dict[str, str]:
        """Write the parts of the training state as text, without the learning rate, which belongs to the step."""
        state = self.trainer.state.capture()
        groups = [{**group, "lr": 0} for group in state["optimizer"]["param_groups"]]
        parts = {f"the state of plugin '{name}'": value for name, value in state["plugins"].items()}
        parts |= {"the optimizer": state["optimizer"] | {"param_groups": groups}}
        parts |= {"a weight": self.trainer.model.state_dict(), "the model beside the evaluated one": state.get("model")}
        return {name: exactly(value) for name, value in parts.items()}
