"""Packing: what a checkpoint cannot keep is refused by name, before the first step."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regkit.base.errors import PluginError, RunError
from regkit.runs import packing
from tests.helpers import regkit, with_stranger

NESTED: Any = []
for _ in range(30):
    NESTED = [NESTED]
ROUND: list[Any] = []
ROUND.append(ROUND)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"seen": {1}}, "{1}, of type set at 'seen'; a checkpoint keeps tensors, numbers, text, None, and lists"),
        ({"deep": [0, {"in": object}]}, "<class 'object'>, of type type at 'deep.1.in'"),
        ({"raw": b"1"}, "b'1', of type bytes at 'raw'"),
        ({"one": np.float32(1)}, "np.float32(1.0), of type float32 at 'one'"),
        ({"rows": np.ones(1)}, "array([1.]), of type ndarray at 'rows'"),
        ({("a", 1): 2}, "the key ('a', 1);"),
        ({"x": torch.ones(2).to_sparse()}, "a tensor that is float32, sparse_coo, on cpu at 'x'"),
        ({"x": torch.ones(2, device="meta")}, "a tensor that is float32, strided, on meta at 'x'"),
        ({"x": torch.ones(2, dtype=torch.complex128)}, "a tensor that is complex128, strided, on cpu at 'x'"),
        ({"x": NESTED}, "more than 20 lists and dictionaries in one another at 'x'"),
        ({"x": ROUND}, "more than 20 lists and dictionaries in one another at 'x'"),
        ({1, 2}, "{1, 2}, of type set;"),
        ({"large": 10**5000}, "a whole number of 16610 bits at 'large'"),
    ],
)
def test_a_plugins_state_that_cannot_be_kept_is_named_by_plugin_key_and_type(state: object, says: str) -> None:
    with pytest.raises(PluginError) as caught:
        packing.check({"position": {}, "optimizer": {}, "plugins": {"fine": {"x": 1}, "mine": state}})
    assert str(caught.value).startswith("plugin 'mine': its state_dict has ")
    assert says in str(caught.value)


def test_an_optimizers_state_that_cannot_be_kept_is_named() -> None:
    with pytest.raises(RunError, match=r"the optimizer has .*, of type set at 'param_groups\.0\.names'"):
        packing.check({"optimizer": {"state": {}, "param_groups": [{"names": {1}}]}, "plugins": {}})


@pytest.mark.parametrize("state", [list(range(2000)), [torch.zeros(())] * 11], ids=["list", "tensors"])
def test_more_than_is_read_back_is_refused_when_it_is_written(state: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TEXT", 2000)
    monkeypatch.setattr(packing, "MOST", 10)
    with pytest.raises(RunError, match="a plugin that keeps long lists should keep them as tensors"):
        packing.encode({"plugins": {"mine": state}})


def test_what_is_encoded_comes_back() -> None:
    state = {"a": [1, 2.5, "x", None, True, {"b": torch.arange(3), 4: (1, 2)}], "c": float("inf"), "d": 2**70}
    text, tensors = packing.encode(state)
    found = packing.unpack(json.loads(text), tensors)
    assert str(found) == str(state).replace("(1, 2)", "[1, 2]")


STATEFUL = """
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def prepare(self): self.state = {{{state}}}
    @hookimpl
    def after_step(self): print("a step is done")
    def state_dict(self): return self.state
    def load_state_dict(self, state): self.state = state
"""


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("'seen': {3}", "regkit: plugin 'x': its state_dict has {3}, of type set at 'seen'; a checkpoint keeps "),
        (
            "'best': float('nan')",
            "regkit: plugin 'x': 'best' in its state_dict is not finite at step 0; no checkpoint was written.",
        ),
    ],
)
def test_the_first_checkpoint_is_tried_before_the_first_step(
    state: str, says: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", x=STATEFUL.format(state=state))
    words = ("--data", place / "data", "--encoder", place / "encoder", "--steps", 2, "--output", tmp_path / "run")
    for dry in (["--dry-run"], []):
        ran = regkit("train", *words, "-p", "x", *dry, cwd=tmp_path)
        assert ran.status == 2
        assert ran.err.startswith(says)
        assert ran.err.count("\n") == 1
        assert "a step is done" not in ran.out
        assert not (tmp_path / "run").exists()
