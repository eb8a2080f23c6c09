"""Studies: read what an ablation or a search has left in its folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from regkit.base.errors import RunError, explain
from regkit.base.files import read_json
from regkit.experiments.tables.table import Column, Cost, Difference, Entry, Rival, Row, Table
from regkit.page.charts.scales import is_number

T = TypeVar("T")
NAN = float("nan")
STUDY, TABLE, SEARCH = "study.toml", "table.json", "search.json"


@dataclass(frozen=True)
class Trial:
    """A trial of a search: what it tried, and the value that it came to."""

    number: int
    state: Annotated[str, AfterValidator(str.lower)]  # complete, pruned, failed, running and others
    value: float | None
    params: dict[str, Any]
    seconds: float | None = None
    error: str | None = None  # the sentence of one that failed

    @property
    def counts(self) -> bool:
        """Whether its value is that of a whole trial."""
        return self.state == "complete" and is_number(self.value)


@dataclass(frozen=True)
class Search:
    """A search over settings, whole or as far as it is."""

    trials: list[Trial]
    importance: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    default: dict[str, Any] = field(default_factory=dict)
    minimize: bool = False
    logarithmic: list[str] = field(default_factory=list)  # parameters that are searched on a logarithmic scale


@dataclass(frozen=True)
class Study:
    """What a study's folder says."""

    name: str
    table: Table | None
    search: Search | None
    troubles: Sequence[str] = ()  # a sentence for each file that cannot be read


def is_study(folder: Path) -> bool:
    """Whether a folder is that of a study."""
    return any(os.path.isfile(folder / name) for name in (STUDY, TABLE, SEARCH))  # unlike Path's, for a closed folder


def read(folder: Path) -> Study:
    """Read a study. What cannot be read of it is left out, and said."""
    troubles = list[str]()
    table = _tried(folder / TABLE, table_from, troubles)
    search = _tried(folder / SEARCH, search_from, troubles)
    return Study(folder.resolve().name, table, search, troubles)


def _tried(path: Path, make: Callable[[Any], T], troubles: list[str]) -> T | None:
    try:
        return _read(path, make)
    except RunError as error:
        troubles.append(str(error))
        return None


def _read(path: Path, make: Callable[[Any], T]) -> T | None:
    if not path.is_file():
        return None
    try:
        return make(read_json(path))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        raise RunError(explain(error, str(path), ())) from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise RunError(f"{path} is not what a study writes: {type(error).__name__}, {error}.") from None


def table_from(values: Mapping[str, Any]) -> Table:
    """Build a table from what `Table.as_json` made of it. Raises ValueError or another of Python's errors."""
    rows = [_row(each) for each in values["rows"]]
    columns = list(dict.fromkeys(column for row in rows for column in row.entries))
    return _checked(Table, {**values, "columns": columns, "rows": rows})


def _row(values: Mapping[str, Any]) -> Row:
    entries = {_checked(Column, each): _entry(each) for each in values["entries"]}
    cost = values.get("cost")
    return _checked(Row, {**values, "entries": entries, "cost": _checked(Cost, cost) if cost else None})


def _entry(values: Mapping[str, Any]) -> Entry:
    by_seed = {seed: _float(value) for seed, value in values["values"].items()}
    found, rival = values.get("difference"), values.get("rival")
    difference = _checked(Difference, found) if found else None
    over = _checked(Rival, {**rival, "difference": _checked(Difference, rival)}) if rival else None
    return _checked(Entry, {**values, "values": by_seed, "difference": difference, "rival": over})


def _checked(form: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from values of JSON, checked; None is NaN where a field is a number."""
    known = {each.name: each.type for each in fields(form)}  # type: ignore[arg-type]
    given = {name: values[name] for name in known if name in values}
    numbers = {name: _float(value) for name, value in given.items() if known[name] is float}
    return TypeAdapter(form).validate_python(given | numbers)


def _float(value: Any) -> Any:
    """Make a float of a whole number, and NaN of None; what is neither is left to be refused."""
    return NAN if value is None else float(value) if isinstance(value, int) else value


def search_from(values: Mapping[str, Any]) -> Search:
    """Build a search from the values of its file. Raises ValueError or another of Python's errors."""
    found = TypeAdapter(Search).validate_python({**values, "minimize": values.get("direction") == "minimize"})
    return replace(found, trials=sorted(found.trials, key=lambda trial: trial.number))
