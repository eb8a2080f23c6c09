"""Several processes train one model: as one process would, from checkpoints of other numbers of them, and none is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regkit import Task, hookimpl
from regkit.base.errors import LostError
from regkit.data.order import Feed, cut
from regkit.distributed import launch
from regkit.distributed.launch import joined
from regkit.distributed.processes import ALONE, Processes, _buckets
from regkit.hooks import catalog
from regkit.hooks.traits import needs_whole_batches
from regkit.tasks.objectives import Binary, Regression
from regkit.testing import Tasks, tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.processes import same_as_alone
from tests import forked
from tests.cli.test_bad_input import is_one_sentence
from tests.forked import Forked
from tests.helpers import Ran, listed_once, reevaluate, regkit, write_encoder, write_tasks
from tests.testing.test_promises import acting, crowds, factory, of_losses, tasks_for


def compare(names: Sequence[str], processes: Processes, gradients: bool, tasks: Tasks | None = None) -> None:
    """AssertionError where several processes come to other weights than one, or gradients."""
    same_as_alone(factory(*names), tasks or tasks_for(*names), processes, gradients=gradients)


def start(words: Sequence[object], count: int, folder: Path) -> list[Forked]:
    """The same command of regkit in so many processes, as torchrun starts them."""
    return [forked.command(words, folder, **place) for place in places(count)]


def places(count: int) -> list[dict[str, str]]:
    """What torchrun has in the environment of each process."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return [{**shared, "RANK": str(rank)} for rank in range(count)]


def ends(processes: Sequence[Forked]) -> list[tuple[int | None, str]]:
    """Exit status and standard error of each."""
    errors = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def compared(count: int, *names: str, gradients: bool = True, tasks: Tasks | None = None) -> None:
    """Compare, plugin by plugin, what so many processes come to with what each of them comes to alone."""
    found = ends([Forked(compare_all, names, gradients, tasks, cwd=Path.cwd(), more=place) for place in places(count)])
    assert [status for status, _ in found] == [0] * count, max(error for _, error in found)


def compare_all(names: Sequence[str], gradients: bool, tasks: Tasks | None) -> None:
    """Compare in one of the processes."""
    with joined(torch.device("cpu")) as processes, listed_once():
        check_reevaluating(processes)
        for each in names:
            compare(each.split("+"), processes, gradients, tasks)


def check_reevaluating(processes: Processes) -> None:
    """AssertionError where the loss of a batch is another than alone, whatever number of micro-batches it has."""
    task = tiny_tasks()[2]
    for number in range(task.batches):
        losses = []
        for each in (ALONE, processes):
            trainer = tiny_trainer({}, dropout=0.0, processes=each)
            batches = Feed(task, 0, "finetune").micro_batches(number, 12, each.count)
            with trainer.streams.at("finetune", 0):
                losses.append(reevaluate(trainer, [(task, batches)])[task.name])
        torch.testing.assert_close(*losses)


def small_batches() -> list[Task]:
    """Two tasks, whose second batches have three examples and one."""
    read, apart = Regression(0, 5), Binary()
    return [tiny_task("score", read, "cross_encoder", size=8), tiny_task("features", apart, "bi_encoder", size=6)]


@pytest.mark.slow
def test_more_processes_than_examples_in_a_batch() -> None:
    """Batches of 5, 3 and 1: some processes have no share, and no losses to name."""
    compared(4, "rrobin+famo+smart", tasks=small_batches)


@pytest.mark.slow
def test_every_plugin_comes_to_the_same_with_two_processes() -> None:
    cut = [name for name in acting() if not needs_whole_batches(catalog.load_class(name))]
    more = ("rrobin+pcgrad+uncertainty", "ema+lora", "bregman+lora")
    compared(2, *map("+".join, crowds(cut)), *more, gradients=False)


@pytest.mark.slow
def test_the_gradient_of_each_batch_is_the_same_with_two_processes() -> None:
    """Closer than weights after training; it is of one task, and those that change the losses could change it."""
    cut = [name for name in of_losses() if not needs_whole_batches(catalog.load_class(name))]
    compared(2, *map("+".join, crowds(cut)))


