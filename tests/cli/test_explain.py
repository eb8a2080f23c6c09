"""`regkit explain`: who answers what in which order, what a step costs, what is kept and drawn; and a trace."""

import re
from pathlib import Path

import pytest

from tests.helpers import regkit, write_encoder, write_tasks

PLUGINS = (
    "-p",
    "smart",
    "-p",
    "dwa",
    "-p",
    'fixed_weights:weights={"mood": 2}',
    "-p",
    "rrobin:per_step=2",
    "-p",
    "pcgrad",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    return folder


def explain(place: Path, *words: object) -> list[str]:
    ran = regkit("explain", *words, "--data", "data", "--encoder", "encoder", cwd=place)
    assert ran.status == 0, ran.err
    assert not (place / "runs").exists()
    return ran.out.splitlines()


def test_it_says_in_one_screen_what_plugins_do_together(place: Path) -> None:
    lines = explain(place, *PLUGINS)
    assert len(lines) < 24
    assert "  choose_tasks: rrobin" in lines
    assert "  task_loss: dwa around fixed_weights around regkit" in lines
    assert "  combine_gradients: pcgrad" in lines
    assert any("loss = task + 1 x smart; forward passes: 1 clean, 2 by smart" in line for line in lines)
    assert "kept in checkpoints: dwa: weights, sums, counts, before" in lines
    assert lines[-2] == "random numbers are drawn for a batch: smart in extra_losses; each from a stream of its own"
    assert lines[-1] == "not tried, and may draw some: choose_tasks, combine_gradients, after_step"


def test_the_order_of_wrappers_is_that_of_the_command_line(place: Path) -> None:
    lines = explain(place, "-p", 'fixed_weights:weights={"mood": 2}', "-p", "dwa")
    assert "  task_loss: fixed_weights around dwa around regkit" in lines
    assert lines[-2] == "random numbers are drawn for a batch: by no plugin"


def test_a_trace_has_each_hook_call_of_the_first_steps_with_who_answered(place: Path) -> None:
    lines = explain(place, *PLUGINS, "--trace", 2)
    begins = [number for number, line in enumerate(lines) if line.startswith("step ")]
    assert [lines[number] for number in begins] == ["step 0, and what comes before it", "step 1"]
    second = [re.sub(r" [\d.e-]+ m?s", "", line.rstrip()) for line in lines[begins[1] + 1 :]]
    batch = [
        "  augment of TASK: regkit",
        "  embed of TASK: regkit",
        "  encode of TASK: regkit",
        "  predict of TASK: regkit",
        "  task_loss of TASK: dwa around fixed_weights around regkit",
        "  extra_losses of TASK: smart",
        *("    encode of TASK: regkit", "    predict of TASK: regkit") * 2,
    ]
    tasks = [line.replace("TASK", task) for task in ("near", "mood") for line in batch]
    assert second == [
        "  choose_tasks: rrobin",
        "  schedule: regkit",
        *tasks,
        "  combine_gradients: pcgrad",
        "  after_step: dwa",
    ]
    assert all(re.search(r"[\d.]+ m?s$", line) for line in lines if line.startswith("  "))
