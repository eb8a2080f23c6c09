"""Plan: what a run is going to do, printed before it does it."""

from collections import Counter
from collections.abc import Sequence

from regkit.base.errors import PluginError
from regkit.base.wording import percent
from regkit.data.weights import lengths_of, weigh
from regkit.hooks import option_values, uninstalled
from regkit.hooks.traits import needs_whole_batches
from regkit.model.adapter import Adapter
from regkit.model.own.encoder import Own
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.tasks.task import Stage, Task, scorable
from regkit.training.caveats import left_out, undefined
from regkit.training.loop import Trainer
from regkit.training.stages import check_surgery, check_weights, collect_stages, measure_length, surgeons

LEARN = {"after_step", "evaluated"}  # hooks in which a scheduler learns, and then may choose other tasks


def code_run() -> list[str]:
    """Say which files the user lets this command run the code of."""
    return [
        f"plugin {name}: running the code of {file.path}, class {file.attr}, sha256 {file.sha256[:12]}"
        for name, file in uninstalled.files().items()
    ]


def plan(experiment: Experiment) -> list[str]:
    """Describe encoder, tasks, plugins with the hooks they answer, and the number of updates."""
    settings, trainer = experiment.settings, experiment.trainer
    size = sum(parameter.numel() for parameter in experiment.model.parameters()) / 1e6
    where = f"on {trainer.streams.device} in {experiment.precision}"
    lines = [f"encoder: {_name(experiment)}, {size:.1f} M parameters, {where}; {_pooled(experiment)}"]
    if isinstance(adapter := experiment.model.encoder, Adapter):
        way = "on packed tokens" if adapter.packed else "with padding inside"
        lines.append(f"  {adapter.family}, run by transformers {way}")
    if trainer.streams.device.type == "cuda" and getattr(experiment.model.encoder, "repeated", None):
        lines.append(
            "  its layers are repeated as CUDA graphs, for batches of a few sizes; --no-cuda-graphs leaves both out"
        )
    lines += _apart(experiment) + _built(experiment)
    lines += [f"  its head of {name}: {said}" for name, said in experiment.heads.items()]
    if trainer.processes.count > 1:
        lines.append(f"processes: {trainer.processes.count}, each with its share of every batch")
    lines.append(_micro_batches(trainer))
    for task in trainer.tasks:
        lines += _task(task, settings.batch_size)
    lines += [f"task {name}: found, not trained; --tasks would name it" for name in experiment.left_out]
    composition = experiment.composition
    for name, plugin in composition.plugins.items():
        given = option_values.chosen(name, plugin, settings.plugins.get(name, {}))
        chosen = ", ".join(f"{key}={value}" for key, value in given.items() if key not in option_values.OF_ALL)
        hooks = ", ".join(composition.hooks_of(name))
        named = composition.attached[name].named
        where = f", in {' and '.join(named) or 'no stage'}" if named is not None else ""
        lines.append(f"plugin {name}{f' ({chosen})' if chosen else ''}: answers {hooks}{where}")
    for stage, tasks in collect_stages(trainer.hook, trainer.tasks):
        epoch, total = measure_length(trainer.hook, trainer.streams, stage, tasks)
        lines.append(
            f"stage {stage.name}: {total} updates, {epoch} an epoch, peak learning rate {stage.learning_rate:g}"
        )
        here = [name for name in composition.plugins if composition.acts(name, stage.name)]
        if whole := [name for name in here if needs_whole_batches(composition.plugins[name])]:
            lines.append(
                f"  batches are not cut into micro-batches: {' and '.join(whole)} need{'s' if len(whole) == 1 else ''} "
                "them whole"
            )
        lines += _epoch(experiment, stage, tasks) + _without_scores(tasks)
        if settings.monitor.rpartition(".")[0] not in stage.tasks:
            lines += _not_counted(tasks)
    return lines


def _name(experiment: Experiment) -> str:
    """Name the encoder, and of one of the user's own what its folder gave."""
    folder = experiment.settings.encoder or "the demo (MiniLM)"
    if not isinstance(own := experiment.model.encoder, Own):
        return folder
    return f"{own.factory} with the {'weights' if experiment.weights else 'tokenizer'} of {folder}"


def _micro_batches(trainer: Trainer) -> str:
    """Say how large micro-batches may be, and what the example that counts most counts as."""
    said = f"micro-batches: at most {trainer.fit.micro_batch_tokens} tokens"
    lengths = max((lengths_of(task.splits["train"]) for task in trainer.tasks), key=lambda each: each.sum(1).max())
    longest = lengths[lengths.sum(1).argmax()]
    counted = int(weigh(longest[None], trainer.fit.square)[0])
    if counted > trainer.fit.micro_batch_tokens:
        said += ", and never less than one example"
    if counted == longest.sum():
        return said
    return f"{said}, where the longest example, of {longest.sum()}, counts as {counted}: attention keeps squares"


POOLED = {
    "pooler": "the pooler's output on [CLS]",
    "cls": "the hidden state of [CLS]",
    "mean": "the mean of its hidden states",
}
POOLED["max"] = "the largest of its hidden states"


def _pooled(experiment: Experiment) -> str:
    model = experiment.model
    fresh = model.pooling == "pooler" and getattr(model.encoder, "fresh_pooler", False)
    return f"a text is {POOLED[model.pooling]}{', which the checkpoint lacks and begins anew' if fresh else ''}"


