"""Modules that a plugin puts into the model are part of the run: it is resumed, evaluated, asked and exported with them, or refused.

The plugins are a stranger's: a bottleneck (Houlsby et al., 2019), a LoRA, a head of two layers, and a function without weights.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import regkit as library
from regkit import (
    Batch,
    ConfigError,
    EncoderError,
    MultitaskModel,
    PluginError,
    RunError,
    Settings,
    Tokenizer,
    hookimpl,
    load_encoder,
)
from regkit.base.files import digest_of, follow
from regkit.cli.app import main
from regkit.hooks import catalog
from regkit.model.merging import merge
from regkit.runs import checkpoint, resume
from regkit.runs.average import average
from regkit.runs.export.source import Source
from regkit.runs.manifest import seal
from regkit.runs.resumable import newest
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.testing.tiny import tiny_tokenizer
from tests import forked
from tests.cli.test_bad_input import is_one_sentence
from tests.distributed.test_processes import ends, places
from tests.helpers import SHAPE, VOCABULARY, regkit, slow_but, with_stranger, write_encoder, write_tasks
from tests.runs.test_resume import go, settings

HOULSBY = """
from dataclasses import dataclass
import torch
from torch import nn
from regkit import hookimpl

class Bottleneck(nn.Module):
    def __init__(self, layer, width, rank):
        super().__init__()
        self.layer, self.down, self.up = layer, nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)

    def forward(self, values):
        hidden = self.layer(values)
        return hidden + self.up(torch.relu(self.down(hidden)))

@dataclass
class Plugin:
    rank: int = 4
    @hookimpl
    def build(self, model):
        model.encoder.requires_grad_(False)
        for layer in model.encoder.layers:
            for owner, name in ((layer.attention, "out"), (layer, "down")):
                setattr(owner, name, Bottleneck(getattr(owner, name), model.encoder.width, self.rank))
"""

LORA = """
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
"""

HEAD = """
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
"""

FUNCTION = """
from dataclasses import dataclass
from torch import nn
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def build(self, model):
        for layer in model.encoder.layers:
            layer.activation = nn.Tanh()
"""

DEEP = """
from dataclasses import dataclass
from torch import nn
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def build(self, model):
        for layer in model.encoder.layers:
            layer.mlp = nn.Sequential(layer.mlp, nn.Linear(model.encoder.width, model.encoder.width))
"""

OTHERS = {"deep": DEEP}
PLUGINS = {"bottleneck": HOULSBY, "small_lora": LORA, "two_layers": HEAD, "tanh": FUNCTION}
UNMERGED = ["bottleneck", "tanh"]  # whose encoder no other program can read
TEXTS = ["the soup is good", "the film is bad"]


@pytest.fixture(scope="module", autouse=True)
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The plugins are installed while the tests of this module run."""
    with pytest.MonkeyPatch.context() as patch:
        with_stranger(patch, tmp_path_factory.mktemp("strangers"), **PLUGINS, **OTHERS)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    return folder


def short(place: Path, plugins: dict[str, Any], **more: Any) -> Settings:
    """A run of six updates, scored before and after them."""
    return settings(place, plugins, **{"tasks": ["mood", "same"], "steps": 6, **more})


def trained(place: Path, name: str, seed: int = 0) -> Path:
    """A run with one of the plugins, made once."""
    folder = place / f"{name}-{seed}"
    if not folder.exists():
        assert go(folder, short(place, {name: {}}, seed=seed))
    return folder


