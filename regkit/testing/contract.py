"""Contract: promises about what hooks do beside answering, and about a plugin's terms and teachers."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from regkit.base.errors import RegkitError
from regkit.base.failures import last_line
from regkit.hooks import catalog
from regkit.hooks.attach import implementations
from regkit.hooks.following import LOG
from regkit.testing.tiny import Plugins, Several, measured, tiny_run, tiny_tasks, unscored
from regkit.testing.verdicts import Factory, NotApplicableError, Tasks, lean
from regkit.testing.watch import Deed, Kind, Watch, attributes
from regkit.training.loop import Trainer
from regkit.training.update import parameters_of

TOLD = ("before_step", "skipped", "clipped", "after_step", "evaluated")  # notify hooks of a step and of an epoch
MISDEEDS: dict[Kind, str] = {
    "foreign noise": "draws from {what}, which no seed of the run reaches; draw by torch, or by batch.noise",
    "seed": "calls {what}; leave that out: what a hook draws has a stream of its own already",
    "weight": "changes the weight {what}, but has only to compute; change weights in after_step",
    "gradient": "changes the gradient of {what}; call torch.autograd.grad in place of backward(), and change gradients in "
    "before_step alone",
    "mode": "leaves {what} in another mode, training or evaluation; ask predict for dropout='off', or put the mode back",
    "input": "changes its argument {what} in place, and with it what others are given; work on a copy",
    "constant": "gives the term '{what}' without a gradient, so it teaches nothing; compute it without detach and no_grad",
}


def it_acts(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that a run with the plugin trains, and that something in it is the plugin's doing.

    Without that, all other promises would be kept by a plugin that does nothing.
    """
    plugins = factory()
    if all(set(implementations(plugin)) <= set(LOG) for plugin in plugins.values()):
        raise NotApplicableError("it takes no part in a step: it only follows the run's log")
    watch = Watch()
    there, _ = tiny_run(watch.over(plugins), lean(factory, tasks))
    before = {name: tensor.clone() for name, tensor in there.model.named_parameters()}
    _train(there, watch)
    moved = any(not torch.equal(tensor, before[name]) for name, tensor in there.model.named_parameters())
    assert moved, "no weight has changed after training: a hook takes the gradient or the step away"
    if not _told_only(plugins, watch) and not _measures(factory, tasks) and _is_plain(there, plugins, tasks):
        assert not watch.misdeeds, in_words(watch.misdeeds)
        hooks = ", ".join(dict.fromkeys(hook for _, hook in watch.calls)) or "none"
        raise NotApplicableError(f"it changes nothing in a run on the tiny tasks (hooks called: {hooks})")


def _train(trainer: Trainer, watch: Watch) -> None:
    """Train, and if torch stops that, say which hook was the cause."""
    watch.model = trainer.model
    try:
        trainer.train()
    except RegkitError:
        raise
    except Exception as error:
        said = in_words(watch.misdeeds)
        raise AssertionError(f"training stops: {said or last_line(error)}") from error


def _told_only(plugins: Plugins, watch: Watch) -> bool:
    """Whether the plugins only look on in steps, and were shown some."""
    deciding = [hook for plugin in plugins.values() for hook in implementations(plugin) if hook not in (*TOLD, *LOG)]
    return not set(deciding) - {"build", "prepare"} and any(hook in TOLD for _, hook in watch.calls)


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

    That is weights, gradients, modes, seeds and arguments.
    """
    misdeeds = watched(factory, tasks).misdeeds
    assert not misdeeds, in_words(misdeeds)


def in_words(misdeeds: Iterable[Deed]) -> str:
    """Write what hooks must not do, and what to do in place of it."""
    return "; and ".join(
        f"'{deed.plugin}': {deed.hook} {MISDEEDS[deed.kind].format(what=deed.what)}" for deed in misdeeds
    )


def watched(factory: Factory, tasks: Tasks) -> Watch:
    """Train with watched plugins. Returns what they did."""
    watch = Watch()
    watch.train(tiny_run(watch.over(factory()), lean(factory, tasks))[0])
    return watch


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
    watch = Watch()
    trainer, composition = tiny_run(watch.over(factory()), lean(factory, tasks))
    watch.train(trainer)
    trained = {id(each) for each in parameters_of(trainer.model, trainer.state.optimizer)}
    kept = [(name, *each) for name, plugin in composition.plugins.items() for each in _models(name, plugin, watch)]
    teachers = [each for each in kept if any(id(parameter) not in trained for parameter in each[2].parameters())]
    if not teachers:
        raise NotApplicableError("it keeps no model beside the one in training")
    for name, where, model in teachers:
        gathers = any(each.grad is not None for each in model.parameters() if id(each) not in trained)
        assert not gathers, (
            f"'{name}' lets gradients gather in {where}: ask it under torch.no_grad(), and make it with requires_grad_(False)"
        )


def _models(name: str, plugin: Any, watch: Watch) -> Iterator[tuple[str, nn.Module]]:
    """Find the models that a watched plugin keeps, or has asked."""
    for field, value in attributes(plugin.plugin).items():
        if isinstance(value, nn.Module):
            yield f"`{field}`", value
    yield from (("the model that it gives to predict", model) for model in watch.asked.get(name, ()))
