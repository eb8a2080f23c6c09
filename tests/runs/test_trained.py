"""Trained: a run answers without its data, as `regkit eval` scores it, and says in a sentence what it cannot."""

import csv
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import regkit
from regkit import ConfigError, DataError, RegkitError, RunError, Trained
from regkit.runs import folders, trained
from regkit.runs import manifest as manifests
from regkit.tasks.names import Pooling
from tests.helpers import regkit as command
from tests.helpers import sentence, write_encoder, write_tasks

TEXTS = [sentence(number) for number in range(20)]
PAIRS = [(sentence(number), sentence(number + number % 2)) for number in range(20)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, of whose data nothing is left but a copy of what `eval` predicted of it."""
    place = tmp_path_factory.mktemp("trained")
    write_encoder(place / "encoder")
    write_tasks(place / "data")
    words = ("--encoder", "encoder", "--data", "data", "--output", "run", "--steps", 6, "--lr", 0.01)
    assert command("train", *words, cwd=place).status == 0
    assert command("eval", "run", "--predictions", "predicted", cwd=place).status == 0
    shutil.rmtree(place / "data")
    return place / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> Trained:
    return regkit.load(run)


def predicted(run: Path, task: str) -> list[str]:
    with (run.parent / "predicted" / f"{task}-dev.csv").open(encoding="utf8") as file:
        return [row[1] for row in csv.reader(file)][1:]


def test_a_run_whose_best_is_damaged_or_gone_names_the_last_checkpoint_if_that_is_whole(
    run: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied, symlinks=True)
    shutil.copytree((copied / "best").resolve(), copied / "checkpoints" / "finetune-9")
    (copied / "last").unlink()
    (copied / "last").symlink_to("checkpoints/finetune-9")
    (copied / "best" / "model.safetensors").write_bytes(b"abc")
    remedy = f"; {copied / 'last'} is whole, and `regkit predict` and `regkit.load` read it."
    with pytest.raises(RunError, match=r"best is damaged: model\.safetensors has 3 bytes instead of ") as error:
        regkit.load(copied)
    assert str(error.value).endswith(remedy)
    assert regkit.load(copied / "last").predict("mood", TEXTS)
    for target in ("nowhere", "best"):
        (copied / "best").unlink()
        (copied / "best").symlink_to(target)
        with pytest.raises(RunError) as error:
            folders.find_run(copied)
        assert str(error.value) == f"{copied / 'best'} leads to no checkpoint{remedy}"
    shutil.rmtree(copied / "checkpoints" / "finetune-9")
    with pytest.raises(RunError, match=r"best leads to no checkpoint\.$"):
        folders.find_run(copied)


def test_what_is_no_folder_or_no_precision_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"^run is 5; the path of a folder is needed\.$"):
        regkit.load(5)  # type: ignore[arg-type]
    for precision in ("fp16", "fp64", None):
        with pytest.raises(ConfigError, match=r"^precision is .*; auto or bf16 or fp32 is needed\.$"):
            regkit.load(run, precision=precision)  # type: ignore[arg-type]


def test_a_run_answers_without_its_data_as_eval_predicted(run: Path, model: Trained) -> None:
    assert list(model.tasks) == ["mood", "same", "near"]
    for name, texts in {"mood": TEXTS, "same": PAIRS}.items():
        assert list(map(str, model.predict(name, texts))) == predicted(run, name)
    assert model.predict("near", PAIRS) == pytest.approx(list(map(float, predicted(run, "near"))), abs=1e-5)
    assert model.scores == json.loads((run / "scores.json").read_text())["dev"]
    assert model.settings is not None


def test_probabilities_are_one_row_a_text_and_the_prediction_is_the_most_probable(model: Trained) -> None:
    for name, texts in {"mood": TEXTS, "same": PAIRS}.items():
        found = model.predict_proba(name, texts)
        assert found.shape == (20, len(model.classes(name)))
        assert np.allclose(found.sum(1), 1)
        assert [int(model.classes(name)[each]) for each in found.argmax(1)] == model.predict(name, texts)
    assert model.predict_proba("mood", []).shape == (0, 3)


def test_an_answer_does_not_depend_on_the_texts_beside_it_nor_on_the_window(
    model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text + " and more" * (number % 4) for number, text in enumerate(TEXTS)]
    whole, vectors = model.predict_proba("mood", texts), model.embed(texts)
    monkeypatch.setattr(trained, "WINDOW", 7)
    assert np.allclose(model.predict_proba("mood", texts), whole, atol=1e-6)
    assert np.allclose(model.embed(texts), vectors, atol=1e-6)
    for number in (0, 13):
        assert np.allclose(model.predict_proba("mood", [texts[number]])[0], whole[number], atol=1e-6)


def test_a_task_that_no_table_gave_has_columns_of_their_own_names(run: Path, tmp_path: Path) -> None:
    def nameless(entry: dict[str, object]) -> None:
        for task in entry["tasks"].values():  # type: ignore[attr-defined]
            task["text"] = []

    folder = edited(run, tmp_path, nameless)
    assert regkit.load(folder).predict("near", PAIRS[:2])
    (tmp_path / "new.csv").write_text("text1,text2,text\na,b,c\n")
    ran = command("predict", folder, "new.csv", "--json", cwd=tmp_path)
    assert list(json.loads(ran.out)) == ["text", "text1", "text2", "mood", "same", "near"]


def test_a_table_gives_the_columns_that_a_task_was_trained_on_or_is_refused(model: Trained) -> None:
    pandas = pytest.importorskip("pandas")
    first, second = zip(*PAIRS, strict=True)
    table = pandas.DataFrame({"other": range(20), "sentence": TEXTS, "one": first, "two": second})
    assert model.predict("mood", table) == model.predict("mood", TEXTS)
    assert model.predict("same", table) == model.predict("same", PAIRS)
    with pytest.raises(
        DataError, match=r"^texts is a table with no column 'sentence'; give its texts, as in table\['text'\]\.$"
    ):
        model.predict("mood", table[["other"]])
    with pytest.raises(DataError, match=r"^texts is a table; give its texts, as in table\['text'\]\.$"):
        model.embed(table)
    with pytest.raises(DataError, match=r"no column 'one'; give pairs, as by zip\(table\['a'\], table\['b'\]\)\.$"):
        model.predict("same", table[["two"]])
    twice = pandas.DataFrame([["a", "b"]], columns=["sentence", "sentence"])
    with pytest.raises(DataError, match="with several columns 'sentence'"):
        model.predict("mood", twice)
    with pytest.raises(DataError, match="a list of texts is needed"):
        model.predict("mood", set(TEXTS))


def test_several_threads_are_answered_as_one_is(run: Path) -> None:
    """No thread turns dropout on in another one's pass: a loaded model stays in evaluation mode."""
    model = regkit.load(run)
    assert not any(module.training for module in model.inference.model.modules())
    texts = [sentence(number) for number in range(12)]
    alone = model.predict_proba("mood", texts)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: model.predict_proba("mood", texts), range(24)):
            assert np.array_equal(found, alone)
    assert not any(module.training for module in model.inference.model.modules())


