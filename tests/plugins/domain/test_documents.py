"""Documents of a corpus: whatever format they are in, the same passages; bounded memory; an error says where to look."""

import gzip
import json
import os
import random
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regkit_plugins.domain.corpus import Corpus, read_documents
from regkit_plugins.domain.corpus.documents import Passages
from regkit_plugins.domain.corpus.sources import LINE

from regkit.base.errors import ConfigError, DataError
from tests.helpers import PATIENT

DOCUMENTS = [["One two.", "Three!"], ["naïve café 北京"], ["four", "five", "six"]]
WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_parquet(path: Path, column: list[Any], name: str = "text") -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({name: column, "other": [0] * len(column)}), path)
    return path


def documents(path: Path | str, **options: Any) -> list[list[str]]:
    return list(read_documents(Corpus(str(path), **options)))


def flat(documents: list[list[str]]) -> list[str]:
    return [passage for document in documents for passage in document]


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        documents(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def passages_of(path: Path | str, **options: Any) -> Passages:
    """Read to its end."""
    corpus = Corpus(str(path), **options)
    passages = Passages(corpus, corpus.files())
    for _ in passages:
        pass
    return passages


def test_every_format_gives_the_same_documents(tmp_path: Path) -> None:
    rows = ["\n".join(document) for document in DOCUMENTS]
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows).encode()
    found = [
        documents(write(tmp_path / "a.txt", "\n\n".join(rows)), documents="blank"),
        documents(write(tmp_path / "a", "\r\n\r\n".join(rows).replace("\n", "\r\n")), documents="blank"),
        documents(write(tmp_path / "b.txt.gz", gzip.compress("\n\n".join(rows).encode())), documents="blank"),
        documents(write(tmp_path / "b.bin", gzip.compress("\n\n".join(rows).encode())), documents="blank"),
        documents(write(tmp_path / "c.jsonl", lines)),
        documents(write(tmp_path / "c.jsonl.gz", gzip.compress(lines))),
        documents(write_parquet(tmp_path / "d.parquet", rows)),
        documents(write_parquet(tmp_path / "d.anything", rows)),
        documents(write_parquet(tmp_path / "e.parquet", rows, "body"), field="body"),
    ]
    for number, row in enumerate(rows):
        write(tmp_path / "files" / f"{number}.txt", row)
    found.append(documents(tmp_path / "files", documents="files"))
    assert found == [DOCUMENTS] * len(found)


@PATIENT
@given(st.lists(st.lists(WORDS, min_size=2, max_size=4), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_documents_come_back_as_they_were_written(tmp_path: Path, written: list[list[str]], end: str) -> None:
    text = (end + end).join(end.join(lines) for lines in written)
    assert documents(write(tmp_path / "a.txt", text), documents="blank") == written
    assert documents(write(tmp_path / "b.txt", end + text + end), documents="files") == [flat(written)]
    assert documents(write(tmp_path / "c.txt", text), documents="lines") == [[line] for line in flat(written)]
    rows = "".join(json.dumps({"text": end.join(lines)}) + end for lines in written)
    assert documents(write(tmp_path / "d.jsonl", rows)) == written


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One two. Three! Four?", ["One two.", "Three!", "Four?"]),
        (
            '"Oh!" He left.  (She stayed.) 3 came... and went.',
            ['"Oh!"', "He left.", "(She stayed.)", "3 came... and went."],
        ),
        ("It is 3.5 of 5. Übel. Да.", ["It is 3.5 of 5.", "Übel.", "Да."]),
        ("no capital. follows here", ["no capital. follows here"]),
        ("e.g. this one.But not that", ["e.g. this one.But not that"]),
    ],
)
def test_the_sentences_of_a_line_that_is_a_document_are_its_passages(
    tmp_path: Path, line: str, sentences: list[str]
) -> None:
    path = write(tmp_path / "a.txt", f"{line}\n\n{line}\nA. B.\n")
    assert documents(path, documents="lines") == [sentences, sentences, ["A.", "B."]]
    assert documents(path, documents="blank") == [sentences, [line, "A. B."]]
    assert documents(path, documents="files") == [[line, line, "A. B."]]
    assert documents(write(tmp_path / "a.jsonl", json.dumps({"text": line}))) == [sentences]


