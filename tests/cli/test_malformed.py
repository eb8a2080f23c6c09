"""No malformed input gives a traceback, a hang or much memory: each is read, or refused in one sentence with exit status 2."""

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import tomli_w
import torch
from hypothesis import given as generated
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from regkit.base.errors import EncoderError
from regkit.model import encoders
from tests.cli.malformed import (
    CONFIG,
    CONFIGURED,
    CORPUS,
    EVAL,
    MOOD,
    RESUME,
    ROWS,
    SCORE,
    TEXT,
    TRAIN,
    Input,
    arrange,
    columns,
)
from tests.helpers import PATIENT, Ran, regkit, write_encoder, write_tasks
from tests.runs.test_resume import go, settings

SECONDS = 10
MEMORY = 2 << 20  # KiB
FATAL = 8 << 30  # bytes, mapped files included: a mistake of ours shall fail a test and not the machine
MANY = int(os.environ.get("REGKIT_FUZZ", 3))  # examples of each kind of file and change
TRIED: Counter[str] = Counter()  # inputs of each kind, for the report at the end
PEAKS: dict[str, tuple[int, float]] = {}  # MiB and seconds of the worst


class Hang(BaseException):
    """Nothing that is tested catches it."""


@pytest.fixture(scope="module", autouse=True)
def report(request: pytest.FixtureRequest) -> Iterator[None]:
    """Say how many inputs were tried."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    if reporter and capture:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(TRIED.items()))
        most = max((peak for peak, _ in PEAKS.values()), default=0)
        longest = max((seconds for _, seconds in PEAKS.values()), default=0.0)
        with capture.global_and_fixture_disabled():
            reporter.write_line(
                f"\n{TRIED.total()} malformed inputs ({kinds}), the worst {len(PEAKS)} also in processes of"
            )
            reporter.write_line(f"their own: at most {most} MiB and {longest:.1f} seconds of the processor")


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is right: `encoder`, `data`, a finished `run` and one that was `stopped`."""
    folder = tmp_path_factory.mktemp("right")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    ran = regkit("train", "--encoder", "encoder", "--data", "data", "--steps", 1, "--output", "run", cwd=folder)
    assert ran.status == 0, ran.err
    plugins = {"rrobin": {}, "ema": {}}
    some = settings(folder, plugins, tasks=["mood", "near"], steps=5, save_steps=2, measure_every=0)
    assert not go(folder / "stopped", some, stop=4)
    for run in ("run", "stopped"):
        path = folder / run / "config.toml"
        path.write_text(path.read_text(encoding="utf8").replace(f"{folder}/", "../"), encoding="utf8")
    shutil.rmtree(folder / "runs", ignore_errors=True)
    shutil.copyfile(folder / "run" / "best" / "model.safetensors", folder / "weights.safetensors")
    (folder / "loop").symlink_to("loop")
    return folder


def refuse(name: str) -> Path:
    raise EncoderError(f"there is no encoder {name}.")


@pytest.fixture
def place(right: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, far from the Hub."""
    monkeypatch.setattr(encoders, "_from_hub", refuse)
    shutil.copytree(right, tmp_path / "place", symlinks=True)
    return tmp_path / "place"


@contextmanager
def watched() -> Iterator[None]:
    """The block ends within ten seconds, and takes less than two gigabytes."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before, handler = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, signal.signal(signal.SIGALRM, stop)
    limit, most = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + FATAL if most < 0 else min(mapped + FATAL, most), most))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY, f"{grown >> 10} MiB"


def is_understood(ran: Ran, harmless: bool) -> None:
    """One sentence and status 2, or where it is harmless, success and silence."""
    assert "Traceback" not in ran.out + ran.err
    if harmless and ran.status == 0:
        assert ran.err == ""
        return
    assert ran.status == 2, ran
    assert ran.err.startswith("regkit: "), ran.err
    assert ran.err.endswith((".\n", "?\n")), ran.err
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err[:-1].isprintable(), ran.err
    assert len(ran.err) < 2100, len(ran.err)


