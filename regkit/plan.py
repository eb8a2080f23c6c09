"""Plan: what a run is going to do, printed before it does it."""

from rich.console import Console

from regkit.experiment import Experiment
from regkit.tasks import Task


def print_plan(console: Console, experiment: Experiment) -> None:
    """Tasks, encoder, plugins with the hooks they answer, and the number of updates."""
    for line in plan(experiment):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def plan(experiment: Experiment) -> list[str]:
    """The plan, a line each."""
    settings, trainer = experiment.settings, experiment.trainer
    size = sum(parameter.numel() for parameter in experiment.model.parameters()) / 1e6
    kind = "bf16" if str(trainer.gradients.precision).endswith("bfloat16") else "fp32"
    lines = [
        f"encoder: {settings.encoder or 'the demo (MiniLM)'}, {size:.1f} M parameters, on {trainer.streams.device} in {kind}"
    ]
    for task in experiment.tasks:
        lines += _task(task)
    lines += [f"task {name}: found, not trained; --tasks would name it" for name in experiment.left_out]
    for name, plugin in experiment.composition.plugins.items():
        chosen = ", ".join(f"{key}={value}" for key, value in vars(plugin).items() if key in settings.plugins[name])
        hooks = ", ".join(experiment.composition.hooks_of(name))
        lines.append(f"plugin {name}{f' ({chosen})' if chosen else ''}: answers {hooks}")
    for stage, tasks in trainer.stages():
        epoch, total = trainer.length(stage, tasks)
        lines.append(
            f"stage {stage.name}: {total} updates, {epoch} an epoch, peak learning rate {stage.learning_rate:g}"
        )
    return lines


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
    return lines
