"""Checkpoint: what goes in comes out, a folder is whole or not there, and a damaged one says so."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from regkit.base.errors import RunError
from regkit.base.files import save_tensors
from regkit.base.randomness import Streams
from regkit.model import Bert, MultitaskModel, load_encoder
from regkit.model.tokenizer import Tokenizer
from regkit.runs import checkpoint, manifest
from regkit.tasks.objectives import Binary, Classification
from regkit.testing import TINY, tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.tiny import tiny_tokenizer

Save = Callable[..., Path]


@pytest.fixture
def model() -> MultitaskModel:
    torch.manual_seed(0)
    return MultitaskModel(Bert(TINY), tiny_tasks(), Streams(0))


@pytest.fixture
def save(model: MultitaskModel, tmp_path: Path) -> Save:
    """Save `training` into runs/one, or a folder of another name."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nword\n")
    tokenizer = Tokenizer.load(tmp_path)

    def saved(training: Any = None, name: str = "one") -> Path:
        folder = tmp_path / "runs" / name
        checkpoint.save(folder, model, tokenizer, training)
        return folder

    return saved


def same(found: Any, wanted: Any) -> bool:
    """Equal in structure, type and every bit."""
    if isinstance(wanted, Tensor):
        if not isinstance(found, Tensor) or (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            return False
        return torch.equal(torch.view_as_real(found) if found.is_complex() else found.nan_to_num(), wanted.nan_to_num())
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return type(found) is type(wanted) and (found == wanted or (found != found and wanted != wanted))


DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int16,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize(
    "training",
    [
        {"state": {0: {"step": 3, "exp_avg": torch.ones(2, 3)}, 11: {}}, "param_groups": [{"params": [0, 1]}]},
        {str(dtype): torch.tensor([0, 1, 3]).to(dtype) for dtype in DTYPES},
        {"0-dim": torch.tensor(3.5, dtype=torch.bfloat16), "empty": torch.ones(0, 3), "nan": torch.tensor([torch.nan])},
        {"none": None, "plus": float("inf"), "minus": -float("inf"), "nan": float("nan"), "tiny": 5e-324},
        {"text": "tensor ü \u2028", "tensor": "0", "dict": [1, [2, {}]], "": True, "large": 2**100, "float": 1.0},
        {1: "int", "1": "text", None: 0},
        [torch.ones(1), [torch.zeros(1)], {}],
        {},
        "text",
        torch.arange(3),
    ],
    ids=["optimizer", "types", "shapes", "floats", "names", "keys", "list", "empty", "text", "tensor"],
)
def test_training_state_comes_back_as_it_was(save: Save, training: Any) -> None:
    assert same(checkpoint.load_training(save(training)), training)


def test_an_optimizer_that_was_saved_goes_on_as_if_it_had_not_been(save: Save) -> None:
    def optimizer() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.arange(4.0))
        return weight, torch.optim.AdamW([weight], lr=0.1)

    def step(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        weight.grad = weight.detach().cos()
        optimizer.step()

    weight, adam = optimizer()
    step(weight, adam)
    folder = save(adam.state_dict())
    other, again = optimizer()
    other.data.copy_(weight.data)
    again.load_state_dict(checkpoint.load_training(folder))
    step(weight, adam)
    step(other, again)
    assert torch.equal(weight, other)


@pytest.mark.parametrize(
    "tensor",
    [torch.arange(6.0).view(2, 3).t(), torch.ones(1, 1).expand(3, 3), torch.arange(8.0)[::2]],
    ids=["transposed", "expanded", "strided"],
)
def test_a_tensor_is_kept_however_it_lies_in_memory(save: Save, tensor: Tensor) -> None:
    assert same(checkpoint.load_training(save({"a": tensor, "b": tensor})), {"a": tensor, "b": tensor})


def test_saved_state_is_a_copy_without_gradient(save: Save) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    found = checkpoint.load_training(save({"weight": weight}))["weight"]
    assert type(found) is Tensor
    assert not found.requires_grad


def test_what_cannot_be_kept_is_refused_when_saved_and_leaves_nothing(save: Save) -> None:
    with pytest.raises(RunError, match=r"has \{1\}, of type set"):
        save({"value": {1}})
    assert [path.name for path in save({}, "other").parent.iterdir()] == ["other"]


def test_encoder_heads_and_tokenizer_come_back_bit_for_bit(save: Save, model: MultitaskModel) -> None:
    folder = save()
    assert not (folder / "training.json").exists()
    other = MultitaskModel(load_encoder(folder), tiny_tasks(), Streams(1))
    changed = [
        name for name, value in other.heads.state_dict().items() if not same(value, model.heads.state_dict()[name])
    ]
    assert "classes.linear.weight" in changed
    checkpoint.load_heads(folder, other.heads)
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert Tokenizer.load(folder).encode(["word words"]) == [[5, 1]]


def test_heads_are_those_of_their_own_task(save: Save, model: MultitaskModel) -> None:
    folder = save()
    fewer = MultitaskModel(Bert(TINY), tiny_tasks()[::-2], Streams(1))
    checkpoint.load_heads(folder, fewer.heads)
    for name, value in fewer.heads.state_dict().items():
        assert torch.equal(value, model.heads.state_dict()[name])


def test_a_head_that_is_missing_or_of_another_shape_is_named_by_its_task(save: Save) -> None:
    folder = save()
    for task in (tiny_task("another", Binary()), tiny_task("classes", Classification(4)), tiny_task("cos", Binary())):
        heads = MultitaskModel(Bert(TINY), [task], Streams(0)).heads
        with pytest.raises(RunError, match=f"no head for task '{task.name}'"):
            checkpoint.load_heads(folder, heads)


def fail(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(
    "place",
    [
        "checkpoint.save_tensors",
        "checkpoint.json.dumps",
        "manifest.flush",
        "checkpoint.Tokenizer.save",
    ],
)
def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_visible(
    save: Save, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = save({"step": 1})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(f"regkit.runs.{place}", fail)
    for name in ("one", "two"):
        with pytest.raises(KeyboardInterrupt):
            save({"step": 2}, name)
    assert visible(folder) == ["one"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    assert checkpoint.load_training(save({"step": 2}, "two")) == {"step": 2}
    assert checkpoint.load_training(save({"step": 3})) == {"step": 3}
    assert sorted(os.listdir(folder.parent)) == ["one", "two"]


def test_a_checkpoint_takes_its_name_only_when_it_is_whole_and_flushed(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    for module in (checkpoint, manifest):
        monkeypatch.setattr(module, "flush", lambda path: flushed.append(path.name))
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        assert set(os.listdir(self)) <= set(flushed)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    folder = save({"step": 1})
    files = [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sorted(os.listdir(folder)) == [*files, "training.json", "training.safetensors"]
    assert flushed[-1] == folder.parent.name


def test_a_checkpoint_is_never_deleted_under_its_own_name(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save({"step": 1})
    deleted: list[Path] = []
    remove = shutil.rmtree

    def watched(path: Path, *more: Any, **named: Any) -> None:
        deleted.append(Path(path))
        remove(path, *more, **named)

    monkeypatch.setattr(shutil, "rmtree", watched)
    assert checkpoint.load_training(save({"step": 2})) == {"step": 2}
    assert folder not in deleted  # killed in the middle, half a checkpoint would be left
    assert os.listdir(folder.parent) == ["one"]


@pytest.mark.parametrize("file", ["training.json", "training.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "other"])
def test_damaged_training_state_is_an_error_that_names_the_folder(save: Save, file: str, damage: str) -> None:
    path = save({"step": 3, "values": torch.ones(100)}) / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "other": b"\xff" * 100}[damage])
    with pytest.raises(RunError, match=f"{path.parent} cannot be resumed from"):
        checkpoint.load_training(path.parent)


@pytest.mark.parametrize(
    "plain",
    [{"a": 1}, {"dict": 5}, {"dict": [[1]]}, {"dict": [[[1], 2]]}, {"tensor": "9"}, {"tensor": []}],
    ids=json.dumps,
)
def test_json_that_save_does_not_write_is_an_error(save: Save, plain: Any) -> None:
    folder = save({"values": torch.ones(3)})
    (folder / "training.json").write_text(json.dumps(plain))
    with pytest.raises(RunError, match="cannot be resumed from"):
        checkpoint.load_training(folder)


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 100])
def test_damaged_weights_are_an_error_that_names_the_file(
    save: Save, model: MultitaskModel, content: bytes | None
) -> None:
    path = save() / "model.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors cannot be read"):
        checkpoint.load_heads(path.parent, model.heads)


def test_nothing_in_a_checkpoint_is_a_pickle(save: Save) -> None:
    folder = save({"values": torch.ones(3)})
    for path in folder.iterdir():
        assert json.loads(path.read_text("utf8")) if path.suffix == ".json" else load_file(path)


def test_a_tokenizer_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """The tokenizers library raises a bare Exception where the disk is full."""

    class Full:
        def save(self, path: str) -> None:
            raise Exception("No space left on device (os error 28)")

        normalizer = None

    tokenizer, model = tiny_tokenizer(), tiny_trainer({}).model
    tokenizer.backend = Full()  # type: ignore[assignment]
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        checkpoint.save(tmp_path / "c", model, tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_transformers_has_an_encoder_of_a_checkpoint_and_no_classifier(save: Save) -> None:
    """Its own head would be random, and answer all the same."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    folder, tokens = save(), torch.tensor([[1, 2, 3]])
    assert AutoModel.from_pretrained(folder)(tokens).last_hidden_state.shape == (1, 3, TINY.hidden_size)
    with pytest.warns(UserWarning, match="zero-element"):
        classifier = AutoModelForSequenceClassification.from_pretrained(folder)
    assert classifier(tokens).logits.numel() == 0
    own = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)  # to be trained
    assert own(tokens).logits.shape == (1, 3)
    assert load_encoder(folder).config == TINY


@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_makes_no_vectors_and_no_scores_of_a_checkpoint(save: Save) -> None:
    """It would take the mean of the hidden states, and a random head."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = str(save())
    with pytest.raises(ValueError, match="regkit export RUN --format sentence-transformers"):
        sentence_transformers.SentenceTransformer(folder, device="cpu")
    scores = sentence_transformers.CrossEncoder(folder, device="cpu").predict([("word", "word")])
    assert scores.size == 0


def test_an_exported_encoder_is_like_any_other_to_transformers(save: Save) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = save()
    checkpoint.export_encoder(folder, folder.parent)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder.parent)
    assert classifier(torch.tensor([[1, 2, 3]])).logits.shape == (1, 2)


def test_tied_weights_are_kept_and_come_back(save: Save, model: MultitaskModel) -> None:
    model.encoder.layers[1] = model.encoder.layers[0]
    other = MultitaskModel(load_encoder(save()), tiny_tasks(), Streams(1)).encoder
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_whoever_may_read_the_folder_may_read_the_tensors(tmp_path: Path, mask: int) -> None:
    """The library that writes them lets the owner alone."""
    before = os.umask(mask)
    try:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "plain").touch()
        save_tensors({"one": torch.zeros(3)}, tmp_path / "folder" / "model.safetensors")
    finally:
        os.umask(before)
    plain, tensors = ((tmp_path / "folder" / name).stat().st_mode for name in ("plain", "model.safetensors"))
    assert oct(plain) == oct(tensors)