def some(inputs: Sequence[Input], every: int) -> list[Any]:
    """All of them, of which all but one in so many are slow together."""
    slow = pytest.mark.slow
    return [pytest.param(each, id=str(each), marks=slow if n % every else ()) for n, each in enumerate(inputs)]


def test_there_are_inputs_of_every_kind() -> None:
    counts = Counter(each.kind for each in CORPUS)
    assert set(counts) == {"data", "tasks.toml", "config.toml", "checkpoint", "encoder", "corpus", "command line"}
    assert min(counts.values()) >= 50
    assert counts.total() >= 900


def test_the_place_that_all_inputs_are_put_into_is_right(place: Path) -> None:
    (place / "c.toml").write_text(CONFIG, encoding="utf8")
    for command in (TRAIN, SCORE, EVAL, CONFIGURED, RESUME):
        assert regkit(*command, cwd=place).status == 0


@pytest.mark.parametrize("given", some([each for each in CORPUS if not each.worst], 16))
def test_a_malformed_input_is_refused_in_one_sentence(given: Input, place: Path) -> None:
    arrange(place, given)
    TRIED[given.kind] += 1
    with watched():
        ran = regkit(*given.command, cwd=place)
    is_understood(ran, given.harmless)
    assert not (place / "shouted").exists()


# In processes of their own

FORKS = """
import json, os, resource, signal, sys, traceback
import pyarrow.parquet, scipy.stats, sklearn.metrics, torch
from regkit.cli import app, evaluate, train

for job in sys.stdin:
    place, command = json.loads(job)
    child = os.fork()
    if not child:
        os.chdir(place)
        for number, name in enumerate(("in", "out", "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
        signal.alarm(30)  # of any clock, for a pipe that nobody writes to
        sys.argv, status = ["regkit", *command], 70
        try:
            app.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    _, status, usage = os.wait4(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime]), flush=True)
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[subprocess.Popen[str]]:
    """A process that has imported everything, and makes one of its own for each command."""
    process = subprocess.Popen([sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("given", [each for each in CORPUS if each.worst], ids=str)
def test_the_worst_end_within_ten_seconds_and_two_gigabytes(
    given: Input, place: Path, forks: subprocess.Popen[str]
) -> None:
    arrange(place, given)
    TRIED[given.kind] += 1
    assert forks.stdin
    assert forks.stdout
    forks.stdin.write(json.dumps([str(place), given.command]) + "\n")
    forks.stdin.flush()
    status, memory, seconds = json.loads(forks.stdout.readline())
    PEAKS[str(given)] = (memory >> 10, seconds)
    ran = Ran(status, *((place / name).read_text(encoding="utf8") for name in ("out", "err")))
    is_understood(ran, given.harmless)
    assert memory < MEMORY
    assert seconds < SECONDS


# Generated

ODD = [
    b"",
    b"\0",
    b"\xff",
    b"\n",
    b'"',
    b"[",
    b"{",
    b"}",
    b",",
    b"-",
    b"1e999",
    b"NaN",
    b"9" * 40,
    b"\xf0\x9f\x92\xa9",
    b"../",
    b"\xed\xa0\x80",
]
VALUES = [
    None,
    True,
    0,
    -1,
    3,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "../x",
    "\0",
    "a" * 999,
    [],
    [1],
    ["a"],
    {},
    {"a": 1},
    [[[]]],
]


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with up to four bits flipped, parts cut out, repeated or put in, or its end cut off."""

    def edit(before: bytes, how: tuple[str, float, float, bytes]) -> bytes:
        kind, first, second, odd = how
        start, end = sorted((int(first * len(before)), int(second * len(before))))
        if kind == "flip" and start < len(before):
            return before[:start] + bytes([before[start] ^ (1 << int(second * 8) % 8)]) + before[start + 1 :]
        return {
            "flip": before,
            "cut off": before[:start],
            "cut out": before[:start] + before[min(end, start + 64) :],
            "repeat": before[:start] + before[start : start + 256] * 3 + before[start:],
            "put in": before[:start] + odd + before[start:],
            "replace": before[:start] + odd + before[start + len(odd) :],
        }[kind]

    place = st.floats(0, 1, exclude_max=True)
    kinds = st.sampled_from(["flip", "flip", "cut off", "cut out", "repeat", "put in", "replace"])
    edits = st.lists(st.tuples(kinds, place, place, st.sampled_from(ODD)), min_size=1, max_size=4)
    return edits.map(lambda hows: reduce(edit, hows, content))


