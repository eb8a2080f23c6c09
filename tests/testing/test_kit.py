"""The kit: what it says of plugins that are wrong, of those that do nothing, and of checks that are added."""

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

from regkit.base.errors import PluginError
from regkit.hooks import catalog
from regkit.hooks.files import PluginFile
from regkit.hooks.spec import hookimpl
from regkit.testing import (
    PROMISES,
    SLOW_PROMISES,
    Finding,
    Kit,
    NotApplicableError,
    SkippedError,
    checks,
    kit,
    processes,
    tiny_tasks,
)
from regkit.testing.kit import Check, counts, factory_of, status
from regkit.testing.processes import two_processes_are_one
from tests import forked
from tests.faults import FAULTS
from tests.faults.right import RIGHT, ActsNowhere, OtherLoss
from tests.helpers import Ran, slow_but, with_stranger
from tests.hooks.test_files import MINE

BY_NAME: dict[str, Check] = {promise.__name__: promise for promise in (*PROMISES, *SLOW_PROMISES)}
QUICK = ["float term", "misspelt hook", "set in state", "weight turned"]


def found(kind: type, *names: str) -> list[Finding]:
    return list(Kit(lambda: {"mine": kind()}, {name: BY_NAME[name] for name in names or BY_NAME}))


@pytest.mark.parametrize("name", slow_but(FAULTS, QUICK))
def test_what_is_wrong_is_said_in_a_sentence_with_its_cause(name: str) -> None:
    fault = FAULTS[name]
    (finding,) = found(fault.plugin, fault.check)
    assert finding.outcome == "failed"
    assert fault.kit in finding.reason
    assert "\n" not in finding.reason


@pytest.mark.slow
@pytest.mark.parametrize("kind", RIGHT)
def test_nothing_is_said_against_a_plugin_that_is_right(kind: type) -> None:
    said = found(kind, *(promise.__name__ for promise in PROMISES))
    assert not [each for each in said if each.outcome == "failed"]
    assert counts(said)["passed"] > 6


def test_a_plugin_that_does_nothing_on_the_tiny_tasks_has_kept_no_promise() -> None:
    said = found(ActsNowhere)
    assert {each.outcome for each in said} == {"not applicable"}
    assert "changes nothing in a run on the tiny tasks (hooks called: extra_losses)" in said[-1].reason
    assert status(said) == 5


@dataclass
class NeverFinite:
    """A regularizer with a term that is never finite."""

    @hookimpl
    def extra_losses(self, output: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"fine": output.mean(), "broken": output.mean() * float("nan")}


def test_a_term_that_is_never_finite_is_named() -> None:
    said = Kit(lambda: {"mine": NeverFinite()}, {}).acts
    assert said.outcome == "failed"
    assert said.reason.startswith("no step is finite: the loss of 'broken' in task ")
    assert "(plugin 'mine') is not finite; rows " in said.reason


def test_where_no_run_comes_to_its_end_other_checks_are_skipped_and_say_so() -> None:
    first, second = found(FAULTS["float term"].plugin, "it_acts", "resume_is_exact")
    assert (first.outcome, second.outcome) == ("failed", "skipped")
    assert "see it_acts" in second.reason
    assert status([first, second]) == 1


def outcome(outcome: Any) -> Finding:
    return Finding("a", outcome)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["passed", "not applicable", "skipped"], 0),
        (["passed", "failed"], 1),
        (["failed"], 1),
        (["not applicable", "skipped"], 5),
        ([], 5),
    ],
)
def test_the_exit_status_is_0_only_where_a_check_was_passed_and_none_failed(outcomes: list[str], expected: int) -> None:
    assert status([outcome(each) for each in outcomes]) == expected


def of_a_family(factory: Any, tasks: Any) -> None:
    raise NotApplicableError("it is of another family")


def of_another_machine(factory: Any, tasks: Any) -> None:
    raise SkippedError("there is no such machine here")


def broken(factory: Any, tasks: Any) -> None:
    raise ZeroDivisionError


def installed(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    points = [EntryPoint(name, f"{__name__}:{function}", kit.GROUP) for name, function in names.items()]
    monkeypatch.setattr(kit, "entry_points", lambda group: points)


def test_an_installed_package_adds_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, family="of_a_family", machine="of_another_machine", wrong="broken")
    mine = {name: check for name, check in checks().items() if name not in BY_NAME}
    said = list(Kit(lambda: {"mine": OtherLoss()}, mine))
    assert said[:2] == [
        Finding("family", "not applicable", "it is of another family"),
        Finding("machine", "skipped", "there is no such machine here"),
    ]
    assert said[2].outcome == "failed"
    assert said[2].reason.startswith("ZeroDivisionError")


def test_a_check_that_is_there_already_or_cannot_be_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, it_acts="of_a_family")
    with pytest.raises(PluginError, match=r"a check called 'it_acts' .* is there already"):
        checks()
    installed(monkeypatch, other="nowhere")
    with pytest.raises(PluginError, match=r"check 'other' .* cannot be imported"):
        checks()


