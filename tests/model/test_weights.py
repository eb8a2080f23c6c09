"""Weights: every form of BERT checkpoint is read, what cannot be read is named, and others read what is written."""

import json
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from regkit.base.errors import EncoderError
from regkit.base.randomness import Streams
from regkit.model import Bert, MultitaskModel, load_encoder, save_encoder
from regkit.model.tokenizer import Tokenizer
from regkit.model.weights import read_config, read_tensors
from regkit.runs import checkpoint
from regkit.tasks.batch import Batch
from regkit.testing import TINY, tiny_tasks

Tensors = dict[str, Tensor]
QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def source() -> Bert:
    """A tiny model whose every tensor is random, so that no two can be taken for each other."""
    model = Bert(TINY)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def write(source: Bert, tmp_path: Path) -> Callable[..., Path]:
    """Write the source as others might have: tensors changed by a function, entries of config.json replaced."""

    def written(
        change: Callable[[Tensors], Any] = dict, file: str = "model.safetensors", new: bool = True, **config: object
    ) -> Path:
        values, tensors = save_encoder(source)
        (tmp_path / "config.json").write_text(json.dumps(values | config))
        if file == "model.safetensors":
            save_file(change(tensors), tmp_path / file)
        else:
            torch.save(change(tensors), tmp_path / file, _use_new_zipfile_serialization=new)
        return tmp_path

    return written


def bare(tensors: Tensors) -> Tensors:
    return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}


def old_names(tensors: Tensors) -> Tensors:
    """LayerNorm's parameters as gamma and beta."""
    new = {name: name for name in tensors}
    for theirs, ours in (("gamma", "weight"), ("beta", "bias")):
        new |= {name: name.replace(ours, theirs) for name in tensors if name.endswith(f"LayerNorm.{ours}")}
    return {new[name]: tensor for name, tensor in tensors.items()}


def with_others(tensors: Tensors) -> Tensors:
    """More than minBERT has a place for."""
    extra = {"cls.predictions.bias": torch.ones(97), "bert.embeddings.position_ids": torch.arange(32)}
    return tensors | extra | {"bert.encoder.layer.2.output.dense.weight": torch.ones(16, 32)}


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t for name, t in tensors.items() if not any(part in name for part in parts)}


def refusal(folder: Path) -> str:
    """The one line in which a folder is refused."""
    with pytest.raises(EncoderError) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(found: Bert, wanted: Bert, but: str = "nothing") -> None:
    """AssertionError where a tensor differs in a bit or a name."""
    theirs = wanted.state_dict()
    assert found.state_dict().keys() == theirs.keys()
    for name, tensor in found.state_dict().items():
        assert name.startswith(but) or torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (dict, "model.safetensors"),
        (dict, "pytorch_model.bin"),
        (bare, "model.safetensors"),
        (old_names, "model.safetensors"),
        (lambda tensors: bare(old_names(tensors)), "pytorch_model.bin"),
        (with_others, "model.safetensors"),
    ],
    ids=["as written", "as torch writes", "no prefix", "gamma and beta", "neither", "more"],
)
def test_every_form_of_a_checkpoint_gives_the_same_model(write, source: Bert, change: Any, file: str) -> None:
    found = load_encoder(write(change, file))
    same(found, source)
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in found.parameters())


def test_a_pickle_from_before_torch_1_6_is_read(write, source: Bert) -> None:
    same(load_encoder(write(file="pytorch_model.bin", new=False)), source)


def test_safetensors_is_preferred_where_both_are_there(write, source: Bert) -> None:
    write(lambda tensors: {name: tensor + 1 for name, tensor in tensors.items()}, "pytorch_model.bin")
    same(load_encoder(write()), source)


def test_half_precision_is_read_as_single(write, source: Bert) -> None:
    found = load_encoder(write(lambda tensors: {name: tensor.half() for name, tensor in tensors.items()}))
    same(found, source.half().float())
    assert all(parameter.dtype == torch.float32 for parameter in found.parameters())


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_training_a_loaded_model_leaves_the_file_alone(write, source: Bert, file: str) -> None:
    folder = write(file=file)
    before = (folder / file).read_bytes()
    with torch.no_grad():
        for parameter in load_encoder(folder).parameters():
            parameter.add_(1)
    assert (folder / file).read_bytes() == before
    same(load_encoder(folder), source)


