"""Tables: what is written in a file is what is read, whatever its format, and an error says where to look."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regkit.base.errors import DataError
from regkit.data.tables import Table, read_table
from tests.helpers import PATIENT, write_csv

TYPED: list[dict[str, Any]] = [
    {"id": "a1", "text": 'She said "no", twice', "score": 2.5, "same": True},
    {"id": "b2", "text": "naïve café\t北京", "score": 0.0, "same": False},
    {"id": "c3", "text": " leading blank, and a\nsecond line", "score": 5.0, "same": True},
]
ROWS = [{**row, "score": str(row["score"]), "same": str(int(row["same"]))} for row in TYPED]

OTHER = "if it has another encoding, name it in tasks.toml: encoding = '...'."
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NO_RETURN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)


def write_json_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8", newline="")
    return path


def write_parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def table_of(folder: Path, content: str | bytes, name: str = "t.csv", **options: bool) -> Table:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options)


def refusal(folder: Path, content: str | bytes, name: str = "t.csv", **options: bool) -> str:
    with pytest.raises(DataError) as caught:
        table_of(folder, content, name, **options)
    return str(caught.value).removeprefix(f"{folder}/")


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    found = [
        read_table(write_csv(tmp_path / "t.csv", ROWS)).rows,
        read_table(write_csv(tmp_path / "t.tsv", ROWS, "\t")).rows,
        read_table(write_csv(tmp_path / "comma.txt", ROWS)).rows,
        read_table(write_csv(tmp_path / "tab.txt", ROWS, "\t")).rows,
        read_table(write_csv(tmp_path / "tab.csv", ROWS, "\t")).rows,
        read_table(write_csv(tmp_path / "semicolon.csv", ROWS, ";")).rows,
        read_table(write_csv(tmp_path / "bar.tsv", ROWS, "|")).rows,
        read_table(write_json_lines(tmp_path / "t.jsonl", TYPED)).rows,
        read_table(write_parquet(tmp_path / "t.parquet", TYPED)).rows,
    ]
    assert all(rows == ROWS for rows in found)


@settings(PATIENT, max_examples=30)
@given(st.lists(st.tuples(NO_RETURN, NO_RETURN), min_size=1, max_size=6), st.sampled_from(",\t"))
def test_a_csv_row_comes_back_as_it_was_written_with_the_line_it_begins_on(
    tmp_path: Path, pairs: list[tuple[str, str]], delimiter: str
) -> None:
    text, lines = io.StringIO(), []
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["one", "two"])
    for pair in pairs:
        lines.append(text.getvalue().count("\n") + 1)
        writer.writerow(pair)
    table = table_of(tmp_path, text.getvalue())
    assert [(row["one"], row["two"]) for row in table.rows] == pairs
    assert table.lines == lines


@settings(PATIENT, max_examples=30)
@given(st.lists(ANY_TEXT, min_size=1, max_size=6))
def test_a_json_line_may_hold_any_character(tmp_path: Path, texts: list[str]) -> None:
    table = read_table(write_json_lines(tmp_path / "t.jsonl", [{"text": text} for text in texts]))
    assert [row["text"] for row in table.rows] == texts
    assert table.lines == list(range(1, len(texts) + 1))


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_json_line(tmp_path: Path, separator: str) -> None:
    if separator in "\x0c\x1c":
        separator = json.dumps(separator)[1:-1]  # raw, these are not allowed in JSON
    assert len(table_of(tmp_path, f'{{"text": "a{separator}b"}}\n{{"text": "c"}}\n', "t.jsonl").rows) == 2


def test_nested_quotes_are_unwrapped_as_often_as_they_were_wrapped(tmp_path: Path) -> None:
    inner = io.StringIO()
    csv.writer(inner, lineterminator="").writerow(['Do I need "the" here?, she asked'])
    table = read_table(write_csv(tmp_path / "t.csv", [{"text": inner.getvalue()}]))
    assert next(csv.reader([table.rows[0]["text"]])) == ['Do I need "the" here?, she asked']


def test_without_quoting_a_quote_is_a_character_like_any_other(tmp_path: Path) -> None:
    table = table_of(tmp_path, 'text\tlabel\n"Oh" he said\t1\n"open\t0\n', "t.tsv", quoting=False)
    assert [row["text"] for row in table.rows] == ['"Oh" he said', '"open']


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    assert table_of(tmp_path, b"\xef\xbb\xbfid,text\n1,a\n").rows == [{"id": "1", "text": "a"}]
    assert table_of(tmp_path, b'\xef\xbb\xbf{"id": 1}\n', "t.jsonl").rows == [{"id": "1"}]


def test_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    unix = 'id,text\n1,"a, b"\n\n2,c\n'
    one, other = table_of(tmp_path, unix), table_of(tmp_path, unix.replace("\n", "\r\n"))
    assert one.rows == other.rows == [{"id": "1", "text": "a, b"}, {"id": "2", "text": "c"}]
    assert one.lines == other.lines == [2, 4]
    assert table_of(tmp_path, '{"a": "x"}\r\n\r\n{"a": "y"}\r\n', "t.jsonl").lines == [1, 3]


def test_an_unnamed_index_column_does_no_harm(tmp_path: Path) -> None:
    table = table_of(tmp_path, "\tid\ttext\n0\ta\thello\n")
    assert table.rows[0]["text"] == "hello"
    table.require(["id", "text"])


def test_a_tsv_file_with_one_column_may_hold_commas(tmp_path: Path) -> None:
    assert [row["text"] for row in table_of(tmp_path, "text\na, b\nc\n", "t.tsv").rows] == ["a, b", "c"]


def test_of_the_delimiters_in_a_header_the_one_counts_by_which_rows_are_as_wide(tmp_path: Path) -> None:
    found = table_of(tmp_path, "text, as written;label\na, b, c;1\nd;0\n").rows
    assert found == [{"text, as written": "a, b, c", "label": "1"}, {"text, as written": "d", "label": "0"}]
    assert table_of(tmp_path, "text;more,label\na;b,1\nc,0\n").columns == ["text;more", "label"]


def test_the_case_of_an_ending_does_not_matter(tmp_path: Path) -> None:
    assert table_of(tmp_path, "a\nb\n", "T.CSV").rows == [{"a": "b"}]


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    table = table_of(tmp_path, "\n\ntext\tlabel\na\t1\n")
    assert (table.rows, table.lines) == ([{"text": "a", "label": "1"}], [4])


def test_a_json_value_becomes_what_a_csv_file_would_say(tmp_path: Path) -> None:
    row = table_of(tmp_path, '{"a": null, "b": true, "c": false, "d": 3, "e": 0.5, "f": "x"}\n', "t.jsonl").rows[0]
    assert row == {"a": "", "b": "1", "c": "0", "d": "3", "e": "0.5", "f": "x"}


def test_a_parquet_row_is_counted_from_1_and_may_hold_nothing(tmp_path: Path) -> None:
    table = read_table(write_parquet(tmp_path / "t.parquet", [{"a": "x", "b": 1}, {"a": None, "b": None}]))
    assert table.rows == [{"a": "x", "b": "1"}, {"a": "", "b": ""}]
    assert table.where(1) == f"{tmp_path}/t.parquet, row 2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.csv is empty."),
        (" \n\n", "t.csv is empty."),
        ("id,text\n", "t.csv has no rows."),
        ("id,text\n1,a\n2\n", "t.csv, line 3: 1 fields; the header has 2."),
        ("id,text\n1,a\n2,b,c\n", "t.csv, line 3: 3 fields; the header has 2."),
        ('id,text\n1,"a\nb\nc"\n\n2\n', "t.csv, line 6: 1 fields; the header has 2."),
        ('id,"te\nxt"\n1\n', "t.csv, line 3: 1 fields; the header has 2."),
        ("\n\nid,text\n1\n", "t.csv, line 4: 1 fields; the header has 2."),
        ("id,text\r\n1,a\r\n2\r\n", "t.csv, line 3: 1 fields; the header has 2."),
        (b"id,text\n1,a\n2,b\x81\n", f"t.csv, line 3: byte 0x81 is not UTF-8 text; {OTHER}"),
        ("id,text\n1,a\n".encode("utf-16-le"), f"t.csv, line 1: NUL is not text; {OTHER}"),
        ("id,text,text\n1,a,b\n", "t.csv has two columns 'text'."),
    ],
)
def test_an_error_in_a_csv_file_names_the_line_where_its_row_begins(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    assert refusal(tmp_path, content) == message


def test_a_quote_that_is_never_closed_is_reported_where_its_row_begins_with_the_remedy(tmp_path: Path) -> None:
    message = refusal(tmp_path, 'id,text\n1,"a\nb"\n2,"open\n3,c\n')
    assert message.startswith("t.csv, line 4: ")
    assert "quoting = false" in message


def test_a_field_may_be_as_long_as_a_line(tmp_path: Path) -> None:
    for content in (f"id,text\n1,{'a ' * 100_000}\n", 'id,text\n1,"' + "a\n" * 100_000 + '"\n'):
        assert len(table_of(tmp_path, content).rows[0]["text"]) == 200_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n\n{"a": \n', "t.jsonl, line 3: this is not JSON."),
        ('{"a": 1}\n[1]\n', "t.jsonl, line 2: a JSON object is needed, one a line."),
        ('{"a": 1}\n3\n', "t.jsonl, line 2: a JSON object is needed, one a line."),
        ('{"a": 1}\n' + "[" * 100_000, "t.jsonl, line 2: this is not JSON."),
        ('{"a": "x"}\n{"a": "\\ud800"}\n', "t.jsonl, line 2: \\ud800 is half of a surrogate pair, and no character."),
        ('{"a": 1}\n{"a": 1, "b": 2, "a": 1}\n', "t.jsonl, line 2: the object has 'a' twice."),
        ('[{"a": 1},\n{"a": {"b": 2, "b": 3}}]\n', "t.jsonl, line 2: the object has 'b' twice."),
        ("", "t.jsonl is empty."),
        (b'{"a": 1}\n{"a": "\xff"}\n', f"t.jsonl, line 2: byte 0xff is not UTF-8 text; {OTHER}"),
    ],
)
def test_an_error_in_json_lines_names_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert refusal(tmp_path, content, "t.jsonl") == message


def test_a_damaged_parquet_file_is_an_error_in_one_line(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", [{"a": "x" * 50, "b": 1}] * 20).read_bytes()
    flipped = whole[:20] + bytes(20) + whole[40:]
    for content in (whole[:-40], flipped):
        message = refusal(tmp_path, content, "t.parquet")
        assert message.startswith("t.parquet cannot be read: ")
        assert "\n" not in message


def test_parquet_text_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    junk = pyarrow.array([b"\xff", b"a"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"a": junk}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["t.xlsx", "t.json", "table", "t.data", "t.csv.bak"])
def test_content_and_not_the_ending_tells_what_a_file_is(tmp_path: Path, name: str) -> None:
    assert table_of(tmp_path, "a;b\n1;2\n", name.replace(".json", ".x")).rows == [{"a": "1", "b": "2"}]
    assert table_of(tmp_path, '{"a": 1, "b": 2}\n', name).rows == [{"a": "1", "b": "2"}]
    whole = write_parquet(tmp_path / "whole.parquet", [{"a": 1, "b": 2}]).read_bytes()
    assert table_of(tmp_path, whole, name).rows == [{"a": "1", "b": "2"}]


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv does not exist\.$"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv cannot be read: Is a directory\.$"):
        read_table(tmp_path / "folder.csv")


def test_a_missing_column_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    table = table_of(tmp_path, ",sentence,label\n0,a,1\n")
    table.require(["sentence", "label"])
    with pytest.raises(
        DataError, match=r"no column 'sentense'\. Did you mean 'sentence'\? Available: label, sentence\.$"
    ):
        table.require(["label", "sentense"])
