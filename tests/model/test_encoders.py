"""Encoders: a folder, the demo or a name on the Hub becomes a model and its vocabulary, or one clear refusal."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from regkit.base.errors import EncoderError
from regkit.model import encoders, load_encoder
from regkit.model.encoders import find_encoder
from regkit.model.tokenizer import Tokenizer
from tests.helpers import VOCABULARY, write_encoder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "tiny")


def refusal(act: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(EncoderError) as caught:
        act(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | changes), encoding="utf8")
    return folder


def test_a_folder_is_taken_as_it_is(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_encoder(str(tiny)) == tiny.resolve()
    monkeypatch.chdir(tiny.parent)
    assert find_encoder("tiny") == find_encoder("./tiny") == tiny.resolve()


def test_no_name_is_the_demo(minilm: Path) -> None:
    assert find_encoder(None) == minilm
    assert (minilm / "config.json").is_file()


def test_without_the_demo_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "DEMO_PACKAGE", "no_package_of_this_name")
    message = refusal(find_encoder, None)
    assert "pip install 'regkit[demo]'" in message
    assert "--encoder FOLDER" in message


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "../nothing", "~/nothing-here", "a/b/c"])
def test_what_can_only_be_a_folder_is_not_looked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_from_hub", lambda name: pytest.fail("asked the Hub"))
    assert refusal(find_encoder, name) == f"there is no encoder folder {name}."


def test_another_name_is_fetched_from_the_hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def give(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tiny)

    monkeypatch.setattr(hub, "snapshot_download", give)
    assert find_encoder("bert-base-uncased") == find_encoder("someone/bert") == tiny
    assert [name for name, _ in asked] == ["bert-base-uncased", "someone/bert"]
    assert {"config.json", "model.safetensors", "vocab.txt"} <= set(asked[0][1])


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError("no network\nat all"), "no network"), (ValueError(), "ValueError")]
)
def test_a_hub_that_does_not_answer_is_one_sentence(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refuse(name: str, *, allow_patterns: list[str]) -> str:
        raise error

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    message = refusal(find_encoder, "bert-base-uncased")
    assert message.startswith("'bert-base-uncased' is no folder here, and the Hugging Face Hub did not give it: ")
    assert reason in message


def test_without_the_hubs_library_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'regkit[hub]'" in refusal(find_encoder, "bert-base-uncased")


def test_a_real_checkpoint_is_read(bert_tiny: Path) -> None:
    encoder, tokenizer = load_encoder(bert_tiny), Tokenizer.load(bert_tiny)
    assert (encoder.width, len(encoder.layers), encoder.longest) == (128, 2, 512)
    assert len(tokenizer) == encoder.config.vocab_size == 30522
    assert tokenizer.encode(["Hello , world !"]) == [[7592, 1010, 2088, 999]]
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("old", [True, False], ids=["before torch 1.6", "since torch 1.6"])
def test_a_checkpoint_of_torchs_own_is_read_without_running_it(tiny: Path, old: bool) -> None:
    tensors = load_file(tiny / "model.safetensors")
    wanted = load_encoder(tiny).state_dict()
    (tiny / "model.safetensors").unlink()
    torch.save(tensors, tiny / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    found = load_encoder(tiny).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path(Bomb.target),)  # type: ignore[return-value]

    target = ""


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pickle_in_place_of_weights_runs_nothing(tiny: Path, wrapped: bool) -> None:
    (tiny / "model.safetensors").unlink()
    Bomb.target = str(tiny / "ran")
    if wrapped:
        torch.save({"a": Bomb()}, tiny / "pytorch_model.bin")
    else:
        (tiny / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb()}, protocol=2))
    assert "pytorch_model.bin cannot be read: " in refusal(load_encoder, tiny)
    assert not (tiny / "ran").exists()


def test_vocab_txt_and_tokenizer_json_give_the_same_ids(tiny: Path) -> None:
    one = Tokenizer.load(tiny)
    (tiny / "copy").mkdir()
    one.save(tiny / "copy")
    other = Tokenizer.load(tiny / "copy")
    texts = ["Hello, World", "naïve 北京", "a  b\tc"]
    assert one.encode(texts) == other.encode(texts)
    assert (one.cls, one.sep, len(one)) == (other.cls, other.sep, len(other)) == (2, 3, len(VOCABULARY))


def test_an_unknown_character_is_the_unknown_token(tiny: Path) -> None:
    assert Tokenizer.load(tiny).encode(["北", "a"]) == [[VOCABULARY.index("[UNK]")], [VOCABULARY.index("a")]]


def test_a_vocabulary_with_capitals_keeps_them(tiny: Path) -> None:
    (tiny / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\nA\n", encoding="utf8")
    assert Tokenizer.load(tiny).encode(["a A"]) == [[3, 3]]
    (tiny / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf8")
    assert Tokenizer.load(tiny).encode(["a A"]) == [[3, 4]]


def test_only_a_newline_ends_a_word_of_vocab_txt(tiny: Path) -> None:
    (tiny / "vocab.txt").write_bytes("[UNK]\r\n[CLS]\r\n[SEP]\r\n\u2028\r\na\r\n".encode())
    assert Tokenizer.load(tiny).encode(["a"]) == [[4]]


@pytest.mark.parametrize("missing", ["[UNK]", "[CLS]", "[SEP]"])
def test_a_vocabulary_without_berts_own_tokens_is_refused(tiny: Path, missing: str) -> None:
    words = [word for word in VOCABULARY if word != missing]
    (tiny / "vocab.txt").write_text("\n".join(words), encoding="utf8")
    assert refusal(Tokenizer.load, tiny) == f"the tokenizer has no {missing}; minBERT needs a BERT vocabulary."


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_refused_with_its_file(tiny: Path, name: str) -> None:
    (tiny / name).write_bytes(b"\xff{")
    assert refusal(Tokenizer.load, tiny).startswith(f"{tiny / name} cannot be read")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    assert refusal(Tokenizer.load, tmp_path).startswith(f"{tmp_path} has no tokenizer: ")


def test_a_folder_without_config_or_weights_is_refused(tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    assert refusal(load_encoder, tiny).startswith(f"{tiny} has no weights: ")
    (tiny / "config.json").unlink()
    assert refusal(load_encoder, tiny) == f"{tiny} is not an encoder folder: it has no config.json."


@pytest.mark.parametrize("size", [0, 5, 1000, -50])
def test_weights_that_were_cut_short_are_refused(tiny: Path, size: int) -> None:
    path = tiny / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(load_encoder, tiny).startswith(f"{path} cannot be read: ")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"3"])
def test_a_damaged_config_is_refused_with_its_file(tiny: Path, content: bytes) -> None:
    (tiny / "config.json").write_bytes(content)
    assert str(tiny / "config.json") in refusal(load_encoder, tiny)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 0),
        ("hidden_size", 0),
        ("hidden_size", "x"),
        ("hidden_size", 16.5),
        ("num_attention_heads", 0),
        ("num_attention_heads", 3),
        ("vocab_size", -1),
        ("layer_norm_eps", float("nan")),
        ("hidden_dropout_prob", 2.0),
        ("hidden_act", "gleu"),
        ("hidden_act", None),
        ("model_type", "roberta"),
    ],
)
def test_a_config_that_no_bert_can_have_is_refused_with_file_and_value(tiny: Path, name: str, value: Any) -> None:
    message = refusal(load_encoder, change_config(tiny, **{name: value}))
    assert message.startswith(str(tiny / "config.json"))
    assert str(value) in message


@pytest.mark.parametrize("change", [{"vocab_size": 1000}, {"hidden_size": 18}, {"num_hidden_layers": 3}])
def test_a_config_that_does_not_fit_the_weights_is_refused_with_the_tensor(tiny: Path, change: dict[str, int]) -> None:
    message = refusal(load_encoder, change_config(tiny, **change))
    assert message.startswith(str(tiny))
    assert "tensor '" in message
