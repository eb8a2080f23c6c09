"""Source: read a plugin's docstring and options from its source; to import it would import torch."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from regkit.base import bounds
from regkit.base.described import in_words, meanings_in

PLAIN = {"bool", "dict", "float", "int", "list", "str", "tuple"}


UNREADABLE = (ImportError, OSError, SyntaxError, ValueError)


class UnclearError(Exception):
    """Report that the source alone does not tell."""


@dataclass(frozen=True)
class Field:
    """Hold an option of a plugin as its source has it: a `described.Option` before the import."""

    name: str
    type: str
    default: Any  # MISSING where the user must choose
    meaning: str


@dataclass(frozen=True)
class Source:
    """Hold a plugin's module and class, parsed."""

    module: ast.Module
    plugin: ast.ClassDef

    def fields(self) -> dict[str, Field]:
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
                type_ = " or ".join(self._types(statement.annotation))
                found[name] = Field(name, type_, default[0], meanings.get(name, ""))
        return found

    def _is_dataclass(self) -> bool:
        return [ast.unparse(each) for each in self.plugin.decorator_list] == ["dataclass"]

    def _types(self, hint: ast.expr) -> Iterator[str]:
        """Write an annotation as `described.in_words` does, a word for each member of a union."""
        if isinstance(hint, ast.BinOp):
            yield from self._types(hint.left)
            yield from self._types(hint.right)
        elif isinstance(hint, ast.Constant) and hint.value is None:
            yield "none"
        elif isinstance(hint, ast.Name) and hint.id not in PLAIN:
            yield from [in_words(vars(bounds)[hint.id])] if self._public(hint.id) else self._types(self._alias(hint.id))
        else:
            generic, parts = (hint.value, hint.slice) if isinstance(hint, ast.Subscript) else (hint, None)
            word = generic.id if isinstance(generic, ast.Name) else ""
            if word in PLAIN:
                yield word
            elif word == "Annotated" and isinstance(parts, ast.Tuple):
                yield from self._types(parts.elts[0])
            elif word == "Literal" and parts is not None:
                yield from _words(parts)
            else:
                raise UnclearError

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


def _words(parts: ast.expr) -> list[str]:
    words = [_literal(part) for part in (parts.elts if isinstance(parts, ast.Tuple) else [parts])]
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
    makers: dict[str, Any] = {"dict": {}, "list": []}
    maker = ast.unparse(words["default_factory"]) if "default_factory" in words else ""
    if maker not in makers:
        raise UnclearError
    return (makers[maker],)


def docstring(point: EntryPoint) -> str | None:
    """Read the docstring of an entry point's module. None where the source does not tell."""
    try:
        text = _text(point.module)
    except UNREADABLE:
        return None
    if not re.search(rf"^class {point.attr}\b", text, re.MULTILINE):
        return None
    head = re.split(r"^(?:from|import|class|@)\b", text, maxsplit=1, flags=re.MULTILINE)[0]
    try:
        return ast.get_docstring(ast.parse(head))  # a tenth of the time that the whole takes
    except SyntaxError:
        return None  # such a line stands in the docstring itself


def read(point: EntryPoint) -> Source | None:
    """Parse an entry point's module, importing nothing. None where its class is not found there."""
    try:
        module = ast.parse(_text(point.module))
    except UNREADABLE:
        return None
    for statement in module.body:
        if isinstance(statement, ast.ClassDef) and statement.name == point.attr:
            return Source(module, statement)
    return None


def _text(module: str) -> str:
    """Read a module's source. Its package is not imported either, as `find_spec` of the whole name would."""
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
