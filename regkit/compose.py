"""Compose: attach plugins to the hooks in order, and refuse what contradicts itself before anything runs."""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from itertools import chain, product
from types import SimpleNamespace
from typing import Any

import pluggy
from torch import Tensor

from regkit.catalog import last_line
from regkit.errors import PluginError, RegkitError, nearest
from regkit.hookspecs import DECIDE, Hooks
from regkit.memory import ran_out
from regkit.model import Encoder
from regkit.processes import gone
from regkit.randomness import Streams
from regkit.stopwatch import Stopwatch
from regkit.tasks import FINETUNE, Task
from regkit.tokenizer import Tokenizer

OF_THE_RUN = ("tasks", "stages")  # hooks whose answers are the same in every stage


@dataclass
class Composition:
    """The plugins of a run, attached."""

    manager: pluggy.PluginManager
    plugins: Mapping[str, Any]  # by name, in the order of the command line
    stopwatch: Stopwatch  # stands still until somebody starts it
    streams: Streams
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the stages in which the user wants a plugin
    added: dict[str, set[str]] = field(default_factory=dict)  # the stages that a plugin has added
    owners: dict[str, str] = field(default_factory=dict)  # of the terms of the loss given so far: the plugin's name

    @property
    def hook(self) -> Any:
        """Calls every attached plugin: `hook.prepare(model=..., tasks=...)`."""
        return self.manager.hook

    def acts(self, name: str, stage: str) -> bool:
        """Whether a plugin acts in a stage: in fine-tuning and those it adds, unless the user has named others."""
        found = self.named.get(name)
        return stage in (found if found is not None else {FINETUNE, *self.added.get(name, ())})

    def acts_now(self, name: str, hook: str) -> bool:
        """Whether a plugin answers a hook in the stage that runs; all do outside of stages, and where the run is made."""
        stage, *_ = self.streams.place or (None,)
        return not isinstance(stage, str) or hook in OF_THE_RUN or self.acts(name, stage)

    def tasks(self, given: Sequence[Task], tokenizer: Tokenizer, encoder: Encoder) -> list[Task]:
        """The tasks of the run's data, and those of plugins; PluginError where two have one name."""
        answers = self.hook.tasks(given=given, tokenizer=tokenizer, encoder=encoder)
        tasks = [task for answer in answers for task in answer]
        for name in {task.name for task in tasks}:
            if [task.name for task in tasks].count(name) > 1:
                raise PluginError(f"two tasks are called '{name}'; choose another name for one of them.")
        return tasks

    def check_stages(self, stages: Sequence[str]) -> None:
        """PluginError where a plugin shall act in a stage that the run has not, or two decide a hook in one that it has."""
        for name, chosen in self.named.items():
            for stage in chosen:
                if stage not in stages:
                    raise PluginError(f"'{name}' shall act in stage '{stage}'. {nearest(stage, stages)}")
        _one_decider_each(self, stages)  # again, now that plugins have said which stages they add

    def hooks_of(self, name: str) -> list[str]:
        """The hooks that a plugin answers, in the loop's order."""
        answered = implementations(self.plugins[name])
        return [hook for hook in vars(Hooks) if hook in answered]

    def wraps(self, name: str, hook: str) -> bool:
        """Whether the plugin goes around the others' answers, where others only answer."""
        method: Any = implementations(self.plugins[name])[hook]
        return bool(method.regkit_impl["wrapper"])

    def deciders(self, hook: str) -> list[str]:
        """The plugins that answer a hook without going around others: at most one, where the hook is one that decides."""
        return [name for name in self.plugins if hook in self.hooks_of(name) and not self.wraps(name, hook)]

    def observe(self, observer: object) -> None:
        """Attach one of the core's own observers, such as the log; its hooks are marked `trylast`."""
        self.manager.register(observer)

    def ignore(self, observer: object) -> None:
        """The opposite of `observe`."""
        self.manager.unregister(observer)


def compose(
    plugins: Mapping[str, Any],
    defaults: object,
    streams: Streams,
    stages: Mapping[str, Sequence[str]] | None = None,
) -> Composition:
    """Attach plugins above the defaults, the first named being the outermost wrapper. `stages` says where some of them act.

    Raises PluginError for a hook or an argument that does not exist, and for two deciders of one hook.
    """
    manager = pluggy.PluginManager("regkit")
    manager.add_hookspecs(Hooks)
    manager.register(defaults, "defaults")
    composition = Composition(manager, plugins, Stopwatch(streams.device), streams, stages or {})
    for name in reversed(list(plugins)):  # pluggy calls the last registered first
        manager.register(_attached(name, plugins[name], streams, composition), name)
    manager.check_pending()
    _one_decider_each(composition, {FINETUNE, *chain.from_iterable(composition.named.values())})
    return composition


def implementations(plugin: object) -> dict[str, Callable[..., Any]]:
    """The methods of a plugin that are hook implementations, by the name of the hook."""
    found: dict[str, Callable[..., Any]] = {}
    for name, method in inspect.getmembers(plugin, inspect.isroutine):
        mark = getattr(method, "regkit_impl", None)
        if mark:
            found[mark["specname"] or name] = method
    return found


