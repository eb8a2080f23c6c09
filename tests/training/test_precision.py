"""Precision: what is chosen, by which measurement, and that it stays."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from regkit_plugins.freelb import FreeLB
from regkit_plugins.r3f import R3F
from regkit_plugins.rdrop import RDrop
from regkit_plugins.smart import Smart
from regkit_plugins.vat import VAT
from torch import nn

from regkit.distributed.processes import Processes
from regkit.training import precision
from regkit.training.precision import Choice, as_trained, choose_precision, kept_ratio, measure

CPU = torch.device("cpu")
WIDE = nn.ModuleList([nn.Linear(192, 192), nn.Linear(192, 768), nn.LayerNorm(192)])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, int]]:
    """The shapes that are timed; 0.5 is what comes out, and it is kept in a folder of this test's own."""
    shapes: list[tuple[int, int]] = []
    monkeypatch.setattr(precision, "measure", lambda *shape: shapes.append(shape) or 0.5)
    monkeypatch.setenv("REGKIT_CACHE", str(tmp_path / "cache"))
    return shapes


def test_bf16_is_chosen_where_the_encoders_largest_product_is_clearly_faster_in_it(
    measured: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = choose_precision("auto", WIDE, CPU, {})
    assert (found.format, found.type, measured) == ("bf16", torch.bfloat16, [(192, 768)])
    assert str(found) == "bf16, since a matrix product in bf16 takes 0.50 of its time in fp32"
    monkeypatch.setattr(precision, "kept_ratio", lambda *shape: 0.95)
    assert str(choose_precision("auto", WIDE, CPU, {})) == (
        "fp32, since a matrix product in bf16 takes 0.95 of its time in fp32"
    )


def test_what_was_measured_once_is_what_the_next_run_goes_by(measured: list[tuple[int, int]], monkeypatch) -> None:
    first = choose_precision("auto", WIDE, CPU, {})
    monkeypatch.setattr(precision, "measure", lambda *shape: 3.0)  # a busy moment
    assert choose_precision("auto", WIDE, CPU, {}) == first
    monkeypatch.setattr(precision, "_processor", lambda: ["another processor"])  # that reads the same folder
    assert choose_precision("auto", WIDE, CPU, {}).format == "fp32"


@pytest.mark.parametrize("left", ["", "[", "NaN", "-1.0", '"0.5"', "Infinity"])
def test_a_damaged_measurement_is_made_again(left: str, measured: list[tuple[int, int]], tmp_path: Path) -> None:
    assert kept_ratio(8, 8) == 0.5
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_text(left, encoding="utf8")
    assert kept_ratio(8, 8) == 0.5 == json.loads(file.read_text(encoding="utf8"))
    assert len(measured) == 2


def test_where_nothing_can_be_kept_nothing_is_measured(
    measured: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REGKIT_CACHE", str(tmp_path / "file"))
    found = choose_precision("auto", WIDE, CPU, {})
    assert (found.format, measured) == ("fp32", [])
    assert found.why.startswith("since bf16 was not tried: the time of a matrix product cannot be written to ")


@pytest.mark.parametrize("encoder", [nn.Linear(191, 768), nn.Linear(768, 191), nn.LayerNorm(768)], ids=str)
def test_an_encoder_that_gains_nothing_is_not_measured(encoder: nn.Module, measured: list[tuple[int, int]]) -> None:
    assert choose_precision("auto", encoder, CPU, {}) == Choice("fp32")
    assert not measured


@pytest.mark.parametrize(
    ("asked", "device", "format_"),
    [("bf16", "cpu", "bf16"), ("fp32", "cuda", "fp32"), ("auto", "cuda", "bf16"), ("auto", "mps", "fp32")],
)
def test_the_user_decides_and_then_the_device(
    asked: Any, device: str, format_: Any, measured: list[tuple[int, int]]
) -> None:
    assert choose_precision(asked, WIDE, torch.device(device), {}) == Choice(format_)
    assert not measured


@pytest.mark.parametrize(
    ("plugin", "format_"),
    [
        (Smart(), "fp32"),
        (Smart(epsilon=0.1), "bf16"),
        (Smart(epsilon=0.1, unit="absolute"), "fp32"),
        (Smart(weight=0.0), "bf16"),
        (Smart(epsilon=0.0), "bf16"),
        (FreeLB(), "fp32"),
        (VAT(), "fp32"),
        (R3F(), "bf16"),
        (R3F(sigma=0.01), "fp32"),
        (RDrop(), "bf16"),
    ],
    ids=str,
)
def test_where_passes_are_too_fine_for_bf16_the_rest_of_a_step_is_in_fp32_too(
    plugin: object, format_: str, measured: list[tuple[int, int]]
) -> None:
    found = choose_precision("auto", WIDE, CPU, {"it": plugin})
    assert (found.format, bool(measured)) == (format_, format_ == "bf16")
    assert measured or found.why == "since perturbations of it are too small for bf16"
    assert choose_precision("auto", WIDE, torch.device("cuda"), {"it": plugin}).format == "bf16"


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_measures_and_decides(rank: int, measured: list[tuple[int, int]]) -> None:
    told: Any = SimpleNamespace(first=rank == 0, gather=lambda value: [["bf16", "as the first found"], value])
    assert choose_precision("auto", WIDE, CPU, {}, told) == Choice("bf16", "as the first found")
    assert len(measured) == (rank == 0)


def test_a_measurement_is_the_median_of_ratios_and_draws_no_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([1, 90, 1, 0.5, 2, 1.2, 1, 40, *[1, 0.5] * 2, *[1, 0.7] * 2])
    monkeypatch.setattr(precision, "_seconds", lambda *_, halved: next(times))
    state = torch.get_rng_state()
    assert measure(4, 8) == 0.6  # without the first pair: there the kernels are made
    assert torch.equal(torch.get_rng_state(), state)


def test_both_formats_are_timed() -> None:
    assert 0 < measure(64, 64) < float("inf")


@pytest.mark.parametrize(
    ("asked", "trained", "said"),
    [
        ("auto", "bf16", "bf16, as the run was trained"),
        ("auto", "fp32", "fp32"),
        ("auto", "auto", "fp32"),
        ("auto", None, "fp32"),
        ("bf16", "bf16", "bf16"),
        ("fp32", "bf16", "fp32, though the run was trained in bf16"),
        ("bf16", "fp32", "bf16, though the run was trained in fp32"),
    ],
)
def test_a_trained_model_answers_in_the_precision_of_its_training(asked: Any, trained: Any, said: str) -> None:
    assert str(as_trained(asked, trained)) == said


def test_one_process_needs_nobody_to_agree(measured: list[tuple[int, int]]) -> None:
    assert choose_precision("auto", WIDE, CPU, {}, Processes()).format == "bf16"
