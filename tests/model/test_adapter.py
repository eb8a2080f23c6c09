"""Adapters: regkit computes what transformers computes of each family, and trains it like minBERT."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from regkit.base.errors import EncoderError
from regkit.base.randomness import Streams
from regkit.model import MultitaskModel, load_encoder, load_known_heads, save_encoder
from regkit.model.adapter import WORD_HEADS, Adapter, attend_packed
from regkit.model.tokenizer import Tokenizer
from regkit.runs import checkpoint
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import MaskedWords
from regkit.tasks.task import Task
from regkit.testing import tiny, tiny_tasks
from regkit.testing.promises import extra_passes_leave_no_trace, micro_batches_do_not_show
from tests.cli.test_bad_input import is_one_sentence
from tests.distributed.test_processes import ends, start
from tests.helpers import VOCABULARY, regkit, slow_but, write_tasks
from tests.model.foreign_families import FOREIGN, foreign_model, write_foreign, write_vocabulary
from tests.model.test_families import packed, padded_run
from tests.runs.test_resume import exact
from tests.testing.test_promises import factory

FAMILIES = slow_but(FOREIGN, ["modernbert", "deberta-v2", "albert"])
TRAINED = ["modernbert", "deberta-v2"]  # one of each way


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_gradients_are_those_of_transformers_padded_run(family: str, tmp_path: Path) -> None:
    model, batch = foreign_model(family), packed(family)
    ours = load_encoder(write_foreign(tmp_path, family)).eval()
    assert (type(ours), ours.packed) == (Adapter, FOREIGN[family][1])
    embeddings = ours.embed(batch).detach().requires_grad_()
    again = embeddings.detach().clone().requires_grad_()
    found, wanted = ours.encode(embeddings, batch), padded_run(model, batch, again)
    goal = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    for hidden in (found, wanted):
        (hidden * goal).sum().backward()
    close("hidden states", found, wanted)
    close("hidden states from words", found, padded_run(model, batch))
    close("rows", ours.encode(embeddings, batch, torch.tensor([0, 7, 30])), wanted[[0, 7, 30]])
    close("gradient of the embeddings", embeddings.grad, again.grad)
    gradients = {name: weight.grad for name, weight in ours.model.named_parameters()}
    for name, weight in model.named_parameters():
        close(f"gradient of {name}", gradients[name], weight.grad)


def close(what: str, one: Tensor | None, other: Tensor | None) -> None:
    """Compare in units of the largest number."""
    assert (one is None) == (other is None), what
    if one is not None and other is not None:
        difference = ((one - other).abs().max() / other.abs().max().clamp(min=1e-3)).item()
        assert difference < 1e-4, f"{what}: {difference}"


@pytest.mark.parametrize("rate", [0.0, 1e-9])  # the second rounds to nothing, but takes the way of dropout
@pytest.mark.parametrize("window", [None, 3])
def test_packed_attention_is_that_of_each_text_alone(window: int | None, rate: float) -> None:
    """Two heads of keys serve four of queries."""
    batch, scale = packed("any"), 0.7
    query, key, value = (torch.randn(1, heads, len(batch.tokens), 5, requires_grad=True) for heads in (4, 2, 2))
    options = {"batch": batch, "scaling": scale, "sliding_window": window, "dropout": rate}
    found, none = attend_packed(torch.nn.Identity(), query, key, value, None, **options)
    parts = []
    for one, two, three in zip(*(part.split(batch.lengths, dim=2) for part in (query, key, value)), strict=True):
        places = torch.arange(one.shape[2])
        far = (places[:, None] - places).abs() >= (window or len(places))
        scores = scale * one @ two.repeat_interleave(2, dim=1).transpose(-1, -2)
        parts.append(scores.masked_fill(far, -torch.inf).softmax(-1) @ three.repeat_interleave(2, dim=1))
    wanted = torch.cat(parts, dim=2).transpose(1, 2)
    assert none is None
    torch.testing.assert_close(found, wanted)
    goal = torch.randn(found.shape)
    ours, theirs = (torch.autograd.grad((each * goal).sum(), [query, key, value]) for each in (found, wanted))
    torch.testing.assert_close(ours, theirs)


def test_packed_attention_has_dropout() -> None:
    batch = packed("any")
    query, key, value = (torch.randn(1, 2, len(batch.tokens), 5) for _ in range(3))
    one, other = (
        attend_packed(torch.nn.Identity(), query, key, value, None, batch=batch, dropout=0.5)[0] for _ in "ab"
    )
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_do_not_depend_on_how_a_batch_is_cut(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(write_foreign(tmp_path, family)).eval().double()
    random = np.random.default_rng(4)
    texts = [random.integers(3, 50, length) for length in (5, 14, 3, 9)]
    goal = torch.tensor(random.normal(size=(len(texts), encoder.width)))

    def gradients(*parts: list[int]) -> dict[str, Tensor]:
        encoder.zero_grad()
        for part in parts:
            batch = Batch.pack([texts[row] for row in part], [np.zeros_like(texts[row]) for row in part])
            hidden = encoder.encode(encoder.embed(batch), batch, batch.starts)
            (encoder.pool(hidden) * goal[part]).sum().backward()
        return {name: weight.grad.clone() for name, weight in encoder.named_parameters() if weight.grad is not None}

    whole, cut = gradients([0, 1, 2, 3]), gradients([0], [1, 2], [3])
    assert whole.keys() == cut.keys()
    largest = max(gradient.abs().max() for gradient in whole.values())
    near = 1e-8 if family == "longformer" else 1e-13  # its softmax is in float32
    for name, gradient in whole.items():
        assert (cut[name] - gradient).abs().max() < near * largest, name


@pytest.mark.parametrize(("family", "longest"), [("modernbert", 40), ("mpnet", 38), ("roberta-prelayernorm", 38)])
def test_a_text_has_as_many_tokens_as_there_are_positions(family: str, longest: int, tmp_path: Path) -> None:
    """Those of RoBERTa's relatives begin at 2, which their configs do not tell."""
    assert load_encoder(write_foreign(tmp_path, family)).longest == longest