def test_a_missing_pooler_is_made_anew_from_the_default_generator(write, source: Bert) -> None:
    folder = write(without("pooler"), initializer_range=0.5)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(load_encoder(folder))
        same(found[-1], source, but="pooler")
    weights = [model.pooler.weight for model in found]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(0.5, rel=0.2)
    assert not found[0].pooler.bias.any()
    assert found[0].fresh_pooler
    assert not source.fresh_pooler


def test_dropout_rates_are_the_files_unless_overridden(write) -> None:
    folder = write(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
    for given, (hidden, attention) in {None: (0.2, 0.3), 0.0: (0.0, 0.0), 0.4: (0.4, 0.4)}.items():
        model = load_encoder(folder, dropout=given)
        assert {model.dropout.rate, *(layer.dropout.rate for layer in model.layers)} == {hidden}
        assert {layer.attention.rate for layer in model.layers} == {attention}
        assert model.config.hidden_dropout_prob == hidden


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "encoder.layer.1.attention.self.key.bias",
        "encoder.layer.0.attention.output.LayerNorm.weight",
        "pooler.dense.bias",
    ],
)
def test_a_tensor_that_is_missing_or_of_another_shape_is_named_as_in_the_file(write, name: str) -> None:
    with pytest.raises(EncoderError, match=f"lacks the tensor '{name}'"):
        load_encoder(write(without(name)))
    for wrong in (lambda tensor: torch.ones(5, 4), lambda tensor: tensor[None]):
        with pytest.raises(EncoderError, match=rf"'{name}' has shape \[(5, 4|1, .*)\]"):
            load_encoder(write(lambda tensors, wrong=wrong: tensors | {f"bert.{name}": wrong(tensors[f"bert.{name}"])}))


@pytest.mark.parametrize("shape", [(8, 16), (16,)], ids=str)
def test_a_query_of_another_shape_is_not_hidden_by_key_and_value(write, shape: tuple[int, ...]) -> None:
    with pytest.raises(EncoderError, match="query"):
        load_encoder(write(lambda tensors: tensors | {QUERY: torch.ones(shape)}))
    key = QUERY.replace("query", "key")
    with pytest.raises(EncoderError, match="query"):  # together as many rows as they should have
        load_encoder(write(lambda tensors: tensors | {QUERY: torch.ones(8, 16), key: torch.ones(24, 16)}))