def test_a_plugin_is_not_blamed_for_a_process_that_is_gone() -> None:
    class Passes:
        @hookimpl
        def extra_losses(self) -> None:  # what torch says in the middle of a pass that all make together
            raise RuntimeError("[/somewhere/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")

    with pytest.raises(LostError, match=r"^another process of this run has ended, so this one ends too\.$"):
        tiny_trainer({"passes": Passes()}).train()


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=30), budget=st.integers(1, 60), shares=st.integers(2, 5)
)
def test_each_example_of_a_batch_falls_to_one_process(lengths: list[int], budget: int, shares: int) -> None:
    parts = cut(range(len(lengths)), np.array(lengths), budget, shares)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    sizes = [sum(lengths[row] for row in part) for part in parts]
    assert all(size <= budget or len(part) == 1 for size, part in zip(sizes, parts, strict=True))
    assert len(parts) % shares == 0 or all(len(part) == 1 for part in parts)
    each = [list(Processes(rank, shares).own(parts)) for rank in range(shares)]
    assert len({len(turns) for turns in each}) == 1  # all make as many passes
    dealt = [turn for turns in each for turn in turns]
    assert sorted(number for number, _, counts in dealt if counts) == list(range(len(parts)))
    assert all(part is parts[number] for number, part, _ in dealt)  # random numbers are derived from the number