def copied(place: Path, name: str, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The best checkpoint of a run, with another record of plugins in its config.json."""
    shutil.copytree(follow(trained(place, name) / "best"), folder)
    (folder / "manifest.json").unlink()
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    change(config["regkit"]["plugins"])
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    seal(folder, None)
    return folder


def tensors(folder: Path) -> dict[str, str]:
    """The digest of every tensor file of a run's newest checkpoint."""
    return {file.name: digest_of(file) for file in sorted(follow(folder / "last").glob("*.safetensors"))}


def answers(model: library.Trained) -> dict[str, list[Any]]:
    """What a model answers for some texts, by task."""
    pairs = [(text, TEXTS[0]) for text in TEXTS]
    return {name: model.predict(name, pairs if task.pair_mode else TEXTS) for name, task in model.tasks.items()}


QUICK, NAMES = "bottleneck", list(PLUGINS)


@pytest.mark.parametrize("name", slow_but(NAMES, [QUICK]))
def test_a_run_that_is_killed_goes_on_bit_for_bit(place: Path, tmp_path: Path, name: str) -> None:
    parts = tmp_path / "parts"
    assert not go(parts, short(place, {name: {}}), stop=4)
    assert go(parts, short(place, {name: {}}))
    assert tensors(parts) == tensors(trained(place, name))


@pytest.mark.parametrize("name", slow_but(NAMES, [QUICK]))
def test_an_evaluation_gives_the_scores_of_the_training(place: Path, tmp_path: Path, name: str) -> None:
    folder = trained(place, name)
    ran = regkit("eval", folder, "--json", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["dev"] == json.loads((folder / "scores.json").read_text(encoding="utf8"))["dev"]
    ran = regkit("eval", folder, "--split", "test", "--predictions", tmp_path, cwd=tmp_path)
    assert ran.status == 0, ran.err  # of one of the tasks: modules are those of the whole run


@pytest.mark.parametrize("name", slow_but(NAMES, []))
def test_a_model_that_is_loaded_again_answers_as_the_one_in_training(place: Path, name: str) -> None:
    """Without the run's folder around it, and with weights that are not those of the encoder alone."""
    folder = trained(place, name)
    model = library.load(follow(folder / "last"), device="cpu").inference.model
    experiment = resume.build(newest(folder, print), Settings.read(folder / "config.toml"))
    for key, tensor in experiment.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_is_read_with_the_modules_merged_or_not_at_all(place: Path, tmp_path: Path, name: str) -> None:
    best = follow(trained(place, name) / "best")
    model = library.load(best, device="cpu").inference.model.eval()
    batch = Batch.pack([np.arange(5), np.arange(8)], [np.zeros(5), np.zeros(8)])
    words = ["--encoder", best, "--data", place / "data", "--dry-run"]
    ran = regkit("train", *words, cwd=tmp_path)
    if name in UNMERGED:
        with pytest.raises(EncoderError, match=f"has modules that '{name}' put in, and they cannot be merged"):
            load_encoder(best)
        assert ran.status == 2
        is_one_sentence(ran)
        with pytest.raises(ValueError, match="regkit"):
            pytest.importorskip("transformers").AutoModel.from_pretrained(best)
        return
    encoder = load_encoder(best).eval()  # type: ignore[attr-defined]
    wanted = model.encoder.encode(model.encoder.embed(batch), batch)
    torch.testing.assert_close(encoder.encode(encoder.embed(batch), batch), wanted)
    assert ran.status == 0, ran.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("small_lora", "hf"),
        ("small_lora", "sentence-transformers"),
        ("bottleneck", "onnx"),
        ("bottleneck", "hf"),
        ("two_layers", "sentence-transformers"),
    ],
)
def test_an_export_gives_the_outputs_of_the_training_or_names_the_plugin(
    place: Path, tmp_path: Path, name: str, form: str
) -> None:
    ran = regkit("export", trained(place, name), "--task", "same", "--format", form, "--output", "out", cwd=tmp_path)
    if form == "onnx" or name == "small_lora":  # every difference is an error of the command
        assert ran.status == 0, ran.err
        return
    assert ran.status == 2
    is_one_sentence(ran)
    assert f"has modules of '{name}' in" in ran.err


