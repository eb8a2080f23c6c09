"""Answers: check what a plugin's hook returns, and say what the hook needs instead."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import PluginError, short
from regkit.model import MultitaskModel
from regkit.tasks.task import Stage, Task

Check = Callable[[Any], bool]
TASK = "task"  # the term of the clean loss: no plugin may call its own so


def _list_of(kind: type) -> Check:
    return lambda answer: isinstance(answer, Sequence) and all(isinstance(each, kind) for each in answer)


def _once(answer: Any) -> bool:
    return _list_of(Task)(answer) and len(answer) == len({task.name for task in answer}) > 0


def _count(answer: Any) -> bool:
    return isinstance(answer, Integral) and int(answer) > 0


def _tensor(*dims: int) -> Check:
    return lambda answer: isinstance(answer, Tensor) and answer.dim() in dims


# Of each hook that returns one value, what it needs to be.
VALUES: Mapping[str, tuple[Check, str]] = {
    "tasks": (_list_of(Task), "a list of tasks"),
    "stages": (_list_of(Stage), "a list of stages"),
    "make_optimizer": (lambda answer: isinstance(answer, torch.optim.Optimizer), "a torch optimizer"),
    "epoch_steps": (_count, "a whole number of updates, 1 or more"),
    "choose_tasks": (_once, "a list of one or more tasks, each of them once"),
    "embed": (_tensor(2), "a tensor, [tokens, width]"),
    "predict": (_tensor(1, 2), "a tensor, [examples, width] or [examples]"),
    "task_loss": (_tensor(0), "a scalar tensor, the mean over the batch's examples"),
    "combine_gradients": (_tensor(1), "a tensor, [parameters]"),
    "model_to_evaluate": (lambda answer: isinstance(answer, MultitaskModel), "a MultitaskModel"),
}

# Of each hook that returns values by name, what each of them needs to be.
NAMED: Mapping[str, tuple[Check, str]] = {
    "extra_losses": (_tensor(0), "a scalar tensor, such as a mean over the batch's examples"),
    "measure": (lambda answer: isinstance(answer, Real) or _tensor(0)(answer), "a number or a scalar tensor"),
}

COLLECT = ("tasks", "stages", *NAMED)


def check(owner: str, hook: str, answer: object) -> None:
    """Raise PluginError if an answer is not what the hook needs. `owner` begins the sentence."""
    if hook in NAMED:
        _check_named(owner, hook, answer)
    elif hook in VALUES:
        holds, needed = VALUES[hook]
        if not holds(answer):
            raise PluginError(f"{owner} returns {_described(answer)}; it needs {needed}{_end(answer)}")


def check_all(owner: str, hook: str, answers: object) -> None:
    """Check what a wrapper returns: for a hook that collects, the list of all answers."""
    if hook not in COLLECT:
        check(owner, hook, answers)
        return
    if not isinstance(answers, list | tuple):
        needed = f"the list of all answers, as `yield` gives it{_end(answers)}"
        raise PluginError(f"{owner} returns {_described(answers)}; it needs {needed}")
    for answer in answers:
        for each in answer.values() if hook == "measure" else [answer]:  # which are by plugin there
            check(owner, hook, each)


def _check_named(owner: str, hook: str, answer: object) -> None:
    holds, needed = NAMED[hook]
    if not isinstance(answer, Mapping):
        raise PluginError(f"{owner} returns {_described(answer)}; it needs {{name: {needed}}}{_end(answer)}")
    for name, value in answer.items():
        if not isinstance(name, str):
            raise PluginError(f"{owner} returns a dictionary with {short(repr(name))} as a name; a name is text.")
        if not holds(value):
            raise PluginError(f"{owner} gives '{short(name)}' as {_described(value)}; it needs to be {needed}.")
    if hook == "extra_losses" and TASK in answer:
        raise PluginError(f"{owner} calls a term '{TASK}', as the clean loss is called; give it another name.")


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, list | tuple):
        kinds = ", ".join(sorted({type(each).__name__ for each in value}))
        return f"a {type(value).__name__} of {f'{len(value)} {short(kinds)}' if value else 'nothing'}"
    return f"{short(repr(value))}, of type {type(value).__name__}"


def _end(answer: object) -> str:
    return "; is a `return` missing?" if answer is None else "."


@contextmanager
def same_tensors(owner: str, model: nn.Module) -> Iterator[None]:
    """Raise PluginError if the model's state changes in names or shapes inside: no checkpoint could be read back."""
    before = shapes(model)
    yield
    if changed := difference(before, shapes(model)):
        raise PluginError(
            f"{owner} changes the model so that {changed}, and no checkpoint of it could be read back; "
            "keep the names and shapes of its state_dict: a module that is put in must hold the same parameters."
        )


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    """List the tensors of a model's state by name, each with its shape."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def difference(before: Mapping[str, torch.Size], after: Mapping[str, torch.Size]) -> str:
    """Say how the first tensor that differs between two models does; nothing if none does."""
    for name in before:
        if name not in after:
            return f"its state lacks {name}"
        if before[name] != after[name]:
            return f"{name} has shape {list(after[name])} instead of {list(before[name])}"
    return next((f"its state has {name}, which is new" for name in after if name not in before), "")
