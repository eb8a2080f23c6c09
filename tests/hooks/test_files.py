"""Plugins in files: one file is enough, and no code is run that the user has not named."""

import sys
from pathlib import Path
from typing import Any

import pytest

from regkit import PluginError
from regkit.hooks import catalog, option_values, uninstalled
from regkit.hooks.files import PluginFile, named
from regkit.hooks.handed import make, take

MINE = '''"""Mine: pull outputs toward 0.

For short runs.
"""
from dataclasses import dataclass
from regkit import hookimpl


@dataclass
class MyPull:
    weight: float = 1.0
    """How strongly."""

    @hookimpl
    def extra_losses(self, output):
        return {"my_pull": self.weight * output.square().mean()}
'''
OTHER = "\n\n@dataclass\nclass Other:\n    @hookimpl\n    def after_step(self): ...\n"


def write(folder: Path, text: str = MINE, name: str = "mine.py") -> str:
    (folder / name).write_text(text, encoding="utf8")
    return str(folder / name)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("./mine.py", ("./mine.py", "", "")),
        ("mine.py:Mine", ("mine.py", "Mine", "")),
        ("/a b/mine.py:weight=2,more=3", ("/a b/mine.py", "", "weight=2,more=3")),
        ("~/m.py:Mine:weight=2", ("~/m.py", "Mine", "weight=2")),
        ("./m.py:Mine:file=x.py", ("./m.py", "Mine", "file=x.py")),
        (r"C:\work\mine.py:Mine", (r"C:\work\mine.py", "Mine", "")),
        ("smart:weight=2", None),
        ("domain:corpus=./x.py", None),
        ("smart", None),
    ],
)
def test_a_file_is_told_from_a_name_by_its_ending(text: str, parts: tuple[str, str, str] | None) -> None:
    assert named(text) == parts


def test_its_name_options_and_docstring_are_read_without_running_it(tmp_path: Path) -> None:
    found = catalog.read_file(f"{write(tmp_path, MINE + 'raise SystemError')}:MyPull:weight=2")
    assert found is not None
    file, text = found
    assert (file.name, text) == ("my_pull", "my_pull:weight=2")
    with uninstalled.handing({"my_pull": file}):
        assert catalog.summary("my_pull") == ("Mine: pull outputs toward 0.", "For short runs.")
        assert catalog.shown_options("my_pull")["weight"].meaning == "How strongly."
        with pytest.raises(PluginError, match=r"'my_pull' has no option 'wieght'. Did you mean 'weight'"):
            catalog.check_names("my_pull", {"wieght": "2"})
        with pytest.raises(PluginError, match="cannot be imported: SystemError"):
            catalog.make("my_pull", {})


def test_an_option_that_has_no_type_in_the_class_is_none(tmp_path: Path) -> None:
    found = catalog.read_file(write(tmp_path, MINE.replace("weight: float = 1.0", "weight = 1.0")))
    assert found is not None
    with (
        uninstalled.handing({"my_pull": found[0]}),
        pytest.raises(PluginError, match=r"no option 'weight': it needs a type in the class, as in weight: float\.$"),
    ):
        catalog.check_names("my_pull", {"weight": "2"})


def test_a_plugin_may_inherit_all_its_hooks_from_another_module(tmp_path: Path) -> None:
    text = (
        "from dataclasses import dataclass\nfrom regkit_plugins.smart import Smart\n\n"
        "@dataclass\nclass Data:\n    text: str = ''\n\n@dataclass\nclass Mild(Smart):\n    weight: float = 0.1\n"
    )
    found = catalog.read_file(write(tmp_path, text))
    assert found is not None
    with uninstalled.handing({"mild": found[0]}):
        assert (found[0].attr, catalog.make("mild", {}).weight) == ("Mild", 0.1)
        assert catalog.summary("mild") == ("", "")  # and not the signature that dataclasses writes
    both = text + "\n@dataclass\nclass Other(Smart):\n    weight: float = 0.2\n"
    with pytest.raises(PluginError, match="has 2 plugins: name one"):
        catalog.read_file(write(tmp_path, both))


def test_what_its_options_mean_is_read_where_its_source_leaves_a_type_open(tmp_path: Path) -> None:
    unusual = "    folder: Path = Path()\n    norm: Literal[1, 2] = 2\n    weight: float = 1.0\n"
    text = "from pathlib import Path\nfrom typing import Literal\n" + MINE.replace("    weight: float = 1.0\n", unusual)
    found = catalog.read_file(write(tmp_path, text))
    assert found is not None
    with uninstalled.handing({"my_pull": found[0]}):
        assert catalog.shown_options("my_pull")["weight"].meaning == "How strongly."


WRONG: dict[str, tuple[str | None, str, str]] = {  # the text of the file, what stands behind its name, the sentence
    "missing": (None, "", "there is no such file"),
    "syntax": ("def f(:\n", "", "cannot be read: line 1: invalid syntax"),
    "without": ("x = 1\n", "", "has no plugin: a dataclass with a method that is marked @hookimpl"),
    "not a dataclass": (MINE.replace("@dataclass\n", ""), "", "has no plugin: class MyPull lacks @dataclass above it"),
    "private": (MINE.replace("class MyPull", "class _MyPull"), "", "has no plugin: class _MyPull's name begins with _"),
    "unmarked": (
        MINE.replace("    @hookimpl\n", ""),
        "",
        "has no plugin: class MyPull has no method that is marked @hookimpl",
    ),
    "several": (MINE + OTHER, "", "has 2 plugins: name one, .*mine.py:MyPull. Available: MyPull, Other"),
    "unknown": (MINE, ":MyPul", "has no class 'MyPul'. Did you mean 'MyPull'"),
    "taken": (MINE.replace("MyPull", "Smart"), "", "Smart would be plugin 'smart', which is installed"),
    "binary": ("\0", "", "cannot be read: source code"),
}


