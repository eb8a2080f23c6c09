"""The example of a stranger's plugin: short, and without an effect on anything but its own term."""

import ast
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from regkit.model import attention_dropout
from regkit.testing import TINY, Probe, tiny_trainer

PROJECT = Path(__file__).parents[1] / "examples" / "regkit-cutoff"
dropout = importlib.import_module("regkit.model.dropout")  # the module, not the function of the same name
DRAWS = 1 + 3 * TINY.num_hidden_layers  # dropout masks of a pass: of the embeddings, and three a layer


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("regkit_cutoff", PROJECT / "regkit_cutoff.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def masks_and_rows(plugins: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[Tensor]], Probe]:
    """Which elements the clean pass of every step dropped, and the rows of every batch."""
    steps: list[list[Tensor]] = []
    original = dropout.draw

    def recording(shape: Sequence[int], rate: float) -> tuple[Tensor, float]:
        kept, factor = original(shape, rate)
        if steps and len(steps[-1]) < DRAWS:
            steps[-1].append(kept == 0)
        return kept, factor

    probe = Probe()
    trainer = tiny_trainer({"probe": probe, **plugins}, dropout=0.2)
    clean = trainer.passes.clean

    def marked(*arguments: object) -> object:
        steps.append([])
        return clean(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(dropout, "draw", recording)
        patch.setattr(attention_dropout, "draw", recording)
        patch.setattr(trainer.passes, "clean", marked)
        trainer.train()
    return steps, probe


def test_adding_it_changes_neither_the_order_of_the_data_nor_the_dropout_of_the_clean_passes(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, in every step, though the weights go other ways."""
    alone, order_alone = masks_and_rows({}, monkeypatch)
    beside, order_beside = masks_and_rows({"cutoff": module.Cutoff()}, monkeypatch)
    assert order_beside.rows == order_alone.rows
    assert len(alone) == len(beside) > 3
    for one, other in zip(alone, beside, strict=True):
        assert len(one) == DRAWS
        assert all(map(torch.equal, one, other))


def test_it_does_change_the_weights(module: ModuleType) -> None:
    plain, cutoff = tiny_trainer({}), tiny_trainer({"cutoff": module.Cutoff()})
    plain.train()
    cutoff.train()
    pairs = zip(plain.model.parameters(), cutoff.model.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_it_is_about_twenty_lines_and_imports_of_regkit_only_what_is_public() -> None:
    source = (PROJECT / "regkit_cutoff.py").read_text(encoding="utf8")
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"collections.abc", "dataclasses", "regkit", "torch"}