class Bomb:
    """What unpickles to a call."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["archive", "old archive", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_never_run(write, tmp_path: Path, form: str) -> None:
    mark = tmp_path / "it ran"
    folder = write(lambda tensors: tensors | {"x": Bomb(mark)}, "pytorch_model.bin", new=form == "archive")
    if form == "pickle":
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Bomb(mark)}, protocol=2))
    message = refusal(folder)
    assert "pytorch_model.bin cannot be read: " in message
    assert not mark.exists()
    assert not re.search("weights_only|can still be loaded", message)  # what torch says would run it
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {0: torch.ones(3)}, {"model": {}}, {}, None], ids=repr)
def test_a_pickle_of_anything_but_named_tensors_is_refused(write, content: object) -> None:
    with pytest.raises(EncoderError):
        load_encoder(write(lambda _: content, "pytorch_model.bin"))


def test_what_is_no_tensor_counts_as_missing(write, source: Bert) -> None:
    folder = write(lambda tensors: tensors | {"epoch": 3, 0: None}, "pytorch_model.bin")
    same(load_encoder(folder), source)
    with pytest.raises(EncoderError, match="query"):
        load_encoder(write(lambda tensors: tensors | {QUERY: "text"}, "pytorch_model.bin"))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_named(write, file: str, share: float) -> None:
    path = write(file=file) / file
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal(path.parent).startswith(f"{path} cannot be read: ")


@pytest.mark.parametrize(
    "content", [b"text\n", b"\x80\x02.", b"(.", b"\x80\x02K\x01.", b"cos\nsystem\n.", b"PK\x03\x04"]
)
def test_garbage_in_place_of_a_pickle_is_named(write, content: bytes) -> None:
    path = write(file="pytorch_model.bin") / "pytorch_model.bin"
    path.write_bytes(content)
    assert re.match(rf"{path} cannot be read: .", refusal(path.parent))


def test_a_folder_without_weights_or_config_is_named(write, tmp_path: Path) -> None:
    folder = write()
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_encoder(folder)
    (folder / "config.json").unlink()
    for path in (folder, tmp_path / "nowhere"):
        with pytest.raises(EncoderError, match=r"no config\.json"):
            load_encoder(path)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000], ids=["open", "empty", "bytes", "deep"])
def test_a_config_that_is_not_json_is_named(write, content: bytes) -> None:
    path = write() / "config.json"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"config\.json cannot be read"):
        load_encoder(path.parent)


@pytest.mark.parametrize("content", ["[]", "3", '{"model_type": null}', '{"model_type": []}'])
def test_a_config_of_anything_but_a_family_is_refused_with_those_that_are_read(write, content: str) -> None:
    path = write() / "config.json"
    path.write_text(content)
    with pytest.raises(EncoderError, match="model; minBERT reads bert, ernie, roberta, xlm-roberta, camembert, "):
        load_encoder(path.parent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", -16),
        ("hidden_size", "16"),
        ("hidden_size", 16.5),
        ("num_hidden_layers", 0),
        ("num_attention_heads", 0),
        ("num_attention_heads", 3),
        ("type_vocab_size", True),
        ("layer_norm_eps", -1e-12),
        ("layer_norm_eps", "1e-12"),
        ("layer_norm_eps", float("inf")),
        ("hidden_dropout_prob", 1.5),
        ("attention_probs_dropout_prob", float("nan")),
        ("hidden_act", "swish"),
        ("hidden_act", 3),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_a_value_that_minbert_cannot_use_is_named(write, name: str, value: object) -> None:
    folder = write(**{name: value})
    message = refusal(folder)
    assert message.startswith(str(folder / "config.json"))
    assert name in message
    assert str(value) in message


def test_an_unknown_activation_is_answered_with_the_known_ones(write) -> None:
    with pytest.raises(EncoderError, match=r"'gelu_now'\. Did you mean 'gelu_new'\? Available: gelu, gelu_new"):
        read_config(write(hidden_act="gelu_now"))


@pytest.fixture
def scarce() -> Iterator[None]:
    """No more than 256 MiB of addresses beyond those that this process has."""
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(sys.platform != "linux", reason="measures and limits memory as Linux does")
@pytest.mark.parametrize(
    "name", ["vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings"]
)
def test_absurd_sizes_are_refused_at_once_and_without_taking_memory(write, scarce: None, name: str) -> None:
    start = time.process_time()
    for size in (10**5, 10**9, 10**18, 10**30):
        folder = write(without("pooler"), **{name: size})
        assert refusal(folder).startswith(str(folder))
    assert time.process_time() - start < 5


def test_a_saved_model_is_loaded_bit_for_bit(source: Bert, saved: Path) -> None:
    found = load_encoder(saved)
    same(found, source)
    assert found.config == source.config


def test_written_weights_share_no_memory_among_themselves(source: Bert) -> None:
    tensors = save_encoder(source)[1].values()
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)
    assert all(tensor.is_contiguous() for tensor in tensors)


@pytest.fixture
def saved(source: Bert, tmp_path: Path) -> Path:
    """A checkpoint as regkit writes it."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "word", "##s", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    folder = tmp_path / "saved"
    model = MultitaskModel(source, tiny_tasks(), Streams(0))
    checkpoint.save(folder, model, Tokenizer.load(tmp_path))
    return folder


def hidden_states(ours: Bert, theirs: torch.nn.Module) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(1, 21)
    batch = Batch.pack([tokens.numpy()], [(tokens > 9).numpy()])
    found = theirs.eval()(input_ids=tokens[None], token_type_ids=(tokens > 9).long()[None])
    return ours.eval().encode(ours.embed(batch), batch), found.last_hidden_state[0]


