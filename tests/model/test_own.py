"""An encoder of one's own trains, resumes and is scored like minBERT; nothing is imported that the user did not name."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regkit import Batch, Dropout, Tokenizer
from regkit.base.errors import ConfigError, EncoderError
from regkit.base.randomness import Streams
from regkit.model import MultitaskModel, encoders
from regkit.model.own.load import load_own
from regkit.runs import checkpoint
from regkit.testing import tiny_tasks
from regkit.testing.tiny import tiny_tokenizer
from tests.cli.test_bad_input import is_one_sentence
from tests.helpers import Ran, regkit, with_stranger
from tests.runs.test_resume import exact
from tests.runs.test_stops import FAILS

EXAMPLES = Path(__file__).parents[2] / "examples"
FACTORY = "own_encoder:build"
NAMED = ("--encoder-factory", FACTORY)


class Words(nn.Module):
    """The smallest encoder: the hidden state of a token is its word embedding."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.width, self.longest = 8, 32
        self.table = nn.Embedding(len(tokenizer), self.width)

    def embed(self, batch: Batch) -> Tensor:
        found: Tensor = self.table(batch.tokens)
        return found

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return embeddings if rows is None else embeddings[rows]


class Recurrent(Words):
    """It forgets where texts begin."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.gru = nn.GRU(self.width, self.width)

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return super().encode(self.gru(embeddings)[0], batch, rows)


class Wide(Words):
    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return super().encode(embeddings, batch, rows).repeat(1, 2)


class WithoutRows(Words):
    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return embeddings


class FirstRows(Words):
    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return embeddings if rows is None else embeddings[: len(rows)]


class FewWords(Words):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.table = nn.Embedding(len(tokenizer) - 1, self.width)


class WithoutLongest(Words):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        del self.longest


class Layered(Words):
    """It has layers, but nothing that resets them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.layers = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(2))

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            embeddings = embeddings + layer(embeddings).tanh()
        return super().encode(embeddings, batch, rows)


class Resettable(Layered):
    def reset(self, module: nn.Module) -> None:
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.weight)


class Tied(Words):
    """Two of its tensors share memory, as safetensors does not write them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.out = nn.Linear(self.width, len(tokenizer), bias=False)
        self.out.weight = self.table.weight
        self.dropouts = nn.ModuleList([nn.Dropout(0.1), Dropout(0.1)])


class FailsLater(Words):
    """It passes its trial, and fails in training."""

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        if self.training:
            raise IndexError("no such layer")
        return super().encode(embeddings, batch, rows)


class Spoils(Words):
    """It changes what its gradient needs."""

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        hidden = embeddings.exp()
        hidden += 1
        return super().encode(hidden, batch, rows)


class FailsInBackward(Spoils):
    """It passes its trial."""

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return super().encode(embeddings, batch, rows) if self.training else Words.encode(self, embeddings, batch, rows)


class Detached(Words):
    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return super().encode(embeddings, batch, rows).detach()


class DetachedTable(Layered):
    def embed(self, batch: Batch) -> Tensor:
        return super().embed(batch).detach()


class FrozenTable(DetachedTable):
    """It says that its table is not trained."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.table.requires_grad_(False)


class Flat(Words):
    def embed(self, batch: Batch) -> Tensor:
        return super().embed(batch).flatten()


class Double(Words):
    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        return super().encode(embeddings, batch, rows).double()


class Pooled(Words):
    """`pool` is the hidden state of the first token."""

    def pool(self, hidden: Tensor) -> Tensor:
        return hidden


class Averaged(Pooled):
    def pool(self, hidden: Tensor) -> Tensor:
        return hidden - hidden.mean(0)


class Halved(Pooled):
    def pool(self, hidden: Tensor) -> Tensor:
        return hidden[:, :4]


class NothingLater(Pooled):
    """It passes its trial, of three texts and one."""

    def pool(self, hidden: Tensor) -> Tensor:
        return None if self.training else hidden  # type: ignore[return-value]


