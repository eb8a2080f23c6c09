"""An export gives what regkit gives, read by the program that it is for; what no form can hold is refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from regkit.base.errors import ConfigError, RunError
from regkit.runs.export import compare, files, formats, hf
from regkit.runs.export.card import Card
from regkit.runs.export.forms import FORMS, form_of
from regkit.runs.export.source import Source, read_source
from regkit.runs.export.write import export
from regkit.runs.settings import Settings
from regkit.tasks.objectives import KINDS, Binary, Classification, MaskedWords, Regression
from regkit.testing import tiny_task
from tests.cli.test_bad_input import is_one_sentence
from tests.helpers import SHAPE, VOCABULARY, regkit, write_encoder, write_tasks

NEAR_APART = """
[tasks.same_apart]
kind = "binary"
text = ["one", "two"]
label = "same"
pair_mode = "bi_encoder"
train = "same-train.csv"
dev = "same-dev.csv"

[tasks.percent]
kind = "regression"
range = [-50, 150]
text = ["one", "two"]
label = "score"
train = "near-train.csv"
dev = "near-dev.csv"

[tasks.stars]
kind = "ordinal"
classes = 3
text = "sentence"
label = "mood"
train = "mood-train.csv"
dev = "mood-dev.csv"
"""
FAMILIES = {"roberta": "Roberta", "distilbert": "DistilBert", "electra": "Electra", "albert": "Albert"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder`, `data` and the run `run`, of tasks of each kind and pair mode."""
    folder = tmp_path_factory.mktemp("export")
    write_encoder(folder / "encoder")
    declared = write_tasks(folder / "data") / "tasks.toml"
    declared.write_text(declared.read_text("utf8") + NEAR_APART, encoding="utf8")
    train(folder, "run")
    return folder


def train(folder: Path, run: str, *more: object, encoder: str = "encoder") -> Path:
    """A run whose heads have learned a little, so that an output is not that of another head."""
    words = ["--encoder", encoder, "--data", "data", "--epochs", 1, "--batch-size", 8, "--lr", 0.01, *more]
    ran = regkit("train", *words, "--output", run, cwd=folder)
    assert ran.status == 0, ran.err
    return folder / run


def write_family(folder: Path, family: str) -> Path:
    """A random encoder of this family, as transformers writes it, with the tiny vocabulary."""
    import transformers

    torch.manual_seed(0)
    shape: dict[str, Any] = {**SHAPE, "vocab_size": len(VOCABULARY), "max_position_embeddings": 50}
    if family == "distilbert":
        shape |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    config = getattr(transformers, f"{FAMILIES[family]}Config")(**shape, embedding_size=8, initializer_range=0.2)
    getattr(transformers, f"{FAMILIES[family]}Model")(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}), encoding="utf8")
    return folder


def source(run: Path, *names: str) -> Source:
    return read_source(run, Settings.read(run / "config.toml"), names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pooling", ["pooler", "cls"])
def test_a_classifier_of_transformers_gives_the_same_as_regkit(place: Path, tmp_path: Path, pooling: str) -> None:
    run = place / "run" if pooling == "pooler" else train(place, pooling, "--pooling", pooling)
    for name in ("mood", "same", "percent"):
        (difference,) = export(source(run, name), "hf", tmp_path / name).values()
        assert difference < 1e-6, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["pooler", "cls"])