def test_the_page_lists_every_check_in_its_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checking.md").read_text(encoding="utf8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(BY_NAME)


def test_one_that_combines_gradients_has_several_tasks_a_step() -> None:
    assert [*factory_of("pcgrad")()] == ["pcgrad", "several"]
    assert [*factory_of("smart:weight=3")()] == ["smart"]
    assert factory_of("smart:weight=3")()["smart"].weight == 3


@pytest.mark.slow
def test_two_processes_are_started_and_compared_with_one() -> None:
    """What they say of a plugin that is wrong is tried below, with one in a file."""
    said = kit.finding("two", two_processes_are_one, lambda: {"mine": OtherLoss()}, lambda: tiny_tasks()[:2])
    assert (said.outcome, said.reason) == ("passed", "")


IN_A_FILE = """
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Spread:
    @hookimpl
    def extra_losses(self, vectors):
        return {"spread": (vectors - vectors.mean(0)).square().mean()}
"""


@pytest.mark.slow
def test_two_processes_are_started_for_a_plugin_in_a_file_too(tmp_path: Path) -> None:
    """Its module has no name that another process could import."""
    (tmp_path / "spread.py").write_text(IN_A_FILE, encoding="utf8")
    spread = PluginFile.read(str(tmp_path / "spread.py")).load()
    said = kit.finding("two", two_processes_are_one, lambda: {"spread": spread()}, lambda: tiny_tasks()[:1])
    assert said.outcome == "failed"
    assert "two processes change the gradient of a batch" in said.reason


def test_a_plugin_that_no_other_process_can_read_is_skipped_there() -> None:
    class Local(OtherLoss):
        pass

    (said,) = found(Local, "two_processes_are_one")
    assert said.outcome == "skipped"
    assert said.reason.startswith("the plugin cannot be sent to another process")


def test_processes_that_do_not_end_are_ended_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.01)
    said = kit.finding("two", two_processes_are_one, lambda: {"mine": OtherLoss()}, tiny_tasks)
    assert said.outcome == "skipped"
    assert "did not end within 0.01 seconds" in said.reason


WITH = [] if "regkit" in entry_points(group="pytest11").names else ["-p", "regkit.testing.pytest_plugin"]


def pytest_with(place: Path, *words: str) -> Ran:
    pytest_ = forked.module(["pytest", "-q", "-p", "no:cacheprovider", *WITH, *words], place)
    return Ran(pytest_.wait(), *pytest_.said)


@pytest.mark.slow
def test_pytest_checks_a_plugin_beside_the_tests_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine(): pass\n", encoding="utf8")
    some = ("-k", "mine or it_acts or decides or strength_zero or cost")
    done = pytest_with(tmp_path, "--regkit-plugin", "rrobin", *some)
    assert done.status == 0, done.out
    assert "2 passed, 2 skipped" in done.out
    assert "regkit: rrobin: 1 passed, 0 failed, 2 not applicable, 0 skipped" in done.out
    assert re.search(r"rrobin: strength_zero_is_no_plugin: not applicable: it has no option `weight`", done.out)


@pytest.mark.slow
def test_pytest_takes_a_plugin_in_a_file_which_may_be_frozen(tmp_path: Path) -> None:
    frozen = MINE.replace("@dataclass", "@dataclass(frozen=True, slots=True)")
    (tmp_path / "mine.py").write_text(frozen, encoding="utf8")
    done = pytest_with(tmp_path, "--regkit-plugin", "./mine.py", "-k", "strength_zero")
    assert "regkit: ./mine.py: 1 passed, 0 failed, 0 not applicable, 0 skipped" in done.out


@pytest.mark.slow
def test_pytest_does_not_end_green_where_nothing_was_checked(tmp_path: Path) -> None:
    done = pytest_with(tmp_path, "--regkit-plugin", "rrobin", "-k", "cost_is_as_declared")
    assert done.status == 5, done.out
    assert "0 passed, 0 failed, 1 not applicable" in done.out
    done = pytest_with(tmp_path, "--regkit-plugin", "rorbin")
    assert done.status == 4
    assert "there is no plugin 'rorbin'. Did you mean 'rrobin'?" in done.err


def test_pytest_starts_without_torch() -> None:
    program = "import regkit.testing.pytest_plugin, sys; print([n for n in ('torch', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_strangers_plugin_is_checked_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = "from tests.faults.plugins import FloatTerm\nfrom dataclasses import dataclass\n\n"
    with_stranger(monkeypatch, tmp_path, stranger=f"{source}@dataclass\nclass Plugin(FloatTerm):\n    pass\n")
    assert "stranger" in catalog.installed()
    said = Kit(factory_of("stranger"), {"it_acts": BY_NAME["it_acts"]}).acts
    assert said.outcome == "failed"
    assert said.reason.startswith("plugin 'stranger': extra_losses gives 'mine' as")
