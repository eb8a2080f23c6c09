"""What tests share: a tiny encoder, tiny tasks, and the command line run inside the test."""

import contextlib
import csv
import io
import json
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
import torch
import typer.main
from hypothesis import HealthCheck, settings
from safetensors.torch import save_file

from regkit import Task, hookimpl
from regkit.cli import app as cli
from regkit.hooks import catalog
from regkit.hooks.spec import Losses
from regkit.model import Bert, BertConfig, encoders, save_encoder
from regkit.tasks.task import Stage
from regkit.training.loop import Trainer
from regkit.training.stages import collect_stages
from regkit.training.update import Chosen, Update

T = TypeVar("T")

PATIENT = settings(  # no deadline on busy cores, and a folder may be shared by the examples of one test
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = string.ascii_lowercase + string.digits + string.punctuation
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
LONGEST = 48  # tokens that the tiny encoder reads: every letter is one

MOODS = ["good", "fine", "so so", "poor", "bad"]
THINGS = ["cake", "soup", "bread", "rice", "tea", "jam", "egg"]

TASKS = """\
[tasks.mood]
kind = "classification"
classes = 3
text = "sentence"
label = "mood"
id = "id"
train = "mood-train.csv"
dev = "mood-dev.csv"
test = "mood-test.csv"

[tasks.same]
kind = "binary"
text = ["one", "two"]
label = "same"
train = "same-train.csv"
dev = "same-dev.csv"

[tasks.near]
kind = "regression"
range = [0, 5]
text = ["one", "two"]
label = "score"
pair_mode = "bi_encoder"
train = "near-train.csv"
dev = "near-dev.csv"
"""


def slow_but(values: Iterable[T], quick: Iterable[T]) -> list[Any]:
    """Parameters of a test, of which all but a few are for the slow run."""
    chosen = list(quick)
    return [value if value in chosen else pytest.param(value, marks=pytest.mark.slow) for value in values]


SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def write_encoder(
    folder: Path, *, vocabulary: Sequence[str] = VOCABULARY, longest: int = LONGEST, **shape: int
) -> Path:
    """A random BERT of 2 layers and width 16, or of the shape given, with a vocabulary of single letters."""
    torch.manual_seed(0)
    bert = Bert(BertConfig(len(vocabulary), **SHAPE | shape, max_position_embeddings=longest, initializer_range=0.2))
    config, tensors = save_encoder(bert)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf8")
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> Path:
    """The rows with a header, quoted where they must be."""
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_tasks(folder: Path) -> Path:
    """A folder with the three tasks of `TASKS`: one text, a pair read together, a pair read apart."""
    folder.mkdir(parents=True)
    (folder / "tasks.toml").write_text(TASKS, encoding="utf8")
    for split, size in {"train": 24, "dev": 20, "test": 10}.items():
        mood = [{"id": f"{split}{n}", "sentence": sentence(n), "mood": n % 3} for n in range(size)]
        pairs = [{"one": sentence(n), "two": sentence(n + n % 2)} for n in range(size)]
        if split == "test":
            mood = [{name: value for name, value in row.items() if name != "mood"} for row in mood]
        else:
            write_csv(folder / f"same-{split}.csv", [pair | {"same": 1 - n % 2} for n, pair in enumerate(pairs)])
            write_csv(folder / f"near-{split}.csv", [pair | {"score": n % 11 / 2} for n, pair in enumerate(pairs)])
        write_csv(folder / f"mood-{split}.csv", mood)
    return folder


def sentence(number: int) -> str:
    """One of 35 short sentences, of which those with numbers close by differ."""
    return f"the {THINGS[number % 7]} is {MOODS[number % 5]}"


@dataclass(frozen=True)
class Ran:
    """What a command left behind on the terminal."""

    status: int
    out: str
    err: str


def regkit(*arguments: object, cwd: Path, demo: bool = False) -> Ran:
    """Run the command line in this process. Only with `demo` can it load MiniLM, which takes long."""
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with patched(arguments, cwd, demo), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code
    return Ran(int(status or 0), out.getvalue(), err.getvalue())  # type: ignore[call-overload]


made_once = cache(typer.main.get_command)  # to put all commands together takes 50 ms, thousands of times


@contextlib.contextmanager
def patched(arguments: Sequence[object], cwd: Path, demo: bool) -> Iterator[None]:
    package = encoders.DEMO_PACKAGE if demo else "no_package_of_this_name"
    arranged = patch.object(sys, "argv", ["regkit", *map(str, arguments)])
    found = patch.object(encoders, "DEMO_PACKAGE", package)
    with arranged, found, patch.object(typer.main, "get_command", made_once), contextlib.chdir(cwd):
        yield


def everything_in(folder: Path) -> dict[str, str]:
    """Read every path and file below a folder: equal before and after if nothing was written."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes().hex() if path.is_file() else "" for path in found}


@contextlib.contextmanager
def listed_once() -> Iterator[None]:
    """Look through the installed packages once for each `sys.path`: with all extras it takes 6 ms, thousands of times."""

    @cache
    def found(group: str, path: tuple[str, ...]) -> EntryPoints:
        return entry_points(group=group)

    with patch.object(catalog, "entry_points", lambda group: found(group, tuple(sys.path))):
        yield


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **modules: str) -> None:
    """Let these modules be the installed plugins: `name="source"`, each with a class `Plugin`."""
    folder.mkdir(exist_ok=True)
    points = []
    for name, source in modules.items():
        module = f"stranger_{name}"
        (folder / f"{module}.py").write_text(source, encoding="utf8")
        monkeypatch.delitem(sys.modules, module, raising=False)
        points.append(EntryPoint(name, f"{module}:Plugin", catalog.GROUP))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(catalog, "entry_points", lambda group: points)


def with_stranger(monkeypatch: pytest.MonkeyPatch, folder: Path, **modules: str) -> None:
    """These modules beside the plugins that are installed."""
    points = list(catalog.installed().values())
    install(monkeypatch, folder, **modules)
    added: Sequence[EntryPoint] = catalog.entry_points(group=catalog.GROUP)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [*points, *added])


class Both:
    """A plugin: every task in every step."""

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return tasks

    @hookimpl
    def epoch_steps(self) -> int:
        return 4


def stages_of(trainer: Trainer) -> list[tuple[Stage, list[Task]]]:
    """The stages of a run, each with its tasks."""
    return collect_stages(trainer.hook, trainer.tasks)


def compute(trainer: Trainer, optimizer: torch.optim.Optimizer, chosen: Chosen) -> Losses:
    """Leave the gradient of one update in `.grad`, and give its losses."""
    update = Update(trainer.passes, optimizer, chosen, trainer.processes)
    update.compute()
    return update.losses


def reevaluate(trainer: Trainer, chosen: Chosen) -> dict[str, torch.Tensor]:
    """What the clean losses of an update's batches are at the present weights."""
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.0)
    return Update(trainer.passes, optimizer, chosen, trainer.processes).reevaluate()