class Leaves(Words):
    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        if self.training:
            sys.exit(0)
        return super().encode(embeddings, batch, rows)


class FailsWhenScored(Words):
    """It passes its trial with few texts."""

    def embed(self, batch: Batch) -> Tensor:
        if not self.training and len(batch.counts) > 3:
            raise ValueError("too many texts")
        return super().embed(batch)


def failing(tokenizer: Tokenizer) -> None:
    raise KeyError("width")


def nothing(tokenizer: Tokenizer) -> None:
    """Forget to return the encoder."""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example can be imported, and no test has imported it yet."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "own_encoder", raising=False)


def train(place: Path, *more: object, output: Path) -> Ran:
    words = ("--encoder", "encoder", "--data", "data", "--batch-size", 8, "--output", output)
    return regkit("train", *words, *more, cwd=place)


@pytest.mark.slow
def test_it_resumes_exactly_with_a_regularizer_and_surgery(place: Path, tmp_path: Path) -> None:
    plugins = {"smart": {}, "rrobin": {"per_step": 3}, "pcgrad": {}}
    exact(place, tmp_path, plugins, [4, 3], encoder_factory=FACTORY)


def test_it_is_scored_as_at_the_end_of_training_and_a_next_run_begins_with_its_weights_and_heads(
    place: Path, tmp_path: Path
) -> None:
    ran = train(place, *NAMED, "--steps", 6, "--lr", 0.01, output=tmp_path / "run")
    assert ran.status == 0, ran.err
    assert f"encoder: {FACTORY} with the tokenizer of {place / 'encoder'}, 0.0 M parameters" in ran.out
    assert "a text is the mean of its hidden states" in ran.out
    assert f"regkit eval {tmp_path / 'run'} --encoder-factory {FACTORY}" in ran.out
    scored = regkit("eval", tmp_path / "run", *NAMED, "--json", cwd=place)
    saved = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert json.loads(scored.out)["dev"] == saved["dev"], scored.err
    again = regkit("train", "--encoder", tmp_path / "run", "--data", "data", *NAMED, "--dry-run", cwd=place)
    assert f"encoder: {FACTORY} with the weights of {tmp_path / 'run'}, " in again.out, again.err
    assert again.out.count(": used\n") == 3


def test_a_file_imports_nothing_that_the_command_line_does_not_name(place: Path, tmp_path: Path) -> None:
    """Of a run, its settings and its checkpoint; the sentence says what to add."""
    run = tmp_path / "run"
    assert train(place, *NAMED, "--steps", 2, output=run).status == 0
    del sys.modules["own_encoder"]
    for words in (
        ["eval", run],
        ["train", "--resume", run],
        ["train", run / "config.toml"],
        ["train", "--encoder", run, "--data", "data"],
    ):
        refused = regkit(*words, cwd=place)
        is_one_sentence(refused)
        assert refused.err.endswith(f"--encoder-factory {FACTORY}.\n"), refused.err
        assert "own_encoder" not in sys.modules
    accepted = regkit("train", "--resume", run, *NAMED, cwd=place)
    assert accepted.status == 0, accepted.err


def test_a_run_that_fails_says_how_to_go_on_with_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", x=FAILS.replace("== 40", "== 2"))
    ran = train(place, *NAMED, "--steps", 3, "-p", "x", output="failed")
    is_one_sentence(ran)
    assert ran.err.endswith(f"to go on: regkit train --resume failed --encoder-factory {FACTORY}\n"), ran.err


def test_a_run_of_another_encoder_gives_its_tokenizer_alone_and_cannot_be_scored(place: Path, tmp_path: Path) -> None:
    assert train(place, "--steps", 2, output=tmp_path / "run").status == 0
    refused = regkit("eval", tmp_path / "run", *NAMED, cwd=place)
    is_one_sentence(refused)
    assert "has no encoder of your own; leave out --encoder-factory" in refused.err
    begun = regkit("train", "--encoder", tmp_path / "run", "--data", "data", *NAMED, "--dry-run", cwd=place)
    assert f"encoder: {FACTORY} with the tokenizer of {tmp_path / 'run'}, " in begun.out, begun.err
    assert "its head of" not in begun.out  # they are heads of that encoder


