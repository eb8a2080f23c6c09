"""`regkit predict`: a run answers for new texts as `regkit eval` scores it, in flat memory, or says what is wrong."""

import bz2
import csv
import gzip
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from regkit.cli import predict as predicting
from regkit.cli.app import main
from regkit.training.inference import Inference
from tests.helpers import Ran, regkit, sentence, write_encoder, write_tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, the tables of its dev split, and what `eval` predicted of them. Its training data is gone."""
    place = tmp_path_factory.mktemp("predict")
    write_encoder(place / "encoder")
    write_tasks(place / "data")
    words = ("--encoder", "encoder", "--data", "data", "--output", "run", "--steps", 6, "--lr", 0.01)
    assert regkit("train", *words, cwd=place).status == 0
    assert regkit("eval", "run", "--predictions", "predicted", cwd=place).status == 0
    for name in ("mood", "same", "near"):
        shutil.move(place / "data" / f"{name}-dev.csv", place / f"{name}.csv")
    shutil.rmtree(place / "data")
    (place / "lines.txt").write_text("".join(f"{sentence(number)}\n" for number in range(20)), encoding="utf8")
    return place


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Pipe bytes into the next command."""

    def pipe(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf8"))

    return pipe


def predict(place: Path, *words: object) -> Ran:
    return regkit("predict", *words, cwd=place)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def objects(text: str) -> list[Mapping[str, dict[str, object]]]:
    return [json.loads(line) for line in text.splitlines()]


def evaluated(place: Path, task: str) -> list[str]:
    with (place / "predicted" / f"{task}-dev.csv").open(encoding="utf8", newline="") as file:
        return [label for _, label in csv.reader(file)][1:]


def test_a_table_is_answered_as_eval_predicted_it_with_ids_and_texts_beside(place: Path) -> None:
    ran = predict(place, "run", "mood.csv")
    assert ran.status == 0, ran.err
    rows = table(ran.out)
    assert list(rows[0]) == ["id", "sentence", "mood", "mood.0", "mood.1", "mood.2"]
    assert [row["id"] for row in rows] == [f"dev{number}" for number in range(20)]
    assert [row["sentence"] for row in rows] == [sentence(number) for number in range(20)]
    assert [row["mood"] for row in rows] == evaluated(place, "mood")
    for row in rows:
        chances = [float(row[f"mood.{each}"]) for each in range(3)]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert row["mood"] == str(chances.index(max(chances)))
    assert "not asked, because what they read is not there: same, near\n" in ran.err
    assert "20 texts, none cut" in ran.err


def test_all_tasks_that_read_the_columns_answer_at_once(place: Path) -> None:
    rows = objects(predict(place, "run", "same.csv", "--json").out)
    assert [str(row["same"]["label"]) for row in rows] == evaluated(place, "same")
    near = [float(label) for label in evaluated(place, "near")]
    assert [row["near"]["label"] for row in rows] == pytest.approx(near, abs=1e-5)
    assert list(rows[0]["same"]["probabilities"]) == ["0", "1"]  # type: ignore[call-overload]
    assert "probabilities" not in rows[0]["near"]


def test_tasks_that_read_alike_share_a_pass_of_the_encoder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    own = Inference._pass
    monkeypatch.setattr(Inference, "_pass", lambda self, *given: passes.append(1) or own(self, *given))
    assert predict(place, "run", "mood.csv", "--task", "mood").status == 0
    assert len(passes) == 1
    ran = predict(place, "run", "same.csv", "--text", "one")
    assert (ran.status, len(passes)) == (0, 2)
    assert predict(place, "run", "same.csv").status == 0
    assert len(passes) == 2 + 3  # the pair read together, and each of its texts


def test_the_latest_run_is_asked_where_none_is_named(place: Path) -> None:
    assert predict(place, "mood.csv").out == predict(place, "run", "mood.csv").out
    assert predict(place, "run/best", "mood.csv").out == predict(place, "run", "mood.csv").out


def test_lines_and_standard_input_are_answered_like_the_column_of_a_table(place: Path, piped) -> None:  # type: ignore[no-untyped-def]
    wanted = [row["mood"] for row in table(predict(place, "run", "mood.csv").out)]
    assert [row["mood"] for row in table(predict(place, "run", "lines.txt").out)] == wanted
    piped((place / "lines.txt").read_bytes())
    ran = predict(place, "run")
    assert [row["mood"] for row in table(ran.out)] == wanted
    assert ran.err.startswith("standard input: one text a line\n")
    piped((place / "mood.csv").read_bytes())
    assert [row["mood"] for row in table(predict(place, "run", "-").out)] == wanted
    piped(b"".join(b'{"sentence": "%s"}\n' % line for line in (place / "lines.txt").read_bytes().splitlines()))
    assert [row["mood"] for row in table(predict(place, "run").out)] == wanted
    piped((place / "mood.csv").read_bytes())
    assert len(table(predict(place, "run", "--lines").out)) == 21  # the header is a text like any other


def test_other_columns_are_read_where_text_names_them(place: Path) -> None:
    wanted = table(predict(place, "run", "mood.csv").out)
    assert regkit("predict", "run", "same.csv", "--text", "one", cwd=place).err.count("mood") == 0
    found = table(predict(place, "run", "same.csv", "--text", "one").out)
    assert [row["mood"] for row in found] == [row["mood"] for row in wanted]
    assert list(found[0]) == ["one", "mood", "mood.0", "mood.1", "mood.2"]
    swapped = objects(predict(place, "run", "same.csv", "--text", "two", "--text", "one", "--json").out)
    assert list(swapped[0]) == ["two", "one", "same", "near"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_other_columns_stand_beside_the_answers_where_they_are_asked_for(place: Path, ending: str) -> None:
    rows = table((place / "mood.csv").read_text())
    (label,) = {*rows[0]} - {"id", "sentence"}
    ran = predict(place, "run", "mood.csv", "--also", label, "--also", "sentence", "--output", f"also.{ending}")
    assert ran.status == 0, ran.err
    written = (place / f"also.{ending}").read_text()
    found = table(written) if ending == "csv" else objects(written)
    assert list(found[0])[:4] == ["id", "sentence", label, "mood.label"]  # the column has the name of the task
    assert [row[label] for row in found] == [row[label] for row in rows]
    assert predict(place, "run", "mood.csv", "--output", f"also.{ending}").status == 0  # known as answers


def test_a_column_beside_the_answers_may_hold_anything(place: Path) -> None:
    lines = [{"sentence": "fine", "of": [1, {"a": None}]}, {"sentence": "dull", "of": None}, {"sentence": "grey"}]
    (place / "of.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    ran = predict(place, "run", "of.jsonl", "--also", "of")
    assert ran.status == 0, ran.err
    assert [row["of"] for row in table(ran.out)] == ['[1, {"a": null}]', "", ""]


@pytest.mark.parametrize(
    ("name", "content"),
    [("holes.csv", "sentence\nfine\n \nfine\ngood\n\n"), ("holes.txt", "fine\n\n \nfine\ngood\n\n\n")],
)
def test_rows_without_text_can_be_left_out(place: Path, name: str, content: str) -> None:
    whole, lines = (place / name), content.splitlines()
    whole.write_text("\n".join(line for line in lines if line.strip()) + "\n")
    wanted = predict(place, "run", name, "--task", "mood").out
    whole.write_text(content)
    ran = predict(place, "run", name, "--task", "mood", "--skip-empty")
    assert (ran.status, ran.out) == (0, wanted), ran.err
    assert f"3 texts, {1 if name == 'holes.csv' else 2} rows without text left out, none cut" in ran.err


def test_a_pair_of_which_one_text_is_empty_is_left_out(place: Path) -> None:
    (place / "half.csv").write_text("one,two\na,b\na,\n,b\n")
    ran = predict(place, "run", "half.csv", "--task", "same", "--text", "one", "--text", "two", "--skip-empty")
    assert "1 texts, 2 rows without text left out" in ran.err


def test_a_table_of_which_every_row_is_left_out_is_an_error(place: Path, tmp_path: Path) -> None:
    (place / "blank.csv").write_text("sentence\n \n")
    ran = predict(place, "run", "blank.csv", "--skip-empty", "--output", tmp_path / "found.csv")
    assert (ran.status, ran.err.splitlines()[-1]) == (2, "regkit: blank.csv has no texts: every row is left out.")
    assert not list(tmp_path.iterdir())


def test_an_output_file_holds_what_is_printed_and_takes_its_name_at_the_end(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, more in {"found.csv": (), "found.jsonl": ("--json",)}.items():
        ran = predict(place, "run", "mood.csv", "--output", tmp_path / name)
        assert (ran.status, ran.out) == (0, "")
        assert (tmp_path / name).read_text() == predict(place, "run", "mood.csv", *more).out
    before = (tmp_path / "found.csv").read_text()
    (place / "gap.csv").write_text("sentence\nfine\n \nfine\n")
    monkeypatch.setattr(predicting, "WINDOW", 1)
    ran = predict(place, "run", "gap.csv", "--output", tmp_path / "found.csv")
    assert (ran.status, ran.err.splitlines()[-1]) == (
        2,
        "regkit: gap.csv, line 3: sentence is empty; --skip-empty leaves such rows out.",
    )
    assert (tmp_path / "found.csv").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.csv", "found.jsonl"]


def test_an_output_file_that_holds_something_else_is_left_alone(place: Path, tmp_path: Path) -> None:
    words = ("run", "mood.csv", "--output")
    for name, content in {
        "train.csv": "sentence,mood\na,1\n",
        "train.jsonl": '{"sentence": "a", "mood": 1}\n{"sentence": "b"}\n',
        "notes.jsonl": "none\n",
        "bytes.csv": "\xff\0",
    }.items():
        file = tmp_path / name
        file.write_text(content, encoding="latin1")
        ran = predict(place, *words, file)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.endswith(f"{file} exists, and holds no answers of these tasks; name another --output.\n")
        assert file.read_text(encoding="latin1") == content
    for name in ("found.csv", "found.jsonl"):
        (tmp_path / name).touch()
        (tmp_path / f"link-{name}").symlink_to(name)
        for _ in range(2):  # answers are replaced by answers, and a link stays one
            assert predict(place, *words, tmp_path / f"link-{name}").status == 0
        assert (tmp_path / f"link-{name}").is_symlink()
        assert (tmp_path / name).stat().st_size > 0


def test_training_data_whose_labels_are_named_as_their_task_is_no_file_of_answers(place: Path, tmp_path: Path) -> None:
    """A score has no column of a class, by which answers are told from such a table."""
    (tmp_path / "data").mkdir()
    rows = [f"{sentence(number)},{number}" for number in range(20)]
    table = tmp_path / "data" / "score.csv"
    table.write_text("\n".join(["text,score", *rows]) + "\n", encoding="utf8")
    before = table.read_bytes()
    words = ("--encoder", place / "encoder", "--data", table, "--kind", "regression", "--steps", 1, "--output", "run")
    assert regkit("train", *words, cwd=tmp_path).status == 0
    (tmp_path / "new.csv").write_text("text\nthe tea is fine\n")
    ran = predict(tmp_path, "run", "new.csv", "--output", table)
    assert (ran.status, table.read_bytes()) == (2, before)
    assert "holds no answers of these tasks" in ran.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_are_read_and_written_as_standard_input_and_output_are(place: Path, tmp_path: Path) -> None:
    read, written = tmp_path / "in.csv", tmp_path / "out.csv"
    for pipe in (read, written):
        os.mkfifo(pipe)
    answers: list[str] = []
    helpers = [
        threading.Thread(target=lambda: read.write_bytes((place / "mood.csv").read_bytes()), daemon=True),
        threading.Thread(target=lambda: answers.append(written.read_text(encoding="utf8")), daemon=True),
    ]
    for helper in helpers:
        helper.start()
    ran = predict(place, "run", read, "--output", written)
    assert ran.status == 0, ran.err  # or else nobody opens the other ends
    for helper in helpers:
        helper.join()
    assert f"{read}: " in ran.err
    assert answers == [predict(place, "run", "mood.csv").out]
    assert written.is_fifo()


def test_blocks_do_not_show(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = objects(predict(place, "run", "same.csv", "--json").out)
    monkeypatch.setattr(predicting, "WINDOW", 7)
    found = objects(predict(place, "run", "same.csv", "--json", "--micro-batch-tokens", 30).out)
    assert [row["same"]["label"] for row in found] == [row["same"]["label"] for row in wanted]
    near = [row["near"]["label"] for row in wanted]
    assert [row["near"]["label"] for row in found] == pytest.approx(near, abs=1e-5)


def test_an_answer_is_told_from_a_column_of_its_name(place: Path) -> None:
    (place / "named.csv").write_text("mood\nthe tea is fine\n")
    words = ("run", "named.csv", "--text", "mood")
    assert list(table(predict(place, *words).out)[0])[:2] == ["mood", "mood.label"]
    for name in ("again.csv", "again.jsonl"):
        for _ in range(2):  # and is known as one
            assert predict(place, *words, "--output", name).status == 0


def test_an_answer_is_told_from_a_column_that_is_named_as_a_class(place: Path) -> None:
    (place / "named.csv").write_text("mood.1\nthe tea is fine\n")
    header = list(table(predict(place, "run", "named.csv", "--text", "mood.1").out)[0])
    assert header == ["mood.1", "mood.label", *(f"mood.label.{each}" for each in range(3))]


def test_texts_that_are_cut_are_counted_whatever_their_length(place: Path) -> None:
    (place / "long.csv").write_text(f"sentence\nshort\n{'the tea ' * 130_000}\n")  # a line of 1 MB
    ran = predict(place, "run", "long.csv")
    assert ran.status == 0, ran.err
    assert "2 texts, 1 longer than is read, and cut" in ran.err


def test_who_stops_reading_or_interrupts_ends_it_cleanly(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(error: type[BaseException]) -> None:
        def answers(self: object, block: object) -> None:
            raise error

        monkeypatch.setattr(predicting.Asking, "answers", answers)

    stop(KeyboardInterrupt)
    ran = predict(place, "run", "mood.csv", "--output", tmp_path / "found.csv")
    assert ran.status == 130
    assert ran.err.endswith(f"regkit: interrupted after 0 texts; {tmp_path / 'found.csv'} was not written.\n")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(predicting, "silence", lambda stream: None)  # of the test's own standard output
    stop(BrokenPipeError)
    ran = predict(place, "run", "mood.csv")
    assert (ran.status, "regkit:" in ran.err) == (0, False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mark.txt", "café\nna\u00efve\n".encode("utf-16")),
        ("windows.txt", b"caf\xe9\r\nna\xefve\r\n"),
        ("packed.txt.gz", gzip.compress("café\nnaïve\n".encode(), mtime=0)),
        ("packed", bz2.compress("café\nnaïve".encode())),
    ],
)
def test_texts_one_a_line_are_read_in_their_encoding_and_unpacked_as_tables_are(
    place: Path, name: str, content: bytes
) -> None:
    (place / name).write_bytes(content)
    ran = predict(place, "run", name)
    assert ran.status == 0, ran.err
    assert [row["text"] for row in table(ran.out)] == ["café", "naïve"]
    assert ("was read as cp1252" in ran.err) == (name == "windows.txt")


def test_answers_on_standard_output_are_utf8_whatever_the_locale(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", errors="backslashreplace"))
    (place / "one.txt").write_text("café 日本\n", encoding="utf8")
    monkeypatch.setattr(sys, "argv", ["regkit", "predict", str(place / "run"), str(place / "one.txt")])
    main()
    sys.stdout.flush()
    assert [row["text"] for row in table(written.getvalue().decode())] == ["café 日本"]


def test_answers_that_nobody_takes_are_no_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["regkit", "predict", str(place / "run"), str(place / "lines.txt"), *more])
        main()
        assert "20 texts, none cut" in capsys.readouterr().err


FILES = {
    "empty.csv": b"",
    "blank.txt": b"\n\n",
    "header.csv": b"sentence\n",
    "gap.txt": b"one\n\ntwo\n",
    "wide.csv": b"sentence\na,b\n",
    "other.csv": b"sentense\nfine\n",
    "braces.txt": b'{"a": 1} is what I wrote\n',
    "russian.txt": b"\xf5\xee\xf0\xee\xf8\xee\n\xef\xeb\xee\xf5\xee\n",
    "half.jsonl": b'{"sentence": "fine"}\n{"sentence"\n',
}
REFUSED = [
    (("run", "nowhere.csv"), "nowhere.csv does not exist."),
    (("run", "empty.csv"), "empty.csv is empty."),
    (("run", "blank.txt"), "blank.txt is empty."),
    (("run", "header.csv"), "header.csv has no texts."),
    (("run", "gap.txt"), "gap.txt, line 2: text is empty; --skip-empty leaves such rows out."),
    (("run", "wide.csv"), "wide.csv, line 2: 2 fields; the header has 1."),
    (("run", "russian.txt"), "russian.txt, line 1: byte 0xf5 is not UTF-8 text; if it has another encoding, save it as UTF-8."),
    (("run", "russian.txt", "--lines"), "russian.txt, line 1: byte 0xf5 is not UTF-8 text; if it has another encoding, save it as UTF-8."),
    (("run", "half.jsonl"), "half.jsonl, line 2: this is not JSON."),
    (("run", "braces.txt"), "braces.txt, line 1: this is not JSON. By its first line, this is a table; --lines reads one text a line."),
    (("run", "other.csv"), "other.csv has no column 'sentence'; task 'mood' reads it, and --text names another. Did you mean 'sentense'?"),
    (("run", "mood.csv", "--text", "sentense"), "mood.csv has no column 'sentense'; task 'mood' reads it, and --text names another. Did you mean 'sentence'?"),
    (("run", "mood.csv", "--task", "same"), "mood.csv has no column 'one'; task 'same' reads it"),
    (("run", "mood.csv", "--task", "mod"), "the run has no task 'mod'. Did you mean 'mood'?"),
    (("run", "same.csv", "--task", "same", "--text", "one"), "--text names 1 column: one; same reads a pair."),
    (("run", "same.csv", "--text", "one", "--text", "one"), "--text names column 'one' twice; a pair has two columns."),
    (("run", "lines.txt", "--task", "same"), "lines.txt is read as one text a line, and task 'same' reads pairs; give a table with a header."),
    (("run", "mood.csv", "--output", "found.xml"), "--output is found.xml, whose ending says no form. Available: .csv, .jsonl."),
    (("run", "mood.csv", "--output", "found.csv", "--json"), "--json writes JSON lines, and --output is found.csv; name a file that ends in .jsonl."),
    (("run", "mood.csv", "--output", "mood.csv"), "--output is mood.csv, the file that is read; name another."),
    (("run", "mood.csv", "--output", "no/found.csv"), "--output is no/found.csv, and there is no folder no."),
    (("rum", "mood.csv"), "there is no run rum. Did you mean 'run'?"),
    (("nowhere.csv",), "nowhere.csv does not exist."),
    (("run", "run"), "run cannot be read: Is a directory."),
    (("run", "mood.csv", "--lines", "--text", "sentence"), "--lines reads one text a line, which has no columns; leave out --text."),
    (("run", "lines.txt", "--lines", "--also", "id"), "--lines reads one text a line, which has no columns; leave out --also."),
    (("run", "mood.csv", "--also", "ids"), "mood.csv has no column 'ids', which --also names. Did you mean 'id'?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_sentence(place: Path, words: tuple[str, ...], said: str) -> None:
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    ran = predict(place, *words)
    assert ran.status == 2
    assert f"regkit: {said}" in ran.err.splitlines()[-1]


def test_a_run_that_was_only_pretrained_has_no_task_to_ask(place: Path) -> None:
    words = ("--corpus", "lines.txt", "--encoder", "encoder", "--output", "domain", "--steps", 2)
    assert regkit("pretrain", *words, "-p", "domain:length=16,batch_size=4", cwd=place).status == 0
    ran = predict(place, "domain", "mood.csv")
    assert (ran.status, ran.err.partition(",")[0]) == (2, "regkit: the run was pretrained")