def test_the_head_of_each_family_holds_ours_or_says_why_not(
    place: Path, tmp_path: Path, family: str, pooling: str
) -> None:
    if not (place / family).exists():
        write_family(place / family, family)
    run = train(place, f"{family}-{pooling}", "--pooling", pooling, encoder=family)
    if pooling == "pooler" and family in ("distilbert", "electra"):
        with pytest.raises(
            ConfigError,
            match=r"reads the pooler's output, a tanh, and theirs a (ReLU|GELU), which a run with --pooling cls fits; take",
        ):
            export(source(run, "mood"), "hf", tmp_path / "out")
        return
    (difference,) = export(source(run, "mood"), "hf", tmp_path / "out").values()
    assert difference < 1e-6
    if pooling == "cls" and family in ("distilbert", "albert"):  # which minBERT reads, and which transformers runs
        assert max(export(source(run, "mood"), "onnx", tmp_path / "onnx").values()) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_the_pipeline_of_transformers_says_the_label_and_the_score_of_the_table(place: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    for name in ("same", "percent"):
        export(source(place / "run", name), "hf", tmp_path / name)
    pair = ("the soup is good", "the tea is bad")
    given = {"text": pair[0], "text_pair": pair[1]}
    found = pipeline("text-classification", model=str(tmp_path / "same"))(given)
    same = source(place / "run", "same")
    logit = float(same.outputs(same.tasks[0], [pair]))
    probability = torch.tensor(logit).sigmoid().item()
    assert found["label"] == str(int(logit > 0))
    assert found["score"] == pytest.approx(max(probability, 1 - probability), abs=1e-5)
    found = pipeline("text-classification", model=str(tmp_path / "percent"))(given)
    percent = source(place / "run", "percent")
    output = float(percent.outputs(percent.tasks[0], [pair]))
    assert found["score"] == pytest.approx(-50 + 200 * output / 5, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean", "max"])
def test_sentence_transformers_gives_the_same_vectors_and_scores(place: Path, tmp_path: Path, pooling: str) -> None:
    pytest.importorskip("sentence_transformers")
    run = place / "run" if pooling == "pooler" else place / pooling
    run = run if run.exists() else train(place, pooling, "--pooling", pooling)
    for name in ("mood", "same", "near"):
        (difference,) = export(source(run, name), "sentence-transformers", tmp_path / name).values()
        assert difference < 1e-5, name


@pytest.mark.filterwarnings("ignore")
def test_vectors_and_the_head_beside_them_give_the_output(place: Path, tmp_path: Path) -> None:
    """As the card says: a linear layer on both vectors, their distance and their product."""
    pytest.importorskip("sentence_transformers")
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer

    apart = source(place / "run", "same_apart")
    export(apart, "sentence-transformers", tmp_path / "out")
    assert "`[u, v, |u - v|, u * v]`" in (tmp_path / "out" / "README.md").read_text("utf8")
    pair = ("the soup is good", "the tea is bad")
    u, v = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(list(pair), convert_to_tensor=True)
    head = load_file(tmp_path / "out" / "head.safetensors")
    logits = head["weight"] @ torch.cat([u, v, (u - v).abs(), u * v]) + head["bias"]
    wanted = form_of(apart.tasks[0]).convert(apart.outputs(apart.tasks[0], [pair]))[0]
    assert torch.allclose(logits, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_one_graph_of_onnx_holds_all_tasks_that_read_alike(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    found = export(source(place / "run", "mood", "percent", "near", "stars"), "onnx", tmp_path / "out")
    assert list(found) == ["mood", "percent", "near", "stars"]
    assert max(found.values()) < 1e-5
    described = json.loads((tmp_path / "out" / "outputs.json").read_text("utf8"))
    assert {name: each["graph"] for name, each in described.items()} == {
        "mood.logits": "model.onnx",
        "percent.score": "model.onnx",
        "near.score": "bi_encoder.onnx",
        "stars.logits": "model.onnx",
    }


@pytest.mark.parametrize(
    "objective", [Classification(3, ("a", "b", "c")), Binary(), Regression(0, 5), Regression(-50, 150)]
)
def test_a_form_says_what_the_table_says(objective: Any) -> None:
    """The largest number of a class is its label, and a score is in the unit of the table."""
    form = form_of(tiny_task("t", objective))
    output = torch.randn(20, *([objective.width] if objective.width > 1 else []))
    numbers = form.convert(output)
    wanted = [objective.text(label) for label in objective.prediction(output).tolist()]
    if form.name == "logits":
        assert [form.labels[each] for each in numbers.argmax(1)] == wanted
        assert torch.allclose(numbers.softmax(1)[:, -1:], output.sigmoid()[:, None]) or objective.width > 1
    else:
        clipped = numbers[:, 0].clamp(objective.low, objective.high).tolist()
        assert clipped == pytest.approx(list(map(float, wanted)), abs=1e-3)
    layer, vectors = nn.Linear(6, objective.width), torch.randn(4, 6)
    weight, bias = form.fold(layer.weight, layer.bias)
    assert torch.allclose(vectors @ weight.T + bias, form.convert(layer(vectors)), atol=1e-4)


def test_a_kind_that_no_format_holds_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^task 'words' is of kind 'masked words', which no format holds; classif"):
        form_of(tiny_task("words", MaskedWords(9)))
    assert {each.kind for each in FORMS} == KINDS.keys() - {"masked words"}


REFUSED = [
    (["run"], "name the folder to write: regkit export run --output DIR"),
    (
        ["run", "--output", "o"],
        "run has the tasks mood, same, near, same_apart, percent, stars, and hf holds one; choose it by",
    ),
    (["run", "--output", "o", "--task", "mod"], "run has no task 'mod'. Did you mean 'mood'?"),
    (["run", "--output", "data", "--task", "mood"], "data exists already; name another --output"),
    (["run", "--output", "data/tasks.toml/x", "--task", "mood"], "tasks.toml is no folder that can be written to"),
    (
        ["run", "--output", "o", "--task", "near"],
        "task 'near' is no classifier of transformers: it reads the texts of a",
    ),
    (
        ["run", "--output", "o", "--task", "stars"],
        "task 'stars' is no classifier of transformers: its head is not one ",
    ),
    (["run", "--output", "o", "--task", "stars"], "linear layer; take --format onnx."),
    (
        ["run", "--output", "o", "--task", "stars", "--format", "sentence-transformers"],
        "task 'stars' has a head that is not one linear layer; take --format onnx.",
    ),
    (
        ["run", "--output", "o", "--task", "mood", "--task", "same"],
        "--task is given for mood, same, and hf holds one; choose it by --task NAME.",
    ),
    (["rnu", "--output", "o"], "there is no run rnu. Did you mean 'run'?"),
    (
        ["mean", "--output", "o", "--task", "mood"],
        "it reads the mean of the hidden states, and theirs reads [CLS]; take",
    ),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[said[:30] for _, said in REFUSED])
def test_what_cannot_be_exported_is_one_sentence_and_leaves_nothing(place: Path, words: list[str], said: str) -> None:
    if words[0] == "mean" and not (place / "mean").exists():
        train(place, "mean", "--pooling", "mean")
    before = sorted(path.name for path in place.iterdir())
    ran = regkit("export", *words, cwd=place)
    is_one_sentence(ran)
    assert said in ran.err
    assert sorted(path.name for path in place.iterdir()) == before


def test_an_encoder_of_the_users_own_and_what_was_pretrained_are_refused_by_name(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "own", symlinks=True)
    config = tmp_path / "own" / "best" / "config.json"
    config.write_text(json.dumps({"model_type": "regkit", "regkit": {"factory": "mine:build"}}), encoding="utf8")
    with pytest.raises(
        RunError, match=r"own has an encoder that mine:build builds, which other programs cannot; no form"
    ):
        source(tmp_path / "own", "mood")
    settings = Settings(finetune=False)
    with pytest.raises(RunError, match=r"^pre was pretrained: its folder is an encoder that transformers reads"):
        formats.choose_tasks(Path("pre"), settings, "hf", [])


def test_each_task_that_is_named_is_exported_once() -> None:
    settings = Settings(tasks=["a", "b", "c"])
    assert formats.choose_tasks(Path("run"), settings, "onnx", ["c", "a", "c"]) == ["c", "a"]
    assert formats.choose_tasks(Path("run"), settings, "onnx", []) == ["a", "b", "c"]


def test_a_form_whose_libraries_are_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs onnx and onnxscript and onnxruntime: pip install 'regkit\[onnx\]'"):
        formats.check_libraries("onnx")
    formats.check_libraries("hf")


@pytest.mark.filterwarnings("ignore")
def test_an_export_that_answers_otherwise_is_refused_and_leaves_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hf.outputs
    wrong = {**compare.OUTPUTS, "hf": lambda *given: whole(*given) + 0.01}
    monkeypatch.setattr(compare, "OUTPUTS", wrong)
    with pytest.raises(RunError, match=r"the export of task 'mood' as hf gives other outputs than regkit, by 0\.01"):
        export(source(place / "run", "mood"), "hf", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_what_a_library_cannot_read_or_write_is_one_sentence_about_the_task_or_the_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> Any:
        raise SafetensorError("Error while serializing: I/O error: File too large (os error 27)\n at somewhere")

    run = source(place / "run", "mood")
    monkeypatch.setattr(compare, "OUTPUTS", {"hf": fail})
    with pytest.raises(
        RunError, match=r"^transformers cannot read the export of task 'mood': Error while .* 27\); leave"
    ):
        export(run, "hf", tmp_path / "out")
    monkeypatch.setattr(files, "save_tensors", fail)
    with pytest.raises(
        RunError, match=r"^the export cannot be written to .*out: .*File too large \(os error 27\); noth"
    ):
        export(run, "hf", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_the_card_says_what_the_run_noted_and_names_no_path_of_the_machine(place: Path, tmp_path: Path) -> None:
    run = train(place, "noted", "-p", "smart:weight=2")
    ran = regkit("export", "noted", "--task", "mood", "--output", tmp_path / "out", cwd=place)
    assert ran.status == 0, ran.err
    assert "mood: read back by transformers, its outputs differ from regkit's by " in ran.out
    card = (tmp_path / "out" / "README.md").read_text("utf8")
    scores = json.loads((run / "scores.json").read_text("utf8"))["dev"]["mood"]
    assert card.startswith("---\nlicense: unknown")
    assert f"| mood | accuracy | {scores['accuracy']:.4f} | 20 |" in card
    assert "* data: data (examples trained on: mood 24)" in card
    assert "* plugin: smart:weight=2" in card
    assert "-p smart:weight=2" in card
    noted = json.loads((run / "environment.json").read_text("utf8"))
    for program in ("train.py", "ipykernel_launcher.py"):
        (run / "environment.json").write_text(json.dumps(noted | {"command": [f"/home/{program}", "-f"]}), "utf8")
        assert "* command:" not in Card(source(run, "mood"), "hf").training()
    assert str(place) not in card


@pytest.mark.filterwarnings("ignore")
def test_regkit_goes_on_from_its_own_export(place: Path, tmp_path: Path) -> None:
    export(source(place / "run", "mood"), "hf", tmp_path / "out")
    ran = regkit(
        "train",
        "--encoder",
        tmp_path / "out",
        "--data",
        "data",
        "--tasks",
        "mood",
        "--steps",
        1,
        "--dry-run",
        cwd=place,
    )
    assert "BertForSequenceClassification: used for mood" in ran.out
