"""Rules: what may not change while a plugin's hook runs, and the sentence for each."""

import os
import random
import sys
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from regkit.hooks.following import LOG
from regkit.hooks.marks import GENERATORS, bits, mark, of_numpy, parts, state_of
from regkit.hooks.spec import Hooks

ALL = tuple(name for name in vars(Hooks) if not name.startswith("_") and name not in LOG)
OF_ALL = (*ALL, *LOG)  # hooks of those that only follow the run, too
FORWARD = ("augment", "embed", "encode", "predict", "task_loss", "extra_losses", "measure")  # before the backward pass
BEGIN = ("build", "prepare", "make_optimizer")  # hooks before the first step of a stage
UPDATE = ("combine_gradients", "before_step", "skipped", "clipped", "after_step", "evaluated")  # from the gradient on
STEPS = tuple(hook for hook in ALL if hook not in BEGIN)
SETTLED = tuple(hook for hook in STEPS if hook != "after_step")  # hooks that leave the weights as they are
CHANGEABLE = ("model", "optimizer", "encoder", "tokenizer", "gradients")  # arguments that a hook may change


Values = Literal["counts", "norms", "bits"]  # what is compared: torch's counts of changes; norms of weights too; all


class Call(NamedTuple):
    """One call of a plugin's hook, or one half of a wrapper's."""

    name: str  # of the plugin
    plugin: object
    owner: str  # begins the sentence: `plugin 'smart': extra_losses`
    hook: str
    given: Mapping[str, Any]  # the arguments


@dataclass(frozen=True)
class Sight:
    """The parts of the model in training, by name; none before it is prepared."""

    weights: Mapping[str, nn.Parameter] = field(default_factory=dict)
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    values: Values = "norms"  # how it is seen that a tensor is another


class Rule(NamedTuple):
    """What may not change while some of the hooks run."""

    look: Callable[[Call, Sight], Mapping[str, object]]  # what is compared, by name
    hooks: Container[str]
    says: str  # the end of the sentence, with a place for the name of what has changed
    refused: bool = True  # or else it is said once
    certain: bool = True  # or else it is refused when it is seen a second time
    mend: Callable[[Mapping[str, object]], None] = lambda before: None  # puts back what saving the run needs

    def broken(self, before: Mapping[str, object], call: Call, sight: Sight) -> str:
        """Name what is not as it was `before` the call; nothing if all is."""
        after = self.look(call, sight)
        return next((name for name in {**before, **after} if before.get(name) != after.get(name)), "")