def _one_decider_each(composition: Composition, stages: Iterable[str]) -> None:
    """Two plugins that decide one hook in one stage are refused; all the hooks that the same two decide are named."""
    shared: dict[str, dict[str, None]] = {}  # hooks by their deciders
    for hook, stage in product(DECIDE, stages):
        owners = [f"'{name}'" for name in composition.deciders(hook) if composition.acts(name, stage)]
        if len(owners) > 1:
            shared.setdefault(" and ".join(owners), {})[hook] = None
    for both, hooks in shared.items():
        raise PluginError(f"{both} both decide {' and '.join(hooks)}; keep one of them.")


def _attached(name: str, plugin: object, streams: Streams, composition: Composition) -> SimpleNamespace:
    """The plugin's hook implementations; each draws from its own stream, is timed, and fails under the plugin's name."""
    methods = implementations(plugin)
    if not methods:
        raise PluginError(f"plugin '{name}' attaches to no hook; mark its methods with @hookimpl.")
    attached = {}
    for hook, method in methods.items():
        _check_signature(name, hook, method)

        @contextmanager
        def alone(*when: str, hook: str = hook) -> Iterator[None]:
            with composition.stopwatch.on(name), streams.seeded(name, hook, *when), _blamed(name, hook, streams):
                yield

        attach = _around if method.regkit_impl["wrapper"] else _plain  # type: ignore[attr-defined]
        attached[hook] = attach(name, hook, method, alone, composition)
    return SimpleNamespace(**attached)


def _check_signature(name: str, hook: str, method: Callable[..., Any]) -> None:
    hooks = [known for known in vars(Hooks) if not known.startswith("_")]
    if hook not in hooks:
        raise PluginError(f"plugin '{name}' implements '{hook}', which is no hook. {nearest(hook, hooks)}")
    if hook in DECIDE and method.regkit_impl["trylast"] and not method.regkit_impl["wrapper"]:  # type: ignore[attr-defined]
        raise PluginError(f"plugin '{name}': {hook} is marked trylast, so the default would answer before it.")
    if method.regkit_impl["wrapper"] and not inspect.isgeneratorfunction(method):  # type: ignore[attr-defined]
        raise PluginError(f"plugin '{name}': the wrapper {hook} has no yield.")
    known = list(inspect.signature(getattr(Hooks, hook)).parameters)[1:]
    for argument in inspect.signature(method).parameters.values():
        if argument.name not in known:
            choices = nearest(argument.name, known)
            raise PluginError(f"plugin '{name}': {hook} has no argument '{argument.name}'. {choices}")
        if argument.kind is argument.KEYWORD_ONLY or argument.default is not argument.empty:
            raise PluginError(f"plugin '{name}': {hook}: '{argument.name}' must be plain, without * or a default.")


Alone = Callable[..., AbstractContextManager[None]]


def _plain(
    name: str, hook: str, method: Callable[..., Any], alone: Alone, composition: Composition
) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any) -> Any:
        if not composition.acts_now(name, hook):
            return {} if hook in ("extra_losses", "measure") else None
        with alone():
            answer = method(*arguments)
        if hook == "stages":
            composition.added.setdefault(name, set()).update(stage.name for stage in answer)
        if hook == "extra_losses":
            if not _is_losses(answer):
                found = type(answer).__name__
                raise PluginError(f"plugin '{name}': extra_losses returns {found}; it needs {{name: scalar tensor}}.")
            composition.owners.update(dict.fromkeys(answer, name))
        return {name: answer} if hook == "measure" else answer

    return call


def _around(
    name: str, hook: str, method: Callable[..., Any], alone: Alone, composition: Composition
) -> Callable[..., Any]:
    @wraps(method)
    def wrapper(*arguments: Any) -> Generator[None, Any, Any]:
        if not composition.acts_now(name, hook):
            return (yield)
        with closing(method(*arguments)) as inner:  # at once, where another plugin fails
            with alone("before"):
                if next(inner, inner) is inner:
                    raise PluginError(f"plugin '{name}': the wrapper {hook} does not yield.")
            answer = yield
            with alone("after"):
                try:
                    inner.send(answer)
                except StopIteration as stop:
                    return stop.value
                raise PluginError(f"plugin '{name}': the wrapper {hook} yields twice.")

    return wrapper


def _is_losses(answer: object) -> bool:
    return isinstance(answer, Mapping) and all(isinstance(loss, Tensor) and not loss.dim() for loss in answer.values())


@contextmanager
def _blamed(name: str, hook: str, streams: Streams) -> Iterator[None]:
    """Name the plugin, the hook and the place in the run of whatever goes wrong inside.

    Want of memory is nobody's fault, and the loop has a remedy: that error goes on as it is, with a note. Nor is it a
    plugin's fault that another process is gone.
    """
    try:
        yield
    except RegkitError:
        raise
    except Exception as error:
        if ran_out(error):
            error.add_note(f"{hook} of plugin '{name}'")
            raise
        if gone(error):
            raise
        place = ", ".join(str(part) for part in streams.place) or "the start"
        raise PluginError(f"plugin '{name}' failed in {hook} at {place}: {last_line(error)}.") from error
