"""Precision through the commands: a run has one, and all that goes on with it or asks it has the same."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import regkit as library
from regkit.training import precision
from tests.helpers import regkit, write_encoder, write_tasks

SHORT = ("--steps", 2, "--batch-size", 8, "--lr", 0.01, "--device", "cpu")


@pytest.fixture(scope="module", autouse=True)
def fast_bf16(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """On this module's machine, bf16 is twice as fast, also for a tiny encoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "NARROW", 8)
        patch.setattr(precision, "measure", lambda inputs, outputs: 0.5)
        patch.setenv("REGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder`, `data` and the run `run`, which chose bf16."""
    folder = tmp_path_factory.mktemp("here")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    ran = regkit("train", "--data", "data", "--encoder", "encoder", *SHORT, "--output", "run", cwd=folder)
    assert ran.status == 0, ran.err
    said = "on cpu in bf16, since a matrix product in bf16 takes 0.50 of its time in fp32; a text is"
    assert said in " ".join(ran.out.split())
    return folder


def test_a_run_notes_the_precision_that_it_chose(here: Path) -> None:
    assert tomllib.loads((here / "run" / "config.toml").read_text(encoding="utf8"))["precision"] == "bf16"


def test_eval_and_load_answer_in_the_precision_of_training_and_say_so(here: Path) -> None:
    trained = json.loads((here / "run" / "scores.json").read_text(encoding="utf8"))["dev"]
    found = json.loads(regkit("eval", "run", "--json", cwd=here).out)
    assert found["dev"] == trained
    assert "scored in bf16, as the run was trained" in regkit("eval", "run", cwd=here).out
    fine = json.loads(regkit("eval", "run", "--precision", "fp32", "--json", cwd=here).out)
    assert fine["dev"] != trained
    assert str(library.load(here / "run").precision) == "bf16, as the run was trained"
    assert str(library.load(here / "run", precision="fp32").precision) == "fp32, though the run was trained in bf16"


def test_predict_says_in_which_precision_it_answers(here: Path) -> None:
    (here / "texts.txt").write_text("the cake is good\n", encoding="utf8")
    asked = ("predict", "run", "texts.txt", "--task", "mood")
    coarse, fine = (regkit(*asked, "--precision", name, cwd=here) for name in ("auto", "fp32"))
    assert "answered in bf16, as the run was trained" in coarse.err
    assert "answered in fp32, though the run was trained in bf16" in " ".join(fine.err.split())
    assert coarse.out != fine.out


def test_a_resumed_run_keeps_its_precision_wherever_it_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = 'data = "data"\nencoder = "encoder"\nsteps = 2\nbatch_size = 8\nlearning_rate = 0.01\ndevice = "cpu"\nsave_steps = 1\n'
    (here / "open.toml").write_text(given, encoding="utf8")
    assert regkit("train", "open.toml", "--output", "resumed", cwd=here).status == 0
    (here / "resumed" / "finished.json").unlink()
    monkeypatch.setattr(precision, "kept_ratio", lambda *shape: 3.0)  # a machine without the instructions
    ran = regkit("train", "open.toml", "--resume", "resumed", cwd=here)  # which leaves the precision open
    assert ran.status == 0, ran.err
    assert "on cpu in bf16, as the run began; a text is" in " ".join(ran.out.split())
    (here / "resumed" / "finished.json").unlink()
    other = regkit("train", "--resume", "resumed", "--precision", "fp32", cwd=here)
    assert (other.status, "has precision = bf16, not fp32" in " ".join(other.err.split())) == (2, True)


def test_a_run_of_an_older_version_that_noted_no_precision_goes_on_as_it_was_trained(here: Path) -> None:
    train = ("train", "--data", "data", "--encoder", "encoder", *SHORT, "--output", "older")
    assert regkit(*train, cwd=here).status == 0
    (here / "older" / "finished.json").unlink()
    config = here / "older" / "config.toml"
    config.write_text(config.read_text(encoding="utf8").replace('"bf16"', '"auto"'), encoding="utf8")
    ran = regkit("train", "--resume", "older", cwd=here)
    assert "on cpu in fp32, as the run began; a text is" in " ".join(ran.out.split()), ran.err


@pytest.mark.slow
def test_all_runs_of_a_study_have_the_precision_that_it_began_with(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = (
        "ablate",
        "--data",
        "data",
        "--encoder",
        "encoder",
        *SHORT,
        "--tasks",
        "mood",
        "-p",
        "rdrop",
        "--output",
        "s",
    )
    assert regkit(*study, "--seeds", 1, cwd=here).status == 0
    assert tomllib.loads((here / "s" / "study.toml").read_text(encoding="utf8"))["precision"] == "bf16"
    monkeypatch.setattr(precision, "kept_ratio", lambda *shape: 3.0)
    ran = regkit(*study, "--seeds", 2, cwd=here)
    assert ran.status == 0, ran.err
    configs = [tomllib.loads(path.read_text(encoding="utf8")) for path in (here / "s").rglob("config.toml")]
    assert [each["precision"] for each in configs] == ["bf16"] * 4


def test_a_study_of_a_plugin_that_is_too_fine_for_bf16_is_in_fp32(here: Path) -> None:
    given = ["--encoder", "encoder", "--data", "data", "--tasks", "mood", "--batch-size", "8", "--steps", "2"]
    for name, sets, wanted in (("fine", ["plain", "smart"], "fp32"), ("coarse", ["plain", "rdrop"], "bf16")):
        rows = [word for each in sets for word in ("-p", each)]
        ran = regkit("ablate", *given, *rows, "--seeds", "1", "--jobs", "0", "--output", name, cwd=here)
        assert ran.status == 0, ran.err
        assert tomllib.loads((here / name / "study.toml").read_text(encoding="utf8"))["precision"] == wanted


@pytest.mark.parametrize("command", [("ablate", "-p", "rdrop"), ("tune", "--space", "learning_rate")])
def test_a_study_notes_that_its_runs_repeat_cuda_graphs_and_goes_on_where_that_is_asked(
    command: tuple[str, ...], here: Path
) -> None:
    given = [*command, "--encoder", "encoder", "--data", "data", "--tasks", "mood", *SHORT, "--jobs", "0"]
    study = [*given, "--output", f"graphs-{command[0]}"]
    assert regkit(*study, cwd=here).status == 0
    for more in ([], ["--cuda-graphs"]):
        ran = regkit(*study, *more, cwd=here)
        assert ran.status == 0, ran.err
    refused = regkit(*study, "--no-cuda-graphs", cwd=here)
    assert refused.status == 2
    assert "cuda_graphs = True, not False" in " ".join(refused.err.split())
