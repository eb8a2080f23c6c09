"""Kept: the second run finds the tokens of a table as the first one made them, or makes them again - never others."""

import io
import json
import os
import pickle
import resource
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regkit.base.errors import DataError
from regkit.data import kept, load
from regkit.data.declare import DemoSpec, TaskSpec
from regkit.data.load import Whole, read_task
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.task import Examples
from tests.helpers import LONGEST, VOCABULARY, write_csv, write_encoder

ROWS = [{"id": f"r{n}", "text": f"a good film {n % 7}", "other": f"bad {n % 5}", "label": n % 3} for n in range(40)]
ONE: dict[str, Any] = {"text": "text", "label": "label"}
PAIR = ONE | {"text": ("text", "other")}
CASES: dict[str, Mapping[str, Any]] = {
    "all read off": ONE,
    "held out": ONE | {"dev": 0.3},
    "by name": ONE | {"id": "id", "skip": ["1"]},
    "scores": ONE | {"kind": "regression"},
    "lists": ONE | {"kind": "multilabel", "classes": ("0", "1", "2")},
    "a pair": PAIR | {"kind": "ordinal", "classes": 3},
    "a pair apart": PAIR | {"pair_mode": "bi_encoder"},
    "numbers of rows": ONE | {"where": {"other": ["bad 0", "bad 2"]}},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_encoder(tmp_path_factory.mktemp("encoder") / "tiny"))


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and whoever reads a table or tokenizes from then on fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    def refuse_from_now() -> None:
        monkeypatch.setattr(load, "prepare", refuse)
        monkeypatch.setattr(Tokenizer, "encode", refuse)

    return refuse_from_now


def spec_of(folder: Path, rows: list[dict[str, Any]] = ROWS, **spec: Any) -> TaskSpec:
    unlabelled = [row | {"label": "" if n else row["label"]} for n, row in enumerate(rows[:5])]
    files: dict[str, Any] = {"dev": write_csv(folder / "dev.csv", rows[:9])} | spec
    files["test"] = write_csv(folder / "test.csv", unlabelled)
    return TaskSpec(train=write_csv(folder / "train.csv", rows), **files)


def read(spec: TaskSpec, tokenizer: Tokenizer, longest: int = LONGEST, **how: Any) -> Whole:
    return read_task("t", spec, tokenizer, longest, **how)


def everything(whole: Whole) -> dict[str, Any]:
    """What a run has of a task, in plain values."""
    found: dict[str, Any] = {"spec": whole.spec, "objective": whole.task.objective, "notes": list(whole.task.notes)}
    for split, each in whole.task.splits.items():
        assert isinstance(each, Examples)
        assert each.digest() == Examples(each.tokens, each.segments, each.offsets, each.labels).digest()
        arrays = [(each.tokens, np.int32), (each.segments, np.int8), (each.offsets, np.int64)]
        assert all(array.dtype == kind for array, kind in arrays)
        labels = None if each.labels is None else (each.labels.dtype, each.labels.tolist())
        others = [list(each.ids), list(each.texts), list(each.unlabelled), each.truncated, each.sides]
        found[split] = [*(array.tolist() for array, _ in arrays), labels, *others]
    return found


def folders(cache: Path) -> list[Path]:
    return [path for path in (cache / "tables").glob("*") if path.is_dir()]