@pytest.mark.parametrize(
    ("family", "shape", "says"),
    [
        ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2}, "its tokens do not see those after them, as in a decoder"),
        ("t5", {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1}, "it has an encoder and a decoder"),
        ("convbert", {"embedding_size": 16}, "what it makes of a text depends on the padding"),
    ],
)
def test_a_family_that_could_only_be_run_wrong_is_refused_by_name(
    family: str, shape: dict[str, Any], says: str, tmp_path: Path
) -> None:
    folder = write_foreign(tmp_path, family, **shape)
    with pytest.raises(EncoderError, match=f"^{folder} has a '{family}' model: {says}"):
        load_encoder(folder)


def test_what_to_install_is_said_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "modernbert"}', encoding="utf8")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        EncoderError, match=r"describes a 'modernbert' model; .*: pip install 'regkit\[transformers\]'\.$"
    ):
        load_encoder(tmp_path)


def test_a_family_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    entries = {"model_type": "homemade", "auto_map": {"AutoModel": "homemade.Model", "AutoConfig": "homemade.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(entries), encoding="utf8")
    (tmp_path / "homemade.py").write_text("raise SystemExit(3)", encoding="utf8")
    with pytest.raises(
        EncoderError, match=r"'homemade' model; neither minBERT nor transformers \S+ reads this family\.$"
    ):
        load_encoder(tmp_path)


def test_a_damaged_checkpoint_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = write_foreign(tmp_path, "modernbert") / "model.safetensors"
    tensors, name = load_file(path), "layers.1.mlp.Wi.weight"
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(EncoderError, match=f"the checkpoint lacks the tensor '{name}'"):
        load_encoder(tmp_path)
    save_file(tensors | {name: tensors[name] * torch.nan}, path, {"format": "pt"})
    with pytest.raises(EncoderError, match=f"the tensor '{name}' has numbers that are not finite"):
        load_encoder(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(EncoderError, match=r"has a 'modernbert' model, which cannot be used: .*[^.:]\.$"):
        load_encoder(tmp_path)


def test_a_config_that_asks_for_a_thousand_million_layers_is_refused_at_once(tmp_path: Path) -> None:
    path = write_foreign(tmp_path, "deberta-v2") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 10**9}), encoding="utf8")
    with pytest.raises(EncoderError, match=r"it has 1000000000 layers, more than 512\.$"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_and_regkit_read_what_a_checkpoint_holds(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = load_encoder(write_foreign(tmp_path / "theirs", family, vocab_size=len(VOCABULARY)))
    model = MultitaskModel(ours, tiny_tasks(), Streams(0))
    checkpoint.save(tmp_path / "ours", model, Tokenizer.load(tmp_path / "theirs"))
    again, said = transformers.AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert (type(again), said["missing_keys"]) == (type(ours.model), set())
    for one, other in ((load_encoder(tmp_path / "ours"), ours), (again, ours.model)):
        assert one.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("family", slow_but(WORD_HEADS, ["albert"]))
def test_a_head_of_masked_words_is_that_of_transformers_and_written_for_it(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    base = foreign_model(family, vocab_size=len(VOCABULARY))
    theirs = transformers.AutoModelForMaskedLM.from_config(base.config).eval()
    theirs.base_model.load_state_dict(base.state_dict(), strict=False)
    for name, parameter in theirs.named_parameters():
        if not name.startswith(f"{theirs.base_model_prefix}."):
            torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    write_vocabulary(tmp_path / "theirs")
    ours = load_encoder(tmp_path / "theirs").eval()
    task = Task("mlm", MaskedWords(len(VOCABULARY)), {}, head_names=ours.head_names["words"])
    model = MultitaskModel(ours, [task], Streams(0)).eval()
    assert load_known_heads(tmp_path / "theirs", model.heads, model.head_names) == ["mlm"]
    texts = [torch.arange(5, 5 + length) for length in (4, 9)]
    batch = Batch.pack([text.numpy() for text in texts], [np.zeros(len(text)) for text in texts])
    found = model.heads["mlm"](ours.encode(ours.embed(batch), batch))
    close("logits", found, torch.cat([theirs(input_ids=text[None]).logits[0] for text in texts]))
    checkpoint.save(tmp_path / "ours", model, Tokenizer.load(tmp_path / "theirs"))
    again, said = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert said["missing_keys"] == set()
    close("logits again", torch.cat([again.eval()(input_ids=text[None]).logits[0] for text in texts]), found)


def test_a_pooler_that_a_family_lacks_is_drawn_from_the_default_generator(tmp_path: Path) -> None:
    write_foreign(tmp_path, "modernbert")
    poolers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        poolers.append(load_encoder(tmp_path).pooler.weight)
    assert torch.equal(poolers[0], poolers[1])
    assert not torch.equal(poolers[0], poolers[2])


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_follows_the_default_generator_and_the_given_rate(family: str, tmp_path: Path) -> None:
    write_foreign(tmp_path, family)
    batch = packed(family)

    def run(encoder: Any, seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return encoder.encode(encoder.embed(batch), batch)

    encoder, without = load_encoder(tmp_path), load_encoder(tmp_path, dropout=0.0)
    assert encoder.training
    assert torch.equal(run(encoder, 0), run(encoder, 0))
    assert not torch.equal(run(encoder, 0), run(encoder, 1))
    torch.testing.assert_close(run(without, 0), run(encoder.eval(), 1))


@pytest.mark.parametrize("family", slow_but(sorted(FOREIGN.keys() - {"albert"}), TRAINED))
def test_a_layer_is_given_fresh_weights_as_its_family_draws_them(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(write_foreign(tmp_path, family))
    assert len(encoder.layers) == 3
    before = {name: weight.clone() for name, weight in encoder.model.named_parameters()}
    encoder.reset(encoder.layers[2])
    fresh = dict(type(encoder.model)(encoder.model.config).named_parameters())
    (top,) = (f"{name}." for name, module in encoder.model.named_modules() if module is encoder.layers[2])
    for name, weight in encoder.model.named_parameters():
        assert torch.equal(weight, before[name]) != name.startswith(top), name
        if name.startswith(top) and weight.dim() > 1:
            assert weight.std().item() == pytest.approx(fresh[name].std().item(), rel=0.35), name


# ---- Runs ----


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By family, a folder with `encoder` and `data`."""
    found = {}
    for family in [*TRAINED, "albert"]:
        found[family] = tmp_path_factory.mktemp(family)
        write_foreign(found[family] / "encoder", family, vocab_size=len(VOCABULARY), max_position_embeddings=48)
        write_tasks(found[family] / "data")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", TRAINED)
def test_a_run_resumes_exactly(family: str, places: dict[str, Path], tmp_path: Path) -> None:
    exact(places[family], tmp_path, {"mixout": {}, "ema": {}, "smart": {}}, [4])


@pytest.mark.parametrize("family", slow_but(TRAINED, ["deberta-v2"]))
def test_a_run_is_scored_and_built_upon_and_its_plan_says_how_the_encoder_is_run(
    family: str, places: dict[str, Path]
) -> None:
    data = ["--data", "data", "--device", "cpu", "--batch-size", "8"]
    ran = regkit("train", *data, "--encoder", "encoder", "--steps", "2", "--output", "run", cwd=places[family])
    way = {"modernbert": "on packed tokens", "deberta-v2": "with padding inside"}[family]
    assert f"\n  {family}, run by transformers {way}\n" in ran.out, ran.err
    scored = [line.partition(": ")[2] for line in ran.out.splitlines() if line.startswith("best checkpoint: ")]
    again = regkit("eval", "run", cwd=places[family])
    lines = [line.removeprefix("run: ") for line in again.out.splitlines() if not line.startswith("warning: ")]
    assert lines == scored, again.err
    tried = regkit("train", *data, "--encoder", "run/best", "--dry-run", "--memory", "2GB", cwd=places[family])
    assert "to stay within 2000 MB" in tried.out, tried.err


@pytest.mark.parametrize("plugin", ["layerwise_lr", "reinit_top"])
def test_a_plugin_that_asks_for_layers_is_refused_where_they_share_weights(
    plugin: str, places: dict[str, Path]
) -> None:
    ran = regkit("train", "--data", "data", "--encoder", "encoder", "-p", plugin, cwd=places["albert"])
    is_one_sentence(ran)
    assert (
        ran.err == f"regkit: plugin '{plugin}': an 'albert' encoder has no list of layers with weights of their own.\n"
    )
    assert not (places["albert"] / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("promise", [micro_batches_do_not_show, extra_passes_leave_no_trace])
@pytest.mark.parametrize("family", TRAINED)
def test_plugins_keep_the_promises_that_depend_on_the_encoder(
    family: str, promise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_foreign(tmp_path, family, vocab_size=tiny.TINY.vocab_size)
    monkeypatch.setattr(tiny, "Bert", lambda config: load_encoder(tmp_path, dropout=config.hidden_dropout_prob))
    promise(factory("rrobin", "pcgrad", "smart", "bregman"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deberta-v2"])  # one that packs is run by the code of minBERT's batches
def test_two_processes_come_to_what_one_does(family: str, places: dict[str, Path]) -> None:
    train = ["train", "--data", "data", "--encoder", "encoder", "--device", "cpu", "--dropout", "0", "--steps", "6"]
    ran = regkit(*train, "--output", "one", cwd=places[family])
    assert ran.status == 0, ran.err
    found = ends(start([*train, "--output", "two"], 2, places[family]))
    assert [status for status, _ in found] == [0, 0], [error for _, error in found]
    one, two = (load_file(places[family] / name / "last" / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5, msg=f"{name}: {{}}".format)


def test_an_encoder_that_no_function_is_known_to_build_cannot_be_written() -> None:
    with pytest.raises(EncoderError, match=r"not of Linear; name what builds it by the setting encoder_factory\.$"):
        save_encoder(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