def test_a_folder_is_read_in_order_with_what_is_below_it_and_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/y.txt", ".hidden", ".git/config", "c.txt"):
        write(tmp_path / name, name)
    assert documents(tmp_path, documents="lines") == [["a/y.txt"], ["a/z.txt"], ["b.txt"], ["c.txt"]]
    assert documents(tmp_path / "*.txt", documents="lines") == [["b.txt"], ["c.txt"]]
    assert documents(tmp_path / "**" / "y*", documents="lines") == [["a/y.txt"]]
    assert documents(write(tmp_path / "odd[1].txt", "odd"), documents="lines") == [["odd"]]


@pytest.mark.parametrize(
    ("texts", "layout"),
    [
        (["one line\n" * 9000], "lines"),
        (["one line\n" * 5], "lines"),
        (["\n\nonly around\nthe text\n\n\n"], "lines"),
        (["a\nb\n\nc\nd\n"], "blank"),
        (["a\nb\n"] * 30, "files"),
        (["a\nb\n\nc"] * 3, "blank"),
        (["one line\n" * 9000, "another\n" * 9000, "a\n"], "lines"),
        ([("a line of text\n" * 20 + "\n") * 2000] * 2, "blank"),
        (["a line\n" * 500 + "\n" + "a line\n" * 500], "lines"),
    ],
)
def test_what_makes_a_document_is_guessed_and_said(tmp_path: Path, texts: list[str], layout: str) -> None:
    for number, text in enumerate(texts):
        write(tmp_path / f"{number}.txt", text)
    corpus = Corpus(str(tmp_path))
    passages = Passages(corpus, corpus.files())
    assert passages.layout == layout
    assert "a guess" in passages.notes()[0]
    asked = Corpus(str(tmp_path), documents="files")
    assert Passages(asked, asked.files()).notes() == ["a document is a file"]


def test_the_domain_text_is_a_document_a_line() -> None:
    from tests.conftest import SHARED, needs

    for place in ("train.txt", "heldout.txt", "."):
        corpus = Corpus(str(needs(SHARED / "data" / "domain") / place))
        assert Passages(corpus, corpus.files()).layout == "lines"


def test_rows_need_no_layout(tmp_path: Path) -> None:
    passages = passages_of(write(tmp_path / "a.jsonl", '{"text": "a"}\n\n{"text": null}\n{"text": " "}\n'))
    assert passages.layout is None
    assert passages.notes() == ["2 rows without text were left out"]


@pytest.mark.parametrize("form", ["txt", "txt.gz", "jsonl"])
@pytest.mark.parametrize("layout", ["lines", "files", "blank"])
def test_a_long_line_is_cut_at_blanks_into_passages_and_that_is_said(tmp_path: Path, form: str, layout: Any) -> None:
    words = [f"word{number}é" for number in range(40_000)]
    content = ("  " + " ".join(words) + "\nnext line").encode()
    if form == "jsonl":
        content = json.dumps({"text": content.decode()}).encode()
    path = write(tmp_path / f"a.{form}", gzip.compress(content) if form == "txt.gz" else content)
    found = documents(path, documents=layout)
    assert len(found) == (2 if layout == "lines" and form != "jsonl" else 1)
    assert " ".join(flat(found)).split() == [*words, "next", "line"]
    assert all(len(passage) <= LINE for passage in found[0])
    assert len(found[0]) > 6
    assert "1 lines longer than 64 KiB were truncated" in passages_of(path, documents=layout).notes()