def with_values(tree: Any) -> st.SearchStrategy[Any]:
    """A tree of dicts and lists in which up to three places have another value, or are gone."""

    def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if path:
            yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in items:
            yield from places(child, (*path, key))

    def change(changes: list[tuple[tuple[Any, ...], Any, bool]]) -> Any:
        found = json.loads(json.dumps(tree))
        for path, value, remove in changes:
            try:
                owner = reduce(lambda each, key: each[key], path[:-1], found)
                owner[path[-1]] = value
                if remove:
                    del owner[path[-1]]
            except (LookupError, TypeError):  # gone with another change
                continue
        return found

    every = st.sampled_from(list(places(tree))[:300])
    return st.lists(st.tuples(every, st.sampled_from(VALUES), st.booleans()), min_size=1, max_size=3).map(change)


def toml(tree: Any) -> bytes:
    """As TOML, which has no null; a value that it cannot have is text."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else "null" if value is None else value

    return tomli_w.dumps(plain(tree)).encode()


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def header(content: bytes) -> st.SearchStrategy[bytes]:
    """A safetensors file with other values in its header."""
    end = 8 + int.from_bytes(content[:8], "little")
    texts = with_values(json.loads(content[8:end])).map(as_json)
    return texts.map(lambda text: len(text).to_bytes(8, "little") + text + content[end:])


Mutate = Callable[[bytes], st.SearchStrategy[bytes]]
TREE: dict[str, Mutate] = {
    "json": lambda content: with_values(json.loads(content)).map(as_json),
    "toml": lambda content: with_values(tomllib.loads(content.decode())).map(toml),
    "tensors": header,
    "bytes": mutated,
}
PLUGGED = (
    CONFIG + "epochs = 1\n[plugins.smart]\nweight = 1.0\nepsilon = 0.01\nsteps = 1\n[plugins.rrobin]\nper_step = 1\n"
)


@dataclass(frozen=True)
class Target:
    """A file that is right, how it is changed, and the command that reads it."""

    kind: str
    file: str
    how: str
    command: Sequence[object]
    signed: Sequence[str] = ()
    files: Mapping[str, Any] = field(default_factory=dict)  # that are there beside it

    def __str__(self) -> str:
        return f"{self.file} by {self.how}"


JSON_MOOD = MOOD.replace("mood-dev.csv", "mood-dev.jsonl")
PARQUET_MOOD = MOOD.replace("mood-dev.csv", "mood-dev.parquet")
PRETRAIN = ("pretrain", "--encoder", "encoder", "--dry-run", "--corpus")
TARGETS = [
    Target("data", "data/mood-dev.csv", "bytes", SCORE, files={"data/tasks.toml": MOOD}),
    Target("data", "data/mood-dev.jsonl", "bytes", SCORE, files={"data/tasks.toml": JSON_MOOD}),
    Target("data", "data/mood-dev.parquet", "bytes", SCORE, files={"data/tasks.toml": PARQUET_MOOD}),
    *(Target("tasks.toml", "data/tasks.toml", how, SCORE) for how in ("bytes", "toml")),
    *(Target("config.toml", "c.toml", how, CONFIGURED) for how in ("bytes", "toml")),
    *(Target("config.toml", "run/config.toml", how, EVAL) for how in ("bytes", "toml")),
    *(Target("config.toml", "stopped/config.toml", how, (*RESUME, "--dry-run")) for how in ("bytes", "toml")),
    *(Target("encoder", "encoder/config.json", how, TRAIN) for how in ("bytes", "json")),
    *(Target("encoder", "encoder/model.safetensors", how, TRAIN) for how in ("bytes", "tensors")),
    *(Target("encoder", "encoder/tokenizer.json", how, TRAIN) for how in ("bytes", "json")),
    Target("encoder", "encoder/vocab.txt", "bytes", TRAIN),
    Target("encoder", "encoder/pytorch_model.bin", "bytes", TRAIN, files={"encoder/model.safetensors": None}),
    *(Target("checkpoint", "run/best/model.safetensors", how, EVAL, ["run/best"]) for how in ("bytes", "tensors")),
    *(Target("checkpoint", "run/best/manifest.json", how, EVAL) for how in ("bytes", "json")),
    *(Target("checkpoint", "run/best/tokenizer.json", how, EVAL, ["run/best"]) for how in ("bytes", "json")),
    *(Target("checkpoint", "run/tasks.json", how, EVAL) for how in ("bytes", "json")),
    *(Target("checkpoint", "stopped/last/training.json", how, RESUME, ["stopped/last"]) for how in ("bytes", "json")),
    *(
        Target("checkpoint", "stopped/last/training.safetensors", how, RESUME, ["stopped/last"])
        for how in ("bytes", "tensors")
    ),
    *(Target("checkpoint", "stopped/last/manifest.json", how, RESUME) for how in ("bytes", "json")),
    Target("checkpoint", "stopped/log.jsonl", "bytes", RESUME),
    *(Target("corpus", file, "bytes", (*PRETRAIN, file)) for file in ("t.txt", "t.jsonl", "t.txt.gz", "t.parquet")),
]


@pytest.fixture(scope="module")
def complete(right: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `right` with every file that is going to be changed."""
    folder = tmp_path_factory.mktemp("complete") / "place"
    shutil.copytree(right, folder, symlinks=True)
    (folder / "c.toml").write_text(PLUGGED, encoding="utf8")
    shutil.copyfile(folder / "run" / "best" / "tokenizer.json", folder / "encoder" / "tokenizer.json")
    torch.save(load_file(folder / "encoder" / "model.safetensors"), folder / "encoder" / "pytorch_model.bin")
    rows = [dict(zip(("id", "sentence", "mood"), row.split(","), strict=True)) for row in ROWS.splitlines()]
    (folder / "data" / "mood-dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    pyarrow.parquet.write_table(columns()(), folder / "data" / "mood-dev.parquet")
    lines = [line for line in TEXT.split("\n") if line]
    (folder / "t.txt").write_text(TEXT, encoding="utf8")
    (folder / "t.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf8")
    (folder / "t.txt.gz").write_bytes(gzip.compress(TEXT.encode(), mtime=0))
    pyarrow.parquet.write_table(pyarrow.table({"text": lines}), folder / "t.parquet")
    return folder


def try_many(target: Target, complete: Path, folder: Path) -> None:
    """As many changed files, each in a copy of everything that the command may write to."""
    content = (complete / target.file).read_bytes()

    @hypothesis_settings(PATIENT, max_examples=MANY, derandomize=True, database=None)
    @generated(TREE[target.how](content))
    def attempt(changed: bytes) -> None:
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(complete, place, symlinks=True)
        arrange(
            place,
            Input(target.kind, str(target), target.command, {**target.files, target.file: changed}, target.signed),
        )
        TRIED[f"{target.kind}, generated"] += 1
        with watched():
            ran = regkit(*target.command, cwd=place)
        is_understood(ran, harmless=True)

    attempt()


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_file_with_random_changes_is_read_or_refused_in_one_sentence(
    target: Target, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "_from_hub", refuse)
    try_many(target, complete, tmp_path)
