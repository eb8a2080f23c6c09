"""Contract: promises about what hooks do beside answering, and about a plugin's terms and teachers."""

from collections.abc import Callable, Iterable

import torch

from regkit.base.errors import RegkitError
from regkit.base.failures import last_line
from regkit.hooks import catalog
from regkit.hooks.compose import Composition
from regkit.hooks.following import LOG
from regkit.hooks.implementations import implementations
from regkit.hooks.spec import hookimpl
from regkit.hooks.teachers import GATHERS
from regkit.model import MultitaskModel
from regkit.testing.tiny import Plugins, Several, measured, tiny_run, tiny_tasks, unscored
from regkit.testing.verdicts import Factory, NotApplicableError, Tasks, lean
from regkit.training.loop import Trainer
from regkit.training.suspects import Suspect, find_suspects

TOLD = ("before_step", "skipped", "clipped", "after_step", "evaluated")  # notify hooks of a step and of an epoch


def it_acts(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that a run with the plugin trains, and that something in it is the plugin's doing.

    Without that, all other promises would be kept by a plugin that does nothing.
    """
    plugins = factory()
    if all(set(implementations(plugin)) <= set(LOG) for plugin in plugins.values()):
        raise NotApplicableError("it takes no part in a step: it only follows the run's log")
    there, composition = tiny_run(plugins, lean(factory, tasks))
    before = {name: tensor.clone() for name, tensor in there.model.named_parameters()}
    _train(there, composition)
    moved = any(not torch.equal(tensor, before[name]) for name, tensor in there.model.named_parameters())
    assert moved, "no weight has changed after training: a hook takes the gradient or the step away"
    called = dict.fromkeys(hook for _, hook in composition.watch.calls)
    if not _told_only(plugins, called) and not _measures(factory, tasks) and _is_plain(there, plugins, tasks):
        raise NotApplicableError(
            f"it changes nothing in a run on the tiny tasks (hooks called: {', '.join(called) or 'none'})"
        )


class Skips:
    """An observer that finds out, as a run does, what was not finite where a step is skipped."""

    def __init__(self, composition: Composition) -> None:
        self.composition, self.found = composition, list[Suspect]()

    @hookimpl
    def skipped(self, model: MultitaskModel, recompute: Callable[[], None]) -> None:
        self.found = find_suspects(self.composition, model, recompute)


def _train(trainer: Trainer, composition: Composition) -> None:
    """Train, and if torch stops that, say why in its words: no hook was seen to be the cause."""
    skips = Skips(composition)
    composition.observe(skips)
    try:
        trainer.train()
    except RegkitError as error:
        if skips.found:
            raise AssertionError(f"no step is finite: {'; '.join(map(str, skips.found))}") from error
        raise
    except Exception as error:
        raise AssertionError(f"training stops: {last_line(error)}") from error


def _told_only(plugins: Plugins, called: Iterable[str]) -> bool:
    """Whether the plugins only look on in steps, and were shown some."""
    deciding = [hook for plugin in plugins.values() for hook in implementations(plugin) if hook not in (*TOLD, *LOG)]
    return not set(deciding) - {"build", "prepare"} and any(hook in TOLD for hook in called)


def _measures(factory: Factory, tasks: Tasks) -> bool:
    if not any("measure" in implementations(plugin) for plugin in factory().values()):
        return False
    return any(record["measures"] for record in measured(factory(), tasks=lean(factory, tasks))[2])


def _is_plain(trained: Trainer, plugins: Plugins, tasks: Tasks) -> bool:
    """Whether a run without these plugins comes to the same weights, and evaluates the same ones."""
    companions = {name: plugin for name, plugin in plugins.items() if isinstance(plugin, Several)}
    plain = tiny_run(companions, unscored(tasks()))[0]
    plain.train()
    theirs = plain.model.state_dict()
    found = [trained.model.state_dict(), trained.state.evaluated_model().state_dict()]
    return all(each.keys() == theirs.keys() and all(torch.equal(each[n], theirs[n]) for n in theirs) for each in found)


def hooks_keep_to_their_part(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that hooks change nothing that is not theirs to change, and draw by torch alone.

    That is weights, gradients, modes, seeds and arguments. A run looks for it in some steps, and this check in all and more
    closely. Raises PluginError as a run does.
    """
    watched(factory, tasks)


def watched(factory: Factory, tasks: Tasks) -> Composition:
    """Train under the closest watch. Returns the hooks of the run, with what was noticed of them."""
    trainer, composition = tiny_run(factory(), lean(factory, tasks))
    composition.watch.closely = True
    trainer.train()
    return composition


def terms_have_names_of_their_own(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that no term of the loss is called as another installed plugin, whose own term has that name."""
    trainer, composition = tiny_run(factory(), lean(factory, tasks))
    trainer.train()
    if not composition.owners:
        raise NotApplicableError("it gives no term of the loss")
    for term, owner in composition.owners.items():
        kind, point = type(composition.plugins[owner]), catalog.installed().get(term)
        clash = point and term != owner and point.value != f"{kind.__module__}:{kind.__qualname__}"
        assert not clash, f"'{owner}' calls a term '{term}', as plugin '{term}' does; call it '{owner}'"


def a_teacher_gets_no_gradient(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that no gradient gathers in a model that a plugin keeps beside the one in training."""
    teachers = watched(factory, tasks).teachers.found
    if not teachers:
        raise NotApplicableError("it keeps no model beside the one in training")
    for (plugin, place), gathers in teachers.items():
        assert not gathers, GATHERS.format(plugin, place)
