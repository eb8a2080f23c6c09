"""Studies: read what an ablation or a search has left in its folder."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from regkit.base.errors import RunError
from regkit.base.files import read_json
from regkit.experiments.table import Column, Cost, Difference, Entry, Row, Table

STUDY, TABLE, SEARCH = "study.toml", "table.json", "search.json"


@dataclass(frozen=True)
class Trial:
    """A trial of a search: what it tried, and the value that it came to."""

    number: int
    state: str  # complete, pruned, fail or running
    value: float | None
    params: Mapping[str, Any]
    seconds: float | None = None
    error: str = ""  # the sentence of one that failed

    @property
    def counts(self) -> bool:
        """Whether its value is that of a whole trial."""
        return self.state == "complete" and self.value is not None and math.isfinite(self.value)


@dataclass(frozen=True)
class Search:
    """A search over settings, whole or as far as it is."""

    trials: list[Trial]
    importance: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, Any] = field(default_factory=dict)
    default: Mapping[str, Any] = field(default_factory=dict)
    minimize: bool = False


@dataclass(frozen=True)
class Study:
    """What a study's folder says."""

    name: str
    table: Table | None
    search: Search | None


def is_study(folder: Path) -> bool:
    """Whether a folder is that of a study."""
    return any(os.path.isfile(folder / name) for name in (STUDY, TABLE, SEARCH))  # unlike Path's, for a closed folder


def read(folder: Path) -> Study:
    """Read a study. Raises RunError, which names the file, if one is not what a study writes."""
    table, search = (_read(folder / name, make) for name, make in ((TABLE, table_from), (SEARCH, search_from)))
    return Study(folder.resolve().name, table, search)


def _read(path: Path, make: Any) -> Any:
    if not path.is_file():
        return None
    try:
        return make(read_json(path))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise RunError(f"{path} is not what a study writes: {type(error).__name__}, {error}.") from None


def table_from(values: Mapping[str, Any]) -> Table:
    """Build a table from what `Table.as_json` made of it: a number that is None is not there."""
    rows = [_row(each) for each in values["rows"]]
    columns = dict.fromkeys(column for row in rows for column in row.entries)
    return Table(str(values["name"]), list(columns), rows, str(values["baseline"]), _texts(values.get("notes")))


def _row(values: Mapping[str, Any]) -> Row:
    cost = values.get("cost")
    return Row(
        str(values["name"]),
        values.get("settings") or {},
        {Column(**_fields(Column, each)): _entry(each) for each in values["entries"]},
        Cost(**_fields(Cost, cost)) if cost else None,
        _texts(values.get("effects")),
        {int(seed): str(said) for seed, said in (values.get("failures") or {}).items()},
        [int(seed) for seed in values.get("missing") or ()],
    )


def _texts(values: Any) -> list[str]:
    return [str(each) for each in values or ()]


def _entry(values: Mapping[str, Any]) -> Entry:
    by_seed = {int(seed): _float(value) for seed, value in values["values"].items()}
    found = values.get("difference")
    difference = Difference(**_fields(Difference, found)) if found else None
    return Entry(by_seed, _float(values["mean"]), _float(values["deviation"]), difference)


def _fields(form: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the values of a class's fields: None stays where a field may be None, and is NaN where it is a number."""
    known = {field.name: PLAIN.get(field.type, lambda value: value) for field in fields(form)}
    return {name: read(values[name]) for name, read in known.items() if name in values}


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)


PLAIN: Mapping[Any, Any] = {float: _float, str: str, int: int}  # how fields of these types are read


def search_from(values: Mapping[str, Any]) -> Search:
    """Build a search from the values of its file."""
    trials = [
        Trial(
            int(each["number"]),
            str(each["state"]).lower(),
            None if each.get("value") is None else float(each["value"]),
            each.get("params") or {},
            each.get("seconds"),
            str(each.get("error") or ""),
        )
        for each in values["trials"]
    ]
    importance = {str(name): _float(share) for name, share in (values.get("importance") or {}).items()}
    best, default = (values.get(name) or {} for name in ("best", "default"))
    trials.sort(key=lambda trial: trial.number)
    return Search(trials, importance, best, default, values.get("direction") == "minimize")
