"""Trial: try a step of each task on a few examples, and say what it is made of and what it costs."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from regkit.hooks.compose import Composition, compose
from regkit.hooks.defaults import Defaults
from regkit.hooks.spec import Hooks, hookimpl
from regkit.hooks.stopwatch import CORE
from regkit.model import MultitaskModel
from regkit.model.modes import mode
from regkit.runs import checkpoint, packing
from regkit.runs.experiment import Experiment
from regkit.tasks.task import Stage, Task
from regkit.training.effects import Meter
from regkit.training.estimate import in_words
from regkit.training.loop import Trainer
from regkit.training.stages import check_surgery, collect_stages, make_optimizer, prepare
from regkit.training.update import Update

TRIED = 4  # examples of the batch on which a step is tried


def details(experiment: Experiment) -> list[str]:
    """Describe who answers which hook, the loss as a formula, and what a step costs.

    A step of each task is tried on a few examples. That changes model and plugins: nothing may be trained afterwards.
    """
    trainer, composition = experiment.trainer, experiment.composition
    lines = _answers(composition)
    for number, (stage, tasks) in enumerate(collect_stages(trainer.hook, trainer.tasks)):
        trainer.state.enter(number, stage.name)
        trainer.fit.whole = trainer.state.needing_whole_batches()
        with trainer.streams.at(stage.name):
            lines += _steps(experiment, stage, tasks)
            packing.check(checkpoint.moment(trainer.state)[1])  # as before the first update of a run
    return lines


def _steps(experiment: Experiment, stage: Stage, tasks: Sequence[Task]) -> list[str]:
    """Describe a step of each task, in one line for all tasks whose steps are alike."""
    trainer, composition = experiment.trainer, experiment.composition
    if not composition.plugins and not trainer.fit.memory:  # nothing to try: this is what steps are compared with
        names = ", ".join(task.name for task in tasks)
        return [f"step of {names}: loss = task; forward passes: 1 clean; 1.0 times the operations of plain"]
    trainer.model.encoder.requires_grad_(True)  # a stage before this one may have frozen it
    nothing = compose({}, Defaults(tasks, stage), trainer.streams)
    plain = {task.name: Trial.of(experiment, nothing, stage, task) for task in tasks}  # before plugins change modules
    meter = Meter(trainer.state, composition, experiment.settings.measure_every)
    composition.observe(meter)  # an update that it measures takes most
    prepare(trainer.hook, trainer.model, stage, tasks)
    check_surgery(trainer.state, stage)
    sizes = _micro_batches(trainer, stage, tasks) if trainer.fit.memory else []
    composition.ignore(meter)
    alike: dict[str, list[str]] = {}  # tasks by what is said of their steps
    for task in tasks:
        trial = Trial.of(experiment, composition, stage, task)
        ratio = trial.operations / plain[task.name].operations
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
        tried = task.batch_size if trainer.fit.whole else TRIED
        rows = list(range(min(tried, len(task.splits["train"]))))
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