def settings(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at torch's settings for all of the process."""
    return {"the recording of gradients": torch.is_grad_enabled(), "the default dtype": torch.get_default_dtype()}


def directory(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the working directory, unless it has been deleted."""
    with suppress(OSError):
        return {"the working directory": os.getcwd()}
    return {}


def go_back(before: Mapping[str, object]) -> None:
    """Return to the working directory, which the paths of the run begin at."""
    with suppress(OSError):
        os.chdir(str(before.get("the working directory", ".")))


def streams(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at whether the streams that all print to are open."""
    found = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    return {f"sys.{name}": _is_closed(stream) for name, stream in found.items()}


def _is_closed(stream: Any) -> bool:
    """Tell whether a stream is closed, or the file below it: `os.close(1)` leaves the stream itself open."""
    if getattr(stream, "closed", stream is None):
        return True
    try:
        os.fstat(stream.fileno())
    except (AttributeError, ValueError):  # there is no file below it
        return False
    except OSError:
        return True
    return False


def seeds(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the seed of torch's default generators."""
    return {"torch.manual_seed": torch.initial_seed()}


def gradients(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the gradient of each weight."""
    return {name: mark(weight.grad) for name, weight in sight.weights.items()}


def any_gradient(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at whether a weight has a gradient that is not 0 all over."""
    return {
        "all weights": any(weight.grad is not None and bool(weight.grad.any()) for weight in sight.weights.values())
    }


def weights(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at torch's count of the changes of each weight."""
    return {name: mark(weight) for name, weight in sight.weights.items()}


def values(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the norm or the bits of each weight: torch does not count changes by `.data`."""
    if sight.values == "bits":
        return {name: bits(weight) for name, weight in sight.weights.items()}
    if sight.values == "counts" or not sight.weights:
        return {}
    norms = [weight.detach().norm().float() for weight in sight.weights.values()]
    return dict(zip(sight.weights, map(str, torch.stack(norms).tolist()), strict=True))  # as text, NaN equals itself


def trained(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at which weights are trained."""
    return {name: weight.requires_grad for name, weight in sight.weights.items()}


def modes(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the mode of each module."""
    return {name or "the model": module.training for name, module in sight.modules.items()}


def rates(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the rate of each dropout, regkit's or torch's."""
    found = {name: vars(module) for name, module in sight.modules.items() if "dropout" in type(module).__name__.lower()}
    return {name: attributes.get("rate", attributes.get("p")) for name, attributes in found.items()}


def callbacks(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at how many functions each module calls before, after and behind its forward pass."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return {
        name or "the model": [len(getattr(module, kind)) for kind in kinds] for name, module in sight.modules.items()
    }


def generators(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the generators that no seed of a run sets."""
    return {"Python's random": hash(random.getstate()), "numpy's global generator": of_numpy(np.random.get_state())}


def arguments(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the arguments that are given to others too, and at the parts of a batch."""
    exact = sight.values == "bits"
    given = {name: value for name, value in call.given.items() if name not in (*CHANGEABLE, "batch")}
    given |= {f"batch.{name}": part for name, part in parts(call.given.get("batch")).items()}
    return {name: (mark(value), exact and bits(value)) for name, value in given.items()}


def unkept(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the attributes of a plugin that keeps nothing in a checkpoint."""
    return {name: mark(part) for name, part in _unkept(call, sight).items()}


def own_generators(call: Call, sight: Sight) -> Mapping[str, object]:
    """Look at the generators of a plugin that keeps nothing in a checkpoint."""
    return {name: state_of(part) for name, part in _unkept(call, sight).items() if isinstance(part, tuple(GENERATORS))}


def _unkept(call: Call, sight: Sight) -> Mapping[str, object]:
    """List a plugin's attributes, without the model in training, unless a checkpoint keeps some of them."""
    own = {} if hasattr(call.plugin, "state_dict") else parts(call.plugin)
    model = sight.modules.get("")
    return {name: part for name, part in own.items() if part is not model}


RULES = (
    Rule(settings, ALL, "leaves {} changed for all that follows; put it back"),
    Rule(directory, OF_ALL, "leaves {} changed, from which others find their files; put it back", mend=go_back),
    Rule(streams, OF_ALL, "closes {}, to which others print; leave it open, or write to a file of its own"),
    Rule(seeds, ALL, "calls {}; leave that out: what a hook draws comes from a stream of its own, seeded by the run"),
    Rule(
        gradients,
        FORWARD,
        "changes the gradient of {}, as backward() and zero_grad() do; take gradients by torch.autograd.grad, which "
        "leaves no trace",
    ),
    Rule(weights, FORWARD, "changes the weight {} in place; change weights in after_step or prepare"),
    Rule(values, SETTLED, "leaves the weight {} changed; put it back, or change it in after_step or prepare"),
    Rule(trained, FORWARD, "leaves requires_grad of {} changed; put it back"),
    Rule(
        trained,
        UPDATE,
        "changes requires_grad of {}, which no checkpoint keeps, so a resumed run begins with that of prepare; to leave a "
        "weight as it is, set its grad to None in before_step",
        refused=False,
    ),
    Rule(
        any_gradient,
        ("before_step", "clipped"),
        "takes away the gradients of {}, so this step trains nothing; take away those alone of weights that shall stay",
        refused=False,
    ),
    Rule(modes, STEPS, "leaves the mode of {} changed; put it back, or ask predict(..., dropout='off')"),
    Rule(rates, FORWARD, "leaves the dropout rate of {} changed; put it back, or ask predict(..., dropout='off')"),
    Rule(callbacks, FORWARD, "leaves a hook of torch's on {}, one more at each call; remove it by its handle"),
    Rule(
        generators,
        ALL,
        "draws from {}, which no seed of the run sets; draw with torch's default generators, as torch.rand does",
        certain=False,  # a thread, such as that of a tracker, may have drawn meanwhile
    ),
    Rule(arguments, ALL, "changes `{}` in place, which others are given too; change a copy"),
    Rule(
        own_generators,
        STEPS,
        "draws from `{}`, whose state no checkpoint keeps, so a resumed run draws other numbers; draw with torch's "
        "default generators, as torch.rand does",
        refused=False,
    ),
    Rule(
        unkept,
        ("after_step", "evaluated"),
        "changes `{}`, which no checkpoint keeps, so a resumed run begins without it; give the plugin state_dict and "
        "load_state_dict",
        refused=False,
    ),
)
