"""`regkit plugins new`: each kind begins as a project that installs, passes its tests, and trains."""

import sys
from pathlib import Path

import pytest

from regkit.cli.scaffold import KindName, checked_name, class_name
from regkit.hooks.contract import CONTRACT
from regkit.hooks.files import PluginFile
from tests import forked
from tests.benchmarks.scaffold import run, steps, try_kind, write_project
from tests.helpers import regkit

LONG = "a_name_of_thirty_letters_or_so"


def test_ruff_has_no_complaint_about_any_kind_whatever_the_length_of_the_name(tmp_path: Path) -> None:
    for kind in KindName:
        write_project(tmp_path / f"short-{kind.value}", kind, "x")
        write_project(tmp_path / f"long-{kind.value}", kind, LONG)
    ruff = Path(sys.executable).with_name("ruff")
    run(ruff, "check", "--no-cache", ".", cwd=tmp_path)
    run(ruff, "format", "--no-cache", "--check", ".", cwd=tmp_path)


@pytest.mark.parametrize("kind", list(KindName))
def test_the_command_writes_a_plugin_of_the_kind(kind: KindName, tmp_path: Path) -> None:
    ran = regkit("plugins", "new", "regkit-My-Own", "--kind", kind.value, cwd=tmp_path)
    assert ran.status == 0, ran.err
    project = tmp_path / "regkit-my-own"
    found = sorted(str(path.relative_to(project)) for path in project.rglob("*") if path.is_file())
    assert found == ["README.md", "pyproject.toml", "regkit_my_own.py", "tests/test_my_own.py"]
    assert "    regkit plugins check my_own\n" in (project / "README.md").read_text()
    file = PluginFile.read(str(project / "regkit_my_own.py"))
    assert (file.name, file.load().contract) == ("my_own", CONTRACT)
    shown = regkit("plugins", project / "regkit_my_own.py", cwd=tmp_path).out
    assert shown.startswith("my_own  My own: ")
    options = [line for line in shown.splitlines() if line.startswith(("weight", "decay", "block", "epochs", "name"))]
    assert all(len(line.split()) > 4 for line in options)  # each has a meaning


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("2fast", "cannot be called '2fast'"),
        ("my method", "cannot be called"),
        ("naïve", "cannot be called"),
        ("x" * 31, "up to 30 letters"),
        ("Smart", "the name 'smart' is taken by the installed plugin of regkit_plugins.smart:Smart"),
        ("new", "the name 'new' is taken by regkit plugins new"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, said: str, tmp_path: Path) -> None:
    ran = regkit("plugins", "new", name, "--kind", "task", cwd=tmp_path)
    assert ran.status == 2
    assert said in ran.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert regkit("plugins", "new", "own", "--kind", "task", "--output", "mine", cwd=tmp_path).status == 0
    ran = regkit("plugins", "new", "own", "--kind", "stage", "--output", "mine", cwd=tmp_path)
    assert (ran.status, ran.err) == (2, "regkit: mine exists already; name another --output.\n")


@pytest.mark.parametrize(
    ("name", "kind"), [("batch", "BatchPlugin"), ("splits", "Splits"), ("none", "NonePlugin"), ("my_2nd", "My2nd")]
)
def test_a_class_does_not_hide_what_its_module_uses(name: str, kind: str) -> None:
    assert class_name(checked_name(name)) == kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KindName if kind is not KindName.REGULARIZER])
def test_the_tests_of_each_kind_pass(kind: KindName, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", kind)
    tests = forked.module(steps(kind)["tests"], tmp_path, PYTHONPATH=str(project))  # in place of an installation
    assert tests.wait() == 0, tests.said


@pytest.mark.slow
def test_a_new_project_installs_passes_its_tests_and_trains(tmp_path: Path) -> None:
    took = try_kind(tmp_path / "kind", KindName.REGULARIZER, ["new", "install", "tests", "train"])
    assert list(took) == ["new", "install", "tests", "train"]
    assert "my_own" in (tmp_path / "kind" / "run" / "effects.json").read_text()
