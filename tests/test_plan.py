"""The plan's details: who answers which hook, the loss as a formula, and the operations of a step as counted by hand."""

import re
from pathlib import Path

import pytest

from tests.helpers import regkit, write_encoder, write_tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    return folder


def steps(place: Path, *plugins: str) -> dict[str, tuple[str, str, float]]:
    """By task: the loss, the passes, and the operations relative to a plain step."""
    named = [word for plugin in plugins for word in ("-p", plugin)]
    ran = regkit("train", "--data", place / "data", "--encoder", place / "encoder", "--dry-run", *named, cwd=place)
    assert ran.status == 0, ran.err
    found = {}
    for names, loss, passes, ratio in re.findall(
        r"^step of (.*): loss = (.*); forward passes: (.*); (.*) times the operations of plain$", ran.out, re.MULTILINE
    ):
        found |= {name: (loss, passes, float(ratio)) for name in names.split(", ")}
    assert set(found) == {"mood", "same", "near"}
    return found


# In units of a forward pass a plain step is 3: forward 1, backward 2. An inner gradient is 1, for it ends at the embeddings.
@pytest.mark.parametrize(
    ("plugins", "loss", "passes", "operations"),
    [
        ([], "task", "1 clean", 3),
        (["smart"], "task + 1 x smart", "1 clean, 2 by smart", 8),
        (["smart:steps=2,weight=5"], "task + 5 x smart", "1 clean, 3 by smart", 10),
        (["bregman"], "task + 1 x bregman", "1 clean, 1 by bregman", 4),
        (["rdrop"], "task + 1 x rdrop + rdrop second", "1 clean, 1 by rdrop", 6),
        (["r3f"], "task + 1 x r3f", "1 clean, 1 by r3f", 6),
        (["freelb"], "task + 1 x freelb", "1 clean, 3 by freelb", 14),
        (["sam"], "task", "1 clean, 1 by sam", 6),
        (["sam", "smart"], "task + 1 x smart", "1 clean, 4 by smart, 1 by sam", 16),
        (["mixout", "neftune", "ema"], "task", "1 clean", 3),
    ],
)
def test_the_predicted_cost_is_that_counted_by_hand(
    place: Path, plugins: list[str], loss: str, passes: str, operations: float
) -> None:
    for found in steps(place, *plugins).values():
        assert (found[0], set(found[1].split(", "))) == (loss, set(passes.split(", ")))
        assert found[2] == pytest.approx(
            operations / 3, rel=0.15
        )  # the plan rounds, and heads and norms are small here


def test_hooks_are_listed_in_the_loops_order_with_who_answers(place: Path) -> None:
    plugins = ["neftune", "rrobin", "smart", "bregman", "rdrop"]
    named = [word for plugin in plugins for word in ("-p", plugin)]
    ran = regkit("train", "--data", place / "data", "--encoder", place / "encoder", "--dry-run", *named, cwd=place)
    assert [line for line in ran.out.splitlines() if line.startswith("hook ")] == [
        "hook prepare: bregman",
        "hook epoch_steps: rrobin",
        "hook choose_tasks: rrobin",
        "hook embed: neftune (around)",
        "hook extra_losses: smart, bregman, rdrop",
        "hook measure: smart",
        "hook after_step: bregman",
    ]