def test_vectors_are_those_of_the_chosen_pooling(model: Trained) -> None:
    own, mean, first = model.embed(TEXTS), model.embed(TEXTS, "mean"), model.embed(TEXTS, "cls")
    assert own.shape == mean.shape == (20, 16)
    assert np.allclose(own, model.embed(TEXTS, "pooler"))
    encoder = model.inference.model.encoder
    with torch.no_grad():
        assert np.allclose(own, encoder.pool(torch.from_numpy(first)), atol=1e-6)
    assert not np.allclose(mean, first)
    assert model.embed([]).shape == (0, 16)


def test_one_pass_gives_the_vectors_of_several_poolings(model: Trained) -> None:
    poolings: list[Pooling] = ["pooler", "cls", "mean", "max"]
    together, _ = model.inference.vectors([TEXTS], poolings, 48)
    for pooling in poolings:
        assert np.allclose(together[pooling], model.embed(TEXTS, pooling), atol=1e-5)


def test_tasks_that_pool_otherwise_answer_from_one_pass_as_each_alone(model: Trained) -> None:
    mean = replace(model.tasks["mood"], pooling="mean")
    first = replace(model.tasks["mood"], pooling="cls")
    columns = {"sentence": TEXTS}
    alone = [model.inference.outputs([task], columns)[0]["mood"] for task in (mean, first)]
    model.inference.model.heads["first"] = model.inference.model.heads["mood"]
    found, _ = model.inference.outputs([mean, replace(first, name="first")], columns)
    del model.inference.model.heads["first"]
    assert np.allclose(found["mood"], alone[0], atol=1e-5)
    assert np.allclose(found["first"], alone[1], atol=1e-5)
    assert not np.allclose(*alone, atol=1e-3)


def test_a_checkpoint_answers_alone_wherever_it_is(run: Path, model: Trained, tmp_path: Path) -> None:
    shutil.copytree(run / "best", tmp_path / "elsewhere")
    for folder in (run / "best", tmp_path / "elsewhere", run / "checkpoints" / (run / "best").resolve().name):
        assert regkit.load(folder).predict("mood", TEXTS) == model.predict("mood", TEXTS)
    assert (regkit.load(run / "best").scores, regkit.load(tmp_path / "elsewhere").scores) == (model.scores, {})


