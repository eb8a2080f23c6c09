"""Kit: check a plugin for every promise, and say whether each was kept, broken or not looked at."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Literal, NamedTuple, get_args
from unittest import SkipTest

import torch

from regkit.base.errors import PluginError, RegkitError
from regkit.base.failures import last_line
from regkit.hooks import catalog
from regkit.hooks.implementations import implementations
from regkit.testing.contract import (
    a_teacher_gets_no_gradient,
    hooks_keep_to_their_part,
    it_acts,
    terms_have_names_of_their_own,
)
from regkit.testing.cost import cost_is_as_declared
from regkit.testing.following import a_log_is_followed
from regkit.testing.kinds import every_kind_is_taken_or_refused, refusal, taken
from regkit.testing.precision import bf16_is_no_trouble
from regkit.testing.processes import two_processes_are_one
from regkit.testing.promises import (
    a_skipped_step_leaves_no_trace,
    contradictions_do_not_start,
    draws_are_its_own,
    effects_are_measured,
    extra_passes_leave_no_trace,
    merging_changes_no_output,
    micro_batches_do_not_show,
    resume_is_exact,
    strength_zero_is_no_plugin,
)
from regkit.testing.saving import a_checkpoint_is_exact
from regkit.testing.tiny import Several, placed, tiny_tasks
from regkit.testing.verdicts import Factory, NotApplicableError, Tasks

GROUP = "regkit.checks"  # entry points of checks: functions like the promises
Check = Callable[[Factory, Tasks], None]
Outcome = Literal["passed", "failed", "not applicable", "skipped"]
CPU = torch.device("cpu")
FAILED, NOTHING = 1, 5  # exit statuses, pytest's: a check has failed; none was made

PROMISES: tuple[Callable[..., None], ...] = (
    it_acts,
    hooks_keep_to_their_part,
    resume_is_exact,
    a_checkpoint_is_exact,
    draws_are_its_own,
    micro_batches_do_not_show,
    extra_passes_leave_no_trace,
    strength_zero_is_no_plugin,
    contradictions_do_not_start,
    a_skipped_step_leaves_no_trace,
    merging_changes_no_output,
    effects_are_measured,
    terms_have_names_of_their_own,
    a_teacher_gets_no_gradient,
    every_kind_is_taken_or_refused,
    bf16_is_no_trouble,
    cost_is_as_declared,
    a_log_is_followed,
)
SLOW_PROMISES: tuple[Callable[..., None], ...] = (two_processes_are_one,)


class Finding(NamedTuple):
    """What a check came to; `reason` is a sentence, and empty if it has passed."""

    check: str
    outcome: Outcome
    reason: str = ""


def checks() -> dict[str, Check]:
    """List every check by name: regkit's promises, and those that installed packages add.

    Raises PluginError for one that cannot be imported, or has the name of another.
    """
    found: dict[str, Check] = {promise.__name__: promise for promise in (*PROMISES, *SLOW_PROMISES)}
    for point in sorted(entry_points(group=GROUP)):
        if point.name in found:
            raise PluginError(f"a check called '{point.name}' ({point.value}) is there already; give it another name.")
        try:
            found[point.name] = point.load()
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises
            raise PluginError(
                f"check '{point.name}' ({point.value}) cannot be imported: {last_line(error)}."
            ) from error
    return found


def factory_of(text: str) -> Factory:
    """Read `name:key=value,...` and make a factory of that plugin. Raises PluginError as a run would.

    One that combines the gradients of several tasks is accompanied by a scheduler that gives a step several.
    """
    name, options = catalog.parse(text)

    def factory() -> dict[str, object]:
        made = {name: catalog.make(name, options)}
        hooks = implementations(made[name])
        return made | ({"several": Several()} if "combine_gradients" in hooks and "choose_tasks" not in hooks else {})

    factory()
    return factory


@dataclass
class Kit:
    """The checks of a plugin, or of several together, on the tiny tasks that it takes and on a device."""

    factory: Factory
    checks: Mapping[str, Check] = field(default_factory=lambda: checks())
    device: torch.device = CPU

    def __iter__(self) -> Iterator[Finding]:
        """Make every check, one after the other."""
        return map(self.find, self.checks)

    def find(self, name: str) -> Finding:
        """Make the check of this name; of a plugin that does not act, the few that do not ask for it."""
        with placed(self.device):
            return self._find(name)

    def _find(self, name: str) -> Finding:
        if name == it_acts.__name__:
            return self.acts
        check = self.checks[name]
        if self.acts.outcome == "failed" and check is not every_kind_is_taken_or_refused:
            return Finding(name, "skipped", "no run with it comes to its end: see it_acts")
        if self.acts.outcome == "not applicable" and check is not a_log_is_followed:
            return Finding(name, "not applicable", self.acts.reason)
        return finding(name, check, self.factory, self.tasks)

    @cached_property
    def tasks(self) -> Tasks:
        """Choose the tiny tasks that the plugin takes; all, if it refuses each."""
        found = taken(self.factory)
        return found if found() else tiny_tasks

    @cached_property
    def acts(self) -> Finding:
        """Find out whether the plugin does anything: with one that does not, nothing else is worth a check."""
        name = it_acts.__name__
        try:
            refused = refusal(self.factory, self.tasks())
        except AssertionError as error:
            return Finding(name, "failed", _sentence(error))
        if refused:
            return Finding(name, "not applicable", f"it takes none of the tiny tasks: {refused}")
        return finding(name, it_acts, self.factory, self.tasks)


def status(findings: Collection[Finding]) -> int:
    """Choose an exit status: 0 only if a check was passed and none has failed, so that nothing is hidden."""
    outcomes = {each.outcome for each in findings}
    return FAILED if "failed" in outcomes else 0 if "passed" in outcomes else NOTHING


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Count the findings of each outcome, those that did not come too."""
    found = Counter(each.outcome for each in findings)
    return {outcome: found[outcome] for outcome in get_args(Outcome)}


def in_words(counts: Mapping[str, int]) -> str:
    """Write how many checks came to what: `12 passed, 0 failed, 4 not applicable, 1 skipped`."""
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def finding(name: str, check: Check, factory: Factory, tasks: Tasks) -> Finding:
    """Make one check, and say in a sentence what it came to."""
    try:
        check(factory, tasks)
    except NotApplicableError as reason:
        return Finding(name, "not applicable", _sentence(reason))
    except SkipTest as reason:
        return Finding(name, "skipped", _sentence(reason))
    except (AssertionError, RegkitError) as error:
        return Finding(name, "failed", _sentence(error))
    except (
        Exception,
        SystemExit,
    ) as error:  # of a check that somebody else wrote, or of the plugin outside of its hooks
        return Finding(name, "failed", last_line(error))
    return Finding(name, "passed")


def _sentence(error: Exception) -> str:
    """Take the first line of what a check says: below it, pytest writes the values it has compared."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else f"a check raised {type(error).__name__} without a word"
