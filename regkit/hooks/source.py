"""Source: read a plugin's docstring and options from its source; to import it would import torch."""

import ast
import importlib.util
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from regkit.base import bounds
from regkit.base.described import Option, meanings_in
from regkit.hooks.files import PluginFile

PLAIN = {kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)}
BOUNDS = {"gt", "ge", "lt", "le", "multiple_of"}  # what pydantic.Field says about a number


UNREADABLE = (ImportError, OSError, SyntaxError, ValueError)
Point = EntryPoint | PluginFile  # where a plugin stands


class UnclearError(Exception):
    """Report that the source alone does not tell."""


@dataclass(frozen=True)
class Source:
    """Hold a plugin's module and class, parsed."""

    module: ast.Module
    plugin: ast.ClassDef

    def fields(self) -> dict[str, Option]:
        """List the options as importing the plugin would. UnclearError where the source does not tell."""
        if self.plugin.bases or self.plugin.keywords or not self._is_dataclass():
            raise UnclearError
        meanings = meanings_in(self.plugin)
        found = {}
        for statement in self.plugin.body:
            if not isinstance(statement, ast.AnnAssign) or "ClassVar" in ast.unparse(statement.annotation):
                continue
            name, default = ast.unparse(statement.target), _default(statement.value)
            if default is not None:
                found[name] = Option(name, self._hint(statement.annotation), default[0], meanings.get(name, ""))
        return found

    def constant(self, name: str) -> Any:
        """Read the value of an attribute of the class. None where there is none, or it is not written out."""
        for statement in self.plugin.body:
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            if name in [ast.unparse(each) for each in targets if isinstance(each, ast.Name)]:
                with suppress(UnclearError):
                    return _literal(getattr(statement, "value", None) or ast.Constant(None))
        return None

    def untyped(self) -> set[str]:
        """List the class's attributes with a value and no type, of which a dataclass makes no options."""
        targets = [each for part in self.plugin.body if isinstance(part, ast.Assign) for each in part.targets]
        return {each.id for each in targets if isinstance(each, ast.Name)}

    def methods(self) -> dict[str, Literal["", "answer", "wrapper"]]:
        """List the class's methods: whether each answers a hook, wraps it, or neither.

        Raises UnclearError as `fields` does.
        """
        if self.plugin.bases or not self._is_dataclass():
            raise UnclearError
        methods = [each for each in self.plugin.body if isinstance(each, ast.FunctionDef)]
        marks = {each.name: [ast.unparse(mark) for mark in each.decorator_list] for each in methods}
        if any("specname" in mark for found in marks.values() for mark in found):
            raise UnclearError
        return {name: _role(found) for name, found in marks.items()}

    def _is_dataclass(self) -> bool:
        return [ast.unparse(each) for each in self.plugin.decorator_list] == ["dataclass"]

    def _hint(self, hint: ast.expr) -> Any:
        """Make the type that an annotation stands for."""
        if isinstance(hint, ast.BinOp) and isinstance(hint.op, ast.BitOr):
            return self._hint(hint.left) | self._hint(hint.right)
        if isinstance(hint, ast.Constant) and hint.value is None:
            return None
        if isinstance(hint, ast.Name) and hint.id in PLAIN:
            return PLAIN[hint.id]
        if isinstance(hint, ast.Name):
            return vars(bounds)[hint.id] if self._public(hint.id) else self._hint(self._alias(hint.id))
        if isinstance(hint, ast.Subscript) and isinstance(hint.value, ast.Name):
            parts = hint.slice.elts if isinstance(hint.slice, ast.Tuple) else [hint.slice]
            return self._generic(hint.value.id, parts)
        raise UnclearError

    def _generic(self, name: str, parts: Sequence[ast.expr]) -> Any:
        """Make `dict[...]`, `Literal[...]` or `Annotated[...]`."""
        if name in PLAIN:
            kind: Any = PLAIN[name]
            return kind[tuple(self._hint(part) for part in parts)]
        if name == "Literal":
            return Literal[tuple(_words(parts))]
        if name == "Annotated":
            marks = [mark for part in parts[1:] if (mark := self._mark(part)) is not None]
            return Annotated[(self._hint(parts[0]), *marks)] if marks else self._hint(parts[0])
        raise UnclearError

    def _mark(self, part: ast.expr) -> Any:
        """Make what `Annotated` says about a type: its bounds, or where it is tuned. None for anything else."""
        if not isinstance(part, ast.Call) or (maker := ast.unparse(part.func)) not in ("Field", "Tuned"):
            return None
        words = {word.arg or "": _literal(word.value) for word in part.keywords}
        if maker == "Field":
            return Field(**{name: value for name, value in words.items() if name in BOUNDS})
        try:
            return bounds.Tuned(*map(_literal, part.args), **words)
        except (TypeError, ValueError):
            raise UnclearError from None  # to import the plugin tells what is wrong with it

    def _public(self, name: str) -> bool:
        """Whether a name is one of regkit's own types for options, imported as a plugin imports it."""
        imports = [each for each in self.module.body if isinstance(each, ast.ImportFrom) and each.module == "regkit"]
        return hasattr(bounds, name) and any(name == alias.name for each in imports for alias in each.names)

    def _alias(self, name: str) -> ast.expr:
        """Find what a name stands for: `Positive = Annotated[float, Field(gt=0)]`."""
        for statement in self.module.body:
            if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [name]:
                return statement.value
        raise UnclearError


