"""Stored: rows, texts and numbers outside of Python's objects are what they were, in memory or on the disk."""

import pickle
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regkit.base.errors import DataError
from regkit.data.formats import decode
from regkit.data.formats.records import Nested
from regkit.data.holdout import _wanted, hold_out
from regkit.data.repeats import Hashed, hash_of
from regkit.data.stored import flat, held
from regkit.data.stored.flat import Growing
from regkit.data.stored.held import Numbers, TextWriter
from regkit.data.stored.rows import Rows
from regkit.data.tables import read_table
from tests.helpers import PATIENT

BRIEF = settings(PATIENT, max_examples=25)
FIELD = st.text(max_size=6) | st.text(max_size=4).map(Nested)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), FIELD), max_size=12)


@pytest.fixture(params=["in memory", "on the disk"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small arrays are in memory, or all of them on the disk, and of each block few rows are Python's objects."""
    monkeypatch.setattr(held, "BLOCK", 5)
    monkeypatch.setattr(held, "SPAN", 9)
    if request.param == "on the disk":
        monkeypatch.setattr(Growing.__init__, "__defaults__", (None, 0))
        monkeypatch.setattr(flat, "FORGET", 4)
    return str(request.param)


@BRIEF
@given(ROWS, st.data())
def test_rows_are_what_was_written_and_those_chosen_of_chosen_ones(
    place: str, rows: list[dict[str, str]], data: st.DataObject
) -> None:
    whole = Rows.of(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    filled = [{name: row.get(name, "") for name in columns} for row in rows]
    assert whole == filled
    assert [[type(field) for field in row.values()] for row in whole] == [
        [type(field) for field in row.values()] for row in filled
    ]
    chosen, wanted = whole, list(enumerate(filled))
    for _ in range(2):
        numbers = st.lists(st.integers(0, len(wanted) - 1), max_size=9) if wanted else st.just([])
        picked = data.draw(numbers)
        chosen, wanted = chosen.only(picked), [wanted[number] for number in picked]
        assert chosen == [row for _, row in wanted]
        assert list(chosen.places) == [number for number, _ in wanted]
    assert chosen.columns(["b", "x"]) == [{"b": row["b"]} if "b" in row else {} for _, row in wanted]
    assert pickle.loads(pickle.dumps(chosen)) == chosen
    assert chosen[1:3] == [row for _, row in wanted[1:3]]


@BRIEF
@given(st.lists(st.text(max_size=9)), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_texts_and_numbers_are_what_was_written(place: str, texts: list[str], numbers: list[int]) -> None:
    writer = TextWriter()
    for text in [*texts, "\ud800"]:  # half of a pair, which is no text of UTF-8
        writer.add(text)
    assert writer.finish() == [*texts, "\ud800"]
    assert Numbers.of(numbers) == numbers


def test_a_row_of_a_table_takes_a_few_bytes_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Growing.__init__, "__defaults__", (None, 1 << 10))
    monkeypatch.setattr(decode, "BLOCK", 1 << 12)
    monkeypatch.setattr(held, "BLOCK", 1 << 7)
    peaks = []
    for count in (1_000, 5_000):
        path = tmp_path / f"{count}.csv"
        path.write_text("text,label\n" + "".join(f"a film of some length {n},{n % 2}\n" for n in range(count)))
        tracemalloc.start()
        table = read_table(path)
        assert len(table.only(range(count)).rows) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4_000 * 8


def test_a_disk_without_room_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(spill=0)

    class Full:
        def write(self, _: object) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    growing._file = Full()  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"has no room for the rows that are read: No space left on device\.$"):
        growing.write(b"more")


THINGS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)), max_size=30)


@BRIEF
@given(THINGS, THINGS)
def test_rows_that_are_alike_are_counted_as_sets_count_them(
    place: str, one: list[tuple[str, int]], two: list[tuple[str, int]]
) -> None:
    first, second = (Hashed((text, label, 0) for text, label in each) for each in (one, two))
    texts = [text for text, _ in one]
    labels = defaultdict(set)
    for text, label in one:
        labels[text].add(label)
    assert first.repeated() == len(texts) - len(set(texts))
    assert first.contradicted() == sum(len(labels[text]) > 1 for text in texts)
    assert second.shared(first) == sum(text in set(texts) for text, _ in two)


def held_out_plainly(share: float, classes: Sequence[str], groups: Sequence[Hashable]) -> list[int]:
    """All groups as lists of rows, looked through in the order of their hashes."""
    left = Counter(classes)
    wanted, chosen = _wanted(share, left), list[int]()
    members = {group: [row for row, each in enumerate(groups) if each == group] for group in groups}
    for enough in (True, False):
        for group in sorted(members, key=hash_of):
            counts = Counter(classes[row] for row in members[group])
            useful = sum(min(count, wanted[each]) for each, count in counts.items())
            fits = 2 * useful >= len(members[group]) if enough else not chosen
            if useful and fits and all(left[each] > count for each, count in counts.items()):
                chosen += members[group]
                wanted -= counts
                left -= counts
    return sorted(chosen)


@BRIEF
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), min_size=1, max_size=60), st.floats(0.01, 0.9))
def test_rows_are_held_out_as_if_all_were_looked_at(place: str, rows: list[tuple[str, int]], share: float) -> None:
    classes, groups = ([row[side] for row in rows] for side in (0, 1))
    assert hold_out(share, classes, groups) == held_out_plainly(share, classes, groups)  # type: ignore[arg-type]