def test_the_sentences_of_a_line_that_was_cut_are_its_passages(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "One line. And more.\n" + "Some words. " * 10_000 + "\nThe last. Line.\n")
    (found,) = documents(path, documents="files")
    assert (found[0], found[-1]) == ("One line. And more.", "The last. Line.")
    assert flat([passage.split() for passage in found[1:-1]]) == ["Some", "words."] * 10_000
    assert found[1:-1].count("Some words.") > 9_990  # but where the cut fell within one


def test_a_line_that_begins_with_many_blanks_is_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "first\n" + " " * 200_000 + "second\nthird\n")
    assert documents(path, documents="lines") == [["first"], ["second"], ["third"]]


def test_a_file_that_begins_with_blank_lines_is_a_document(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        write(tmp_path / name, f"\n\n{name}\n\nmore\n")
    assert documents(tmp_path, documents="files") == [["a.txt", "more"], ["b.txt", "more"]]


@pytest.mark.parametrize("form", ["txt", "jsonl"])
@pytest.mark.parametrize("character", ["x", "é", "北", "😀"])
def test_a_long_line_without_a_blank_is_cut_between_characters(tmp_path: Path, form: str, character: str) -> None:
    text = "." + character * 200_000
    path = write(tmp_path / f"a.{form}", json.dumps({"text": text}) if form == "jsonl" else text)
    (found,) = documents(path, documents="lines")
    assert len(found) > 3
    assert "".join(found) == text


@pytest.mark.parametrize("length", range(LINE - 3, LINE + 4))
@pytest.mark.parametrize("end", ["", "\n", "\nb"])
def test_a_line_about_as_long_as_what_is_read_at_once_keeps_its_words(tmp_path: Path, length: int, end: str) -> None:
    text = "a " * (length // 2) + "a" * (length % 2)
    passages = flat(documents(write(tmp_path / "a.txt", text + end), documents="lines"))
    assert " ".join(passages).split() == (text + end).split()


def test_memory_stays_bounded_whatever_a_line_or_a_document_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("w") as file:
        for _ in range(32):
            file.write("somewhat longer words than before " * 3_000)
    for layout in ("lines", "files", "blank"):
        tracemalloc.start()
        passages = passages_of(path, documents=layout)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert passages.reading.cut == 1
        assert peak < 6e5 < path.stat().st_size / 5


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    assert documents(write(tmp_path / "a.txt", "a\u2028b\x85c\x0cd\ne"), documents="lines") == [
        ["a\u2028b\x85c\x0cd"],
        ["e"],
    ]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    assert documents(write(tmp_path / "a.txt", b"\xef\xbb\xbfa\n"), documents="lines") == [["a"]]
    assert documents(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\n')) == [["a"]]


def test_bytes_that_are_not_utf8_are_named_with_their_line_and_replaced_where_asked(tmp_path: Path) -> None:
    for name, content in {
        "a.txt": b"good\nb\xffad\ngood\n",
        "a.jsonl": b'{"text": "good"}\n{"text": "b\xffad"}\n',
    }.items():
        path = write(tmp_path / name, content)
        assert refusal(path) == f"{path}, line 2: byte 0xff is not UTF-8 text; errors=replace reads on past such bytes."
        assert ["b\ufffdad"] in documents(path, errors="replace")
        assert (
            "1 lines had bytes that are not UTF-8, which were replaced" in passages_of(path, errors="replace").notes()
        )
    path = write(tmp_path / "long.txt", b"a\n" + b"word " * 30_000 + b"\xff")
    assert f"{path}, line 2: byte 0xff" in refusal(path)


def test_half_a_character_in_json_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b\\ud800"}\n')
    assert refusal(path).startswith(f"{path}, line 2: text has half a character")
    assert documents(path, errors="replace") == [["a"], ["b?"]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"text\nPNG\0\1\2", "a.txt is no text file: line 2 has a NUL byte."),
        ("a.txt", "utf16".encode("utf-16"), "a.txt is UTF-16; a corpus is UTF-8 text, as `iconv -f UTF-16 -t UTF-8`"),
        ("a.txt", "utf16".encode("utf-16-le"), "a.txt is no text file: line 1 has a NUL byte."),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "a.jsonl, line 3: this is not JSON; one object a line is needed."),
        ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1: this is not JSON; one object a line is needed."),
        ("a.json", b'{\n"text": "a"}\n', "a.json, line 1: this is not JSON; one object a line is needed."),
        ("a.jsonl", b'["a"]\n', "a.jsonl, line 1: a JSON object is needed, one a line."),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl, line 1: text is '3'; a text is needed."),
        ("a.jsonl", b'{"tex": "a"}\n', "a.jsonl, line 1: there is no field 'text'. Did you mean 'tex'? Available: tex."),
        ("a.txt.gz", b"no gzip", "a.txt.gz is a damaged gzip file: Not a gzipped file (b'no')."),
        ("a.txt.gz", gzip.compress(random.Random(0).randbytes(999), mtime=0)[:-200], "a.txt.gz is a damaged gzip file: Compressed file ended"),
        ("a.txt.gz", gzip.compress(b"text\n" * 99, mtime=0)[:20] + b"\xff" * 40, "a.txt.gz is a damaged gzip file: "),
    ],
)  # fmt: skip
def test_an_error_names_the_file_and_the_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    assert refusal(write(tmp_path / name, content)).removeprefix(f"{tmp_path}/").startswith(message)