def test_transformers_reads_what_regkit_writes(source: Bert, saved: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    found = AutoModel.from_pretrained(saved)
    torch.testing.assert_close(*hidden_states(source, found), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.pooler.dense.weight, source.pooler.weight)
    assert (found.config.hidden_dropout_prob, found.config.layer_norm_eps) == (0.1, 1e-12)
    texts = ["A word.", "words a unknown", "word"]
    theirs = AutoTokenizer.from_pretrained(saved)
    assert theirs(texts, add_special_tokens=False)["input_ids"] == Tokenizer.load(saved).encode(texts)


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
def test_regkit_reads_what_transformers_writes(tmp_path: Path, kind: str) -> None:
    import transformers

    shape = replace(TINY, layer_norm_eps=1e-3, hidden_act="gelu_new")
    theirs = getattr(transformers, kind)(transformers.BertConfig(**vars(shape)))
    theirs.save_pretrained(tmp_path)
    ours = load_encoder(tmp_path)
    torch.testing.assert_close(*hidden_states(ours, getattr(theirs, "bert", theirs)), rtol=1e-5, atol=1e-5)
    assert ours.config == shape


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "auto_model.", "_orig_mod.", "encoder.", "_orig_mod.module.", "a.b.c."]
)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_whatever_stands_before_the_names_is_taken_off(source: Bert, write, prefix: str, file: str) -> None:
    for change in (bare, dict):  # with and without `bert.`
        found = load_encoder(
            write(lambda tensors, change=change: {prefix + n: t for n, t in change(tensors).items()}, file)
        )
        assert same_weights(found, source)


def test_what_stands_before_the_encoder_is_taken_off_its_heads_too(write) -> None:
    folder = write(lambda tensors: {f"module.{name}": tensor for name, tensor in with_others(tensors).items()})
    assert "cls.predictions.bias" in read_tensors(folder)


def same_weights(one: Bert, other: Bert) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one.parameters(), other.parameters(), strict=True))


def test_the_state_of_a_model_is_found_in_what_a_script_saved(source: Bert, write) -> None:
    for change in (
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": {f"module.{name}": tensor for name, tensor in tensors.items()}, "args": {"lr": 1.0}},
        lambda tensors: {"checkpoint": 1, "model_state_dict": {"state_dict": tensors}},
    ):
        assert same_weights(load_encoder(write(change, "pytorch_model.bin")), source)


def two_towers(tensors: Tensors) -> Tensors:
    return {f"{tower}.{name}": tensor.clone() for tower in ("ask", "answer") for name, tensor in tensors.items()}


def test_a_checkpoint_with_two_encoders_is_refused_with_both(write) -> None:
    assert "has several encoders: 'answer.bert.', 'ask.bert.'; one is needed." in refusal(write(two_towers))


def sharded(folder: Path, file: str) -> dict[str, Any]:
    """Cut the folder's file into three with an index, as large checkpoints are."""
    path, stem = folder / file, file.split(".")[0]
    tensors = load_file(path) if file.endswith("safetensors") else torch.load(path)
    names, index = sorted(tensors), {}
    for number in range(3):
        part = {name: tensors[name].clone() for name in names[number::3]}
        name = f"{stem}-0000{number + 1}-of-00003.{file.split('.')[1]}"
        save_file(part, folder / name) if file.endswith("safetensors") else torch.save(part, folder / name)
        index |= dict.fromkeys(part, name)
    path.unlink()
    return {"metadata": {}, "weight_map": index}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_several_files_are_read_by_their_index(source: Bert, write, file: str) -> None:
    folder = write(file=file)
    index = sharded(folder, file)
    (folder / f"{file}.index.json").write_text(json.dumps(index))
    assert same_weights(load_encoder(folder), source)
    name = sorted(set(index["weight_map"].values()))[1]
    (folder / name).unlink()
    assert refusal(folder).endswith(f"lacks {name}, which {file}.index.json lists; fetch the whole folder.")


@pytest.mark.parametrize(
    "content",
    ["{}", "[", '{"weight_map": {}}', '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": 3}}', '{"weight_map": 3}'],
)
def test_an_index_that_lists_no_files_beside_it_is_one_sentence(write, content: str) -> None:
    folder = write()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    assert str(folder / "model.safetensors.index.json") in refusal(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_a_pointer_of_git_lfs_is_named_as_one(write, file: str) -> None:
    folder = write(file="model.safetensors" if file == "config.json" else file)
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 90868376\n")
    assert (
        refusal(folder).rstrip(".").endswith("it is a Git LFS pointer and not the file; fetch that with git lfs pull")
    )


def test_a_decoder_is_refused(write) -> None:
    assert "is_decoder is true" in refusal(write(is_decoder=True))
