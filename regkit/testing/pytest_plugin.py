"""Pytest plugin: `pytest --regkit-plugin NAME` checks a plugin beside the tests that are there anyway.

pytest imports this module whenever it starts, so torch and regkit's own modules are imported where they are used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from regkit.testing.kit import Kit

PROPERTY = "regkit"  # of a report: the plugin, the check, its outcome and the reason
Found = list[str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names plugins to check."""
    parser.getgroup("regkit").addoption(
        "--regkit-plugin",
        action="append",
        default=[],
        metavar="NAME[:key=value,...]|FILE.py",
        help="Check this plugin of regkit for every promise; may be given several times.",
    )


@pytest.hookimpl(tryfirst=True)  # so that -k and -m select among the checks too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each check of each plugin. Raises UsageError for a plugin that cannot be made."""
    for text in config.getoption("regkit_plugin"):
        items += _items(session, text)


def _items(session: pytest.Session, text: str) -> Iterator[pytest.Item]:
    import torch

    from regkit.base.errors import RegkitError
    from regkit.hooks import catalog
    from regkit.testing.kit import Kit, factory_of

    torch.set_num_threads(1)  # several times faster on tensors as small as these
    try:
        kit = Kit(factory_of(catalog.allowed(text)))
    except RegkitError as error:
        raise pytest.UsageError(f"--regkit-plugin {text}: {error}") from None
    for check in kit.checks:
        yield CheckItem.from_parent(session, name=f"regkit::{text}::{check}", kit=kit, check=check, text=text)


class BrokenError(Exception):
    """Report a promise that was not kept, in a sentence."""


class CheckItem(pytest.Item):
    """One check of one plugin."""

    def __init__(self, *, kit: Kit, check: str, text: str, **given: Any) -> None:
        super().__init__(**given)
        self.kit, self.check, self.text = kit, check, text

    def runtest(self) -> None:
        """Make the check, and tell pytest what it came to."""
        _, outcome, reason = self.kit.find(self.check)
        self.user_properties.append((PROPERTY, [self.text, self.check, outcome, reason]))
        if outcome == "failed":
            raise BrokenError(reason)
        if outcome != "passed":
            pytest.skip(f"{outcome}: {reason}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the sentence alone: a traceback leads into the kit."""
        return str(excinfo.value) if isinstance(excinfo.value, BrokenError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Name the check as reports do."""
        return "regkit", None, self.name


def _found(reports: list[pytest.TestReport]) -> list[Found]:
    properties = chain.from_iterable(each.user_properties for each in reports if each.when == "call")
    return [cast(Found, value) for name, value in properties if name == PROPERTY]


REPORTS = pytest.StashKey[list[pytest.TestReport]]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the reports of checks, if some are asked for."""
    if config.getoption("regkit_plugin"):
        config.stash[REPORTS] = []
        config.pluginmanager.register(_Listener(config), "regkit-listener")


class _Listener:
    """Hears what each check came to, whichever process has made it."""

    def __init__(self, config: pytest.Config) -> None:
        self.reports = config.stash[REPORTS]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report."""
        self.reports.append(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End with the status of no tests if no check of a plugin was passed: green would hide that."""
        passed = {text for text, _, outcome, _ in _found(self.reports) if outcome == "passed"}
        if session.exitstatus == pytest.ExitCode.OK and {text for text, *_ in _found(self.reports)} - passed:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print how many checks of each plugin came to what, and why some were not made."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text, _, outcome, _ in _found(self.reports):
            counts[text][outcome] += 1
        for text, found in counts.items():
            said = ", ".join(f"{found[each]} {each}" for each in ("passed", "failed", "not applicable", "skipped"))
            terminalreporter.write_line(f"regkit: {text}: {said}")
        for text, check, outcome, reason in _found(self.reports):
            if outcome in ("not applicable", "skipped"):
                terminalreporter.write_line(f"  {text}: {check}: {outcome}: {reason}")