def test_a_gradient_is_summed_in_buckets_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regkit.distributed.processes.BUCKET", 10)
    sizes = [(4, torch.float32), (6, torch.float32), (1, torch.float32), (30, torch.float32), (2, torch.float64)]
    gradients = [torch.zeros(size, dtype=kind) for size, kind in sizes]
    assert [[len(each) for each in bucket] for bucket in _buckets(gradients)] == [[4, 6], [1], [30], [2]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder`, `data`, and the run `whole` of one process alone."""
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    (folder / "run.toml").write_text(
        'encoder = "encoder"\ndata = "data"\ndropout = 0.0\nbatch_size = 7\nmicro_batch_tokens = 150\n', "utf8"
    )
    ran = regkit("train", *ARGUMENTS, "--output", "whole", cwd=folder)
    assert ran.status == 0, ran.err
    return folder


ARGUMENTS = ["run.toml", "--steps", "30", "-p", "rrobin", "-p", "smart", "--save-steps", "5"]


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, str, float]]:
    """Step, task and clean loss of every update."""
    updates = [line for line in log_of(folder) if "losses" in line]
    return [(line["step"], task, terms["task"]) for line in updates for task, terms in line["losses"].items()]


def like(one: Path, other: Path) -> None:
    """Two runs took the same steps with the same examples, and came to the same but for rounding, wherever they were scored."""
    found, expected = losses(other), losses(one)
    assert [update[:2] for update in found] == [update[:2] for update in expected]
    np.testing.assert_allclose([loss for *_, loss in found], [loss for *_, loss in expected], rtol=2e-3)
    scores = [[line["scores"]["dev"] for line in log_of(folder) if "scores" in line] for folder in (one, other)]
    for mine, theirs in zip(*scores, strict=True):
        for task, values in mine.items():
            assert theirs[task]["loss"] == pytest.approx(values["loss"], rel=2e-3)


def interrupted(place: Path, count: int, output: str, until: str, *more: str) -> None:
    """Run until a checkpoint, and then stop every process by a signal to the last of them alone."""
    processes = start(["train", *ARGUMENTS, "--output", output, "--resume", "auto", *more], count, place)
    while not (place / output / "checkpoints" / until).exists() and processes[0].poll() is None:
        time.sleep(0.01)
    processes[-1].send_signal(signal.SIGTERM)
    found = ends(processes)
    assert [status for status, _ in found] == [128 + signal.SIGTERM] * count
    said = [error for _, error in found if error]
    assert len(said) == 1, said
    assert said[0].startswith("regkit: stopped by SIGTERM after step ")


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_processes(place: Path) -> None:
    """One process, then two, then one again: the steps, the examples and, without dropout, the losses of one alone."""
    interrupted(place, 1, "changed", "finetune-5")
    interrupted(place, 2, "changed", "finetune-15")
    ran = regkit("train", *ARGUMENTS, "--output", "changed", "--resume", "auto", cwd=place)
    assert ran.status == 0, ran.err
    assert ", with 1 process instead of 2: the same examples, other dropout" in ran.out
    like(place / "whole", place / "changed")


@pytest.mark.slow
def test_a_finished_run_is_scored_by_several_processes_and_said_by_one(place: Path) -> None:
    alone = json.loads(regkit("eval", "whole", "--json", cwd=place).out)["dev"]
    processes = start(["eval", "whole", "--json", "--predictions", "predicted"], 3, place)
    said = [process.communicate(timeout=300) for process in processes]
    assert [out for out, _ in said[1:]] == ["", ""], said
    for task, scores in json.loads(said[0][0])["dev"].items():
        assert scores["loss"] == pytest.approx(alone[task]["loss"], rel=1e-4)
    assert {file.name for file in (place / "predicted").iterdir()} == {f"{task}-dev.csv" for task in alone}


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_in_one_sentence(place: Path) -> None:
    """Killed: the first saves what was done and says how to go on."""
    processes = start(["train", *ARGUMENTS, "--steps", "3000", "--output", "died"], 3, place)
    while not (place / "died" / "checkpoints" / "finetune-5").exists() and processes[0].poll() is None:
        time.sleep(0.01)
    processes[1].kill()
    began = time.monotonic()
    found = ends(processes)
    assert time.monotonic() - began < 60  # and not the hour that a process waits for another
    assert [status for status, _ in found] == [2, -signal.SIGKILL, 2]
    is_one_sentence(Ran(*found[0][:1], "", found[0][1]))
    assert found[0][1].startswith("regkit: another process of this run has ended, so this one ends too. What was done")
    assert found[0][1].endswith("is saved; to go on: regkit train --resume died\n")
    ran = regkit("train", "--resume", "died", "--dry-run", cwd=place)
    assert ran.status == 0, ran.err


SPOILER = """
import os
import torch
from dataclasses import dataclass, field
from regkit import hookimpl

@dataclass
class Spoiler:
    done: int = field(default=0, init=False)

    @hookimpl
    def extra_losses(self, loss):
        spoils = os.environ["RANK"] == "1" and self.done == 6
        return {"spoilt": loss * float("nan")} if spoils else {}

    @hookimpl
    def after_step(self):
        self.done += 1

    @hookimpl
    def skipped(self):
        self.done += 1


@dataclass
class Glutton:
    @hookimpl
    def extra_losses(self, batch):
        if os.environ.get("RANK") == "1" and len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {}


@dataclass
class Raiser:
    @hookimpl
    def before_step(self):
        raise ValueError("no such thing")


@dataclass
class Drifter:
    @hookimpl
    def after_step(self, model):
        with torch.no_grad():
            next(model.parameters()).add_(1e-6 * int(os.environ["RANK"]))
"""


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugins `spoiler` and `drifter`, installed for processes that are started."""
    about = tmp_path / "spoiler-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: spoiler\nVersion: 1\n", "utf8")
    points = "[regkit.plugins]\nspoiler = spoiler:Spoiler\ndrifter = spoiler:Drifter\nglutton = spoiler:Glutton\n"
    points += "raiser = spoiler:Raiser\n"
    (about / "entry_points.txt").write_text(points, "utf8")
    (tmp_path / "spoiler.py").write_text(SPOILER, "utf8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.slow
@pytest.mark.usefixtures("strangers")
def test_a_loss_of_one_process_that_is_not_finite_is_skipped_and_named_by_all(place: Path) -> None:
    found = ends(start(["train", *ARGUMENTS, "-p", "spoiler", "--output", "spoilt"], 2, place))
    assert [status for status, _ in found] == [0, 0], found
    log = log_of(place / "spoilt")
    skipped = [line for line in log if "skipped" in line]
    assert [line["step"] for line in skipped] == [6]
    (suspect,) = skipped[0]["skipped"]
    assert (suspect["what"], suspect["tasks"], suspect["term"]) == ("loss", ["mood"], "spoilt")
    assert suspect["plugins"] == ["spoiler"]
    assert len(suspect["rows"]) == 3  # of the 7 that the batch has: those of the second process


@pytest.mark.slow
@pytest.mark.usefixtures("strangers")
def test_where_one_process_runs_out_of_memory_all_halve_their_micro_batches(place: Path) -> None:
    found = ends(start(["train", *ARGUMENTS, "-p", "glutton", "--output", "hungry"], 2, place))
    assert found == [(0, ""), (0, "")]
    log = log_of(place / "hungry")
    assert [line for line in log if "micro_batch_tokens" in line]
    assert [step for step, *_ in losses(place / "hungry")] == list(range(30))
    like(place / "whole", place / "hungry")


@pytest.mark.parametrize(
    ("left_over", "says"),
    [
        ({"RANK": "0"}, "environment variable MASTER_ADDR expected, but not set"),
        ({"RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "Timed out after"),
        ({"RANK": "1", "MASTER_ADDR": "127.0.0.1"}, "no other answers"),
        ({"RANK": "0", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}, "no other answers"),
    ],
    ids=str,
)
def test_what_torchrun_left_in_the_environment_is_named_where_no_other_process_comes(
    left_over: dict[str, str],
    says: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """torch would wait for an hour, and print stack traces."""
    for name, value in {"WORLD_SIZE": "2", "MASTER_PORT": places(2)[0]["MASTER_PORT"], **left_over}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "JOIN", 0.5)
    monkeypatch.setattr(launch, "WAIT", 0.1)
    ran = regkit("train", *ARGUMENTS, "--dry-run", cwd=place)
    is_one_sentence(ran)
    begin = "regkit: RANK and WORLD_SIZE say that this is one of 2 processes, and the others are not there: "
    assert ran.err.startswith(begin)
    assert says in ran.err
    assert ran.err.endswith("; unset both, or start all by torchrun.\n")
    assert not capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("strangers")
def test_what_all_processes_say_is_said_by_the_first(place: Path) -> None:
    """By torchrun itself, which adds a report of its own. `--monitor` is the beginning of one of its options."""
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "--", "regkit", "train", *ARGUMENTS]
    more = ["--monitor", "mean", "-p", "raiser", "--output", "raised"]
    done = subprocess.run([sys.executable, *command, *more], cwd=place, capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("regkit: ")]
    assert line.startswith(
        "regkit: plugin 'raiser' failed in before_step at stage finetune, step 0: ValueError: no such thing"
    )
    assert "Traceback" not in done.stderr.split("torch/distributed")[0]


@pytest.mark.slow
@pytest.mark.usefixtures("strangers")
def test_processes_that_drift_apart_stop(place: Path) -> None:
    found = ends(start(["train", *ARGUMENTS, "-p", "drifter", "--output", "drifted"], 2, place))
    assert [status for status, _ in found] == [2, 2]
    assert found[0][1].startswith("regkit: the processes of this run no longer have the same weights; a plugin did")
    assert found[0][1].endswith(": begin a new run without it.\n")  # what they have saved is of two models


@pytest.mark.slow
def test_training_ends_early_in_all_processes(place: Path) -> None:
    more = ["--lr", "1e-9", "--patience", "1", "--monitor", "mood.accuracy", "--score-first", "--output", "patient"]
    assert ends(start(["train", *ARGUMENTS, *more], 2, place)) == [(0, ""), (0, "")]
    log = log_of(place / "patient")
    assert [line["step"] for line in log if "scores" in line] == [0, 12, 24]


@pytest.mark.slow
def test_what_is_refused_is_said_once(place: Path) -> None:
    found = ends(start(["train", *ARGUMENTS, "-p", "nonsense"], 2, place))
    assert [status for status, _ in found] == [2, 2]
    assert all(error.count("regkit: there is no plugin 'nonsense'.") <= 1 for _, error in found)
