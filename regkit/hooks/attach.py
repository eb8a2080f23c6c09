"""Attach: give each hook of a plugin its own random stream, its time, and the plugin's name on errors."""

import inspect
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, wraps
from itertools import chain, islice, zip_longest
from types import SimpleNamespace
from typing import Any

from torch import nn

from regkit.base.errors import EncoderError, MisuseError, PluginError, RegkitError
from regkit.base.failures import gone, last_line, ran_out, reason
from regkit.base.randomness import Streams
from regkit.hooks.answers import NAMED, check, check_all, check_gradient, same_tensors
from regkit.hooks.following import LOG
from regkit.hooks.implementations import Method, arguments_of, check_hooks, implementations, is_wrapper
from regkit.hooks.rules import Call
from regkit.hooks.spec import Hooks
from regkit.hooks.stopwatch import Stopwatch
from regkit.hooks.watch import Watch
from regkit.tasks.task import FINETUNE, Stage

OF_THE_RUN = ("tasks", "build", "stages", *LOG)  # hooks that belong to no stage
BEFORE_STEPS = ("tasks", "prepare", "make_optimizer")  # hooks that are given the model or its encoder
PLACES = {"end_run": "the end"}  # of hooks that are called in no stage
Answers = Sequence[Sequence[Stage]]  # to the hook `stages`: of each plugin