def sentences(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", CASES)
def test_the_second_time_nothing_is_read_and_all_is_the_same(
    tmp_path: Path, tokenizer: Tokenizer, unread: Callable[[], None], name: str
) -> None:
    spec, longest, keep_texts = spec_of(tmp_path, **CASES[name]), 8, "pair" in name
    first = everything(read(spec, tokenizer, longest, keep_texts=keep_texts))
    unread()
    whole = read(spec, tokenizer, longest, keep_texts=keep_texts)
    assert everything(whole) == everything(pickle.loads(pickle.dumps(whole))) == first
    assert first["train"][7] > 0  # are truncated
    train = whole.task.splits["train"]
    assert isinstance(train, Examples)
    assert list(train.only([3, 1]).ids) == [train.ids[3], train.ids[1]]
    assert bool(first["train"][5]) == keep_texts


def other_tokenizer(folder: Path) -> Tokenizer:
    words = [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf8")
    return Tokenizer.load(folder)


def test_what_is_stale_is_read_again(
    tmp_path: Path, cache: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content, tokenizer, code, length, and what is declared of the task: each is another folder."""
    spec = spec_of(tmp_path, **PAIR)
    state = (tmp_path / "train.csv").stat()
    first = everything(read(spec, tokenizer))
    changes: dict[str, tuple[TaskSpec, Tokenizer, int]] = {
        "columns": (spec.model_copy(update={"text": ("other", "text")}), tokenizer, LONGEST),
        "one text": (spec.model_copy(update={"text": "text"}), tokenizer, LONGEST),
        "pair mode": (spec.model_copy(update={"pair_mode": "bi_encoder"}), tokenizer, LONGEST),
        "rows": (spec.model_copy(update={"skip": ("1",)}), tokenizer, LONGEST),
        "names": (spec.model_copy(update={"id": "id"}), tokenizer, LONGEST),
        "classes": (spec.model_copy(update={"kind": "classification", "classes": 4}), tokenizer, LONGEST),
        "length": (spec, tokenizer, LONGEST - 3),
        "tokenizer": (spec, other_tokenizer(tmp_path / "other"), LONGEST),
    }
    for number, (name, given) in enumerate(changes.items(), 2):
        found = everything(read(*given))
        assert len(folders(cache)) == number, name
        with monkeypatch.context() as patch:
            patch.setenv("REGKIT_CACHE", str(tmp_path / f"fresh-{number}"))
            assert found == everything(read(*given)), name
    content = (tmp_path / "train.csv").read_bytes()
    (tmp_path / "train.csv").write_bytes(content.replace(b"good", b"long"))
    os.utime(tmp_path / "train.csv", ns=(state.st_atime_ns, state.st_mtime_ns))  # of the same size and age
    assert everything(read(spec, tokenizer, keep_texts=True))["train"][5][0] == ("a long film 0", "bad 0")
    assert everything(read(spec, tokenizer))["train"][0] != first["train"][0]
    before = len(folders(cache))
    monkeypatch.setattr(kept, "_code", lambda: "another version of regkit")
    read(spec, tokenizer)
    assert len(folders(cache)) == before + 1


def test_what_changes_no_token_reads_nothing_again(
    tmp_path: Path, tokenizer: Tokenizer, unread: Callable[[], None]
) -> None:
    spec = spec_of(tmp_path, **ONE)
    read(spec, tokenizer)
    unread()
    assert read(spec.model_copy(update={"batch_size": 3, "pooling": "mean"}), tokenizer).task.batch_size == 3


def test_whatever_is_damaged_is_made_again_and_said_in_a_sentence(
    tmp_path: Path, cache: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(tmp_path, **(PAIR | {"id": "id"}))
    whole = everything(read(spec, tokenizer, keep_texts=True))
    (folder,) = folders(cache)
    damages: dict[str, Callable[[Path], object]] = {
        "train.tokens": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
        "dev.labels": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "test.ids.ends": lambda path: path.write_bytes(bytes(8) + path.read_bytes()),
        "train.text1": lambda path: path.unlink(),
        "header.json": lambda path: path.write_bytes(b"[]"),
    }
    for name, damage in damages.items():
        damage(folder / name)
        assert everything(read(spec, tokenizer, keep_texts=True)) == whole, name
        (said,) = sentences(capsys)
        assert said == f"The cache of {tmp_path / 'train.csv'} is built again: {folder} is damaged.", name
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps(header | {"notes": []}))
    assert everything(read(spec, tokenizer, keep_texts=True)) == whole


def test_a_user_without_a_home_trains_all_the_same(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("REGKIT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    notes = read(spec_of(tmp_path, **ONE), tokenizer).task.notes
    assert notes[-1] == "there is no home folder for what is kept; REGKIT_CACHE names another place."


@pytest.mark.parametrize("why", ["no folder", "a full disk"])
def test_a_cache_that_cannot_be_written_costs_a_sentence_and_no_run(
    tmp_path: Path, cache: Path, tokenizer: Tokenizer, why: str
) -> None:
    spec = spec_of(tmp_path, **(ONE | {"id": "id"}))
    whole = everything(read(spec, tokenizer))
    spec = spec.model_copy(update={"skip_empty": True})  # another key
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if why == "a full disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        else:
            cache.rename(tmp_path / "away")
            cache.write_text("a file")
        found = everything(read(spec, tokenizer))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    *notes, said = found.pop("notes")
    assert notes == whole.pop("notes")
    assert said.startswith(f"the cache of {tmp_path / 'train.csv'} cannot be written to {cache / 'tables'}: ")
    assert {name: found[name] for name in whole if name != "spec"} == {
        name: value for name, value in whole.items() if name != "spec"
    }
    assert len(folders(cache)) == (1 if why == "a full disk" else 0)


def test_a_table_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, cache: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tmp_path, **ONE)
    encode = Tokenizer.encode

    def change(self: Tokenizer, texts: Any) -> list[list[int]]:
        with (tmp_path / "train.csv").open("a") as file:
            file.write("r,more,x,1\n")
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", change)
    with pytest.raises(DataError, match=r"train\.csv was changed while it was read"):
        read(spec, tokenizer)
    assert not folders(cache)


class Heard(io.StringIO):
    """Standard error, on which somebody waits until something is said: what is read meanwhile may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.something = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if "\n" in text:
            self.something.set()
        return written


def test_of_two_runs_that_begin_at_once_one_reads_and_the_other_waits_and_says_so(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, prepare, begun, go_on = spec_of(tmp_path, **ONE), load.prepare, threading.Event(), threading.Event()
    calls, found, heard = list[int](), list[dict[str, Any]](), Heard()

    def slow(*given: Any) -> Any:
        calls.append(1)
        begun.set()
        assert go_on.wait(20)
        return prepare(*given)

    monkeypatch.setattr(load, "prepare", slow)
    monkeypatch.setattr("sys.stderr", heard)
    both = [threading.Thread(target=lambda: found.append(everything(read(spec, tokenizer)))) for _ in range(2)]
    both[0].start()
    assert begun.wait(20)
    both[1].start()
    assert heard.something.wait(20)
    go_on.set()
    for thread in both:
        thread.join(20)
    assert heard.getvalue() == f"Waiting for another run, which is building the cache of {tmp_path / 'train.csv'}.\n"
    assert found[0] == found[1]
    assert len(calls) == 1


def test_an_error_is_said_again_the_second_time(tmp_path: Path, cache: Path, tokenizer: Tokenizer) -> None:
    spec = spec_of(tmp_path, [*ROWS, ROWS[0] | {"label": "7"}], **(ONE | {"classes": 3, "kind": "classification"}))
    for _ in range(2):
        with pytest.raises(DataError, match=r"train\.csv, line 42: label is '7'"):
            read(spec, tokenizer)
    assert not folders(cache)


def test_nothing_is_kept_of_what_is_made_of_no_files(cache: Path, tokenizer: Tokenizer) -> None:
    read(DemoSpec(source="sentiment", text="sentence", label="sentiment"), tokenizer)
    assert not cache.exists()
