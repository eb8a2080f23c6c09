"""Files: plugins that stand in a Python file of the user's own, and need no package.

A file is read once, and what was read is what is run and what its digest is of. Only files that the user names are read.
"""

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.abc import ExecutionLoader
from pathlib import Path
from typing import Any, NamedTuple

from regkit.base.errors import PluginError, RegkitError, nearest, typed
from regkit.base.files import absolute, read_text

# PATH.py, PATH.py:Class, PATH.py:option=value or PATH.py:Class:option=value; the drive of Windows has a colon, too
FORM = re.compile(r"((?:[A-Za-z]:[\\/])?[^:]*\.py)(?::([^\W\d]\w*)(?=:|$))?(?::(.*))?", re.DOTALL)


class Named(NamedTuple):
    """Hold the parts of a plugin as the user names it: a file, perhaps a class, perhaps options."""

    path: str
    kind: str
    options: str


def named(text: str) -> Named | None:
    """Part the name of a plugin in a file, `./mine.py:Mine:weight=2`. None for any other plugin."""
    found = FORM.fullmatch(text.strip())
    return Named(found[1], found[2] or "", found[3] or "") if found else None


@dataclass(frozen=True)
class PluginFile:
    """A plugin in a file: its class, and the code as it was read. It stands in for an entry point."""

    path: Path
    attr: str  # the name of the class
    text: str = field(repr=False)

    @classmethod
    def read(cls, path: str, kind: str = "") -> "PluginFile":
        """Read the file, and find its class, which need not be named if there is one alone. Nothing is run.

        Raises PluginError for a file that cannot be read, or has no such plugin, or several and none is named.
        """
        try:
            place = absolute(Path(path))
            text = read_text(place).removeprefix("\ufeff")
            classes = _classes(ast.parse(text, str(place)))
        except FileNotFoundError:
            raise PluginError(f"--plugin {path}: there is no such file.") from None
        except (OSError, ValueError, SyntaxError, RecursionError, RegkitError) as error:
            raise PluginError(f"--plugin {path} cannot be read: {_reason(error)}.") from None
        plugins = [each.name for each in classes if _is_plugin(each, classes)]
        plugins = plugins or [each.name for each in classes if _is_public(each) and _inherits(each, classes)]
        if kind and kind not in (each.name for each in classes):
            raise PluginError(f"{path} has no class '{kind}'. {nearest(kind, plugins)}")
        if not kind and not plugins:
            raise PluginError(f"{path} has no plugin: {_lacking(classes)}.")
        if not kind and len(plugins) > 1:
            raise PluginError(
                f"{path} has {len(plugins)} plugins: name one, {path}:{plugins[0]}. {nearest('', plugins)}"
            )
        return cls(place, kind or plugins[0], text)

    @property
    def name(self) -> str:
        """The name of the plugin: that of its class in small letters."""
        return in_small_letters(self.attr)

    @property
    def value(self) -> str:
        """The file and the class, as `--plugin` takes them."""
        return f"{self.path}:{self.attr}"

    @cached_property
    def sha256(self) -> str:
        """The digest of the code."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def record(self) -> dict[str, str]:
        """What a run's settings note of the code that it runs."""
        return {"file": str(self.path), "class": self.attr, "sha256": self.sha256}

    def load(self) -> Any:
        """Run the code that was read, once in a process, and return the class."""
        name = f"regkit_file_{hashlib.sha256(self.value.encode() + self.sha256.encode()).hexdigest()[:16]}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, self.path, loader=_Loader(self))
            assert spec is not None
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                _Loader(self).exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return getattr(sys.modules[name], self.attr)


@dataclass(frozen=True)
class _Loader(ExecutionLoader):
    """Run text that is in memory.

    Python's own loader would read the file again, and leave its bytecode beside it.
    """

    file: PluginFile

    def get_filename(self, fullname: str) -> str:
        return str(self.file.path)

    def get_source(self, fullname: str) -> str:
        return self.file.text


def loaded_files() -> list[PluginFile]:
    """List the files whose code this process has run, for another one that unpickles their plugins."""
    loaders = (getattr(module, "__loader__", None) for module in list(sys.modules.values()))
    return [loader.file for loader in loaders if isinstance(loader, _Loader)]


def check_record(name: str, record: object, file: PluginFile | None) -> None:
    """Raise PluginError unless the code that settings ask for is what the user lets this command run."""
    place, kind, digest = (record.get(key) if isinstance(record, dict) else None for key in ("file", "class", "sha256"))
    if not all(isinstance(each, str) for each in (place, kind, digest)):
        raise PluginError(f"'{name}' has an option 'code' that is no record of a file, its class and its sha256.")
    if file is None:
        allowance = typed("-p", f"{place}:{kind}")
        raise PluginError(f"plugin '{name}' is code of {place}; to run that code, add {allowance}.")
    if digest != file.sha256:
        raise PluginError(
            f"plugin '{name}': {file.path} is not the code that the run began with (sha256 {file.sha256[:12]}, then "
            f"{str(digest)[:12]}); put that back, or begin a new run."
        )


def in_small_letters(kind: str) -> str:
    """Name a class as plugins are named: `MyPlugin` is `my_plugin`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()


def _classes(module: ast.Module) -> list[ast.ClassDef]:
    return [each for each in module.body if isinstance(each, ast.ClassDef)]


def _is_plugin(kind: ast.ClassDef, classes: Sequence[ast.ClassDef]) -> bool:
    """Whether a class is public, a dataclass, and marks a method as a hook, or inherits one from the file."""
    return _is_public(kind) and _has_hooks(kind, classes)


def _is_public(kind: ast.ClassDef) -> bool:
    """Whether a class is a dataclass and has a public name."""
    marks = [ast.unparse(each).removeprefix("dataclasses.") for each in kind.decorator_list]
    return any(mark.startswith("dataclass") for mark in marks) and not kind.name.startswith("_")


def _inherits(kind: ast.ClassDef, classes: Sequence[ast.ClassDef]) -> bool:
    """Whether a class has a base that is not of this file; hooks may come from there."""
    return bool({ast.unparse(base) for base in kind.bases} - {each.name for each in classes})


def _lacking(classes: Sequence[ast.ClassDef]) -> str:
    """Say what keeps the classes of a file from being plugins."""
    for each in classes:
        if _has_hooks(each, classes):
            private = (
                "'s name begins with _, which hides it" if each.name.startswith("_") else " lacks @dataclass above it"
            )
            return f"class {each.name}{private}"
    if several := [each.name for each in classes if _is_public(each)]:
        return f"class {several[0]} has no method that is marked @hookimpl"
    return "a dataclass with a method that is marked @hookimpl is needed"


def _has_hooks(kind: ast.ClassDef, classes: Sequence[ast.ClassDef]) -> bool:
    methods = [each for each in kind.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    if any("hookimpl" in ast.unparse(mark) for method in methods for mark in method.decorator_list):
        return True
    bases = {ast.unparse(base) for base in kind.bases}
    before = classes[: classes.index(kind)]
    return any(_has_hooks(each, before) for each in before if each.name in bases)


def _reason(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    if isinstance(error, OSError):
        return str(error.strerror or error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).rstrip(".")
