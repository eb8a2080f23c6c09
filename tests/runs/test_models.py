"""Modules that a plugin puts into the model are part of the run: it is resumed, evaluated, asked and exported with them, or refused.

The plugins are a stranger's: a bottleneck (Houlsby et al., 2019), a LoRA, a head of two layers, and a function without weights.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import regkit as library
from regkit import ConfigError, EncoderError, PluginError, RunError
from regkit.base.files import follow
from regkit.model import load_encoder
from regkit.runs import checkpoint, models
from regkit.runs.finished import load_run
from regkit.runs.manifest import digest, seal
from tests.helpers import regkit, with_stranger, write_encoder, write_tasks
from tests.runs.test_resume import STEPS, go, settings

HOUSLBY = '''
from dataclasses import dataclass
import torch
from torch import nn
from regkit import hookimpl

class Bottleneck(nn.Module):
    def __init__(self, layer, width, rank):
        super().__init__()
        self.layer, self.down, self.up = layer, nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)

    def forward(self, *inputs):
        hidden = self.layer(*inputs)
        return hidden + self.up(torch.relu(self.down(hidden)))

@dataclass
class Plugin:
    rank: int = 4
    @hookimpl
    def build(self, model):
        model.encoder.requires_grad_(False)
        for layer in model.encoder.layers:
            for name in ("attention", "down"):
                setattr(layer, name, Bottleneck(getattr(layer, name), model.encoder.width, self.rank))
'''

LORA = '''
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization
from regkit import hookimpl

class LowRank(nn.Module):
    def __init__(self, weight, rank):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(rank, weight.shape[1])), nn.Parameter(torch.zeros(len(weight), rank))

    def forward(self, weight):
        return weight + self.b @ self.a

@dataclass
class Plugin:
    rank: int = 4
    @hookimpl
    def build(self, model):
        model.encoder.requires_grad_(False)
        for layer in model.encoder.layers:
            for each in (layer.attention.query, layer.attention.value):
                register_parametrization(each, "weight", LowRank(each.weight, self.rank))
'''

HEAD = '''
from dataclasses import dataclass
from torch import nn
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def build(self, model, tasks):
        for task in tasks:
            head = model.heads[task.name]
            if hasattr(head, "linear"):
                width, outputs = head.linear.in_features, head.linear.out_features
                head.linear = nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, outputs))
'''

FUNCTION = '''
from dataclasses import dataclass
from torch import nn
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def build(self, model):
        for layer in model.encoder.layers:
            layer.activation = nn.Tanh()
'''

PLUGINS = {"bottleneck": HOUSLBY, "small_lora": LORA, "two_layers": HEAD, "tanh": FUNCTION}
MERGED = ["small_lora", "two_layers"]  # whose encoder any program can read
WORDS = ["the soup is good", "the film is bad"]


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", **PLUGINS)


def states(folder: Path) -> dict[str, str]:
    """The digest of every tensor file of a run's newest checkpoint."""
    return {file.name: digest(file) for file in sorted(follow(folder / "last").glob("*.safetensors"))}


def outputs(folder: Path) -> dict[str, Any]:
    """What the best model of a run gives for some texts, by task."""
    model = library.load(folder, device="cpu")
    pairs = [(text, WORDS[0]) for text in WORDS]
    return {name: model.predict(name, pairs if task.pair_mode else WORDS) for name, task in model.tasks.items()}


def trained(place: Path, folder: Path, name: str, **more: Any) -> Path:
    """A run with one of the plugins."""
    assert go(folder, settings(place, {name: {}}, **more))
    return folder


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("name", ["bottleneck", *(pytest.param(each, marks=pytest.mark.slow) for each in PLUGINS if each != "bottleneck")])
def test_a_run_with_modules_of_a_plugin_that_is_killed_goes_on_bit_for_bit(place: Path, tmp_path: Path, name: str) -> None:
    whole, parts = trained(place, tmp_path / "whole", name), tmp_path / "parts"
    assert not go(parts, settings(place, {name: {}}), stop=4)
    shutil.rmtree(tmp_path / "strangers" / "__pycache__", ignore_errors=True)
    assert go(parts, settings(place, {name: {}}))
    assert states(parts) == states(whole)
    assert outputs(parts) == outputs(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("name", PLUGINS)
def test_an_evaluation_gives_the_scores_of_the_training(place: Path, tmp_path: Path, name: str) -> None:
    folder = trained(place, tmp_path / "run", name)
    ran = regkit("eval", folder, "--json", cwd=tmp_path)
    assert ran.status == 0, ran.err
    noted = json.loads((folder / "scores.json").read_text(encoding="utf8"))["dev"]
    assert json.loads(ran.out)["dev"] == noted
    ran = regkit("eval", folder, "--split", "test", "--predictions", tmp_path / "answers", cwd=tmp_path)
    assert ran.status == 0, ran.err  # of one of the tasks: the modules are those for all