def test_a_json_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regkit_plugins.domain.corpus.sources.RECORD", 1 << 20)
    path = write(tmp_path / "a.jsonl", '{"text": "' + "a" * (1 << 20) + '"}')
    assert refusal(path) == f"{path}, line 1 is longer than 1 MiB; one JSON object a line is needed."


def test_what_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    choices = "; a corpus is a file, a folder, a glob, or hub:NAME."
    assert refusal(tmp_path / "*.txt") == f"no file matches {tmp_path}/*.txt{choices}"
    assert refusal(tmp_path) == f"{tmp_path} has no files{choices}"


def test_links_are_followed_and_one_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    write(folder / "a.txt", "a")
    write(elsewhere / "b.txt", "b")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked-again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)  # a circle
    assert documents(folder) == [["a"], ["b"]]
    (folder / "c.txt").symlink_to(tmp_path / "gone.txt")
    said = "is a link to a file that does not exist; remove the link, or bring the file."
    assert refusal(folder) == f"{folder / 'c.txt'} {said}"


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", "a")

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so that a mode would not do
    assert refusal(path) == f"{path} cannot be read: Permission denied."


def test_an_option_that_cannot_be_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"no documents 'line'\. Did you mean 'lines'\?"):
        Corpus("a", documents="line")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no errors 'ignore'\. Available: replace, strict\."):
        Corpus("a", errors="ignore")  # type: ignore[arg-type]


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = write(tmp_path / "a.parquet", b"PAR1")
    assert refusal(path) == f"{path}: reading Parquet needs pyarrow: pip install 'regkit[parquet]'."


def test_a_parquet_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ["some text"] * 50)
    assert refusal(path, field="txt").startswith(f"{path}: there is no field 'txt'. Did you mean 'text'?")
    assert refusal(path, field="other").startswith(f"{path}, row 1: other is '0'")
    whole = path.read_bytes()
    for content in (b"", b"PAR1junk", whole[:-40], whole[:20] + bytes(20) + whole[40:]):
        assert refusal(write(path, content)).startswith(f"{path} cannot be read: ")
    assert documents(write_parquet(tmp_path / "b.parquet", ["a", None, "b"])) == [["a"], ["b"]]