@pytest.mark.slow
def test_an_average_is_that_of_merged_weights(place: Path, tmp_path: Path) -> None:
    """The mean of products is not the product of means; bottlenecks are averaged as they are."""
    runs = [trained(place, "small_lora", seed) for seed in (0, 1)]
    made = average(runs, tmp_path / "lora").folder
    found = library.load(made, device="cpu").inference.model
    assert found.built is None
    each = [library.load(run, device="cpu").inference.model.encoder for run in runs]
    mean = sum(encoder.layers[0].attention.query.weight for encoder in each) / 2
    torch.testing.assert_close(found.encoder.layers[0].attention.query.weight, mean)
    made = average([trained(place, "bottleneck", seed) for seed in (0, 1)], tmp_path / "bottleneck").folder
    assert library.load(made, device="cpu").inference.model.built is not None
    with pytest.raises(RunError):
        average([trained(place, "bottleneck"), trained(place, "tanh")], tmp_path / "both")


def test_a_plugin_that_is_gone_or_of_another_form_is_one_sentence(place: Path, tmp_path: Path) -> None:
    cases: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
        (
            lambda plugins: plugins.update(gone=plugins.pop("bottleneck")),
            "modules that plugin 'gone' put in, and no plugin",
        ),
        (
            lambda plugins: plugins["bottleneck"].update(rank=3),
            r"is \[4, 16\] float32 instead of \[3, 16\] float32; maybe",
        ),
        (
            lambda plugins: plugins["bottleneck"].update(other=3),
            "cannot be built again: 'bottleneck' has no option 'other'",
        ),
        (lambda plugins: plugins.update(tanh=3), "the plugins of regkit are"),
    ]
    for number, (change, says) in enumerate(cases):
        with pytest.raises(RunError, match=says):
            library.load(copied(place, "bottleneck", tmp_path / str(number), change), device="cpu")


def test_a_run_whose_plugins_put_other_modules_in_does_not_go_on(place: Path) -> None:
    """As when a newer version of the plugin puts nothing in any more."""
    folder = trained(place, "bottleneck")
    with pytest.raises(
        RunError, match=r"has modules of plugin 'bottleneck', and this run puts in those of no plugin\.$"
    ):
        resume.build(newest(folder, print), short(place, {}))


def attending(model: MultitaskModel) -> None:
    model.encoder.layers[0].attention = nn.Sequential(model.encoder.layers[0].attention)


class Counts(nn.Linear):
    """A layer with state that is no tensor."""

    def get_extra_state(self) -> object:
        return {"calls": 3}

    def set_extra_state(self, state: object) -> None: ...


class Unmerged(nn.Linear):
    """A layer whose merge is wrong."""

    def merged(self) -> nn.Module:
        raise KeyError("weight")


def put(kind: type[nn.Linear]) -> Callable[[MultitaskModel], None]:
    def change(model: MultitaskModel) -> None:
        model.encoder.pooler = kind(model.encoder.width, model.encoder.width)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            put(Counts),
            "'encoder.pooler._extra_state' in the model's state is no tensor; of plugins' modules, only tensors",
        ),
        (put(Unmerged), "merged of the module 'encoder.pooler' failed, so that no checkpoint can be written: KeyError"),
    ],
)
def test_modules_that_no_checkpoint_holds_are_refused_before_the_first_update(
    change: Callable[[MultitaskModel], None], says: str
) -> None:
    builder = type("Builder", (), {"build": hookimpl(lambda self, model: change(model))})()
    run = tiny_trainer({"builder": builder}, tasks=tiny_tasks()[:1])
    with pytest.raises(PluginError, match=re.escape(says)):
        checkpoint.rehearse(run.state)


def test_another_attention_is_exported_by_no_format() -> None:
    builder = type("Builder", (), {"build": hookimpl(lambda self, model: attending(model))})()
    model = tiny_trainer({"builder": builder}, tasks=tiny_tasks()[:1]).model
    source = Source(Path(), Settings(), tiny_tokenizer(), merge(model), model, tiny_tasks()[:1], 32)
    for form in ("hf", "onnx"):
        with pytest.raises(
            ConfigError, match=f"'builder' in the encoder .* so that {form} cannot hold it; no format has"
        ):
            source.check_form(source.tasks[0], form)


