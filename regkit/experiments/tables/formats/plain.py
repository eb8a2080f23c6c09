"""Plain: write a table as CSV and JSON, with every digit, for other programs."""

import csv
import io
import json
from math import isfinite

from regkit.experiments.tables.table import Column, Entry, Row, Table

HEAD = [
    *("row", "split", "task", "metric", "lower_is_better", "seeds", "mean", "deviation"),
    *("difference", "low", "high", "p", "holm", "pairs", "smallest_p", "needed", "told"),
    *("rival", "over_rival", "rival_low", "rival_high", "rival_p", "rival_holm", "beats_rivals"),
    *("seconds", "seconds_ratio", "operations", "memory", "failed", "missing"),
]


def as_csv(table: Table) -> str:
    """Write a line for each row and column; what is not there is an empty field."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEAD)
    for row in table.rows:
        for column in table.columns:
            writer.writerow(map(_field, _fields(row, column, row.entries.get(column))))
    return file.getvalue()


def _fields(row: Row, column: Column, entry: Entry | None) -> list[object]:
    scores = [len(entry.values), entry.mean, entry.deviation] if entry else [0, None, None]
    given, cost = entry.difference if entry else None, row.cost
    compared = (
        [
            given.mean,
            given.low,
            given.high,
            given.p,
            given.adjusted,
            given.pairs,
            given.smallest,
            given.needed,
            given.told,
        ]
        if given
        else [None] * 9
    )
    rival = entry.rival if entry else None
    over = rival.difference if rival else None
    rivals = (
        [rival.control, over.mean, over.low, over.high, over.p, over.adjusted, over.told]
        if rival and over
        else [None] * 7
    )
    costs = [cost.seconds, cost.seconds_ratio, cost.operations, cost.memory] if cost else [None] * 4
    where = [row.name, column.split, column.task, column.metric, column.lower_is_better]
    return [*where, *scores, *compared, *rivals, *costs, len(row.failures), len(row.missing)]


def _field(value: object) -> object:
    """Write a truth as JSON does, and nothing for a number that is none."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or (isinstance(value, float) and not isfinite(value)) else value


def as_json(table: Table) -> str:
    """Write a table with the score of every seed; null where a number is not there."""
    return json.dumps(table.as_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
