"""Rows: read the tables that Python holds - lists, DataFrames, data sets - row by row."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from regkit.base.errors import DataError
from regkit.data.formats.records import first_duplicate

Row = Mapping[str, Any]


def rows_of(owner: str, table: Any) -> Iterator[Row]:
    """Iterate over the rows of a table of any of the forms that are taken."""
    if isinstance(table, tuple) and len(table) == 2:
        yield from _paired(owner, _ordered(f"{owner}: texts", table[0]), _ordered(f"{owner}: labels", table[1]))
    elif hasattr(table, "features") and hasattr(table, "column_names"):  # of datasets
        if not hasattr(table, "__len__"):
            raise DataError(f"{owner} is a stream, which may have no end: take rows of it by list(data.take(10_000)).")
        yield from _named_classes(table)
    elif hasattr(table, "to_dicts"):  # of polars
        yield from table.to_dicts()
    elif hasattr(table, "to_dict") and hasattr(table, "columns"):  # of pandas
        if (twice := first_duplicate(map(str, table.columns))) is not None:
            raise DataError(f"{owner} has two columns '{twice}'; rename one of them.")
        yield from (_plain(row) for row in table.to_dict("records"))
    elif isinstance(table, Sequence) and not isinstance(table, str) and all(isinstance(row, Mapping) for row in table):
        yield from table
    else:
        needed = "(texts, labels), a DataFrame, a datasets.Dataset or a list of rows is needed"
        raise DataError(f"{owner} is of type {type(table).__name__}; {needed}{_remedy(table)}.")


def _remedy(table: Any) -> str:
    """Say how to hand over what newcomers have in a form that is not taken."""
    if isinstance(table, str | Path):
        return f"; a file is all the data, regkit.train({str(table)!r}), or a task of a tasks.toml"
    of_tuples = isinstance(table, Sequence) and table and isinstance(table[0], tuple)
    if isinstance(table, zip) or of_tuples:
        return "; of pairs of a text and its label, that is tuple(zip(*table))"
    if isinstance(table, Sequence) and table and isinstance(table[0], str | int | float):
        return "; a dict holds tasks by name, and one of columns is a DataFrame: pandas.DataFrame(columns)"
    return ""


def _ordered(owner: str, values: Any) -> list[Any]:
    """List values that come in an order of their own. Raises DataError for a set, a text or a mapping."""
    kind = type(values).__name__
    if isinstance(values, set | frozenset):
        raise DataError(f"{owner} are a {kind}, which has no order: the labels would go to other texts; give a list.")
    if isinstance(values, str | bytes | Mapping):
        raise DataError(f"{owner} are a {kind}; a list is needed.")
    try:
        return list(values)
    except TypeError:  # it cannot be iterated over, as a number or an array without dimensions
        raise DataError(f"{owner} are of type {kind}; a list is needed.") from None


def _paired(owner: str, texts: Sequence[Any], labels: Sequence[Any]) -> Iterator[Row]:
    if len(texts) != len(labels):
        raise DataError(f"{owner} has {len(texts)} texts and {len(labels)} labels.")
    first = None
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        sides = _sides(text)
        if not sides:
            raise DataError(f"{owner}, text {number} is {text!r:.60}; a str is needed, or a pair of them.")
        first = first or len(sides)
        if len(sides) != first:
            kinds = {1: "a str", 2: "a pair"}
            raise DataError(f"{owner}, text {number} is {kinds[len(sides)]}, and text 0 is {kinds[first]}.")
        yield {**sides, "label": label}


def _sides(text: Any) -> dict[str, str]:
    """Name the columns of one text, or of the two of a pair; none if it is neither."""
    if isinstance(text, str):
        return {"text": text}
    parts = text.tolist() if hasattr(text, "tolist") else text  # of an array
    if isinstance(parts, list | tuple) and len(parts) == 2 and all(isinstance(part, str) for part in parts):
        return {"text1": parts[0], "text2": parts[1]}
    return {}


def _named_classes(data: Any) -> Iterator[Row]:
    """Iterate over a data set's rows, with the names of classes in place of their numbers."""
    names = {column: kind.names for column, kind in data.features.items() if hasattr(kind, "names")}
    for row in islice(data, len(data)):
        for column, known in names.items():
            if isinstance(row[column], int):
                row[column] = known[row[column]] if row[column] >= 0 else None  # -1: no label
        yield row


def _plain(row: Row) -> Row:
    """Write a row of pandas with lists for arrays, as of a column of lists, and None for what is missing."""
    listed = {str(name): value.tolist() if getattr(value, "ndim", 0) else value for name, value in row.items()}
    return {name: None if not isinstance(value, list) and value != value else value for name, value in listed.items()}
