"""Heads: those of a run are used where they have the task's form, and those of other programs where they fit exactly one task."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from regkit import Task
from regkit.base.randomness import Streams
from regkit.model import MultitaskModel, load_encoder
from regkit.model.adapter import ON_POOLER
from regkit.model.families import FAMILIES
from regkit.runs.heads import take_over
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import Binary, Classification, Multilabel, Objective, Ordinal, Regression, SoftLabels
from tests.helpers import VOCABULARY, regkit, write_tasks
from tests.model.foreign_families import FOREIGN, write_vocabulary
from tests.model.test_families import TINY

SHAPES = {family: shape for family, (shape, _) in FOREIGN.items()} | {name: shape for name, (_, shape) in TINY.items()}
FITTING = [name for name, family in FAMILIES.items() if family.classifier.activation == "tanh"] + sorted(ON_POOLER)
NLI = {0: "Contradiction", 1: "neutral", 2: "ENTAILMENT"}


@pytest.fixture(autouse=True)
def no_bars() -> None:
    """Keep transformers from drawing bars of progress, which the terminal of a test cannot show."""
    pytest.importorskip("transformers").utils.logging.disable_progress_bar()


def write_classifier(folder: Path, family: str = "bert", ending: str = "ForSequenceClassification", **more: Any) -> Any:
    """Write a random tiny model of transformers, every tensor drawn anew, and return it."""
    transformers = pytest.importorskip("transformers")
    if family not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family, **SHAPES[family] | more)
    model = getattr(transformers, f"AutoModel{ending.removeprefix('Model')}").from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


def take(folder: Path, *tasks: Task, **options: Any) -> tuple[MultitaskModel, str]:
    """Build a model of these tasks on a folder's encoder, and say what became of the folder's head."""
    model = MultitaskModel(load_encoder(folder), tasks, Streams(0), **options).eval()
    (said,) = take_over(folder, model, tasks).values()
    return model, said


def task(objective: Objective, name: str = "mood", **more: Any) -> Task:
    return Task(name, objective, {}, **more)


def texts() -> list[tuple[Tensor, Tensor]]:
    """A single text and a pair: tokens and segments."""
    random = torch.Generator().manual_seed(2)
    return [
        (torch.randint(3, 50, (n,), generator=random), torch.arange(n).ge(first).long())
        for n, first in ((7, 7), (20, 9))
    ]


def ours(model: MultitaskModel, task: Task) -> Tensor:
    """Compute our outputs of the text and the pair, packed into one batch."""
    batch = Batch.pack([tokens.numpy() for tokens, _ in texts()], [segments.numpy() for _, segments in texts()])
    return model.predict(task, batch, model.embed(batch))


def logits(model: Any) -> Tensor:
    """Compute those of transformers, one at a time."""
    kinds = getattr(model.config, "type_vocab_size", 0)
    runs = [
        model(input_ids=tokens[None], token_type_ids=segments.clamp(max=kinds - 1)[None]).logits
        for tokens, segments in texts()
    ]
    return torch.cat(runs)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FITTING)
def test_a_head_of_transformers_gives_the_same_logits_of_a_text_and_a_pair(family: str, tmp_path: Path) -> None:
    theirs = write_classifier(tmp_path, family, num_labels=3)
    mood = task(Classification(3), pair_mode="cross_encoder")
    model, said = take(tmp_path, mood)
    assert said == "used for mood"
    close(ours(model, mood), logits(theirs))


@pytest.mark.parametrize(
    ("outputs", "objective", "said", "convert"),
    [
        (
            {"id2label": NLI},
            Classification(3, ("entailment", "neutral", "contradiction")),
            "",
            lambda logits: logits[:, [2, 1, 0]],
        ),
        (
            {"id2label": NLI},
            Classification(3),
            ", its classes Contradiction, neutral, ENTAILMENT taken as 0, 1, 2",
            lambda logits: logits,
        ),
        (
            {"num_labels": 3},
            Classification(3, ("no", "so so", "yes")),
            ", its classes 0, 1, 2 taken as no, so so, yes",
            lambda logits: logits,
        ),
        (
            {"id2label": NLI, "problem_type": "multi_label_classification"},
            Multilabel(3, ("entailment", "neutral", "contradiction")),
            "",
            lambda logits: logits[:, [2, 1, 0]],
        ),
        ({"num_labels": 3}, SoftLabels(3), "", lambda logits: logits),
        ({"num_labels": 2}, Binary(), "", lambda logits: logits[:, 1] - logits[:, 0]),
        ({"id2label": {0: "1", 1: "0"}}, Binary(), "", lambda logits: logits[:, 0] - logits[:, 1]),
        (
            {"num_labels": 1, "problem_type": "regression"},
            Regression(-1, 3),
            ", its scores taken as those from -1 to 3",
            lambda logits: (logits[:, 0] + 1) / 4 * 5,
        ),
    ],
    ids=[
        "permuted",
        "task unnamed",
        "head unnamed",
        "several hold",
        "soft",
        "binary",
        "binary, turned round",
        "regression",
    ],
)
def test_outputs_become_those_of_the_task(
    tmp_path: Path, outputs: Mapping[str, Any], objective: Objective, said: str, convert: Any
) -> None:
    theirs, mood = write_classifier(tmp_path, **outputs), task(objective)
    model, found = take(tmp_path, mood)
    assert found == f"used for mood{said}"
    close(ours(model, mood), convert(logits(theirs)))


@pytest.mark.parametrize(
    ("outputs", "tasks", "said"),
    [
        (
            {"id2label": NLI},
            [task(Classification(3, ("good", "fine", "bad")))],
            "it tells 3 classes (Contradiction, neutral, ENTAILMENT), and no task here has the same on the pooler's output",
        ),
        (
            {"num_labels": 4},
            [task(Classification(3)), task(Binary(), "same")],
            "it tells 4 classes (0, 1, 2, 3), and no",
        ),
        (
            {"num_labels": 2},
            [task(Binary()), task(Classification(2), "tone")],
            "it fits mood and tone; --tasks mood would train that alone, and on it",
        ),
        ({"num_labels": 2}, [task(Binary(), pair_mode="bi_encoder")], "it tells 2 classes (0, 1), and no task"),
        ({"num_labels": 2}, [task(Binary(), pooling="mean")], "it tells 2 classes (0, 1), and no task"),
        (
            {"num_labels": 1},
            [task(Regression(0, 1)), task(Binary(), "same")],
            "it tells a single number, of unknown meaning, and",
        ),
        (
            {"num_labels": 2, "problem_type": "multi_label_classification"},
            [task(Binary())],
            "it tells 2 classes (0, 1), of which several may hold, and",
        ),
        (
            {"num_labels": 3},
            [task(Ordinal(3)), task(Multilabel(3), "tags")],
            "it tells 3 classes (0, 1, 2), and no task",
        ),
    ],
    ids=[
        "other names",
        "other classes",
        "several",
        "pair read apart",
        "mean",
        "one number",
        "several hold",
        "thresholds",
    ],
)
def test_a_head_that_does_not_fit_exactly_one_task_is_not_used(
    tmp_path: Path, outputs: Mapping[str, Any], tasks: list[Task], said: str
) -> None:
    write_classifier(tmp_path, **outputs)
    model, found = take(tmp_path, *tasks)
    assert found.startswith(f"not used: {said}")
    assert unchanged(model, tasks)


def unchanged(model: MultitaskModel, tasks: list[Task]) -> bool:
    """Whether the heads are as a model begins with them."""
    fresh = MultitaskModel(model.encoder, tasks, Streams(0)).state_dict()
    return all(torch.equal(tensor, fresh[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("family", "ending", "said"),
    [
        ("distilbert", "ForSequenceClassification", "it is on a layer with ReLU, and the pooler has tanh"),
        ("electra", "ForSequenceClassification", "it is on a layer with GELU, and the pooler has tanh"),
        ("deberta-v2", "ForSequenceClassification", "regkit does not know what the head of a 'deberta-v2' model is on"),
        ("bert", "ForTokenClassification", "regkit has no head of this kind"),
        ("bert", "ForMultipleChoice", "regkit has no head of this kind"),
    ],
)
def test_a_head_that_regkit_does_not_have_is_said_with_the_reason(
    family: str, ending: str, said: str, tmp_path: Path
) -> None:
    write_classifier(tmp_path, family, ending, num_labels=2)
    assert take(tmp_path, task(Binary()))[1] == f"not used: {said}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors["classifier.weight"].fill_(torch.nan), "it has numbers that are not finite"),
        (lambda tensors: tensors.pop("classifier.bias"), "'classifier' is not in its checkpoint, or has another size"),
        (
            lambda tensors: tensors.update({"classifier.weight": torch.ones(2, 3)}),
            "'classifier' is not in its checkpoint, or has another size",
        ),
        (
            lambda tensors: [tensors.pop(f"bert.pooler.dense.{kind}") for kind in ("weight", "bias")],
            "the layer 'pooler.dense', which it is on, is not in its checkpoint, or has another size",
        ),
    ],
    ids=["not finite", "no bias", "another width", "no pooler"],
)
def test_a_damaged_head_is_said(change: Any, said: str, tmp_path: Path) -> None:
    write_classifier(tmp_path, num_labels=2)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    assert take(tmp_path, task(Binary()))[1] == f"not used: {said}"


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert"])
def test_the_pooler_of_a_roberta_is_its_classifiers_layer_also_where_the_head_does_not_fit(
    family: str, tmp_path: Path
) -> None:
    theirs = write_classifier(tmp_path, family, num_labels=3)
    model, said = take(tmp_path, task(Binary()))
    assert said.startswith("not used")
    assert torch.equal(model.encoder.pooler.weight, theirs.classifier.dense.weight)
    assert torch.equal(model.encoder.pooler.bias, theirs.classifier.dense.bias)


def test_of_two_poolers_that_of_the_classifier_is_read(tmp_path: Path) -> None:
    """Programs once wrote both, and trained this one."""
    theirs = write_classifier(tmp_path, "roberta", num_labels=2)
    tensors = load_file(tmp_path / "model.safetensors")
    more = {"roberta.pooler.dense.weight": torch.ones(16, 16), "roberta.pooler.dense.bias": torch.ones(16)}
    save_file(tensors | more, tmp_path / "model.safetensors")
    same = task(Binary())
    model, said = take(tmp_path, same)
    assert said == "used for mood"
    close(ours(model, same), logits(theirs)[:, 1] - logits(theirs)[:, 0])


@pytest.mark.parametrize("shape", [(16, 32), (8, 16)], ids=["of two texts", "narrow"])
def test_a_layer_of_another_size_is_no_pooler_and_the_head_on_it_is_not_used(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    write_classifier(tmp_path, "roberta", num_labels=2)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"classifier.dense.weight": torch.ones(shape)}, tmp_path / "model.safetensors")
    model, said = take(tmp_path, task(Binary()))
    assert said.startswith("not used: the layer 'classifier.dense', which it is on, is not in its checkpoint, or has")
    assert model.encoder.pooler.weight.std() < 0.1  # a new one


def test_a_head_of_a_number_that_a_pickle_repeats_takes_no_memory(tmp_path: Path) -> None:
    write_classifier(tmp_path, num_labels=2)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors |= {"classifier.weight": torch.ones(1).expand(10**12, 16), "classifier.bias": torch.ones(1).expand(10**12)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert take(tmp_path, task(Binary()))[1] == "not used: 'classifier' is not in its checkpoint, or has another size"


@pytest.mark.parametrize("entry", ["id2label", "problem_type", "architectures", "num_labels"])
@pytest.mark.parametrize(
    "value", [None, 3, "text", [], [[]], {}, {"0": [], "1": {}}, {"0": "a\nb", "1": "a\nb"}], ids=repr
)
def test_whatever_a_config_says_of_the_head_is_no_error(entry: str, value: object, tmp_path: Path) -> None:
    write_classifier(tmp_path, num_labels=2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {entry: value}))
    tasks = [task(Binary())]
    said = take_over(tmp_path, MultitaskModel(load_encoder(tmp_path), tasks, Streams(0)), tasks)
    assert all("\n" not in line for line in said.values())


def test_a_folder_of_any_other_program_says_nothing(tmp_path: Path) -> None:
    write_classifier(tmp_path, ending="ForMaskedLM")
    mood = task(Binary())
    config = json.loads((tmp_path / "config.json").read_text())
    for architectures in (config["architectures"], None, "BertForSequenceClassification", [3, "a\nForB", "BertModel"]):
        (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
        assert take_over(tmp_path, MultitaskModel(load_encoder(tmp_path), [mood], Streams(0)), [mood]) == {}


def test_the_plan_says_what_becomes_of_a_head_of_transformers(place: Path, tmp_path: Path) -> None:
    write_classifier(tmp_path / "theirs", vocab_size=len(VOCABULARY), num_labels=3)
    write_vocabulary(tmp_path / "theirs")
    words = ("train", "--data", place / "data", "--encoder", "theirs", "--dry-run")
    for more, said in (((), "used for mood"), (("--fresh-heads",), "not used, as --fresh-heads asks")):
        ran = regkit(*words, *more, cwd=tmp_path)
        assert (ran.status, ran.err) == (0, "")
        assert f"  its head of BertForSequenceClassification: {said}\n" in ran.out


def test_the_heads_of_a_run_are_used_where_they_have_the_form_of_the_task(place: Path, tmp_path: Path) -> None:
    words = ("train", "--data", place / "data", "--steps", 1)
    assert "head" not in regkit(*words, "--encoder", place / "encoder", "--output", "one", cwd=tmp_path).out
    for encoder in ("one", "one/best"):
        ran = regkit(*words, "--encoder", encoder, "--tasks", "same,near", "--dry-run", cwd=tmp_path)
        assert (ran.status, ran.err) == (0, "")
        assert [line for line in ran.out.splitlines() if "head of" in line] == [
            "  its head of mood: not used: this run has no such task",
            "  its head of same: used",
            "  its head of near: used",
        ]
    data = write_tasks(tmp_path / "other")
    toml = (data / "tasks.toml").read_text(encoding="utf8")
    (data / "tasks.toml").write_text(toml.replace("classes = 3", "classes = 4"), encoding="utf8")
    ran = regkit("train", "--data", data, "--steps", 1, "--encoder", "one", "--dry-run", cwd=tmp_path)
    assert "  its head of mood: not used, a new one begins: it is of Classification(classes=3" in ran.out
    ran = regkit(*words, "--encoder", "one", "--fresh-heads", "--dry-run", cwd=tmp_path)
    assert ran.out.count("not used, as --fresh-heads asks") == 3


@pytest.mark.parametrize(
    ("number", "said"),
    [(torch.nan, "numbers that are not finite"), (None, "has no head for task 'mood' as it is declared now")],
)
def test_a_damaged_head_of_a_run_is_said_with_the_damage(number: float | None, said: str, tmp_path: Path) -> None:
    write_classifier(tmp_path, ending="Model")
    mood = task(Classification(3))
    tensors = load_file(tmp_path / "model.safetensors")
    if number is not None:
        tensors |= {"heads.mood.linear.weight": torch.full((3, 16), number), "heads.mood.linear.bias": torch.ones(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    config["regkit"] = {"heads": {"mood": [repr(mood.objective), None, "pooler"]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = take(tmp_path, mood)[1]
    assert found.startswith("not used, a new one begins: ")
    assert found.endswith(said)


def test_what_is_built_on_a_run_begins_where_it_ended(place: Path, tmp_path: Path) -> None:
    words = ("train", "--data", place / "data", "--steps", 1, "--lr", "1e-2", "--score-first")
    regkit(*words, "--encoder", place / "encoder", "--output", "one", cwd=tmp_path)
    ran = regkit(*words, "--encoder", "one", "--output", "two", cwd=tmp_path)
    assert ran.status == 0, ran.err
    scores = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text(encoding="utf8").splitlines()]
    first = next(record["scores"]["dev"] for record in scores if "scores" in record)
    ended = json.loads((tmp_path / "one" / "scores.json").read_text(encoding="utf8"))["dev"]
    assert first == ended
    refused = regkit("train", "--resume", "one", "--steps", 2, cwd=tmp_path).err
    assert refused.endswith("; leave the option out, or begin a new one; --encoder one builds on this one.\n")
    (tmp_path / "one" / "finished.json").unlink()
    resumed = regkit("train", "--resume", "one", cwd=tmp_path)
    assert (resumed.status, "head of" in resumed.out) == (0, False)
