"""Trial: say what a step of each task is made of and what it costs."""

from collections.abc import Mapping

from torch import Tensor

from regkit.hooks.compose import Composition
from regkit.hooks.option_values import AUTO
from regkit.hooks.spec import Hooks
from regkit.hooks.stopwatch import CORE
from regkit.runs import checkpoint, packing
from regkit.runs.experiment import Experiment
from regkit.runs.trial import StageTrial, try_stages
from regkit.training.estimate import in_words


def details(experiment: Experiment) -> list[str]:
    """Describe who answers which hook, the loss as a formula, and what a step costs.

    A step of each task is tried on a few examples. That changes model and plugins: nothing may be trained afterwards.
    """
    lines = _answers(experiment.composition)
    for tried in try_stages(experiment):
        lines += _micro_batches(experiment, tried) + steps(experiment.composition, tried)
        packing.check(checkpoint.moment(experiment.trainer.state)[1])  # as before the first update of a run
    return lines + [f"warning: {sentence}" for sentence in experiment.composition.watch.said]


def steps(composition: Composition, tried: StageTrial) -> list[str]:
    """Describe a step of each task, in one line for all tasks whose steps are alike."""
    if not tried.steps:
        names = ", ".join(task.name for task in tried.tasks)
        return [f"step of {names}: loss = task; forward passes: 1 clean; 1.0 times the operations of plain"]
    alike: dict[str, list[str]] = {}  # tasks by what is said of their steps
    for name, (trial, ratio) in tried.steps.items():
        said = (
            f"{_formula(trial.terms, composition)}; {_passes(trial.passes)}; {ratio:.1f} times the operations of plain"
        )
        alike.setdefault(said, []).append(name)
    return [f"step of {', '.join(names)}: loss = {said}" for said, names in alike.items()]


def _micro_batches(experiment: Experiment, tried: StageTrial) -> list[str]:
    if tried.micro_batch_tokens is None:
        return []
    bound = in_words(experiment.settings.memory or 0)
    return [f"micro-batches of {tried.stage.name}: at most {tried.micro_batch_tokens} tokens, to stay within {bound}"]


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
    return " + ".join(f"{_factor(name, composition)}{name}" for name in terms)


def _factor(term: str, composition: Composition) -> str:
    if composition.owners.get(term) in composition.automatic:
        return f"{AUTO} x "
    weight = getattr(composition.plugins.get(term), "weight", None)
    return "" if weight is None else f"{weight:g} x "


def _passes(passes: Mapping[str, float]) -> str:
    extra = [f", {count:.3g} by {name}" for name, count in passes.items() if name != CORE]
    return f"forward passes: {passes[CORE]:g} clean{''.join(extra)}"
