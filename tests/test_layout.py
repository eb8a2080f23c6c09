"""The structure: rooms whose imports go down, a core that knows no algorithm, and public names that exist."""

import ast
import importlib
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import regkit

ROOT = Path(__file__).parents[1]

# Who may import whom: a room imports from those named before it, and from itself, but for pairs that are `APART`.
ROOMS = [
    "base",
    "tasks",
    "distributed",
    "model",
    "data",
    "hooks",
    "training",
    "runs",
    "testing",
    "hf",
    "experiments",
    "page",
    "cli",
    "notebook",
]
APART = {("tasks", "distributed"), ("distributed", "tasks"), ("data", "hooks"), ("hooks", "data")}
APART |= {("hf", "testing"), ("cli", "hf"), ("notebook", "hf"), ("experiments", "hf"), ("page", "hf")}
FACE = {"__init__", "__main__"}  # what stands in no room: the public names, and `python -m regkit`


def room(module: str) -> str:
    """`regkit.data.tables` lives in `data`; `regkit` itself stands in none."""
    return module.partition(".")[2].partition(".")[0]


def imports(path: Path) -> set[str]:
    """The regkit modules that a file imports when it runs; those for type checkers alone are left out."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {imported(node.module, alias.name) for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("regkit", "regkit_plugins")}


def imported(module: str, name: str) -> str:
    """What `from module import name` imports: the module of that name, if there is one, or a name of the public face."""
    is_module = (ROOT / f"{module.replace('.', '/')}/{name}.py").is_file()
    return f"{module}.{name}" if is_module or module == "regkit" else module


def who_imports_whom() -> dict[str, list[str]]:
    """The rooms that each room imports from, highest first; `python -m tests.test_layout` prints it."""
    found: dict[str, set[str]] = {name: set() for name in reversed(ROOMS)}
    for name in found:
        for path in (ROOT / "regkit" / name).rglob("*.py"):
            found[name] |= {room(module) for module in imports(path)} - {name}
    return {name: sorted(others, key=ROOMS.index, reverse=True) for name, others in found.items()}


def test_every_module_lives_in_a_room() -> None:
    found = {
        path.stem for path in (ROOT / "regkit").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert found - FACE == set(ROOMS)


@pytest.mark.parametrize("path", sorted((ROOT / "regkit").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_and_never_to_a_plugin(path: Path) -> None:
    own = path.relative_to(ROOT / "regkit").parts[0].removesuffix(".py")
    if own in FACE:
        return
    below = ROOMS[: ROOMS.index(own) + 1]
    for module in imports(path):
        assert not module.startswith("regkit_plugins"), f"{path.name} imports {module}"
        assert room(module) in below, f"{path.name} imports {module}, from a room above"
        assert (own, room(module)) not in APART, f"{path.name} imports {module}, from the room beside it"


@pytest.mark.parametrize("name", ROOMS)
def test_there_is_no_circle_inside_a_room(name: str) -> None:
    folder = ROOT / "regkit" / name
    arrows = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): {each for each in imports(path) if room(each) == name}
        for path in folder.rglob("*.py")
        if path.stem != "__init__"
    }
    TopologicalSorter(arrows).prepare()  # raises CycleError


PLUGINS = ROOT / "plugins" / "regkit_plugins"


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda p: str(p.relative_to(PLUGINS)))
def test_a_plugin_imports_what_is_public_and_no_other_plugin(path: Path) -> None:
    own = f"regkit_plugins.{path.relative_to(PLUGINS).parts[0]}."  # one that has a folder imports its own modules
    for module in imports(path):
        public = module == "regkit" or module.startswith(own)
        assert public or module.removeprefix("regkit.") in regkit.__all__, f"{path.name} imports {module}"


def test_what_is_public_can_be_imported_and_is_sorted() -> None:
    assert list(regkit.__all__) == sorted(regkit.__all__)
    for name in regkit.__all__:
        assert hasattr(regkit, name)


def test_every_entry_point_of_the_project_is_installed() -> None:
    """A new one needs `pip install` again."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["regkit.plugins"]
    found = {point.name: point.value for point in entry_points(group="regkit.plugins")}
    assert declared.items() <= found.items(), "install the project again: pip install -e ."


def test_every_plugin_module_has_an_entry_point() -> None:
    modules = {path.stem for path in (ROOT / "plugins" / "regkit_plugins").iterdir()} - {
        "__init__",
        "__pycache__",
        "py",
    }
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["regkit.plugins"]
    assert modules == {value.partition(":")[0].split(".")[1] for value in declared.values()}


def test_importing_regkit_imports_no_plugin_and_no_heavy_optional_library() -> None:
    program = "import regkit, sys; print([n for n in sys.modules if n.split('.')[0] in "
    program += (
        "('regkit_plugins', 'torch', 'numpy', 'transformers', 'sklearn', 'scipy', 'pyarrow', 'huggingface_hub')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted({path.stem for path in PLUGINS.iterdir()} - {"__pycache__", "py"}))
def test_a_plugins_docstring_begins_with_its_name_and_what_it_does(name: str) -> None:
    if name == "__init__":
        return
    first = (importlib.import_module(f"regkit_plugins.{name}").__doc__ or "").splitlines()[0]
    assert ": " in first
    assert first.endswith(".")


if __name__ == "__main__":
    for importer, imported in who_imports_whom().items():
        print(f"{importer:12} {' '.join(imported) or 'nothing of regkit'}")
