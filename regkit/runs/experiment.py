"""Experiment: build everything that a run needs from its settings, and check it first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regkit.base.errors import ConfigError, PluginError
from regkit.base.randomness import Streams
from regkit.data.bare import TableSpec
from regkit.data.declare import TaskSpec, read_again
from regkit.data.find import choose, find_tasks
from regkit.data.label_noise import noises
from regkit.data.labels import stated
from regkit.data.load import drawn
from regkit.data.per_task import check_names
from regkit.data.subsample import draws as draws_of
from regkit.distributed.launch import find_device
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks import catalog, option_values, traits
from regkit.hooks.compose import Composition, compose
from regkit.hooks.defaults import Defaults
from regkit.model import Bert, MultitaskModel
from regkit.model.encoders import Loaded
from regkit.model.pooling import made_for, usual
from regkit.model.repeat.repeated import Repeated
from regkit.model.tokenizer import Tokenizer
from regkit.runs import models
from regkit.runs.heads import take_over
from regkit.runs.keeping import check_monitor
from regkit.runs.settings import BY_TASK, Settings
from regkit.runs.shared import Shared
from regkit.tasks.task import FINETUNE, Stage, Task
from regkit.training.auto_weights import AutoWeights, weigh
from regkit.training.fit import Fit
from regkit.training.loop import Trainer
from regkit.training.passes import Passes
from regkit.training.precision import Choice, choose_precision
from regkit.training.stages import collect_stages
from regkit.training.state import State


@dataclass
class Experiment:
    """A run in memory: `experiment.trainer.train()` trains it."""

    settings: Settings
    tokenizer: Tokenizer
    tasks: Sequence[Task]
    model: MultitaskModel
    composition: Composition
    trainer: Trainer
    left_out: Sequence[str]  # tasks of the data that are trained only where they are named
    heads: Mapping[str, str]  # of each head beside the encoder: whether it is used
    precision: Choice
    weights: Path | None = None  # the folder of the encoder's weights; None for a new encoder of the user's own

    @classmethod
    def build(
        cls,
        settings: Settings,
        processes: Processes = ALONE,
        shared: Shared | None = None,
        begun: Path | None = None,
    ) -> "Experiment":
        """Load the encoder and the data, and attach the plugins, in each of the processes of a run.

        What `shared` has loaded for another run is not loaded again. `begun` is the checkpoint that the run goes on from,
        whose folder is the encoder's. Raises RegkitError for whatever does not fit, before any training.
        """
        shared = shared or Shared(keeps=False)
        streams = Streams(settings.seed, find_device(settings.device))
        plugins, auto = _plugins(settings, processes)
        specs, left_out = _specs(settings)
        loaded = shared.encoder(settings, streams, bare=begun is not None)
        tokenizer, encoder, weights = loaded.tokenizer, loaded.encoder, loaded.weights
        tasks = _tasks(settings, specs, loaded, shared)
        own, stage = (tasks, _stage(settings, tasks)) if settings.finetune else ([], None)
        composition = compose(plugins, Defaults(own, stage), streams, _stages_named(settings))
        composition.watch.every = settings.measure_every
        composition.automatic, auto.owners = auto.shares, composition.owners
        tasks = composition.tasks(tasks, tokenizer, encoder)
        rate = 0.1 if settings.dropout is None else settings.dropout
        pooling = settings.pooling or (made_for(weights) if weights else usual(encoder))
        model = MultitaskModel(encoder, tasks, streams, dropout=rate, pooling=pooling)
        heads = take_over(weights, model, own, fresh=settings.fresh_heads) if weights else {}
        if begun:
            models.fill(begun, model, lambda: composition.build(model, tasks))
        else:
            composition.build(model, tasks)
        model.to(streams.device)
        graphs = settings.cuda_graphs is not False
        if graphs and not settings.memory and isinstance(model.encoder, Bert):
            model.encoder.repeated = Repeated()
        precision = choose_precision(settings.precision, model.encoder, streams.device, composition.plugins, processes)
        if begun:
            precision = replace(precision, why="as the run began")
        trainer = Trainer(
            Passes(model, composition.hook, streams, precision.type, composition.in_steps(), radii=composition.radii),
            State(model, composition.hook, streams, plugins, composition.acts),
            tasks,
            Fit.on(model, settings.micro_batch_tokens, settings.memory, bucketing=settings.length_bucketing),
            processes,
            clip=settings.clip,
            bucketing=settings.length_bucketing,
            max_skipped=settings.max_skipped,
            eval_steps=settings.eval_steps,
            score_first=settings.score_first,
        )
        stages = collect_stages(composition.hook, tasks)
        if not stages:
            raise ConfigError("there is no stage to train: fine-tuning is off, and no plugin adds one.")
        composition.check_stages([stage.name for stage, _ in stages])
        _check_whole_batches(composition, [stage.name for stage, _ in stages], settings, processes)
        check_monitor(settings.monitor, [task for _, trained in stages for task in trained])
        found = {
            "micro_batch_tokens": trainer.fit.micro_batch_tokens,
            "precision": precision.format,
            "cuda_graphs": graphs,
        }
        settings = _resolved(settings, specs, tasks, plugins).model_copy(update={"pooling": pooling, **found})
        return cls(settings, tokenizer, tasks, model, composition, trainer, left_out, heads, precision, weights)


def _plugins(settings: Settings, processes: Processes) -> tuple[dict[str, Any], AutoWeights]:
    """Make the plugins, and outermost what weighs terms by their share of the gradient, if any are."""
    plugins = {name: catalog.make(name, options) for name, options in settings.plugins.items()}
    shares = {name: option_values.share(name, options) for name, options in settings.plugins.items()}
    return weigh(plugins, {name: share for name, share in shares.items() if share}, processes)


def _stages_named(settings: Settings) -> dict[str, list[str]]:
    """Find the plugins that are told in which stages to act."""
    found = {name: option_values.acts_in(name, options) for name, options in settings.plugins.items()}
    return {name: stages for name, stages in found.items() if stages is not None}


def _specs(settings: Settings) -> tuple[dict[str, TaskSpec], list[str]]:
    """Find the run's tasks in its data, and those of the data that are trained only where they are named."""
    found = find_tasks(settings.data, settings.given) if settings.data or settings.finetune else {}
    for name in BY_TASK:  # a task of the data that this run leaves out may be named all the same
        check_names(name, getattr(settings, name), found)
    specs = read_again(choose(found, settings.tasks), settings.labels, settings.pair_mode)
    return specs, [name for name in found if name not in specs and settings.tasks is None]


