"""Answers: check what a plugin's hook returns, and say what the hook needs instead."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import MisuseError, short
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Stage, Task

Check = Callable[[Any], bool]
TASK = "task"  # the term of the clean loss: no plugin may call its own so


def _list_of(kind: type) -> Check:
    return lambda answer: isinstance(answer, Sequence) and all(isinstance(each, kind) for each in answer)


def _once(answer: Any) -> bool:
    return _list_of(Task)(answer) and len(answer) == len({task.name for task in answer}) > 0


def _count(answer: Any) -> bool:
    return isinstance(answer, Integral) and int(answer) > 0


def _factor(answer: Any) -> bool:
    return isinstance(answer, Real) and 0 <= float(answer) < math.inf


def _number(answer: Any) -> bool:
    return isinstance(answer, Real) or (isinstance(answer, Tensor) and not answer.dim() and not answer.is_complex())


def _tensor(*dims: int) -> Check:
    return lambda answer: (
        isinstance(answer, Tensor) and answer.dim() in dims and answer.is_floating_point() and not answer.is_meta
    )


def _optimizer(answer: Any) -> bool:
    """Whether this is an optimizer whose step needs nothing: LBFGS asks for a closure."""
    if not isinstance(answer, torch.optim.Optimizer):
        return False
    asked = inspect.signature(type(answer).step).parameters.values()
    return all(each.default is not each.empty for each in list(asked)[1:] if each.kind is each.POSITIONAL_OR_KEYWORD)


# Of each hook that returns one value, what it needs to be.
VALUES: Mapping[str, tuple[Check, str]] = {
    "tasks": (_list_of(Task), "a list of tasks"),
    "stages": (_list_of(Stage), "a list of stages"),
    "make_optimizer": (_optimizer, "a torch optimizer whose step needs no closure"),
    "epoch_steps": (_count, "a whole number of updates, 1 or more"),
    "choose_tasks": (_once, "a list of one or more tasks, each of them once"),
    "schedule": (_factor, "a finite number, 0 or more"),
    "augment": (lambda answer: isinstance(answer, Batch), "a Batch of the same examples"),
    "embed": (_tensor(2), "a tensor of real numbers, [tokens, width]"),
    "encode": (_tensor(2), "a tensor of real numbers, [texts, width]"),
    "predict": (_tensor(1, 2), "a tensor of real numbers, [examples, width] or [examples]"),
    "task_loss": (_tensor(0), "a scalar tensor of a real number, the mean over the batch's examples"),
    "combine_gradients": (_tensor(1), "a tensor of real numbers, [parameters]"),
    "model_to_evaluate": (lambda answer: isinstance(answer, MultitaskModel), "a MultitaskModel"),
}

# Of each hook that returns values by name, what each of them needs to be.
NAMED: Mapping[str, tuple[Check, str]] = {
    "extra_losses": (_tensor(0), "a scalar tensor, such as a mean over the batch's examples"),
    "measure": (_number, "a number or a scalar tensor"),
}

# Of each hook that returns rows: what each is for, the argument that tells how many, and how.
ROWS: Mapping[str, tuple[str, str, Callable[[Any], int]]] = {
    "augment": ("example", "batch", len),
    "embed": ("token", "batch", lambda batch: len(batch.tokens)),
    "encode": ("text", "batch", lambda batch: len(batch.lengths) if batch.targets is None else len(batch.targets)),
    "predict": ("prediction", "batch", lambda batch: batch.predictions),
    "combine_gradients": ("parameter", "gradients", lambda gradients: gradients.shape[1]),
}

COLLECT = ("tasks", "stages", *NAMED)
FORWARD = ("embed", "encode", "predict", "task_loss")  # hooks whose answers are on the way from the weights to the loss


def check(owner: str, hook: str, answer: Any, given: Mapping[str, Any]) -> None:
    """Raise MisuseError if an answer is not what the hook needs, with the arguments that it was `given`.

    `owner` begins the sentence.
    """
    if hook in NAMED:
        _check_named(owner, hook, answer)
    elif hook in VALUES:
        holds, needed = VALUES[hook]
        if not holds(answer):
            raise MisuseError(f"{owner} returns {_described(answer)}; it needs {needed}{_end(answer)}")
    unit, argument, count = ROWS.get(hook, ("", "", len))
    if argument in given and len(answer) != (rows := count(given[argument])):
        raise MisuseError(f"{owner} returns {_described(answer)}; it needs {rows} rows, one for each {unit}.")
    if hook == "predict" and answer.shape[1:] != (shape := _beyond_rows(given["task"])):
        whole = [len(answer), *shape]
        raise MisuseError(f"{owner} returns {_described(answer)}; task '{given['task'].name}' needs {whole}.")


def _beyond_rows(task: Task) -> tuple[int, ...]:
    """Say what shape a task's output has beside its rows: one number has no dimension of its own."""
    return () if task.objective.width == 1 else (task.objective.width,)


