"""Plan: what a run is going to do, printed before it does it."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from regkit.base.errors import PluginError
from regkit.hooks.compose import Composition, compose
from regkit.hooks.defaults import Defaults
from regkit.hooks.spec import Hooks, hookimpl
from regkit.hooks.stopwatch import CORE
from regkit.model import MultitaskModel
from regkit.model.modes import mode
from regkit.runs.experiment import Experiment
from regkit.tasks.task import Stage, Task
from regkit.training.effects import Meter
from regkit.training.estimate import in_words
from regkit.training.loop import Trainer
from regkit.training.stages import collect_stages, make_optimizer, measure_length, prepare
from regkit.training.update import Update

TRIED = 4  # examples of the batch on which a step is tried


def print_plan(console: Console, lines: Sequence[str]) -> None:
    """Print the lines as they are."""
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def plan(experiment: Experiment) -> list[str]:
    """Describe encoder, tasks, plugins with the hooks they answer, and the number of updates."""
    settings, trainer = experiment.settings, experiment.trainer
    size = sum(parameter.numel() for parameter in experiment.model.parameters()) / 1e6
    kind = "bf16" if trainer.passes.precision == torch.bfloat16 else "fp32"
    name, device = settings.encoder or "the demo (MiniLM)", trainer.streams.device
    lines = [f"encoder: {name}, {size:.1f} M parameters, on {device} in {kind}"]
    if trainer.processes.count > 1:
        lines.append(f"processes: {trainer.processes.count}, each with its share of every batch")
    for task in trainer.tasks:
        lines += _task(task)
        if task.head_names:
            lines.append(f"  its head is {'that of the checkpoint' if task.name in experiment.known_heads else 'new'}")
    lines += [f"task {name}: found, not trained; --tasks would name it" for name in experiment.left_out]
    for name, plugin in experiment.composition.plugins.items():
        chosen = ", ".join(f"{key}={value}" for key, value in vars(plugin).items() if key in settings.plugins[name])
        hooks = ", ".join(experiment.composition.hooks_of(name))
        named = experiment.composition.attached[name].named
        where = f", in {' and '.join(named)}" if named is not None else ""
        lines.append(f"plugin {name}{f' ({chosen})' if chosen else ''}: answers {hooks}{where}")
    for stage, tasks in collect_stages(trainer.hook, trainer.tasks):
        epoch, total = measure_length(trainer.hook, trainer.streams, stage, tasks)
        lines.append(
            f"stage {stage.name}: {total} updates, {epoch} an epoch, peak learning rate {stage.learning_rate:g}"
        )
        lines += _epoch(experiment, stage, tasks)
    return lines


def _epoch(experiment: Experiment, stage: Stage, tasks: Sequence[Task]) -> list[str]:
    """Say how often each task is trained in the first epoch, by asking the scheduler for every step.

    PluginError where a plugin combines gradients, and no step has several.
    """
    steps = first_epoch(experiment.trainer, stage, tasks)
    batches = Counter(name for names in steps for name in names)
    together = max(map(len, steps))
    composition = experiment.composition
    here = [name for name in composition.plugins if composition.acts(name, stage.name)]
    surgeons = [name for name in here if "combine_gradients" in composition.hooks_of(name)]
    schedulers = [name for name in composition.deciders("choose_tasks") if name in here]
    if surgeons and together == 1:
        instead = "".join(f" instead of '{name}'" for name in schedulers if name != "rrobin")
        share = f"let several share a step: --plugin rrobin:per_step={len(tasks)}{instead}"
        remedy = share if len(tasks) > 1 else "leave it out"
        raise PluginError(f"'{surgeons[0]}' looks at the gradients of several tasks, but every step has one; {remedy}.")
    lines = [f"  {_seen(task, batches[task.name], len(steps))}" for task in tasks]
    if len(tasks) == 1 and schedulers:
        lines.append(f"  there is one task only: '{schedulers[0]}' has nothing to choose from")
    return lines


def first_epoch(trainer: Trainer, stage: Stage, tasks: Sequence[Task]) -> list[list[str]]:
    """List the names of the tasks of each step of the first epoch, or of the stage where that is shorter."""
    steps = []
    length = measure_length(trainer.hook, trainer.streams, stage, tasks)
    for step in range(min(length)):
        with trainer.streams.at(stage.name, step):
            chosen = trainer.hook.choose_tasks(tasks=tasks, step=step, total_steps=length.total)
            steps.append([task.name for task in chosen])
    return steps


def _seen(task: Task, batches: int, steps: int) -> str:
    share = batches / task.batches
    if not batches:
        seen = "scored, but not trained"
    elif share < 1:
        seen = f"{100 * share:.3g} % of its examples, the others left out"
    else:
        seen = "every example once" if share == 1 else f"every example {share:.3g} times"
    return f"{task.name}: in {batches} of the first {steps} updates; {seen}"


def _task(task: Task) -> list[str]:
    mode = f", {task.pair_mode.replace('_', '-')}" if task.pair_mode else ""
    sizes = ", ".join(f"{len(examples)} {split}" for split, examples in task.splits.items())
    lines = [f"task {task.name}: {task.objective.kind}{mode}; {sizes}; batches of {task.batch_size}"]
    for split, examples in task.splits.items():
        if examples.cut:
            share = 100 * examples.cut / len(examples)
            lines.append(
                f"  {examples.cut} {split} texts ({share:.2g} %) are longer than the encoder reads, and were cut"
            )
    return lines + [f"  {note}" for note in task.notes]


def details(experiment: Experiment) -> list[str]:
    """Describe who answers which hook, the loss as a formula, and what a step costs.

    A step of each task is tried on a few examples. That changes model and plugins: nothing may be trained afterwards.
    """
    trainer, composition = experiment.trainer, experiment.composition
    lines = _answers(composition)
    for stage, tasks in collect_stages(trainer.hook, trainer.tasks):
        with trainer.streams.at(stage.name):
            lines += _steps(experiment, stage, tasks)
    return lines


def _steps(experiment: Experiment, stage: Stage, tasks: Sequence[Task]) -> list[str]:
    """Describe a step of each task, in one line for all tasks whose steps are alike."""
    trainer, composition = experiment.trainer, experiment.composition
    nothing = compose({}, Defaults(tasks, stage), trainer.streams)
    compared = tasks if composition.plugins else []
    plain = {
        task.name: Trial.of(experiment, nothing, stage, task) for task in compared
    }  # before plugins change modules
    meter = Meter(trainer.state, composition, experiment.settings.measure_every)
    composition.observe(meter)  # an update that it measures takes most
    prepare(trainer.hook, trainer.model, stage, tasks)
    sizes = _micro_batches(trainer, stage, tasks) if trainer.fit.memory else []
    composition.ignore(meter)
    alike: dict[str, list[str]] = {}  # tasks by what is said of their steps
    for task in tasks:
        trial = Trial.of(experiment, composition, stage, task)
        ratio = trial.operations / plain.get(task.name, trial).operations
        said = (
            f"{_formula(trial.terms, composition)}; {_passes(trial.passes)}; {ratio:.1f} times the operations of plain"
        )
        alike.setdefault(said, []).append(task.name)
    return sizes + [f"step of {', '.join(names)}: loss = {said}" for said, names in alike.items()]


def _micro_batches(trainer: Trainer, stage: Stage, tasks: Sequence[Task]) -> list[str]:
    trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
    tokens = trainer.fit.estimate(trainer.state, trainer.passes, tasks, trainer.processes)
    bound = in_words(trainer.fit.memory or 0)
    return [f"micro-batches of {stage.name}: at most {tokens} tokens, to stay within {bound}"]


def _answers(composition: Composition) -> list[str]:
    """List every hook that a plugin answers, in the loop's order, with those plugins in their order."""
    lines = []
    for hook in (name for name in vars(Hooks) if not name.startswith("_")):
        names = [name for name in composition.plugins if hook in composition.hooks_of(name)]
        if names:
            around = [f"{name} (around)" if composition.wraps(name, hook) else name for name in names]
            lines.append(f"hook {hook}: {', '.join(around)}")
    return lines


