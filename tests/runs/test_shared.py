"""Shared: runs of one process load data and encoder once, and are what they would be alone, bit for bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from regkit.data import load
from regkit.model import encoders
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.runs.shared import KEPT, Shared


@pytest.fixture(params=["with a pooler", "without"])
def settings(request: pytest.FixtureRequest, place: Path, tmp_path: Path) -> Settings:
    """A run whose encoder has all of its tensors, or lacks some, which are drawn."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    for file in (place / "encoder").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if request.param == "without":
        tensors = load_file(folder / "model.safetensors")
        save_file({name: each for name, each in tensors.items() if "pooler" not in name}, folder / "model.safetensors")
    return Settings(
        data=place / "data", encoder=str(folder), tasks=["mood"], steps=1, learning_rate=0.01, pooling="pooler"
    )


def weights(experiment: Experiment) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in experiment.model.state_dict().items()}


def test_a_run_of_many_is_the_run_alone(settings: Settings) -> None:
    shared = Shared()
    for change in ({}, {"seed": 1}, {}, {"dropout": 0.5}, {"seed": 1, "subsample": {"mood": 9}}):
        chosen = settings.model_copy(update=change)
        one, other = Experiment.build(chosen), Experiment.build(chosen, shared=shared)
        for name, tensor in weights(one).items():
            assert tensor.equal(weights(other)[name]), name
        for task, same in zip(one.tasks, other.tasks, strict=True):
            assert {split: each.digest() for split, each in task.splits.items()} == {
                split: each.digest() for split, each in same.splits.items()
            }
        other.trainer.train()  # whose weights the next run does not have


def test_what_runs_share_is_loaded_once(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGKIT_CACHE", str(tmp_path / "cache"))  # in which an earlier test may have left the tokens
    loaded, read = [], []
    load_encoder, prepare = encoders.load, load.prepare
    monkeypatch.setattr(encoders, "load", lambda *given, **more: loaded.append(1) or load_encoder(*given, **more))
    monkeypatch.setattr(load, "prepare", lambda *given: read.append(1) or prepare(*given))
    shared = Shared()
    for seed in (0, 0, 0, 1, 1):
        Experiment.build(settings.model_copy(update={"seed": seed}), shared=shared)
    whole = any("pooler" in name for name in load_file(Path(settings.encoder or "") / "model.safetensors"))
    assert (len(loaded), len(read)) == (1 if whole else 2, 1)
    for seed in range(5):
        Experiment.build(settings.model_copy(update={"seed": seed, "dropout": seed / 10}), shared=shared)
    assert len(shared.encoders) <= KEPT