def test_its_module_is_found_in_the_working_directory(place: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "own_encoder.py", tmp_path / "encoder_of_this_folder.py")
    words = ("--encoder", place / "encoder", "--data", place / "data", "--dry-run")
    ran = regkit("train", *words, "--encoder-factory", "encoder_of_this_folder:build", cwd=tmp_path)
    assert ran.status == 0, ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-p", "layerwise_lr"], "plugin 'layerwise_lr': the encoder of own_encoder:build has no 'layers'."),
        (["-p", "reinit_top"], "plugin 'reinit_top': the encoder of own_encoder:build has no 'layers'."),
        (["-p", "reinit_top", "--encoder-factory", f"{__name__}:Layered"], f"{__name__}:Layered has no 'reset'."),
        (["--pooling", "pooler"], "the encoder has no 'pool'; choose --pooling mean, cls or max."),
        (["--encoder-factory", "own_encoder"], "give MODULE:FUNCTION, such as my_encoder:build."),
        (["--encoder-factory", "nowhere:build"], "no module 'nowhere' is here or installed."),
        (["--encoder-factory", "own_encoder:biuld"], "own_encoder has no 'biuld'. Did you mean 'build'?"),
    ],
)
def test_what_it_lacks_is_refused_by_name(words: list[str], says: str, place: Path, tmp_path: Path) -> None:
    ran = train(place, *NAMED, *words, output=tmp_path / "run")
    is_one_sentence(ran)
    assert says in ran.err
    assert not (tmp_path / "run").exists()


def test_a_list_of_layers_and_a_way_to_reset_them_is_all_that_plugins_of_layers_need(
    place: Path, tmp_path: Path
) -> None:
    named = ("--encoder-factory", f"{__name__}:Resettable")
    ran = train(
        place, *named, "-p", "layerwise_lr:decay=0.5", "-p", "reinit_top", "--steps", 2, output=tmp_path / "run"
    )
    assert ran.status == 0, ran.err
    groups = checkpoint.load_training(tmp_path / "run" / "last")["optimizer"]["param_groups"]
    assert {group["initial_lr"] for group in groups} == {5e-5, 2.5e-5, 1.25e-5, 6.25e-6}


def test_masked_words_need_the_word_embeddings_alone(place: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a b c d e f g h\ni j k l m n o p\n\n" * 12, encoding="utf8")
    words = ("pretrain", "--corpus", corpus, "--encoder", "encoder", "--steps", 2, "--output", tmp_path / "run")
    ran = regkit(*words, *NAMED, cwd=place)
    assert ran.status == 0, ran.err
    again = regkit("train", "--encoder", tmp_path / "run", "--data", "data", *NAMED, "--dry-run", cwd=place)
    assert "with the weights of" in again.out, again.err
    refused = regkit(*words[:-1], tmp_path / "other", "--encoder-factory", f"{__name__}:Words", cwd=place)
    is_one_sentence(refused)
    assert f"plugin 'domain': the encoder of {__name__}:Words has no 'word'." in refused.err


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("failing", "failed: KeyError: 'width'"),
        ("nothing", "gives None; it needs to give a torch module"),
        ("Wide", r"encode gives \[43, 16\] instead of \[43, 8\]"),
        ("WithoutRows", r"encode with rows gives \[43, 8\] instead of \[3, 8\]"),
        ("WithoutLongest", "has no 'longest'"),
        ("FewWords", f"embed of the encoder of {__name__}:FewWords failed: IndexError"),
        ("FirstRows", "encode with rows gives other tokens"),
        ("Recurrent", "gives other hidden states for a text when others stand beside it"),
        ("Averaged", "pool gives other vectors for a text when others stand beside it"),
        ("Halved", r"pool gives \[3, 4\] instead of \[3, 8\]"),
        ("Flat", r"embed gives \[344\] instead of \[43, 8\]"),
        ("Double", "encode gives numbers in float64 instead of float32"),
        ("Detached", "no gradient comes back through encode"),
        ("DetachedTable", "no gradient comes back through embed"),
        ("Spoils", "whose gradient was tried, failed: RuntimeError"),
    ],
)
def test_what_would_train_wrong_is_refused_before_it_trains(function: str, says: str) -> None:
    with pytest.raises(EncoderError, match=says):
        load_own(f"{__name__}:{function}", None, tiny_tokenizer())