def _tasks(settings: Settings, specs: Mapping[str, TaskSpec], loaded: Loaded, shared: Shared) -> list[Task]:
    """Read the tasks, and draw what is trained on."""
    draws, noise = draws_of(settings.subsample, settings.seed), noises(settings.label_noise, settings.seed)
    longest = min(settings.max_length or loaded.encoder.longest, loaded.encoder.longest)
    read = {
        name: shared.task(name, spec, loaded.tokenizer, longest, settings.batch_size) for name, spec in specs.items()
    }
    return [drawn(task, draws.get(name), noise.get(name)) for name, task in read.items()]


def _check_whole_batches(
    composition: Composition, stages: Sequence[str], settings: Settings, processes: Processes
) -> None:
    """Raise PluginError if a plugin needs whole batches in one of the stages, and the run must cut them."""
    for name, plugin in composition.plugins.items():
        if traits.needs_whole_batches(plugin) and any(composition.acts(name, stage) for stage in stages):
            if processes.count > 1:
                raise PluginError(f"'{name}' needs whole batches, and several processes share each; train with one.")
            if settings.memory:
                raise PluginError(
                    f"'{name}' needs whole batches, and a bound on memory cuts them; leave out one of both."
                )


def _resolved(
    settings: Settings, specs: Mapping[str, TaskSpec], tasks: Sequence[Task], plugins: Mapping[str, object]
) -> Settings:
    """Complete the settings: tasks are named, guesses kept, and options as the plugins have them."""
    options = {name: option_values.chosen(name, plugins[name], given) for name, given in settings.plugins.items()}
    read = {task.name: stated(task.objective) for task in tasks if task.name in specs and specs[task.name].is_open}
    update: dict[str, Any] = {"tasks": list(specs), "labels": settings.labels | read, "plugins": options}
    for spec in specs.values():
        if isinstance(spec, TableSpec):
            update |= {"text": list(spec.text_columns), "label": spec.label}
    return settings.model_copy(update=update)


def _stage(settings: Settings, tasks: Sequence[Task]) -> Stage:
    return Stage(
        FINETUNE,
        [task.name for task in tasks],
        epochs=settings.epochs,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
    )
