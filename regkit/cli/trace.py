"""Trace: watch the hook calls of a run - who answers, how long it takes, who draws random numbers."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from regkit.base.randomness import Streams
from regkit.hooks.compose import Composition
from regkit.hooks.spec import DECIDE
from regkit.hooks.stopwatch import CORE, Stopwatch

DEFAULTS = "defaults"  # the name under which regkit's own answers are registered


@dataclass(frozen=True)
class Answerers:
    """Who answers a hook: the wrappers, outermost first, and those inside, in the order of the calls."""

    around: Sequence[str]
    inside: Sequence[str]

    def __str__(self) -> str:
        return " around ".join([*self.around, ", ".join(self.inside) or "nobody"])


def answerers(composition: Composition, hook: str) -> Answerers:
    """Find who answers a hook.

    Of one that decides, the first answer is taken, and the others are not asked.
    """
    names = {DEFAULTS: CORE} | {name: name for name in composition.plugins}
    calls = [each for each in reversed(getattr(composition.hook, hook).get_hookimpls()) if each.plugin_name in names]
    inside = [names[each.plugin_name] for each in calls if not each.wrapper]
    return Answerers([each.plugin_name for each in calls if each.wrapper], inside[:1] if hook in DECIDE else inside)


@dataclass
class Call:
    """A call of a hook, and the time that its plugins took, calls inside included."""

    hook: str
    task: str  # whose batch it is for; empty outside of batches
    depth: int  # the number of calls that it is inside of
    who: Answerers
    began: float
    seconds: float = 0.0
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # seconds by plugin

    def __str__(self) -> str:
        spent = {CORE: self.seconds - sum(self.spent.values()), **self.spent}
        around, inside = (
            [f"{name} {_in_words(spent.get(name, 0.0))}" for name in part]
            for part in (self.who.around, self.who.inside)
        )
        where = f" of {self.task}" if self.task else ""
        return f"{'  ' * self.depth}{self.hook}{where}: {Answerers(around, inside)}"


def _in_words(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


class Trace(Stopwatch):
    """The calls of hooks, in their order, and the hooks in which plugins draw random numbers."""

    def __init__(self, composition: Composition, streams: Streams) -> None:
        super().__init__(streams.device)
        self.composition, self.streams = composition, streams
        self.calls: list[Call] = []
        self.open: list[Call] = []
        self.draws: dict[str, dict[str, None]] = {}  # by plugin: the hooks in which it draws

    @contextmanager
    def watching(self) -> Iterator["Trace"]:
        """Watch what is called inside."""
        attached, before = self.composition.attached.values(), self.composition.stopwatch
        unwatch = self.composition.manager.add_hookcall_monitoring(self._before, self._after)
        for each in attached:
            each.stopwatch = self
        try:
            yield self
        finally:
            for each in attached:
                each.stopwatch = before
            unwatch()

    def _before(self, hook_name: str, hook_impls: object, kwargs: Mapping[str, Any]) -> None:
        _, _, task, *_ = *self.streams.place, "", "", ""
        who = answerers(self.composition, hook_name)
        call = Call(hook_name, str(task), len(self.open), who, self.now())
        self.calls.append(call)
        self.open.append(call)

    def _after(self, outcome: object, hook_name: str, hook_impls: object, kwargs: Mapping[str, Any]) -> None:
        call = self.open.pop()
        call.seconds = self.now() - call.began

    @contextmanager
    def on(self, owner: str) -> Iterator[None]:
        """Charge the time inside to this owner, in the present call."""
        began, call = self.now(), self.open[-1] if self.open else None
        try:
            with self.composition.stopwatch.on(owner):
                self.owners.append(owner)
                yield
        finally:
            self.owners.pop()
            if call:
                call.spent[owner] += self.now() - began

    def note_draw(self, *drawn: object) -> None:
        """Note that random numbers are drawn now, unless it is the model that a plugin calls."""
        owner, hook = self.owners[-1], self.open[-1].hook if self.open else ""
        if owner in self.composition.plugins and hook in self.composition.hooks_of(owner):
            self.draws.setdefault(owner, {})[hook] = None