def _formula(terms: Mapping[str, Tensor], composition: Composition) -> str:
    """Write the loss, `task + 1 x smart + 5 x bregman`: a factor is the weight of the plugin of that name."""
    factors = {name: getattr(composition.plugins.get(name), "weight", None) for name in terms}
    return " + ".join(name if factor is None else f"{factor:g} x {name}" for name, factor in factors.items())


def _passes(passes: Mapping[str, int]) -> str:
    extra = [f", {count} by {name}" for name, count in passes.items() if name != CORE]
    return f"forward passes: {passes[CORE]} clean{''.join(extra)}"


def _optimizer(model: MultitaskModel, stage: Stage, composition: Composition) -> torch.optim.Optimizer:
    """Make the optimizer only if a plugin looks at it: torch imports its compiler for it, for 1.5 s."""
    hooks = {hook for name in composition.plugins for hook in composition.hooks_of(name)}
    if hooks & {"make_optimizer", "before_step"}:
        optimizer: torch.optim.Optimizer = composition.hook.make_optimizer(model=model, stage=stage)
        return optimizer
    return Unmade(model)


class Unmade(torch.optim.Optimizer):
    """Stand in for an optimizer of which only `zero_grad` is called."""

    def __init__(self, model: MultitaskModel) -> None:
        self.model = model
        self.param_groups = []

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.model.zero_grad(set_to_none)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the operations in matrix products as FlopCounterMode does, which imports torch's compiler."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here; to skip the compiler, torch would import it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=result)
        return result


@dataclass
class Trial:
    """Observe one update on a few examples of one task; the weights stay as they are."""

    composition: Composition
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    passes: Mapping[str, int] = field(default_factory=dict)
    operations: float = 0.0  # multiplications and additions in matrix products, backward passes included

    @classmethod
    def of(cls, experiment: Experiment, composition: Composition, stage: Stage, task: Task) -> "Trial":
        """Try a step, but without the optimizer's update."""
        trainer, trial = experiment.trainer, cls(composition)
        rows = list(range(min(TRIED, len(task.splits["train"]))))
        optimizer = _optimizer(trainer.model, stage, composition)
        chosen = [(task, [task.splits["train"].batch(rows, keys=rows)])]
        update = Update(replace(trainer.passes, hook=composition.hook), optimizer, chosen)
        composition.observe(trial)
        composition.stopwatch.start()
        with trainer.streams.at(stage.name, 0), mode(trainer.model, training=True), Operations() as operations:
            update.compute()
            composition.hook.before_step(model=trainer.model, optimizer=optimizer, recompute=update.compute)
        trial.terms = update.losses[task.name]
        composition.ignore(trial)
        trial.passes, trial.operations = composition.stopwatch.passes, float(operations.count)
        return trial

    @hookimpl(wrapper=True)
    def predict(self) -> Generator[None, Tensor, Tensor]:
        """Count a forward pass."""
        self.composition.stopwatch.count()
        return (yield)
