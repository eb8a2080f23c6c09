"""Scaffold: write the project of a new plugin from the templates beside this module."""

import builtins
import keyword
import re
from enum import StrEnum
from pathlib import Path

from regkit.base.errors import PluginError, typed
from regkit.cli.terminal import Terminal, print_lines
from regkit.hooks import catalog
from regkit.hooks.contract import CONTRACT

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 30  # letters of a name: lines of the templates stay within 120
TAKEN = {"new", "show", "check"}  # commands of `regkit plugins`


class KindName(StrEnum):
    """Name the kinds of plugins that there is a template for."""

    REGULARIZER = "regularizer"
    SCHEDULER = "scheduler"
    SURGERY = "surgery"
    WEIGHTING = "weighting"
    STAGE = "stage"
    REPORTER = "reporter"
    TASK = "task"


IDEAS = {  # what each begins as
    KindName.REGULARIZER: "It keeps predictions when word embeddings are disturbed by a little noise.",
    KindName.SCHEDULER: "It trains each task for several updates in a row before the next one has its turn.",
    KindName.SURGERY: "It steps only where the tasks' gradients agree on the direction.",
    KindName.WEIGHTING: "It divides each task's loss by its own running mean.",
    KindName.STAGE: "It trains the heads alone before the whole model.",
    KindName.REPORTER: "It writes the scores on the dev split as a table into the run's folder.",
    KindName.TASK: "It adds a task: to tell texts from the same texts with shuffled words.",
}


def new(name: str, kind: KindName, output: Path | None) -> None:
    """Write the project, and say how to install it, test it and train with it.

    Raises PluginError for a name that is taken or no name, and for a folder that is not empty.
    """
    name = checked_name(name)
    folder = output or Path(f"regkit-{name.replace('_', '-')}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise PluginError(f"{folder} exists already; name another --output.")
    files = render(name, kind)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf8")
    module = folder / f"regkit_{name}.py"
    print_lines(
        Terminal(),
        [
            f"wrote {folder}: {', '.join(files)}",
            f"to train with it as it is: {typed('regkit', *_train(module, kind))}",
            f"to install it: {typed('pip', 'install', '-e', f'{folder}[test]')}",
            f"to train with it then: {typed('regkit', *_train(name, kind))}",
            f"to run its tests: {typed('pytest', folder)}",
        ],
    )


def checked_name(name: str) -> str:
    """Check the name of a new plugin, and write it as options are: `my-method` is `my_method`.

    Raises PluginError for one that is none, is too long, or is taken.
    """
    found = name.strip().lower().replace("-", "_").removeprefix("regkit_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", found) or len(found) > LONGEST:
        needed = f"a name is up to {LONGEST} letters, digits and _, and begins with a letter"
        raise PluginError(f"a plugin cannot be called {name!r}; {needed}, such as my_method.")
    if found in TAKEN or found in catalog.installed():
        raise PluginError(f"the name '{found}' is taken by {_owner(found)}; choose another.")
    return found


def _owner(name: str) -> str:
    return f"regkit plugins {name}" if name in TAKEN else f"the installed plugin of {catalog.installed()[name].value}"


def class_name(name: str) -> str:
    """Name the class of a plugin: `my_method` is `MyMethod`.

    A name that a template or Python uses gets `Plugin` behind it.
    """
    found = "".join(part.capitalize() for part in name.split("_"))
    texts = [path.read_text(encoding="utf8") for path in TEMPLATES.glob("*.py.jinja")]
    used = {word for text in texts for word in re.findall(r"\w+", text)}
    return f"{found}Plugin" if found in used or found in dir(builtins) or keyword.iskeyword(found) else found


def render(name: str, kind: KindName) -> dict[str, str]:
    """Fill in the templates of a kind: the text of each file by its path in the project."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    words = {
        "name": name,
        "project": f"regkit-{name.replace('_', '-')}",
        "module": f"regkit_{name}",
        "plugin": class_name(name),
        "title": name.replace("_", " ").capitalize(),
        "idea": IDEAS[kind],
        "contract": CONTRACT,
        "train": typed(*_train(name, kind)),
    }
    templates = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"regkit_{name}.py": f"{kind.value}.py",
        f"tests/test_{name}.py": f"test_{kind.value}.py",
    }
    return {path: templates.get_template(f"{file}.jinja").render(words) for path, file in files.items()}


def _train(plugin: str | Path, kind: KindName) -> list[str | Path]:
    """Write the words of a command that trains with the plugin: surgery needs several tasks in an update."""
    more = ["-p", "rrobin:per_step=3"] if kind is KindName.SURGERY else []
    return ["train", "-p", plugin, *more]