ENDS = {  # code that ends the program, and what it happens to be
    "import": (MINE + "raise SystemExit(0)\n", "cannot be imported: SystemExit: 0"),
    "making": (MINE + "    def __post_init__(self): raise SystemExit(0)\n", "failed when it was made: SystemExit: 0"),
}


@pytest.mark.parametrize("case", ENDS)
def test_code_that_ends_the_program_ends_it_with_a_sentence(case: str, tmp_path: Path) -> None:
    text, said = ENDS[case]
    with pytest.raises(PluginError, match=said):
        make([write(tmp_path, text)])


@pytest.mark.parametrize("name", ["./mine", "mine.PY", "mine.py.MyPull", "folder/"])
def test_what_looks_like_a_path_is_told_how_files_are_named(name: str) -> None:
    with pytest.raises(PluginError, match=r"one in a file is named by its path, which ends in \.py"):
        catalog.make(*catalog.parse(name))


TYPED = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from regkit import hookimpl
if TYPE_CHECKING:
    from nowhere import Held
{more}

@dataclass
class Typed:
    weight: {option} = 1
    held: Held | None = field(init=False, default=None)

    @hookimpl
    def after_step(self): ...
"""


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("float", ""),
        ("Held", "the type of its option weight cannot be read: NameError: name 'Held' is not defined"),
        ("Plain", "'typed': weight is a Plain, which no text stands for"),
    ],
)
def test_types_are_read_of_options_alone(option: str, said: str, tmp_path: Path) -> None:
    """A state is often of a type that is imported for a type checker."""
    given = f"{write(tmp_path, TYPED.format(option=option, more='class Plain: ...'))}:weight=3"
    if not said:
        assert make([given]).plugins["typed"].weight == 3.0
        return
    with pytest.raises(PluginError, match=said):
        make([given])


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(case: str, tmp_path: Path) -> None:
    text, behind, said = WRONG[case]
    if text is not None:
        write(tmp_path, text)
    with pytest.raises(PluginError, match=said):
        catalog.read_file(f"{tmp_path / 'mine.py'}{behind}")


def test_of_several_plugins_the_named_one_is_taken_and_what_is_private_does_not_count(tmp_path: Path) -> None:
    place = write(tmp_path, MINE + OTHER)
    assert PluginFile.read(place, "Other").name == "other"
    assert PluginFile.read(write(tmp_path, MINE + OTHER.replace("Other", "_Other"))).name == "my_pull"
    heir = MINE + "\n\n@dataclass\nclass Heir(MyPull):\n    more: float = 1.0\n"
    assert PluginFile.read(write(tmp_path, heir), "Heir").load()().weight == 1.0


def test_the_code_that_was_read_is_the_code_that_runs(tmp_path: Path) -> None:
    file = PluginFile.read(write(tmp_path))
    write(tmp_path, MINE.replace("1.0", "5.0"))
    assert file.load()().weight == 1.0
    assert file.load() is file.load()
    assert PluginFile.read(str(tmp_path / "mine.py")).load()().weight == 5.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]  # no bytecode is left behind


def test_a_module_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        PluginFile.read(write(tmp_path, MINE + "1 / 0\n")).load()
    assert set(sys.modules) == before


def test_settings_alone_run_no_code(tmp_path: Path) -> None:
    file = PluginFile.read(write(tmp_path))
    given: dict[str, Any] = {"weight": 2.0, "code": file.record}
    for check in (catalog.check_names, catalog.make):
        with pytest.raises(PluginError, match=r"is code of .*mine.py; to run that code, add -p .*mine.py:MyPull"):
            check("my_pull", given)
        with pytest.raises(PluginError, match="is no record of a file"):
            check("smart", {"code": "x"})
    with pytest.raises(PluginError, match="only the command line may name"):
        catalog.check_names("./mine.py", {})


def test_changed_code_is_refused_and_moved_code_is_not(tmp_path: Path) -> None:
    record = PluginFile.read(write(tmp_path)).record
    with uninstalled.handing({"my_pull": PluginFile.read(write(tmp_path, MINE, "moved.py"))}):
        made = catalog.make("my_pull", {"code": record, "weight": "2"})
        held = option_values.chosen("my_pull", made, {"code": record, "weight": "2"})
        assert held == {"code": record | {"file": str(tmp_path / "moved.py")}, "weight": 2.0}
    with (
        uninstalled.handing({"my_pull": PluginFile.read(write(tmp_path, MINE + "# more\n"))}),
        pytest.raises(PluginError, match="is not the code that the run began with"),
    ):
        catalog.check_names("my_pull", {"code": record})


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    one, other = (PluginFile.read(write(tmp_path, MINE, name)) for name in ("one.py", "other.py"))
    with uninstalled.handing({"my_pull": one}), pytest.raises(PluginError, match="two files offer a plugin 'my_pull'"):
        uninstalled.allow(other)


def test_python_takes_a_file_where_it_takes_a_name(tmp_path: Path) -> None:
    place = write(tmp_path)
    found = take([f"{place}:weight=2"])
    assert found.options["my_pull"] == {"code": PluginFile.read(place).record, "weight": "2"}
    assert make([f"{place}:weight=2"]).plugins["my_pull"].weight == 2.0
    assert not uninstalled.files()