def _role(marks: Sequence[str]) -> Literal["", "answer", "wrapper"]:
    mark = next((mark for mark in marks if mark.startswith("hookimpl")), "")
    return "wrapper" if "wrapper=True" in mark else "answer" if mark else ""


def _words(parts: Sequence[ast.expr]) -> list[str]:
    words = [_literal(part) for part in parts]
    if not all(isinstance(word, str) for word in words):
        raise UnclearError
    return words


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError):
        raise UnclearError from None


def _default(value: ast.expr | None) -> tuple[Any] | None:
    """Read a field's default; None for a field that is no option."""
    if value is None:
        return (MISSING,)
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "field"):
        return (_literal(value),)
    words = {word.arg: word.value for word in value.keywords}
    if "init" in words and _literal(words["init"]) is False:
        return None
    if isinstance(made := words.get("default_factory"), ast.Lambda):
        return (_literal(made.body),)
    makers: dict[str, Any] = {"dict": {}, "list": []}
    maker = ast.unparse(words["default_factory"]) if "default_factory" in words else ""
    if maker not in makers:
        raise UnclearError
    return (makers[maker],)


def docstring(point: Point) -> str | None:
    """Read the docstring of a plugin's module, or of its class in a module of several.

    None where the source does not tell.
    """
    try:
        text = _text(point)
    except UNREADABLE:
        return None
    if not re.search(rf"^class {point.attr}\b", text, re.MULTILINE):
        return None
    classes = re.split(r"^class ", text, flags=re.MULTILINE)[1:]
    if len([each for each in classes if "hookimpl" in each]) > 1:
        own = (each for each in ast.parse(text).body if isinstance(each, ast.ClassDef) and each.name == point.attr)
        if said := ast.get_docstring(next(own)):
            return said
    head = re.split(r"^(?:from|import|class|@)\b", text, maxsplit=1, flags=re.MULTILINE)[0]
    try:
        return ast.get_docstring(ast.parse(head))  # a tenth of the time that the whole takes
    except SyntaxError:
        return None  # such a line stands in the docstring itself


def read(point: Point) -> Source | None:
    """Parse a plugin's module, importing nothing. None where its class is not found there."""
    try:
        module = ast.parse(_text(point))
    except UNREADABLE:
        return None
    for statement in module.body:
        if isinstance(statement, ast.ClassDef) and statement.name == point.attr:
            return Source(module, statement)
    return None


def _text(point: Point) -> str:
    """Read a module's source. Its package is not imported either, as `find_spec` of the whole name would."""
    if isinstance(point, PluginFile):
        return point.text
    module = point.module
    root, *rest = module.split(".")
    spec = importlib.util.find_spec(root)
    for number in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError(module)
        name = ".".join([root, *rest[: number + 1]])
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    if spec is None or not spec.has_location or spec.origin is None or not spec.origin.endswith(".py"):
        raise ImportError(module)
    return importlib.util.decode_source(Path(spec.origin).read_bytes())