def edited(run: Path, place: Path, change: Callable[[dict[str, object]], None]) -> Path:
    """A copy of the run's best checkpoint whose entry `regkit` was changed by hand, its manifest with it."""
    folder = shutil.copytree(run / "best", place / "edited")
    config = json.loads((folder / "config.json").read_text())
    change(config["regkit"])
    (folder / "config.json").write_text(json.dumps(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = manifests.digest_of(folder / "config.json")
    manifest["files"]["config.json"] = {"bytes": (folder / "config.json").stat().st_size, "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


WRONG: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "no mapping": (lambda tasks: [], "the tasks of regkit"),
    "unknown kind": (
        lambda tasks: tasks["mood"]["objective"].update(kind="oracle"),
        "there is no kind of task 'oracle'",
    ),
    "missing field": (lambda tasks: tasks["mood"]["objective"].pop("classes"), "mood"),
    "names that do not fit": (
        lambda tasks: tasks["mood"]["objective"].update(names=["a"]),
        "of 3 classes needs as many names that differ",
    ),
    "too many classes": (
        lambda tasks: tasks["mood"]["objective"].update(classes=10**15),
        "needs 2 to 65536 classes, not 1000000000000000",
    ),
    "no class": (lambda tasks: tasks["mood"]["objective"].update(classes=-1), "needs 2 to 65536 classes, not -1"),
    "no range": (
        lambda tasks: tasks["near"]["objective"].update(high=float("inf")),
        "needs its lowest score below its highest, not 0.0 and inf",
    ),
    "an unknown field": (lambda tasks: tasks["mood"]["objective"].update(code="x"), "code"),
    "other shape": (lambda tasks: tasks["mood"]["objective"].update(classes=4), "has no head for task 'mood'"),
    "columns that do not fit": (lambda tasks: tasks["mood"].update(text=["a", "b"]), "text names 2 columns"),
    "unknown pooling": (lambda tasks: tasks["mood"].update(pooling="men"), "pooling"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_table_of_tasks_that_was_changed_by_hand_is_one_sentence(run: Path, tmp_path: Path, name: str) -> None:
    change, said = WRONG[name]

    def entry(values: dict[str, object]) -> None:
        found = change(values["tasks"])  # type: ignore[arg-type]
        values["tasks"] = found if found == [] else values["tasks"]

    with pytest.raises(RunError, match=said) as error:
        regkit.load(edited(run, tmp_path, entry))
    assert "\n" not in str(error.value)


def test_an_older_run_is_read_with_its_data_or_says_what_to_do(run: Path, model: Trained, tmp_path: Path) -> None:
    folder = edited(run, tmp_path, lambda values: values.pop("tasks"))
    with pytest.raises(RunError, match="does not describe its tasks; give the folder of its run"):
        regkit.load(folder)
    older = tmp_path / "run"
    older.mkdir()
    folder.rename(older / "best")
    (older / "config.toml").write_text('data = "data"\ntasks = ["mood", "same", "near"]\n')
    with pytest.raises(RunError, match=r"and its data cannot be read: .*data does not exist"):
        regkit.load(older)
    tasks = write_tasks(tmp_path / "run" / "data") / "tasks.toml"
    found = regkit.load(older)
    assert found.predict("mood", TEXTS) == model.predict("mood", TEXTS)
    assert found.predict("near", PAIRS) == model.predict("near", PAIRS)
    tasks.write_text(tasks.read_text().replace("classes = 3", "classes = 4"))
    with pytest.raises(RunError, match="was trained with task 'mood'"):
        regkit.load(older)


REFUSED: list[tuple[Callable[[Trained], object], type[RegkitError], str]] = [
    (lambda model: model.predict(["a"]), ConfigError, "name the one to ask. Available: mood, near, same"),
    (lambda model: model.predict("mod", ["a"]), ConfigError, "Did you mean 'mood'"),
    (lambda model: model.predict("mood"), ConfigError, "is asked about no texts"),
    (lambda model: model.predict("mood", "a text"), DataError, "a list of texts is needed"),
    (lambda model: model.predict("mood", ["a", float("nan")]), DataError, r"texts\[1\] is nan; a text is needed"),
    (lambda model: model.predict("mood", ["a", " "]), DataError, r"texts\[1\] is empty"),
    (lambda model: model.predict("mood", ["\ud800"]), DataError, "half of a surrogate pair"),
    (lambda model: model.predict("same", ["ab"]), DataError, "a tuple of two texts is needed"),
    (lambda model: model.predict("same", [("a", "b", "c")]), DataError, "a tuple of two texts is needed"),
    (lambda model: model.predict_proba("near", PAIRS), ConfigError, "regression, which has no probabilities"),
    (lambda model: model.embed(["a"], "men"), ConfigError, "Did you mean 'mean'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("ask", "kind", "said"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_a_sentence(
    model: Trained, ask: Callable[[Trained], object], kind: type[RegkitError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        ask(model)


def test_a_model_of_one_task_need_not_be_told_which(model: Trained) -> None:
    alone = Trained(model.inference, {"mood": model.tasks["mood"]})
    assert alone.predict(TEXTS) == model.predict("mood", iter(TEXTS))
    assert np.allclose(alone.predict_proba(np.array(TEXTS)), model.predict_proba("mood", TEXTS))


def test_a_model_that_was_only_pretrained_has_vectors_and_no_answers(model: Trained) -> None:
    pretrained = Trained(model.inference, {})
    assert pretrained.embed(TEXTS).shape == (20, 16)
    with pytest.raises(RunError, match="has no task: it was pretrained"):
        pretrained.predict(TEXTS)