def test_a_set_on_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*arguments: object, **options: object) -> list[dict[str, str]]:
        asked.append((arguments, options))
        return [{"text": "One. Two."}, {"text": "three\nfour"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert documents("hub:owner/name/config") == [["One.", "Two."], ["three", "four"]]
    assert documents("hub:name") == [["One.", "Two."], ["three", "four"]]
    options = {"split": "train", "streaming": True, "revision": None}
    assert asked == [(("owner/name", "config"), options), (("name", None), options)]
    assert refusal("hub:name", field="body").startswith("hub:name, row 1: there is no field 'body'.")
    for source in ("hub:", "hub:a//b", "hub:a/b/c/d"):
        assert refusal(source).startswith(f"{source} names no data set; ")


def test_what_the_hubs_library_says_becomes_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **options: object) -> None:
        raise ValueError("Config name is missing.\nPlease pick one.")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert refusal("hub:name") == "hub:name cannot be read: Config name is missing."
    monkeypatch.setitem(sys.modules, "datasets", None)  # type: ignore[arg-type]
    assert refusal("hub:name") == "hub:name: reading from the Hub needs datasets: pip install 'regkit[hub]'."


def test_a_folder_laid_out_as_a_hub_set_is_streamed_by_the_library_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets: ModuleType = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"text": "\n".join(document)}) + "\n" for document in DOCUMENTS)
    write(tmp_path / "owner" / "name" / "train.jsonl", rows)
    write(tmp_path / "owner" / "name" / "test.jsonl", '{"text": "not this"}\n')
    assert documents("hub:owner/name") == DOCUMENTS
    assert "cannot be read" in refusal("hub:owner/name/none")


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_table_gives_the_column_that_is_named_and_not_its_header_or_other_columns(
    tmp_path: Path, delimiter: str, packed: bool
) -> None:
    rows = [
        ["id", "review", "mood"],
        ["1", '"Fine, ""really"";\n\tone line more."', "good"],
        ["2", "Dull.", "bad"],
        ["3", "", "bad"],
    ]
    content = "\n".join(delimiter.join(row) for row in rows).encode()
    path = write(tmp_path / f"t.csv{'.gz' if packed else ''}", gzip.compress(content) if packed else content)
    assert documents(path, field="review") == [['Fine, "really";', "one line more."], ["Dull."]]
    said = refusal(path)
    assert "is a table without a column 'text'; domain:text=COLUMN names that of the text. " in said
    assert "Available: id, mood, review." in said
    write(path, path.read_bytes() if packed else content + b"\n4")
    assert packed or "row 5: 1 fields; the header has 3." in refusal(path, field="review")


@pytest.mark.parametrize("name", ["wiki_00", "wiki.txt", "wiki_00.gz"])
def test_json_lines_are_told_by_their_first_bytes(tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps({"id": str(n), "text": f"Text {n}."}) + "\n" for n in range(2)).encode()
    path = write(tmp_path / name, gzip.compress(lines) if name.endswith("gz") else lines)
    assert documents(path) == [["Text 0."], ["Text 1."]]


def test_tags_of_wikiextractor_part_documents_and_are_no_text(tmp_path: Path) -> None:
    content = '<doc id="1" title="A">\nA\n\nA is a letter. It is first.\n\nMore.\n</doc>\n<doc id="2">\nB\n</doc>\n'
    path = write(tmp_path / "wiki_00", content)
    assert documents(path) == [["A", "A is a letter. It is first.", "More."], ["B"]]
    assert (
        "a document is what stands between <doc> and </doc> (a guess; documents= says otherwise)"
        in passages_of(path).notes()
    )
    assert documents(path, documents="lines")[0] == ['<doc id="1" title="A">']


def test_a_pointer_of_git_lfs_is_no_corpus(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert "is a Git LFS pointer and not the file" in refusal(path)


def test_a_pipe_is_refused_since_a_corpus_is_read_more_than_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    said = "is a pipe or a device, and a corpus is read more than once; save it as a file."
    assert refusal(tmp_path / "pipe") == f"{tmp_path / 'pipe'} {said}"