def test_a_table_that_is_frozen_needs_no_gradient() -> None:
    assert load_own(f"{__name__}:FrozenTable", None, tiny_tokenizer()).width == 8


LATER = f"encode of the encoder of {__name__}:FailsLater failed: IndexError: no such layer ({__file__}, line "


@pytest.mark.parametrize(
    ("function", "words", "says"),
    [
        ("FailsLater", [], LATER),
        ("FailsLater", ["-p", "neftune"], LATER),
        ("FailsLater", ["-p", "neftune"], "; it works on what plugin 'neftune' answers to embed."),
        (
            "FailsWhenScored",
            [],
            f"embed of the encoder of {__name__}:FailsWhenScored failed: ValueError: too many texts (",
        ),
        (
            "NothingLater",
            ["--pooling", "pooler"],
            f"the encoder of {__name__}:NothingLater: pool gives None instead of a tensor",
        ),
        ("Leaves", [], f"encode of the encoder of {__name__}:Leaves failed: SystemExit: 0"),
        ("FailsInBackward", [], "has no gradient any more: the encoder changes in place what the pass still needs."),
    ],
)
def test_one_that_fails_in_a_run_is_named(
    function: str, words: list[str], says: str, place: Path, tmp_path: Path
) -> None:
    """So are plugins whose answers it works on: it may have failed on those."""
    ran = train(place, "--encoder-factory", f"{__name__}:{function}", *words, "--steps", 2, output=tmp_path / "run")
    is_one_sentence(ran)
    assert says in ran.err


def test_tensors_that_share_memory_are_written_and_read_back(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    own = load_own(f"{__name__}:Tied", None, tokenizer)
    model = MultitaskModel(own, tiny_tasks(), Streams(0), pooling="mean")  # type: ignore[arg-type]
    checkpoint.save(tmp_path / "saved", model, tokenizer)
    again = encoders.load(tmp_path / "saved", f"{__name__}:Tied")
    assert again.weights == tmp_path / "saved"
    assert torch.equal(again.encoder.out.weight, own.table.weight)  # type: ignore[attr-defined]
    with pytest.raises(EncoderError, match=r"'out.weight' is \[97, 8\], but not there in what .*:Words builds"):
        encoders.load(tmp_path / "saved", f"{__name__}:Words")
    nn.init.constant_(own.table.weight, torch.nan)
    checkpoint.save(tmp_path / "broken", model, tokenizer)
    with pytest.raises(EncoderError, match=r"the tensor 'out\.weight' has numbers that are not finite"):
        encoders.load(tmp_path / "broken", f"{__name__}:Tied")


def test_dropout_sets_the_rate_of_its_modules() -> None:
    plain, regkits = load_own(f"{__name__}:Tied", None, tiny_tokenizer(), dropout=0.25).dropouts
    assert (plain.p, regkits.rate) == (0.25, 0.25)


def test_a_task_that_needs_a_pooler_is_refused() -> None:
    own = load_own(f"{__name__}:Words", None, tiny_tokenizer())
    with pytest.raises(ConfigError, match="task 'classes' reads the pooler's output, but the encoder has no 'pool'"):
        MultitaskModel(own, tiny_tasks(), Streams(0), pooling="pooler")  # type: ignore[arg-type]