@dataclass
class Attached:
    """One plugin in a run: which hooks it answers, in which stages, and what it has added."""

    name: str
    plugin: object
    streams: Streams
    stopwatch: Stopwatch
    watch: Watch
    owners: dict[str, str]  # of the terms of the loss given so far: the plugin's name; shared by all plugins of the run
    named: Sequence[str] | None = None  # the stages that the user wants it in
    added: set[str] = field(default_factory=set)  # the stages that it has added
    tolerated: bool = True  # whether its failure ends nothing but what it is told
    lost: str = ""  # why it is no longer told what is logged
    lost_in: str = ""  # the hook that failed

    def acts(self, stage: str) -> bool:
        """Whether the plugin acts in a stage: one that the user named, else fine-tuning and those it adds."""
        return stage in ({FINETUNE, *self.added} if self.named is None else self.named)

    def acts_now(self, hook: str) -> bool:
        """Whether the plugin answers a hook now: always outside of stages, and while the run is made."""
        stage, *_ = self.streams.place or (None,)
        return not isinstance(stage, str) or hook in OF_THE_RUN or self.acts(stage)

    @cached_property
    def answered(self) -> dict[str, Method]:
        """The plugin's hook implementations, by the name of the hook."""
        return implementations(self.plugin)

    @property
    def hooks(self) -> list[str]:
        """The hooks that the plugin answers, in the loop's order."""
        return [hook for hook in vars(Hooks) if hook in self.answered]

    @property
    def only_follows(self) -> bool:
        """Whether the plugin takes no part in a step, and only follows the run's log."""
        return set(self.hooks) <= set(LOG)

    @property
    def only_of_the_run(self) -> bool:
        """Whether the plugin answers no hook of a stage."""
        return set(self.hooks) <= set(OF_THE_RUN)

    def wraps(self, hook: str) -> bool:
        """Whether the plugin wraps the others' answers to a hook, instead of giving one."""
        return is_wrapper(self.answered[hook])

    def methods(self) -> SimpleNamespace:
        """Wrap the plugin's hook implementations for pluggy. Raises MisuseError as `check_hooks` does."""
        found = check_hooks(self.name, self.plugin)
        return SimpleNamespace(**{hook: self._wrap(hook, method) for hook, method in found.items()})

    def _wrap(self, hook: str, method: Method) -> Method:
        if is_wrapper(method):
            return self._around(hook, method)
        plain = self._plain(hook, method)
        return self._following(hook, plain) if hook in LOG else plain

    def _plain(self, hook: str, method: Method) -> Method:
        owner, names = f"plugin '{self.name}': {hook}", list(inspect.signature(method).parameters)
        known = arguments_of(hook)

        @as_specified(hook, method)
        def call(*arguments: Any) -> Any:
            if not self.acts_now(hook):
                return {} if hook in NAMED else None
            handed = dict(zip(known, arguments, strict=True))
            given = {name: handed[name] for name in names}
            if "records" in given:
                given["records"] = self._of_its_stages(given["records"])
            called = Call(self.name, self.plugin, owner, hook, given)
            with kept(owner, hook, given), self._alone(called):
                answer = method(*given.values())
            check(owner, hook, answer, handed)
            check_gradient(owner, hook, answer, given.values())
            if hook == "augment":
                self.watch.check_tokens(called, answer)
            if hook == "task_loss":
                self.watch.check_mean(called, answer)
            if hook == "stages":
                self.added.update(stage.name for stage in answer)
            if hook == "extra_losses" and answer:
                self._claim(answer)
            return {self.name: answer} if hook == "measure" else answer

        return call

    def _following(self, hook: str, method: Method) -> Method:
        """Let a plugin fail alone where it only follows the run, and call it no more."""

        @wraps(method)
        def call(*arguments: Any) -> None:
            if self.lost and (hook == "logged" or self.lost_in == "begin_run"):
                return
            try:
                method(*arguments)
            except Exception as error:  # whatever a tracker's library raises
                if not self.tolerated or isinstance(error, MisuseError):  # which others suffer from
                    raise
                self.lost_in, self.lost = (
                    hook,
                    (str(error) if isinstance(error, RegkitError) else f"plugin '{self.name}': {last_line(error)}."),
                )

        return call

    def _of_its_stages(self, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Select the lines of the log that are of the stages in which the user wants the plugin.

        Without such a wish, these are all.
        """
        return [record for record in records if self.named is None or record["stage"] in self.named]

    def _around(self, hook: str, method: Method) -> Method:
        owner, names = f"plugin '{self.name}': the wrapper {hook}", list(inspect.signature(method).parameters)
        known = arguments_of(hook)

        @as_specified(hook, method)
        def wrapper(*arguments: Any) -> Generator[None, Any, Any]:
            if not self.acts_now(hook):
                return (yield)
            handed = dict(zip(known, arguments, strict=True))
            given = {name: handed[name] for name in names}
            called = Call(self.name, self.plugin, owner, hook, given)
            with kept(owner, hook, given), closing(method(*given.values())) as inner:  # closed at once
                with self._alone(called._replace(owner=f"{owner}, before its yield,"), "before"):
                    if next(inner, inner) is inner:
                        raise MisuseError(f"{owner} does not yield.")
                answer = yield
                with self._alone(called, "after"):
                    try:
                        inner.send(self._own(answer) if hook == "stages" else answer)
                    except StopIteration as stop:
                        check_all(owner, hook, stop.value, handed)
                        check_gradient(owner, hook, stop.value, [answer])
                        if hook == "augment":
                            self.watch.check_tokens(called, stop.value)
                        if hook == "task_loss":
                            self.watch.check_mean(called, stop.value, wrapped=answer)
                        if hook == "extra_losses":
                            self._claim(sorted(chain(*stop.value)), chain(*answer))
                        return self._put_back(answer, stop.value) if hook == "stages" else stop.value
                    raise MisuseError(f"{owner} yields twice.")

        return wrapper

    @contextmanager
    def _alone(self, call: Call, *when: str) -> Iterator[None]:
        """Run a hook on the plugin's own time, from its own random stream, and name the plugin in any error.

        Running out of memory is nobody's fault, and the loop has a remedy: that error passes as it is, with a note. Nor is
        it a plugin's fault that another process is gone.
        """
        hook = call.hook
        with self.streams.seeded(self.name, hook, *when), self.watch.over(call), self.stopwatch.on(self.name):
            try:
                yield
            except EncoderError as error:  # of an encoder without what the plugin asks of it
                raise PluginError(f"plugin '{self.name}': {error}") from None
            except (RegkitError, KeyboardInterrupt):
                raise
            except BaseException as error:  # SystemExit too, and what an author derives from none of Python's errors
                if ran_out(error):
                    error.add_note(f"{hook} of plugin '{self.name}'")
                    raise
                if gone(error):
                    raise
                if hook == "begin_run":  # where a run's records go is the user's choice, and no step is to blame
                    raise PluginError(
                        f"'{self.name}' cannot begin to follow the run: {reason(error)}; give it other options, or leave "
                        f"out -p {self.name}."
                    ) from error
                place = self.streams.told or PLACES.get(hook, "the start")
                raise PluginError(f"plugin '{self.name}' failed in {hook} at {place}: {last_line(error)}.") from error

    def _own(self, answers: Answers) -> Answers:
        """Select the stages in which the plugin acts; a wrapper sees and changes no others."""
        return [[stage for stage in answer if self.acts(stage.name)] for answer in answers]

    def _put_back(self, answers: Answers, changed: Answers) -> Answers:
        """Put stages that a wrapper returns in the places of those that it was shown, and new ones behind."""
        known = {stage.name for stage in chain(*answers)}
        found = []
        for before, after in zip_longest(answers, changed, fillvalue=()):
            own = iter(after)
            found.append([*chain(*(islice(own, 1) if self.acts(each.name) else [each] for each in before)), *own])
        self.added.update(stage.name for stage in chain(*found) if stage.name not in known)
        return found

    def _claim(self, names: Iterable[str], others: Iterable[str] = ()) -> None:
        """Note whose terms of the loss these are, but for those of `others`, each once.

        Raises PluginError if another plugin has a term of that name.
        """
        for name in (Counter(iter(names)) - Counter(iter(others))).elements():
            if (other := self.owners.setdefault(name, self.name)) != self.name:
                raise PluginError(
                    f"'{other}' and '{self.name}' both give a loss named '{name}'; each needs a name of its own."
                )


def as_specified(hook: str, method: Any) -> Callable[[Method], Method]:
    """Mark a function as a plugin's method is, and let pluggy hand it all arguments of the hook.

    The method may name fewer; its answer is checked against what the others say.
    """

    def marked(function: Method) -> Method:
        vars(function)["regkit_impl"] = method.regkit_impl
        return wraps(getattr(Hooks, hook))(function)

    return marked


def kept(owner: str, hook: str, given: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Check that a hook before the first step leaves the form of model or encoder as it was.

    What a later hook changes is found when the run is saved.
    """
    model = given.get("model", given.get("encoder")) if hook in BEFORE_STEPS else None
    return same_tensors(owner, model) if isinstance(model, nn.Module) else nullcontext()
