"""Notes: what whoever reads a table must know before believing it."""

from collections.abc import Iterable, Iterator, Mapping

from regkit.base.wording import enumerated
from regkit.experiments.statistics.drawn import Drawn
from regkit.experiments.statistics.paired import pairs_below, smallest_p
from regkit.experiments.tables.table import DROP, Column, Difference, Entry, Row, Table

CONVINCING = 0.05  # a p below which a difference is usually reported


def notes_of(table: Table, answers: Mapping[Column, Drawn]) -> list[str]:
    """Write the notes, a sentence each, from what concerns the whole table to what concerns one row."""
    compared = {row.name: _differences(row) for row in table.rows if row.name != table.baseline}
    return [
        *_unfinished(table),
        *_verdict(table),
        *_of_seeds(compared),
        *_of_rows(compared),
        *_of_rivals(table),
        *_of_examples(table, compared, answers),
        *_without_effect(table, compared),
        *(note for row, found in compared.items() for note in _of_row(row, table, found)),
    ]


def _differences(row: Row) -> dict[Column, Difference]:
    return {column: entry.difference for column, entry in row.entries.items() if entry.difference}


def _unfinished(table: Table) -> Iterator[str]:
    missing = sum(len(row.missing) for row in table.rows)
    if missing:
        yield f"{missing} {'run is' if missing == 1 else 'runs are'} not finished; the table is of those that are."
    baseline = next(row for row in table.rows if row.name == table.baseline)
    if not baseline.entries and any(row.entries for row in table.rows):
        yield f"No run of the baseline '{table.baseline}' is finished, so nothing is compared."


def _verdict(table: Table) -> Iterator[str]:
    """Say which rows are told from the baseline or, with several controls, which methods from all."""
    if not table.columns:
        return
    column = _main(table.columns)
    entries = {row.name: row.entries[column] for row in table.rows if column in row.entries}
    rivals = {name: each.rival.difference for name, each in entries.items() if each.rival}
    found = rivals or {name: each.difference for name, each in entries.items() if each.difference}
    if not any(each.pairs > 2 for each in found.values()):  # fewer seeds tell nothing
        return
    plain = "every control" if rivals else f"'{table.baseline}'"
    told = {name: each.mean for name, each in found.items() if each.told}
    for word, less in {"better": column.lower_is_better, "worse": not column.lower_is_better}.items():
        if names := [f"'{name}'" for name, mean in told.items() if (mean < 0) == less]:
            yield f"{enumerated(names)} {'is' if len(names) == 1 else 'are'} {word} than {plain} ({column})."
    if not told:
        yield f"Nothing is told from {plain} ({column})."


def _main(columns: Iterable[Column]) -> Column:
    """Choose the mean over tasks, or the first score where there is none."""
    several = list(columns)
    return next((column for column in several if not column.metric), several[0])


def _of_seeds(compared: Mapping[str, Mapping[Column, Difference]]) -> Iterator[str]:
    """Say what p can be with so many seeds."""
    known = sorted({each.pairs for found in compared.values() for each in found.values()}, reverse=True)
    if 1 in known:
        yield "One seed tells nothing of what others would have given, so it has no interval and a p of 1."
    several = [f"{smallest_p(pairs):.3g} with {pairs} seeds" for pairs in known if pairs > 1]
    if several:
        few = too_few(known[-1], sum(bool(found) for found in compared.values()))
        after = f"; {few}" if few else ""
        yield f"p is at least {' and '.join(several)} (exact sign-flip test, two-sided){after}."


def too_few(seeds: int, rows: int) -> str:
    """Say how many seeds it takes for a convincing p of one of several rows; nothing if these are enough."""
    level = CONVINCING / max(rows, 1)
    needed = pairs_below(level)
    if needed is None or smallest_p(seeds) < level:
        return ""
    over = f" by Holm's method over {rows} rows" if rows > 1 else ""
    return f"below {CONVINCING:g}{over} takes {needed} seeds"