def _built(experiment: Experiment) -> list[str]:
    """Say which plugins have changed the model's modules, and how many weights they leave to train."""
    model = experiment.model
    if model.built is None:
        return []
    weights = dict(model.named_parameters())
    trained = sum(weight.numel() for name, weight in weights.items() if name not in model.frozen)
    share = percent(trained / max(1, sum(weight.numel() for weight in weights.values())))
    return [f"  built by {' and '.join(model.built.plugins)}: at most {trained} weights are trained, {share} % of all"]


def _apart(experiment: Experiment) -> list[str]:
    """Say of an encoder without segments what tells the two texts of a pair apart."""
    together = any(task.pair_mode == "cross_encoder" for task in experiment.trainer.tasks)
    if not together or getattr(experiment.model.encoder, "has_segments", True):
        return []
    return ["  it has no segments: the two texts of a pair are told apart by the special tokens between them alone"]


def _without_scores(tasks: Sequence[Task]) -> list[str]:
    """Say which tasks of a stage have no dev split, and what follows from it."""
    missing = [task.name for task in tasks if "dev" not in task.splits]
    if len(missing) < len(tasks):
        return [
            f"  {name}: no dev split, so it has no scores; dev = 0.1 in its declaration holds some out"
            for name in missing
        ]
    return ["  no task has a dev split: there are no scores, and the newest checkpoint is kept as the best"]


def _epoch(experiment: Experiment, stage: Stage, tasks: Sequence[Task]) -> list[str]:
    """Say how often each task is trained in the first epoch, by asking the scheduler for every step.

    PluginError where a plugin combines gradients, and no step has several, or the encoder is frozen.
    """
    trainer, composition = experiment.trainer, experiment.composition
    steps = first_epoch(trainer, stage, tasks)
    batches = Counter(name for names in steps for name in names)
    schedulers = [name for name in composition.deciders("choose_tasks") if composition.acts(name, stage.name)]
    check_weights(trainer.model, stage, tasks)
    check_surgery(trainer.state, stage)
    if max(map(len, steps)) == 1 and (found := surgeons(trainer.state, stage)):
        raise PluginError(_alone(found[0], schedulers, len(tasks)))
    learning = [name for name in schedulers if LEARN & set(composition.hooks_of(name))]
    known = f", as known now: '{learning[0]}' learns" if learning else ""
    lines = [f"  {_seen(task, batches[task.name], len(steps), known)}" for task in tasks]
    if len(tasks) == 1 and schedulers:
        lines.append(f"  there is one task only: '{schedulers[0]}' has nothing to choose from")
    return lines


def _alone(surgeon: str, schedulers: Sequence[str], tasks: int) -> str:
    """Write why a plugin that combines gradients has nothing to combine, and what to do."""
    instead = "".join(f" instead of '{name}'" for name in schedulers if name != "rrobin")
    share = f"let several share a step: --plugin rrobin:per_step={tasks}{instead}"
    remedy = share if tasks > 1 else "leave it out"
    return f"'{surgeon}' looks at the gradients of several tasks, but every step has one; {remedy}."


def first_epoch(trainer: Trainer, stage: Stage, tasks: Sequence[Task]) -> list[list[str]]:
    """List the names of the tasks of each step of the first epoch, or of the stage where that is shorter."""
    steps = []
    length = measure_length(trainer.hook, trainer.streams, stage, tasks)
    for step in range(min(length)):
        with trainer.streams.at(stage.name, step):
            chosen = trainer.hook.choose_tasks(tasks=tasks, step=step, total_steps=length.total)
            steps.append([task.name for task in chosen])
    return steps


def _seen(task: Task, batches: int, steps: int, known: str) -> str:
    share = batches / task.batches
    if not batches:
        seen = "scored, but not trained in this epoch"
    elif share < 1:
        seen = f"{100 * share:.3g} % of its examples, the others left out"
    else:
        seen = "every example once" if share == 1 else f"every example {share:.3g} times"
    return f"{task.name}: in {batches} of the first {steps} updates{known}; {seen}"


def _task(task: Task, batch_size: int) -> list[str]:
    asked = batch_size not in (task.batch_size, Settings.model_fields["batch_size"].default)
    own = f", as the task says, and not of {batch_size}" if asked else ""
    mode = f", {task.pair_mode.replace('_', '-')}" if task.pair_mode else ""
    sizes = ", ".join(f"{len(examples)} {split}" for split, examples in task.splits.items())
    lines = [f"task {task.name}: {task.objective.kind}{mode}; {sizes}; batches of {task.batch_size}{own}"]
    for split, examples in task.splits.items():
        if examples.truncated:
            share = percent(examples.truncated / len(examples))
            most = f"{task.reading.max_length} tokens" if task.reading.max_length else "is read"
            lines.append(f"  {examples.truncated} {split} texts ({share} %) are longer than {most}, and were truncated")
        if said := left_out(task, split):
            lines.append(f"  {said}")
    return lines + [f"  {note}" for note in task.notes]


def _not_counted(tasks: Sequence[Task]) -> list[str]:
    """Say what decides which checkpoint is best, where some tasks' own metrics are not defined."""
    scored = [task for task, _ in scorable(tasks, "dev")]
    without = [task.name for task in scored if task.objective.metric in undefined(task, "dev")]
    if not without:
        return []
    if len(without) < len(scored):
        return [f"  the best checkpoint has the highest mean score of the tasks other than {' and '.join(without)}"]
    return ["  the best checkpoint has the lowest loss: no task has a score that could decide"]
