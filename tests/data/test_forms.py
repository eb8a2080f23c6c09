"""Forms: a table is read in every form in which people have it, or refused in one sentence that says what it is."""

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from regkit.base.errors import DataError, RegkitError
from regkit.data.bare import Given
from regkit.data.find import find_tasks
from regkit.data.formats import decode
from regkit.data.load import load_task
from regkit.data.tables import read_table
from regkit.model.tokenizer import Tokenizer
from tests.helpers import LONGEST, write_encoder

ROWS: list[dict[str, Any]] = [
    {"text": 'a "good", long film', "label": "good"},
    {"text": "naïve; dull | café", "label": "bad"},
    {"text": "fine\ttoo", "label": "good"},
    {"text": "no", "label": "bad"},
]


def table(delimiter: str = ",", *, end: str = "\n", header: bool = True, quoting: Any = csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO()
    rows = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    rows.writerows([["text", "label"]] * header + [[row["text"], row["label"]] for row in ROWS])
    return text.getvalue()


def lines(rows: list[dict[str, Any]] = ROWS, **options: Any) -> str:
    return "".join(json.dumps(row, **options) + "\n" for row in rows)


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def arrow(form: str, rows: list[dict[str, Any]] = ROWS) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    feather, ipc, parquet = (pytest.importorskip(f"pyarrow.{name}") for name in ("feather", "ipc", "parquet"))
    found, sink = pyarrow.Table.from_pylist(rows), io.BytesIO()
    if form == "parquet":
        parquet.write_table(found, sink)
    elif form == "feather":
        feather.write_feather(found, sink)
    else:
        with ipc.new_stream(sink, found.schema) as writer:
            writer.write_table(found)
    return sink.getvalue()


# By name of the file: what it holds. All of them are the same four rows.
READ: dict[str, str | bytes | Callable[[], bytes]] = {
    "comma.csv": table(),
    "tab.tsv": table("\t"),
    "tab.csv": table("\t"),
    "semicolon.csv": table(";"),
    "bar.txt": table("|"),
    "comma.tsv": table(),
    "no ending": table(),
    "wrong.parquet": table(),
    "all quoted.csv": table(quoting=csv.QUOTE_ALL),
    "windows.csv": table(end="\r\n"),
    "old mac.csv": table(end="\r"),
    "blank lines.csv": "\n\n" + table().replace("\n", "\n\n"),
    "bom.csv": table().encode("utf-8-sig"),
    "utf16.csv": table().encode("utf-16"),
    "utf16be.csv": b"\xfe\xff" + table().encode("utf-16-be"),
    "utf16.tsv": table("\t").encode("utf-16"),
    "utf32.csv": table().encode("utf-32"),
    "cp1252.csv": table().encode("cp1252"),
    "cp1252 semicolon.csv": table(";", end="\r\n").encode("cp1252"),
    "comma.csv.gz": gzip.compress(table().encode()),
    "gzip called.csv": gzip.compress(table().encode()),
    "utf16.csv.gz": gzip.compress(table().encode("utf-16")),
    "comma.csv.bz2": bz2.compress(table().encode()),
    "comma.csv.xz": lzma.compress(table().encode()),
    "comma.zip": zipped({"t.csv": table()}),
    "mac.zip": zipped({"t.csv": table(), "__MACOSX/._t.csv": "resource"}),
    "blanks after commas.csv": "text, label\n"
    + "".join(f'"{row["text"].replace(chr(34), chr(34) * 2)}", {row["label"]}\n' for row in ROWS),
    "lines.jsonl": lines(),
    "lines.json": lines(ensure_ascii=False),
    "lines": lines(),
    "lines.csv": lines(),
    "lines bom.jsonl": lines(ensure_ascii=False).encode("utf-8-sig"),
    "lines.jsonl.gz": gzip.compress(lines().encode()),
    "array.json": json.dumps(ROWS),
    "array indented.json": json.dumps(ROWS, indent=2),
    "array.txt": json.dumps(ROWS),
    "t.parquet": lambda: arrow("parquet"),
    "parquet": lambda: arrow("parquet"),
    "t.feather": lambda: arrow("feather"),
    "t.arrow": lambda: arrow("stream"),
}

# What is no table: what it is called, what it holds, and what is said of it.
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "book.xlsx": (zipped({"xl/workbook.xml": "x"}), "an Excel workbook; save its sheet as CSV"),
    "excel called.csv": (zipped({"xl/workbook.xml": "x"}), "an Excel workbook"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an old Office file"),
    "pointer.csv": ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer"),
    "page.csv": ("<!DOCTYPE html>\n<html><body>Log in</body></html>", "an HTML page"),
    "page.json": ("\n <html>", "an HTML page"),
    "feed.csv": ('<?xml version="1.0"?><rows/>', "an XML document"),
    "paper.csv": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "frame.csv": (pickle.dumps(ROWS), "a pickle, which may run code"),
    "photo.csv": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a picture"),
    "photo.jpg": (b"\xff\xd8\xff\xe0" + bytes(20), "a picture"),
    "base.csv": (b"SQLite format 3\0" + bytes(90), "an SQLite database"),
    "two.zip": (zipped({"a.csv": "a", "b.csv": "b"}), "a zip file of 2 files; unpack it"),
    "t.csv.zst": (b"\x28\xb5\x2f\xfd" + bytes(9), "packed by Zstandard; unpack it first"),
    "t.tar.gz": (gzip.compress(bytes(257) + b"ustar" + bytes(250)), "an archive; unpack it first"),
    "t.parquet.gz": (gzip.compress(b"PAR1" + bytes(9)), "a parquet file in another archive"),
    "cut.csv.gz": (gzip.compress(table().encode() * 99)[:-30], "a damaged gzip file"),
    "russian.csv": (table().replace("good", "хорошо").replace("bad", "плохо").replace("naïve", "наив").replace("café", "").encode("cp1251"), "is not UTF-8 text; if it has another encoding, name it"),
    "no mark.csv": ("text,label\na,0\n".encode("utf-16-le"), "NUL is not text; if it has another encoding, name it"),
    "weights.pt": (zipped({"archive/data.pkl": "x", "archive/data/0": "y"}), "a pickle, which may run code"),
    "noise.csv": (bytes(range(128, 256)) * 9, "is not UTF-8 text"),
    "object.json": (json.dumps({"text": {"0": "a"}, "label": {"0": "b"}}, indent=1), "one JSON object over several lines"),
    "columns.json": (json.dumps({"text": {"0": "a"}, "label": {"0": "b"}}), "is one JSON object, and no rows; an array of objects or"),
    "lists.json": (json.dumps({"text": ["a", "b"], "label": [0, 1]}), "is one JSON object, and no rows; an array of objects or"),
    "wrapped.json": (json.dumps({"data": ROWS}), "is one JSON object, and no rows"),
    "list.json": ('["a", "b"]', "a JSON object is needed"),
    "cut.json": (json.dumps(ROWS)[:-20], "this is not JSON"),
    "two arrays.json": (f"{json.dumps(ROWS)}\n\n{json.dumps(ROWS)}\n", ", line 3: the array has ended, and here is more; an array"),
    "array and more.json": (f"{json.dumps(ROWS)} garbage", ", line 1: the array has ended, and here is more"),
    "empty.csv": ("", "is empty"),
    "header.csv": ("text,label\n", "has no rows"),
    "headerless.csv": (table(header=False), "name the columns in tasks.toml"),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_encoder(tmp_path_factory.mktemp("encoder") / "tiny"))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_found(path: Path) -> None:
    for spec in find_tasks(path).values():
        spec.table("train")


@pytest.mark.parametrize("name", READ)
def test_a_table_alone_is_trained_on_in_whatever_form_it_comes(name: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    content = READ[name]
    path = write(tmp_path / name, content() if callable(content) else content)
    assert read_table(path).rows == ROWS
    (spec,) = find_tasks(path).values()
    task = load_task("t", spec, tokenizer, LONGEST)
    assert task.objective.kind == "classification"
    assert (len(task.splits["train"]), len(task.splits["dev"])) == (3, 1)
    assert any("read as cp1252" in note for note in task.notes) == name.startswith("cp1252")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_in_one_sentence_that_says_what_it_is(name: str, tmp_path: Path) -> None:
    content, says = REFUSED[name]
    path = write(tmp_path / name, content)
    with pytest.raises(RegkitError) as caught:
        read_found(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(".")


def test_a_packed_file_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MOST_UNPACKED", 10_000)
    content = (table() * 1000).encode()
    for name, packed in {"t.csv.gz": gzip.compress(content), "t.zip": zipped({"t.csv": content})}.items():
        with pytest.raises(DataError, match="it unpacks to more than"):
            read_table(write(tmp_path / name, packed))


def test_an_encoding_that_the_bytes_do_not_tell_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label\nфильм хорош,да\nфильм плох,нет\n".encode("koi8-r"))
    assert [row["label"] for row in read_table(path, encoding="koi8-r").rows] == ["да", "нет"]


@pytest.mark.parametrize(
    ("written", "named"),
    [("utf-8-sig", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16-le"), ("utf-32", "utf-32-le")],
)
def test_a_byte_order_mark_is_no_text_also_where_the_encoding_is_named(
    tmp_path: Path, written: str, named: str
) -> None:
    path = write(tmp_path / "t.csv", "text,label\na,0\n".encode(written))
    assert list(read_table(path, encoding=named).rows) == [{"text": "a", "label": "0"}]


def test_damaged_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label\nnaïve café,1\n".encode() + b"a long english line, \xc3,0\n")
    with pytest.raises(DataError, match=r"line 3: byte 0xc3 is not UTF-8 text"):
        read_table(path)


NESTED = {
    "meta": {"answer": "accept"},
    "data": {"text": "a film"},
    "annotations": [{"label": "good"}, {"label": "bad"}],
}


@pytest.mark.parametrize("form", ["lines", "array", "parquet"])
def test_nested_fields_are_found_by_their_path(form: str, tmp_path: Path) -> None:
    contents = {"lines": lines([NESTED]), "array": json.dumps([NESTED])}
    content = contents[form] if form in contents else arrow("parquet", [NESTED])
    found = read_table(write(tmp_path / "t", content), columns=["data.text", "annotations.1.label", "meta.answer"])
    assert found.rows == [{"data.text": "a film", "annotations.1.label": "bad", "meta.answer": "accept"}]
    with pytest.raises(DataError, match=r"no column 'dta\.text'"):
        read_table(tmp_path / "t", columns=["dta.text"])


@pytest.mark.parametrize("value", [["bad", "film"], {"en": "bad film"}, []])
@pytest.mark.parametrize("form", ["lines", "parquet"])
def test_a_text_that_is_a_list_or_an_object_is_refused_by_file_line_and_field(
    form: str, value: object, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = [{"text": value, "label": 0}, {"text": value, "label": 1}]
    path = write(tmp_path / "t", lines(rows) if form == "lines" else arrow("parquet", rows))
    (spec,) = find_tasks(path).values()
    with pytest.raises(DataError, match=r"/t, (line|row) 1: text is .*; a text is needed"):
        load_task("t", spec, tokenizer, LONGEST)


def test_a_file_without_a_header_gets_its_columns_named(tmp_path: Path) -> None:
    names = ["number", "mood", "text"]
    path = write(tmp_path / "t.tsv", "100\tbad\tnot what I wanted\n101\tgood\tthanks\n")
    assert [row["mood"] for row in read_table(path, names=names).rows] == ["bad", "good"]
    assert read_table(path, names=names).lines == [1, 2]
    bars = write(tmp_path / "t.txt", "0 ||| A bad film , all in all .\n1 ||| A good | film\n")
    assert [row["text"].strip() for row in read_table(bars, names=["label", "text"]).rows][1] == "A good | film"
    with pytest.raises(DataError, match=r"line 1: 3 fields; columns has 2\."):
        read_table(path, names=["mood", "text"])
    with pytest.raises(
        DataError,
        match=r"first line looks like data, '100\\tbad.*name the columns in tasks.toml: columns = \[\.\.\.\] with 3 names\.",
    ):
        read_table(path, columns=["text"])


def test_a_header_is_not_read_as_a_row_where_columns_name_the_same(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "Text, label\na,1\n")
    with pytest.raises(DataError, match=r"t\.csv has a header of these very names; leave out columns\."):
        read_table(file, names=["text", "label"])


def test_a_first_line_for_excel_tells_the_delimiter_and_counts_as_a_line(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "sep=;\r\ntext;label\r\na, b;1\r\nc\r\n")
    with pytest.raises(DataError, match=r"t\.csv, line 4: 1 fields; the header has 2\."):
        read_table(file)
    write(file, "sep=;\ntext;label\na, b;1\n")
    assert read_table(file).rows == [{"text": "a, b", "label": "1"}]


def test_a_delimiter_that_is_not_known_is_said_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no column 'text': its first line is one field, 'id\^text'; fields may be .*tabs"
    ):
        read_table(write(tmp_path / "t.csv", "id^text\n1^a\n"), columns=["text"])


def test_rows_that_a_quote_swallowed_are_said(tmp_path: Path) -> None:
    swallowed = 'label\ttext\n1\t"good start\n' + "0\tline\n" * 50 + '1\tthe end"\n0\tx\n'
    (note,) = read_table(write(tmp_path / "t.tsv", swallowed)).notes
    assert "a row runs over 52 lines, from line 2; " in note
    assert "quoting = false" in note
    assert not read_table(write(tmp_path / "u.tsv", 'label\ttext\n1\t"two\nlines"\n')).notes


def test_several_files_are_one_table_and_an_error_names_the_one_that_is_meant(tmp_path: Path) -> None:
    for number, text in enumerate(("a,0\nb,1\n", "", "c,0\nd,1\n")):
        write(tmp_path / f"train-{number}.csv", f"text,label\n{text}")
    for place in (tmp_path / "train-*.csv", [tmp_path / f"train-{number}.csv" for number in range(3)]):
        found = read_table(place)
        assert [row["text"] for row in found.rows] == ["a", "b", "c", "d"]
        assert [found.where(row) for row in (0, 1, 2, 3)] == [
            f"{tmp_path}/train-{n}.csv, line {m}" for n, m in ((0, 2), (0, 3), (2, 2), (2, 3))
        ]
    with pytest.raises(DataError, match=r"no file matches .*/dev-\*\.csv\."):
        read_table(tmp_path / "dev-*.csv")


def test_signs_of_a_pattern_in_the_name_of_a_folder_that_is_there_are_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "data [v1]*"
    folder.mkdir()
    for number in range(2):
        write(folder / f"train-{number}.csv", f"text,label\nt{number},{number}\n")
    assert len(read_table(folder / "train-*.csv").rows) == 2
    assert len(read_table(tmp_path / "data*" / "train-1.csv").rows) == 1
    with pytest.raises(DataError, match=r"dev\.csv does not exist\.$"):
        read_table(folder / "dev.csv")


def saved(folder: Path) -> Path:
    """A folder as `datasets` saves it, with named classes."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    splits = {"train": [0, 1, 1, 0], "validation": [1, 0], "test": [-1, -1]}
    made = {
        name: datasets.Dataset.from_dict(
            {"text": [f"{name} {n}" for n in range(len(labels))], "label": labels}, features
        )
        for name, labels in splits.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return folder


def test_a_folder_that_datasets_saved_is_read_with_its_splits_and_names_of_classes(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    (spec,) = find_tasks(saved(tmp_path / "set")).values()
    task = load_task("t", spec, tokenizer, LONGEST)
    assert {name: len(split) for name, split in task.splits.items()} == {"train": 4, "dev": 2, "test": 2}
    assert getattr(task.objective, "names", None) == ("no", "yes")
    assert task.splits["train"].labels is not None
    assert task.splits["train"].labels.tolist() == [0, 1, 1, 0]
    assert task.splits["test"].labels is None
    assert len(read_table(tmp_path / "set" / "train").rows) == 4


def test_a_data_set_of_the_hub_is_read_as_a_local_folder_of_its_form_is(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    Path("set").mkdir()
    for split in ("train", "test"):
        write(Path("set") / f"{split}.csv", table())
    (spec,) = find_tasks(Path("hub:set")).values()
    task = load_task("t", spec, tokenizer, LONGEST)
    assert (len(task.splits["train"]), len(task.splits["dev"]), len(task.splits["test"])) == (3, 1, 4)
    with pytest.raises(DataError, match=r"hub:a/b/c/d names no data set"):
        find_tasks(Path("hub:a/b/c/d"))


def test_a_damaged_arrow_file_is_refused_before_its_offsets_are_followed(tmp_path: Path) -> None:
    ends = list(accumulate(len(row["text"].encode()) for row in ROWS))
    whole, offsets = arrow("stream"), struct.pack("<5i", 0, *ends)
    assert whole.count(offsets) == 1
    path = write(tmp_path / "t.arrow", whole.replace(offsets, struct.pack("<5i", 0, *ends[:-1], 1 << 30)))
    with pytest.raises(DataError, match=r"t\.arrow cannot be read: "):
        read_table(path)


def test_columns_are_guessed_by_usual_names_and_said(tmp_path: Path) -> None:
    cases: Mapping[str, tuple[object, str]] = {
        "id,text,label\n1,a,0\n": ("text", "label"),
        "Review,Stars\na,0\n": ("Review", "Stars"),
        "words,label\na,0\n": ("words", "label"),
        "idx,sentence1,sentence2,label\n1,a,b,0\n": (("sentence1", "sentence2"), "label"),
        "premise,hypothesis,gold_label\na,b,0\n": (("premise", "hypothesis"), "gold_label"),
    }
    for content, expected in cases.items():
        (spec,) = find_tasks(write(tmp_path / "t.csv", content)).values()
        assert (spec.text, spec.label) == expected
        assert "guessed by their names" in spec.remarks[0]
    write(tmp_path / "t.csv", "title,body,comment,label\na,b,c,0\n")
    with pytest.raises(
        RegkitError, match=r"name the columns by --text COLUMN\. Available: title, body, comment, label\."
    ):
        find_tasks(tmp_path / "t.csv")
    (spec,) = find_tasks(tmp_path / "t.csv", Given(text=["title", "body"])).values()
    assert (spec.text, spec.label) == (("title", "body"), "label")
    with pytest.raises(DataError, match=r"no column 'boddy'\. Did you mean 'body'\?"):
        find_tasks(tmp_path / "t.csv", Given(text=["boddy"]))