def test_a_class_that_is_not_installed_can_be_handed_in(place: Path, tmp_path: Path) -> None:
    folder = copied(
        place, "bottleneck", tmp_path / "run", lambda plugins: plugins.update(mine=plugins.pop("bottleneck"))
    )
    mine = type("Mine", (catalog.load_class("bottleneck"),), {})
    found = answers(library.load(folder, device="cpu", plugins=[mine]))
    assert found == answers(library.load(trained(place, "bottleneck"), device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["ema", "bregman"])
def test_a_copy_of_the_model_has_the_modules_and_resumes_bit_for_bit(place: Path, tmp_path: Path, teacher: str) -> None:
    wanted = short(place, {"small_lora": {}, "bottleneck": {}, teacher: {}}, save_steps=2)
    assert go(tmp_path / "whole", wanted)
    assert not go(tmp_path / "parts", wanted, stop=3)
    assert go(tmp_path / "parts", wanted)
    assert tensors(tmp_path / "parts") == tensors(tmp_path / "whole")
    assert regkit("eval", tmp_path / "whole", cwd=tmp_path).status == 0


@pytest.mark.slow
def test_two_processes_train_the_modules_and_one_reads_them(place: Path) -> None:
    """The processes compare their weights at each evaluation; the strangers' packages are on the path of both."""
    words = ["tests.runs.test_models", "train", "--data", "data", "--encoder", "encoder", "--tasks", "mood,same"]
    words += ["-p", "bottleneck", "-p", "small_lora", "--steps", "4", "--batch-size", "8", "--device", "cpu"]
    ended = ends([forked.module([*words, "--output", "two"], place, **each) for each in places(2)])
    assert [status for status, _ in ended] == [0, 0], ended
    ran = regkit("eval", place / "two", "--json", cwd=place)
    noted = json.loads((place / "two" / "scores.json").read_text(encoding="utf8"))["dev"]
    assert json.loads(ran.out)["dev"] == approx(noted)


def approx(scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {task: pytest.approx(each) for task, each in scores.items()}


@pytest.mark.slow
def test_an_encoder_of_transformers_keeps_the_modules_too(place: Path, tmp_path: Path) -> None:
    """ModernBERT has no matrices of ours: what is replaced is its feed-forward layer and, merged, its attention."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape: dict[str, Any] = {**SHAPE, "vocab_size": len(VOCABULARY), "max_position_embeddings": 64, "pad_token_id": 0}
    more = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    transformers.ModernBertModel(transformers.ModernBertConfig(**shape, **more)).save_pretrained(tmp_path / "modern")
    Tokenizer.load(place / "encoder").save(tmp_path / "modern")
    lora = {"matrices": ["Wqkv"], "rank": 2}
    for name, plugins in {"merged": {"lora": lora}, "hidden": {"lora": lora, "deep": {}}}.items():
        wanted = short(place, plugins, encoder=str(tmp_path / "modern"), pooling="mean")
        assert go(tmp_path / name, wanted)
        assert not go(tmp_path / f"{name}-parts", wanted, stop=3)
        assert go(tmp_path / f"{name}-parts", wanted)
        assert tensors(tmp_path / f"{name}-parts") == tensors(tmp_path / name)
        assert regkit("eval", tmp_path / name, cwd=tmp_path).status == 0
    load_encoder(follow(tmp_path / "merged" / "best"))
    with pytest.raises(EncoderError, match="has modules that 'lora' and 'deep' put in"):
        load_encoder(follow(tmp_path / "hidden" / "best"))


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as packages:
        with_stranger(patched, Path(packages), **PLUGINS)
        main()