def _of_rows(compared: Mapping[str, Mapping[Column, Difference]]) -> Iterator[str]:
    """Say that several rows were compared, and what that costs."""
    rows = sum(bool(found) for found in compared.values())
    if rows > 1:
        yield f"{rows} rows are compared, so Holm's method adjusts p, and what is told from nothing, for {rows} tests."


def _of_rivals(table: Table) -> Iterator[str]:
    """Say what it takes to be better than plain training."""
    found = {row.name: [entry.rival for entry in row.entries.values() if entry.rival] for row in table.rows}
    methods = [row for row, rivals in found.items() if rivals]
    if methods:
        yield (
            "Plain training is what the best control gives, so a method is better only if it beats every control: p is the "
            f"largest over them (Berger, 1982), by Holm's method over {len(methods)} method{'s' * (len(methods) > 1)}."
        )


def _of_examples(
    table: Table, compared: Mapping[str, Mapping[Column, Difference]], answers: Mapping[Column, Drawn]
) -> Iterator[str]:
    """Say what the intervals cover, and where answers are missing."""
    several = [row for row, found in compared.items() if any(each.pairs > 1 for each in found.values())]
    without = [
        row
        for row in several
        if not all(_answered(table, row, answers[column]) for column in compared[row] if column.metric != DROP)
    ]
    if len(without) < len(several):
        yield "Intervals are of 95 %, over seeds and examples: both might have been others."
    if without:
        names = f" of {', '.join(map(repr, without))}" if len(without) < len(several) else ""
        yield (
            f"Intervals{names} are over seeds alone: answers of these runs, or of the baseline's, are not here or are to "
            "other examples."
        )
    if several and any(column.metric == DROP for column in table.columns):
        yield "Those of the drop are over seeds alone: it is read off the logs."


def _answered(table: Table, row: str, answers: Drawn) -> bool:
    """Tell whether there are answers of every run of a row and of those that it is paired with."""
    seeds = {each.name: {seed for entry in each.entries.values() for seed in entry.values} for each in table.rows}
    paired = sorted(seeds[row] & seeds[table.baseline])
    return answers.difference(row, table.baseline, paired) is not None


def _without_effect(table: Table, compared: Mapping[str, Mapping[Column, Difference]]) -> Iterator[str]:
    """Name the rows whose scores are the baseline's."""
    rows = {row.name: row for row in table.rows}
    baseline = rows[table.baseline]
    alike = [f"'{row}'" for row, found in compared.items() if found and _did_nothing(rows[row], baseline, found)]
    if alike:
        have, change = ("has", "it changes") if len(alike) == 1 else ("have", "they change")
        yield (
            f"{enumerated(alike)} {have} exactly the scores of '{table.baseline}': what {change} did nothing, or nothing "
            "that these scores show."
        )


def _did_nothing(row: Row, baseline: Row, columns: Iterable[Column]) -> bool:
    return all(_is_alike(row.entries[column], baseline.entries[column]) for column in columns)


def _of_row(name: str, table: Table, found: Mapping[Column, Difference]) -> Iterator[str]:
    """Say what is odd about one row, and how many seeds would tell its difference."""
    if not found:
        return
    row = next(row for row in table.rows if row.name == name)
    baseline = next(row for row in table.rows if row.name == table.baseline)
    if _did_nothing(row, baseline, found):
        return
    for column, each in found.items():
        if each.pairs > 1 and each.low != each.low:
            yield f"'{name}' differs by the same in every seed ({column}), so nothing can be told of the spread."
    main = _main(found)
    seeds = len(row.entries[main].values.keys() | baseline.entries[main].values.keys())
    if found[main].pairs < seeds:
        yield f"'{name}' is compared over the {found[main].pairs} of {seeds} seeds that both have, not by the means shown."
    needed = found[main].needed
    if not found[main].told and needed and needed > found[main].pairs:
        yield f"'{name}': about {needed} seeds would tell a difference of this size ({main})."


def _is_alike(row: Entry, baseline: Entry) -> bool:
    """Tell whether the scores are the same for every seed that both have."""
    return all(value == baseline.values[seed] for seed, value in row.values.items() if seed in baseline.values)
