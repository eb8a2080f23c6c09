"""Domain pretraining: losses, logits and gradients are those of transformers, before and after a checkpoint."""

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from regkit_plugins.domain.corpus import TokenCache
from regkit_plugins.domain.masking import MaskedTexts, Words
from torch import Tensor
from torch.nn import functional as F

from regkit import Experiment, MaskedWords, Settings, Streams, Task
from regkit.model import MultitaskModel, load_encoder, load_known_heads
from regkit.model.families import FOLLOWS, WORDS
from regkit.model.tokenizer import Tokenizer
from regkit.runs import checkpoint
from regkit.tasks.batch import Batch
from regkit.testing import tiny_tasks, tiny_tokenizer
from tests.helpers import regkit, sentence, write_encoder, write_tasks
from tests.plugins.cases import table
from tests.plugins.domain.helpers import both, gradients, heads, random_documents
from tests.plugins.oracle import gradients_by_their_names

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def padded(batch: Batch) -> dict[str, Tensor]:
    """A batch as transformers takes it; what is not to be predicted is -100."""
    shape = len(batch), batch.longest + 2
    inputs = {name: torch.zeros(shape, dtype=torch.int64) for name in ("input_ids", "token_type_ids", "attention_mask")}
    place = batch.sequence_of, batch.positions
    inputs["input_ids"][place], inputs["token_type_ids"][place] = batch.tokens, batch.segments
    inputs["attention_mask"][place] = 1
    inputs["labels"] = batch.labels
    if batch.targets is not None:
        inputs["labels"] = torch.full(shape, -100)
        inputs["labels"][batch.sequence_of[batch.targets], batch.positions[batch.targets]] = batch.labels
    return inputs


def by_transformers(kind: str, folder: Path) -> Any:
    """The model of this class in evaluation mode; every tensor is the folder's."""
    transformers = pytest.importorskip("transformers")
    found, report = getattr(transformers, kind).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    return found.eval()


def same_gradients(model: MultitaskModel, name: str, names: Mapping[str, str], theirs: torch.nn.Module) -> None:
    """AssertionError where a gradient of head or encoder differs; spends the weights."""
    wanted = {key: each.grad for key, each in theirs.named_parameters() if each.grad is not None}
    head = {names[key]: each.grad for key, each in model.heads[name].named_parameters()}
    found = gradients_by_their_names(SimpleNamespace(model=model))  # type: ignore[arg-type]
    found = {f"bert.{key}": tensor for key, tensor in found.items()} | head
    assert wanted.keys() <= found.keys()
    assert len(wanted) >= len(list(model.encoder.parameters())) - 2 + len(head)  # masked words need no pooler
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, **CLOSE, msg=(key + ": {}").format)


KINDS = [(0, "BertForMaskedLM"), (0, "BertForPreTraining"), (1, "BertForNextSentencePrediction")]
CHANGES = [{}, {"hidden_act": "relu"}, {"hidden_act": "gelu_new", "layer_norm_eps": 0.1}]
CUTS = pytest.mark.parametrize("cuts", [[0, 9], [0, 1, 4, 9]], ids=["whole", "in micro-batches"])


@CUTS
@pytest.mark.parametrize(
    ("number", "kind", "changes"),
    table(
        [(number, kind, changes) for number, kind in KINDS for changes in CHANGES],
        [(*KINDS[0], CHANGES[2]), (*KINDS[1], CHANGES[1]), (*KINDS[2], CHANGES[0])],
    ),
)
def test_loss_logits_and_every_gradient_are_those_of_transformers(
    number: int, kind: str, changes: dict[str, Any], cuts: list[int], tmp_path: Path
) -> None:
    documents = random_documents()
    model, task = heads(documents, **changes), both(documents)[number]
    checkpoint.save(tmp_path / "model", model, tiny_tokenizer())
    theirs = by_transformers(kind, tmp_path / "model")
    examples = task.splits["train"]
    parts = [examples.batch(range(*cut), range(*cut)) for cut in pairwise(cuts)]
    inputs = padded(examples.batch(range(9), range(9)))
    assert len(set(inputs["attention_mask"].sum(1).tolist())) > 3
    labels = inputs.pop("labels")
    answer = theirs(**inputs)
    output = answer.prediction_logits if kind == "BertForPreTraining" else answer.logits
    loss = F.cross_entropy(output.flatten(0, -2), labels.flatten())  # without those that are -100
    loss.backward()
    ours = torch.cat([model.predict(task, part, model.embed(part)) for part in parts]).detach()
    torch.testing.assert_close(ours, output[labels != -100].detach(), **CLOSE)
    torch.testing.assert_close(gradients(model, task, parts), loss.detach(), **CLOSE)
    same_gradients(model, task.name, [WORDS, FOLLOWS][number], theirs)


