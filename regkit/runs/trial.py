"""Trial: try a step of each task on a few examples, and count what it costs."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean

from torch import Tensor

from regkit.base.operations import Operations
from regkit.hooks.compose import Composition, compose
from regkit.hooks.defaults import Defaults
from regkit.hooks.spec import hookimpl
from regkit.model.modes import mode
from regkit.runs.experiment import Experiment
from regkit.tasks.task import Stage, Task
from regkit.training.effects import Meter
from regkit.training.stages import check_surgery, collect_stages, make_optimizer, prepare
from regkit.training.update import Update

TRIED = 4  # examples of the batch on which a step is tried


@dataclass(frozen=True)
class StageTrial:
    """What a step of each task of a stage is made of, and what it costs."""

    stage: Stage
    tasks: Sequence[Task]
    micro_batch_tokens: int | None = None  # how many fit into the bound on memory; None without a bound
    steps: "Mapping[str, tuple[Trial, float]]" = field(default_factory=dict)  # by task, with its operations over those
    # of a plain one; none where nothing is to be tried: a plain step is what others are compared with


def operations(experiment: Experiment) -> float:
    """Count the operations of a step over those of a plain one, as the mean over tasks.

    That changes model and plugins: nothing may be trained afterwards.
    """
    return mean([ratio for tried in try_stages(experiment) for _, ratio in tried.steps.values()] or [1.0])


def try_stages(experiment: Experiment) -> Iterator[StageTrial]:
    """Try a step of each task in each stage; inside the loop, the run stands as before its first update.

    That changes model and plugins: nothing may be trained afterwards.
    """
    trainer = experiment.trainer
    for number, (stage, tasks) in enumerate(collect_stages(trainer.hook, trainer.tasks)):
        trainer.state.enter(number, stage.name)
        trainer.fit.whole = trainer.state.needing_whole_batches()
        with trainer.streams.at(stage.name):
            yield _try_stage(experiment, stage, tasks)


def _try_stage(experiment: Experiment, stage: Stage, tasks: Sequence[Task]) -> StageTrial:
    trainer, composition = experiment.trainer, experiment.composition
    if not composition.plugins and not trainer.fit.memory:
        return StageTrial(stage, tasks)
    trainer.model.encoder.requires_grad_(True)  # a stage before this one may have frozen it
    nothing = compose({}, Defaults(tasks, stage), trainer.streams)
    plain = {task.name: Trial.of(experiment, nothing, stage, task) for task in tasks}  # before plugins change modules
    meter = Meter(trainer.state, composition, experiment.settings.measure_every)
    composition.observe(meter)  # an update that it measures takes most
    prepare(trainer.hook, trainer.model, stage, tasks)
    check_surgery(trainer.state, stage)
    tokens = None
    if trainer.fit.memory:
        trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
        tokens = trainer.fit.estimate(trainer.state, trainer.passes, tasks, trainer.processes)
    composition.ignore(meter)
    tried = {task.name: Trial.of(experiment, composition, stage, task) for task in tasks}
    ratios = {name: (trial, trial.operations / plain[name].operations) for name, trial in tried.items()}
    return StageTrial(stage, tasks, tokens, ratios)


@dataclass
class Trial:
    """Observe one update on a few examples of one task; the weights stay as they are."""

    composition: Composition
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    passes: Mapping[str, float] = field(default_factory=dict)
    operations: float = 0.0  # multiplications and additions in matrix products, backward passes included

    @classmethod
    def of(cls, experiment: Experiment, composition: Composition, stage: Stage, task: Task) -> "Trial":
        """Try a step, but without the optimizer's update."""
        trainer, trial = experiment.trainer, cls(composition)
        tried = task.batch_size if trainer.fit.whole else TRIED
        rows = list(range(min(tried, len(task.splits["train"]))))
        optimizer = composition.hook.make_optimizer(model=trainer.model, stage=stage)
        chosen = [(task, [task.splits["train"].batch(rows, keys=rows)])]
        update = Update(replace(trainer.passes, hook=composition.hook), optimizer, chosen)
        composition.observe(trial)
        composition.stopwatch.start(trainer.model.encoder)
        with trainer.streams.at(stage.name, 0), mode(trainer.model, training=True), Operations() as operations:
            update.compute()
            composition.hook.before_step(model=trainer.model, optimizer=optimizer, recompute=update.compute)
        trial.terms = update.losses[task.name]
        composition.ignore(trial)
        trial.passes, trial.operations = composition.stopwatch.passes, float(operations.count)
        return trial

    @hookimpl(wrapper=True)
    def encode(self) -> Generator[None, Tensor, Tensor]:
        """Count a forward pass."""
        with self.composition.stopwatch.encoding():
            return (yield)
