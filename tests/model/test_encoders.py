"""Encoders: a folder, the demo or a name on the Hub becomes a folder with a model, or one clear refusal."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def test_vocab_txt_and_tokenizer_json_give_the_same_ids(tiny: Path) -> None:
    one = Tokenizer.load(tiny)
    (tiny / "copy").mkdir()
    one.save(tiny / "copy")
    other = Tokenizer.load(tiny / "copy")
    texts = ["Hello, World", "naïve 北京", "a  b\tc"]
    assert one.encode(texts) == other.encode(texts)
    assert (one.cls, one.sep, len(one)) == (other.cls, other.sep, len(other)) == (2, 3, len(VOCABULARY))


@pytest.mark.parametrize("change", [{"vocab_size": 1000}, {"hidden_size": 18}, {"num_hidden_layers": 3}])
def test_a_config_that_does_not_fit_the_weights_is_refused_with_the_tensor(tiny: Path, change: dict[str, int]) -> None:
    message = refusal(load_encoder, change_config(tiny, **change))
    assert message.startswith(str(tiny))
    assert "tensor '" in message