@CUTS
def test_a_real_checkpoint_has_the_loss_and_the_gradients_that_it_has_in_transformers(
    bert_tiny: Path, cuts: list[int]
) -> None:
    random, tokenizer = np.random.default_rng(0), Tokenizer.load(bert_tiny)
    passages = [random.integers(1000, 30000, size).tolist() for size in random.integers(5, 60, 9)]
    texts = MaskedTexts(TokenCache.of([[each] for each in passages]), Words(tokenizer, 30522, 0.15, False), 64)
    task = Task("mlm", MaskedWords(30522), {"train": texts}, head_names=WORDS)
    model = MultitaskModel(load_encoder(bert_tiny, dropout=0.0), [task], Streams(0))
    assert load_known_heads(bert_tiny, model.heads, model.head_names) == ["mlm"]
    theirs = by_transformers("BertForMaskedLM", bert_tiny)
    loss = theirs(**padded(texts.batch(range(9), range(9)))).loss
    loss.backward()
    parts = [texts.batch(range(*cut), range(*cut)) for cut in pairwise(cuts)]
    torch.testing.assert_close(gradients(model, task, parts), loss.detach(), **CLOSE)
    same_gradients(model, "mlm", WORDS, theirs)


def test_a_checkpoint_knows_its_heads_again_and_one_without_leaves_them_new(tmp_path: Path) -> None:
    documents = random_documents()
    model, plain = heads(documents), MultitaskModel(heads(documents).encoder, tiny_tasks(), Streams(0))
    checkpoint.save(tmp_path / "both", model, tiny_tokenizer())
    checkpoint.save(tmp_path / "plain", plain, tiny_tokenizer())
    fresh = MultitaskModel(load_encoder(tmp_path / "both"), both(documents), Streams(1))
    before = {name: tensor.clone() for name, tensor in fresh.heads.state_dict().items()}
    assert load_known_heads(tmp_path / "plain", fresh.heads, fresh.head_names) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.heads.state_dict().items())
    assert load_known_heads(tmp_path / "both", fresh.heads, fresh.head_names) == ["mlm", "nsp"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


def test_the_decoder_is_the_word_embeddings_and_sees_masked_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = random_documents()
    model, task = heads(documents), both(documents)[0]
    assert not [name for name, each in model.heads["mlm"].named_parameters() if each.shape[0] == 97 and each.dim() == 2]
    seen, fed = [], []  # by the decoder, and by the feed-forward network of each layer
    linear = F.linear

    def noted(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.shape == (97, 16):
            seen.append((tuple(hidden.shape), weight.data_ptr()))
        if weight.shape == (32, 16):
            fed.append(len(hidden))
        return linear(hidden, weight, bias)

    monkeypatch.setattr(F, "linear", noted)
    batch = task.splits["train"].batch(range(5), range(5))
    output = model.predict(task, batch, model.embed(batch))
    assert batch.targets is not None
    assert len(batch.targets) < 0.5 * len(batch.tokens)
    assert seen == [((len(batch.targets), 16), model.encoder.word.weight.data_ptr())]
    assert output.shape == (len(batch.targets), 97)
    assert fed == [len(batch.tokens), len(batch.targets)]


def test_what_a_run_leaves_is_read_by_transformers_and_as_an_encoder_with_its_heads(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    write_tasks(tmp_path / "data")
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"{sentence(n)}.\n{sentence(n + 1)}." for n in range(30)))
    train = ("train", "--data", "data", "--steps", 1, "--batch-size", 4, "--tasks", "mood", "--keep", 9)
    plugins = ("-p", "domain:corpus=corpus.txt,steps=2,batch_size=4", "-p", "smart:stages=domain,finetune")
    ran = regkit(*train, "--encoder", "encoder", *plugins, "--output", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert ran.out.count(": not in its checkpoint in this form: a new one begins") == 2
    config = tmp_path / "run" / "config.toml"
    assert tomllib.loads(config.read_text())["plugins"]["smart"] == {"stages": ["domain", "finetune"]}
    again = regkit("train", config, "--dry-run", cwd=tmp_path)
    assert re.search(r"plugin smart.*, in domain and finetune\n", again.out)
    assert "step of mlm, nsp: loss = task + 1 x smart" in again.out
    for stage in ("domain-2", "finetune-1"):
        folder = tmp_path / "run" / "checkpoints" / stage
        ran = regkit(*train, "--encoder", folder, *plugins, "--dry-run", cwd=tmp_path)
        assert "its head of mlm: used\n  its head of nsp: used\n" in ran.out, ran.err
        words, both = (by_transformers(kind, folder) for kind in ("BertForMaskedLM", "BertForPreTraining"))
        assert by_transformers("AutoModelForPreTraining", folder).config.architectures[-1] == "BertForPreTraining"
        experiment = Experiment.build(
            Settings.checked(Settings.read(config).model_dump() | {"encoder": str(folder)}, "")
        )
        model, tasks = experiment.model.eval(), {task.name: task for task in experiment.tasks}
        for task in (tasks["mlm"], tasks["nsp"]):
            batch = task.splits["dev"].batch([0, 1])
            inputs = padded(batch)
            labels = inputs.pop("labels")
            found = both(**inputs)
            ours = model.predict(task, batch, model.embed(batch))
            if task.name == "nsp":
                torch.testing.assert_close(ours, found.seq_relationship_logits, **CLOSE)
            else:
                torch.testing.assert_close(ours, found.prediction_logits[labels != -100], **CLOSE)
                torch.testing.assert_close(ours, words(**inputs).logits[labels != -100], **CLOSE)