def check_all(owner: str, hook: str, answers: Any, given: Mapping[str, Any]) -> None:
    """Check what a wrapper returns: for a hook that collects, the list of all answers."""
    if hook not in COLLECT:
        check(owner, hook, answers, given)
        return
    if not isinstance(answers, list | tuple):
        needed = f"the list of all answers, as `yield` gives it{_end(answers)}"
        raise MisuseError(f"{owner} returns {_described(answers)}; it needs {needed}")
    for answer in answers:
        by_plugin = hook == "measure" and isinstance(answer, Mapping)
        for each in answer.values() if by_plugin else [answer]:
            check(owner, hook, each, given)


def _check_named(owner: str, hook: str, answer: object) -> None:
    holds, needed = NAMED[hook]
    if not isinstance(answer, Mapping):
        raise MisuseError(f"{owner} returns {_described(answer)}; it needs {{name: {needed}}}{_end(answer)}")
    if hook == "extra_losses" and TASK in answer:
        raise MisuseError(f"{owner} calls a term '{TASK}', as the clean loss is called; give it another name.")
    for name, value in answer.items():
        if not (isinstance(name, str) and name and name.isprintable()):
            said = "a name is printable text"
            raise MisuseError(f"{owner} returns a dictionary with {short(repr(name))} as a name; {said}.")
        if not holds(value):
            raise MisuseError(f"{owner} gives '{short(name)}' as {_described(value)}; it needs to be {needed}.")
        if hook == "extra_losses" and _detached(value):
            raise MisuseError(
                f"{owner} gives '{short(name)}' without a gradient, so it trains nothing; compute it from output, "
                "embeddings or predict, without detach(), item() and no_grad()."
            )


def _detached(term: Tensor) -> bool:
    """Whether a term is a number without a gradient, and not 0.

    A term is 0 that has nothing to say of a batch.
    """
    return torch.is_grad_enabled() and not term.requires_grad and bool(term.isfinite() & (term != 0))


def check_gradient(owner: str, hook: str, answer: Any, sources: Iterable[object]) -> None:
    """Raise MisuseError if an answer of the forward pass has lost the gradient of its sources."""
    if hook not in FORWARD or not torch.is_grad_enabled() or answer.requires_grad:
        return
    if any(isinstance(source, Tensor) and source.requires_grad for source in sources):
        raise MisuseError(
            f"{owner} returns a tensor without a gradient, so nothing before it is trained; leave out detach(), item() and "
            "no_grad(), or multiply by 0 what shall not be trained."
        )


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Batch):
        return f"a Batch of {len(value)} examples"
    if isinstance(value, Task | Stage):
        return f"the {type(value).__name__.lower()} '{short(value.name)}'"
    if isinstance(value, Tensor):
        kind = "" if value.is_floating_point() and not value.is_meta else f"{value.dtype} ".removeprefix("torch.")
        return f"a {kind}tensor of shape {list(value.shape)}{' on meta' if value.is_meta else ''}"
    if isinstance(value, list | tuple):
        kinds = ", ".join(sorted({type(each).__name__ for each in value}))
        return f"a {type(value).__name__} of {f'{len(value)} {short(kinds)}' if value else 'nothing'}"
    return f"{short(repr(value))}, of type {type(value).__name__}"


def _end(answer: object) -> str:
    return "; is a `return` missing?" if answer is None else "."


@contextmanager
def same_tensors(owner: str, model: nn.Module) -> Iterator[None]:
    """Raise MisuseError if the form of the model's state changes inside: no checkpoint could be read back."""
    before = form_of(model)
    yield
    if changed := difference(before, form_of(model)):
        raise MisuseError(f"{owner} changes the model so that {changed}, and {UNREADABLE}.")


UNREADABLE = (
    "no checkpoint of it could be read back; change its modules in the hook `build`, which is called wherever a model "
    "is made, or keep the names, shapes and types in its state_dict"
)
Form = Mapping[str, str]


def form_of(model: nn.Module) -> Form:
    """Describe each tensor of a model's state by shape and type."""
    return {name: _form(value) for name, value in model.state_dict().items()}


def _form(value: Any) -> str:
    if not isinstance(value, Tensor):  # what a module keeps by get_extra_state
        return type(value).__name__
    return f"{list(value.shape)} {value.dtype}{' on meta' if value.is_meta else ''}".replace("torch.", "")


def difference(before: Form, after: Form) -> str:
    """Say how the first tensor that differs between two models does; nothing if none does."""
    for name in before:
        if name not in after:
            return f"its state lacks {name}"
        if before[name] != after[name]:
            return f"{name} is {after[name]} instead of {before[name]}"
    return next((f"its state has {name}, which is new" for name in after if name not in before), "")
