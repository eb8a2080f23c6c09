"""Described: read what an option means from the string below its field, for help, docs and errors."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from regkit.base.bounds import Tuned


@dataclass(frozen=True)
class Option:
    """Hold a field that the user may set: a setting of a run, or an option of a plugin."""

    name: str
    hint: Any  # the annotation, constraints included
    default: Any  # dataclasses.MISSING where the user must choose
    meaning: str  # the string below the field

    @property
    def type(self) -> str:
        """Write the annotation in words: `float`, `longest or shortest`."""
        return in_words(self.hint)

    @property
    def tuned(self) -> Tuned | None:
        """Find where a search looks for it, or for an entry of a table; None where nothing is declared."""
        hint = get_args(self.hint)[1] if get_origin(self.hint) is dict else self.hint
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        return next((mark for mark in marks if isinstance(mark, Tuned)), None)


def in_words(hint: Any) -> str:
    """Write a type as the user reads it: `float`, `int or none`, `longest or shortest`."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return in_words(parts[0])
    if origin in (Literal, Union, UnionType):
        return " or ".join(part if isinstance(part, str) else in_words(part) for part in parts)
    if hint is type(None):
        return "none"
    return getattr(origin or hint, "__name__", str(hint))


@cache  # a class keeps its source, which takes milliseconds to find and to parse
def meanings(owner: type) -> Mapping[str, str]:
    """Read the string below each field of a class. Python itself forgets it, so the source is read."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # no source at hand
        return {}
    return meanings_in(definition) if isinstance(definition, ast.ClassDef) else {}


def meanings_in(definition: ast.ClassDef) -> dict[str, str]:
    """Read the string below each field of a parsed class."""
    found = {}
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found
