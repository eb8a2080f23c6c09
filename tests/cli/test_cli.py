"""The command line, from a command to what it prints and leaves behind."""

import csv
import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from regkit.cli import app as cli
from regkit.hooks import catalog, option_fields
from regkit.hooks.kinds import KINDS
from tests.helpers import TASKS, Ran, everything_in, install, regkit, sentence, write_csv, write_tasks


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    """A run with a checkpoint that is not its last: two epochs of three steps, scored thrice."""
    ran = train(place, "--output", "run", "--steps", 6, "--lr", 0.01, "-p", "smart:weight=2,steps=1", "-p", "rrobin")
    assert ran.status == 0, ran.err
    return place / "run"


def train(place: Path, *arguments: object, cwd: Path | None = None) -> Ran:
    data = [] if "--data" in arguments else ["--data", place / "data"]
    return regkit("train", "--encoder", place / "encoder", *data, *arguments, cwd=cwd or place)


def read_json(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf8"))


def plan(ran: Ran) -> list[str]:
    assert ran.status == 0, ran.err
    return ran.out.splitlines()


def test_a_run_leaves_config_log_scores_and_two_checkpoints(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"config.toml", "environment.json", "log.jsonl", "scores.json", "checkpoints", "best", "last"} <= names
    assert not [name for name in names if name.startswith(".")]
    assert (finished / "last").resolve().name == "finetune-6"
    assert {path.resolve().name for path in (finished / "best", finished / "last")} == {
        path.name for path in (finished / "checkpoints").iterdir()
    }
    records = [json.loads(line) for line in (finished / "log.jsonl").read_text(encoding="utf8").splitlines()]
    assert [record["step"] for record in records if "losses" in record] == list(range(6))
    assert [record["step"] for record in records if "scores" in record] == [3, 6]
    assert [record["step"] for record in records if "sample" in record] == [0]
    assert all("smart" in terms for record in records if "losses" in record for terms in record["losses"].values())


def test_eval_gives_the_numbers_of_scores_json(finished: Path, place: Path) -> None:
    ran = regkit("eval", "run", "--json", cwd=place)
    assert (ran.status, ran.err) == (0, "")
    scores = json.loads(ran.out)
    assert set(scores) <= {"dev", "warnings"}
    assert list(scores["dev"]) == ["mood", "same", "near"]
    assert scores == read_json(finished / "scores.json")
    lines = regkit("eval", "run", cwd=place).out.splitlines()[:3]
    assert [line.split(": ")[2] for line in lines] == ["mood", "same", "near"]
    assert f"accuracy {scores['dev']['mood']['accuracy']:.3f}" in lines[0]


def test_eval_of_other_splits_and_of_other_data(finished: Path, place: Path, tmp_path: Path) -> None:
    scores = json.loads(regkit("eval", "run", "--split", "train", "--json", cwd=place).out)
    assert set(scores) <= {"train", "warnings"}
    data = write_tasks(tmp_path / "other")
    (data / "near-dev.csv").write_text("one,two,score\nthe tea,the jam,0\nthe tea,the tea,5\nrice,soup,3\n")
    other = json.loads(regkit("eval", "run", "--data", data, "--json", cwd=place).out)["dev"]
    own = json.loads(regkit("eval", "run", "--json", cwd=place).out)["dev"]
    assert other["mood"] == own["mood"]
    assert other["near"] != own["near"]


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.reader(file))


def test_predictions_have_a_row_for_every_example_in_the_order_of_the_file(
    finished: Path, place: Path, tmp_path: Path
) -> None:
    for split in ("dev", "test"):
        assert regkit("eval", "run", "--split", split, "--predictions", tmp_path / "p", cwd=place).status == 0
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "mood-dev.csv",
        "mood-test.csv",
        "near-dev.csv",
        "same-dev.csv",
    ]
    header, *mood = rows(tmp_path / "p" / "mood-dev.csv")
    assert header == ["id", "mood"]
    assert [name for name, _ in mood] == [f"dev{n}" for n in range(20)]
    assert {label for _, label in mood} <= {"0", "1", "2"}
    right = sum(label == str(n % 3) for n, (_, label) in enumerate(mood))
    scores = read_json(finished / "scores.json")["dev"]
    assert right / 20 == pytest.approx(scores["mood"]["accuracy"])
    header, *same = rows(tmp_path / "p" / "same-dev.csv")
    assert header == ["row", "same"]
    assert [name for name, _ in same] == [str(n) for n in range(20)]
    right = sum(label == str(1 - n % 2) for n, (_, label) in enumerate(same))
    assert right / 20 == pytest.approx(scores["same"]["accuracy"])
    assert all(0 <= float(label) <= 5 for _, label in rows(tmp_path / "p" / "near-dev.csv")[1:])
    assert [name for name, _ in rows(tmp_path / "p" / "mood-test.csv")[1:]] == [f"test{n}" for n in range(10)]


def test_an_example_is_predicted_alike_wherever_it_stands_in_the_file(
    finished: Path, place: Path, tmp_path: Path
) -> None:
    data = write_tasks(tmp_path / "data")
    header, *lines = (data / "near-dev.csv").read_text(encoding="utf8").splitlines()
    (data / "near-dev.csv").write_text("\n".join([header, *reversed(lines)]), encoding="utf8")
    for name, folder in (("as it is", place / "data"), ("reversed", data)):
        assert regkit("eval", "run", "--data", folder, "--predictions", tmp_path / name, cwd=place).status == 0
    one, other = (
        [float(row[1]) for row in rows(tmp_path / name / "near-dev.csv")[1:]] for name in ("as it is", "reversed")
    )
    assert len(set(one)) > 5
    assert one == pytest.approx(other[::-1], abs=1e-3)


def learned(place: Path, data: Path, low: float, high: float) -> list[float]:
    """The losses and the predictions, as shares of the range, of a run on scores of that range."""
    scores = [low + n % 11 / 10 * (high - low) for n in range(22)]
    pairs = [{"one": sentence(n), "two": sentence(n + 1), "score": score} for n, score in enumerate(scores)]
    spec = f'kind = "regression"\nrange = [{low}, {high}]\nlabel = "score"\ntrain = "t.csv"\ndev = "t.csv"\n'
    apart = f'[tasks.apart]\ntext = ["one", "two"]\npair_mode = "bi_encoder"\n{spec}'
    data.mkdir()
    write_csv(data / "t.csv", pairs)
    (data / "tasks.toml").write_text(f'[tasks.alone]\ntext = "one"\n{spec}{apart}', encoding="utf8")
    ran = train(place, "--data", data, "--steps", 6, "--lr", 0.01, "-p", "smart", "--output", data / "run")
    assert ran.status == 0, ran.err
    log = [json.loads(line) for line in (data / "run" / "log.jsonl").read_text(encoding="utf8").splitlines()]
    losses = [value for record in log for terms in record.get("losses", {}).values() for value in terms.values()]
    assert regkit("eval", data / "run", "--predictions", data / "p", cwd=place).status == 0
    texts = [text for task in ("alone", "apart") for _, text in rows(data / "p" / f"{task}-dev.csv")[1:]]
    return [*losses, *((float(text) - low) / (high - low) for text in texts)]


def test_scores_are_learned_alike_in_whatever_unit_a_table_has_them(place: Path, tmp_path: Path) -> None:
    """From 0 to 5, within a thousandth, and far from 0."""
    found = learned(place, tmp_path / "points", 0, 5)
    assert len(found) == 6 * 2 + 2 * 22
    assert len(set(found)) > 40
    assert learned(place, tmp_path / "small", 0, 0.001) == pytest.approx(found, rel=1e-4, abs=1e-5)
    assert learned(place, tmp_path / "far", 1e6, 1e6 + 1) == pytest.approx(found, rel=1e-4, abs=1e-5)


def test_predictions_of_named_classes_are_names(place: Path, tmp_path: Path) -> None:
    data = write_tasks(tmp_path / "data")
    names = ["sad", "so, so", "glad"]
    for split in ("train", "dev"):
        write_csv(data / f"mood-{split}.csv", [{"sentence": sentence(n), "mood": names[n % 3]} for n in range(12)])
    text = f'[tasks.mood]\nkind="classification"\nclasses={json.dumps(names)}\ntext="sentence"\nlabel="mood"\n'
    (data / "tasks.toml").write_text(text + 'train="mood-train.csv"\ndev="mood-dev.csv"\n', encoding="utf8")
    assert train(place, "--data", data, "--steps", 2, "--output", tmp_path / "run", cwd=tmp_path).status == 0
    assert regkit("eval", tmp_path / "run", "--predictions", "p", cwd=tmp_path).status == 0
    assert {label for _, label in rows(tmp_path / "p" / "mood-dev.csv")[1:]} <= set(names)


def test_a_test_split_without_labels_is_not_scored_but_explained(finished: Path, place: Path, tmp_path: Path) -> None:
    ran = regkit("eval", "run", "--split", "test", cwd=place)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("mood: the test split has no labels; use --predictions DIR to write predictions.\n")
    assert json.loads(regkit("eval", "run", "--split", "test", "--json", cwd=place).out)["test"] == {}
    ran = regkit("eval", "run", "--split", "test", "--predictions", tmp_path / "p", cwd=place)
    assert ran.out.startswith(f"mood: the test split has no labels; predictions are in {tmp_path / 'p'}.\n")


def test_predictions_that_are_all_one_class_are_said_of_the_best_checkpoint(place: Path, tmp_path: Path) -> None:
    """At the end of training, of training that was gone on with, and by eval, on the terminal and in files."""
    data = write_tasks(tmp_path / "data")
    (data / "tasks.toml").write_text(TASKS[TASKS.index("[tasks.same]") : TASKS.index("[tasks.near]")], encoding="utf8")
    for split in ("train", "dev"):
        pairs = [{"one": sentence(n), "two": "tea", "same": int(n == 7)} for n in range(25)]
        write_csv(data / f"same-{split}.csv", pairs)
    ran = train(place, "--data", data, "--epochs", 2, "--output", "run", cwd=tmp_path)
    said = "same: all 25 predictions on dev are class 0, as are 96 % of its labels: accuracy alone does not show it"
    assert ran.out.count(f"warning: {said}\n") == 1
    (tmp_path / "run" / "finished.json").unlink()
    (tmp_path / "run" / "scores.json").unlink()
    again = regkit("train", "--resume", "run", cwd=tmp_path)
    assert again.out.count(f"warning: {said}\n") == 1, again.err
    for file in ("effects.json", "scores.json"):
        assert read_json(tmp_path / "run" / file)["warnings"] == [said]
    assert regkit("eval", "run", cwd=tmp_path).out.endswith(f"\nwarning: {said}\n")
    assert json.loads(regkit("eval", "run", "--json", cwd=tmp_path).out) == read_json(tmp_path / "run" / "scores.json")


def test_the_config_of_a_run_trains_the_same_run_again(finished: Path, tmp_path: Path) -> None:
    config = tomllib.loads((finished / "config.toml").read_text(encoding="utf8"))
    assert config["plugins"] == {"smart": {"weight": 2.0, "steps": 1}, "rrobin": {}}
    assert [type(value) for value in config["plugins"]["smart"].values()] == [float, int]
    assert (config["steps"], config["learning_rate"], config["seed"]) == (6, 0.01, 0)
    ran = regkit("train", finished / "config.toml", "--output", "again", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert read_json(tmp_path / "again" / "scores.json") == read_json(finished / "scores.json")
    one, other = (folder / "best" / "model.safetensors" for folder in (finished, tmp_path / "again"))
    assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "again" / "config.toml").read_text() == (finished / "config.toml").read_text()


def test_another_seed_is_another_run(finished: Path, tmp_path: Path) -> None:
    assert regkit("train", finished / "config.toml", "--seed", 1, "--output", "other", cwd=tmp_path).status == 0
    assert read_json(tmp_path / "other" / "scores.json") != read_json(finished / "scores.json")


def test_latest_points_to_the_newest_run(place: Path, tmp_path: Path) -> None:
    latest = tmp_path / "runs" / "latest"
    for arguments in ([], ["-p", "rrobin"], ["--output", "elsewhere/mine"]):
        before = set((tmp_path / "runs").glob("2*"))
        assert train(place, "--steps", 1, *arguments, cwd=tmp_path).status == 0
        new = set((tmp_path / "runs").glob("2*")) - before
        newest = new.pop() if new else tmp_path / "elsewhere" / "mine"
        assert latest.is_symlink()
        assert latest.resolve() == newest
        assert newest.name.endswith("-rrobin") == ("rrobin" in arguments)
    assert not os.readlink(latest).startswith("/")
    ran = regkit("eval", "--json", cwd=tmp_path)
    assert json.loads(ran.out) == read_json(tmp_path / "elsewhere" / "mine" / "scores.json")
    assert regkit("eval", "runs/latest", "--json", cwd=tmp_path).out == ran.out


def test_two_runs_of_one_second_have_two_folders(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "20260101-000000")
    for _ in range(2):
        assert train(place, "--steps", 1, "--tasks", "mood", cwd=tmp_path).status == 0
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {"20260101-000000", "20260101-000000-2", "latest"}


def test_a_dry_run_prints_the_plan_and_writes_nothing(place: Path, tmp_path: Path) -> None:
    before = everything_in(place)
    lines = plan(train(place, "--dry-run", "-p", "smart:weight=3", "-p", "only:task=mood", "--epochs", 2, cwd=tmp_path))
    assert not list(tmp_path.iterdir())
    assert everything_in(place) == before
    assert lines[0].startswith(f"encoder: {place}/encoder, ")
    assert "task mood: classification; 24 train, 20 dev, 10 test; batches of 32" in lines
    assert "task same: binary, cross-encoder; 24 train, 20 dev; batches of 32" in lines
    assert "task near: regression, bi-encoder; 24 train, 20 dev; batches of 32" in lines
    assert "plugin smart (weight=3.0): answers extra_losses, measure" in lines
    assert any(line.startswith("plugin only (task=mood): answers ") for line in lines)
    assert "stage finetune: 2 updates, 1 an epoch, peak learning rate 5e-05" in lines
    hooks = ["epoch_steps: only", "choose_tasks: only", "extra_losses: smart", "measure: smart"]
    assert [line for line in lines if line.startswith("hook ")] == [f"hook {hook}" for hook in hooks]


def test_the_plan_says_how_many_texts_are_cut(place: Path, tmp_path: Path) -> None:
    data = write_tasks(tmp_path / "data")
    long = [{"id": n, "sentence": "a" * (47 if n < 3 else 46), "mood": n % 3} for n in range(12)]
    write_csv(data / "mood-train.csv", long)
    lines = plan(train(place, "--data", data, "--dry-run", cwd=tmp_path))
    cut = [line for line in lines if "truncated" in line]
    assert cut == ["  3 train texts (25 %) are longer than 48 tokens, and were truncated"]
    assert lines.index(cut[0]) == lines.index("task mood: classification; 12 train, 20 dev, 10 test; batches of 32") + 1


def test_the_command_line_comes_before_the_config_file(place: Path, tmp_path: Path) -> None:
    config = tmp_path / "recipe.toml"
    text = f'data = "{place}/data"\nencoder = "{place}/encoder"\nsteps = 5\nlearning_rate = 0.25\ntasks = ["near"]\n'
    config.write_text(text + "[plugins.rrobin]\n[plugins.smart]\nweight = 3.0\nsteps = 2\n", encoding="utf8")
    lines = plan(regkit("train", config, "--dry-run", cwd=tmp_path))
    assert "stage finetune: 5 updates, 1 an epoch, peak learning rate 0.25" in lines
    assert [line.split(":")[0] for line in lines if line.startswith("task")] == ["task near"]
    changed = ["--epochs", 4, "--lr", 0.5, "--tasks", "same,mood", "--batch-size", 12, "-p", "smart:weight=9"]
    lines = plan(regkit("train", config, "--dry-run", *changed, cwd=tmp_path))
    assert "stage finetune: 16 updates, 4 an epoch, peak learning rate 0.5" in lines
    assert [line.split(":")[0] for line in lines if line.startswith("task")] == ["task same", "task mood"]
    plugins = [line for line in lines if line.startswith("plugin")]
    assert [line.split(":")[0] for line in plugins] == ["plugin rrobin", "plugin smart (weight=9.0, steps=2)"]


def test_paths_in_a_config_file_start_at_its_folder(place: Path, tmp_path: Path) -> None:
    (place / "near.toml").write_text('data = "data"\nencoder = "encoder"\nsteps = 1\n', encoding="utf8")
    lines = plan(regkit("train", place / "near.toml", "--dry-run", cwd=tmp_path))
    assert lines[0].startswith(f"encoder: {place}/encoder, ")


def test_a_task_without_a_dev_split_trains_all_the_same(place: Path, tmp_path: Path) -> None:
    data = write_tasks(tmp_path / "data")
    (data / "tasks.toml").write_text(TASKS.replace("dev = ", "# "), encoding="utf8")
    ran = train(place, "--data", data, "--steps", 2, "--output", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()


def test_plugins_are_listed_by_kind_with_the_first_line_of_their_modules() -> None:
    lines = regkit("plugins", cwd=Path.cwd()).out.splitlines()
    expected = []
    for kind in KINDS:
        expected.append(kind)
        for name, point in catalog.installed().items():
            if catalog.kind(name, point) == kind:
                first = (importlib.import_module(point.module).__doc__ or "").strip().splitlines()[0]
                expected.append(f"  {name}  {first}")
    assert lines == expected


@pytest.mark.parametrize("name", ["--lr", "--learning-rate", "learning_rate", "learning-rate"])
def test_a_setting_is_explained_by_each_of_its_names(name: str) -> None:
    ran = regkit("settings", name, cwd=Path.cwd())
    assert (ran.status, ran.out.partition(" ")[0]) == (0, "learning_rate")


def test_a_switch_is_explained_by_the_name_that_turns_it_off() -> None:
    assert regkit("settings", "--no-finetune", cwd=Path.cwd()).out.startswith("finetune (bool; ")


def test_a_plugin_is_explained_option_by_option() -> None:
    out = " ".join(regkit("plugins", "smart", cwd=Path.cwd()).out.split())
    assert out.startswith("smart SMART: ")
    for option in option_fields.options(catalog.load_class("smart")).values():
        assert f" {option.name} {option.type} {option.default} " in out
    assert "weight float 1.0 0.1 to 10, log Strength of the term" in out
    only = regkit("plugins", "only", cwd=Path.cwd()).out.splitlines()
    assert "task str needed Name of the task to train." in [" ".join(line.split()) for line in only]


def test_options_of_a_plugin_to_explain_are_refused_by_name_and_not_taken_for_a_part_of_its_name() -> None:
    ran = regkit("plugins", "smart:weight=3", cwd=Path.cwd())
    assert ran.status == 2
    assert "'smart' is explained with all its options; leave out 'weight=3'." in " ".join(ran.err.split())
    assert "Did you mean 'smart'?" in regkit("plugins", "smrt:weight=3", cwd=Path.cwd()).err


FAKE = '''
"""Fake: averages [CLS] and [/b] (Nobody, 2020).

Then [red]more[/red].
"""
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Plugin:
    weight: float = 1.0
    """Weight in [0, 1], not [bold]."""

    @hookimpl
    def after_step(self) -> None: ...
'''


def test_brackets_in_a_strangers_words_are_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, fake=FAKE)
    assert (
        regkit("plugins", cwd=tmp_path).out == "optimization\n  fake  Fake: averages [CLS] and [/b] (Nobody, 2020).\n"
    )
    explained = regkit("plugins", "fake", cwd=tmp_path)
    assert explained.status == 0
    assert "Then [red]more[/red]." in explained.out
    assert "Weight in [0, 1], not [bold]." in explained.out


def test_a_plugin_that_cannot_be_imported_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, broken="1 / 0\n", fake=FAKE)
    ran = regkit("plugins", cwd=tmp_path)
    assert ran.status == 0
    assert "fake  Fake: " in ran.out
    assert "plugin 'broken' (stranger_broken:Plugin) cannot be imported: ZeroDivisionError" in ran.out


def test_no_command_is_the_help() -> None:
    ran = regkit(cwd=Path.cwd())
    assert "Usage: " in ran.out + ran.err
    for command in ("train", "eval", "plugins"):
        assert command in ran.out + ran.err
        assert regkit(command, "--help", cwd=Path.cwd()).status == 0


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    environment |= {"python": sys.executable, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True)


def test_where_no_terminal_reads_there_are_no_control_characters(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    words = ["train", "--data", place / "data", "--encoder", place / "encoder", "--steps", 4, "--output", "run"]
    ran = regkit(*words, cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.isascii()
    assert all(character.isprintable() or character == "\n" for character in ran.out)
    lines = ran.out.splitlines()
    assert lines[-2:] == ["to answer for new texts: regkit predict run FILE", "to evaluate it: regkit eval run"]
    assert any(line.startswith("step 4/4 | mood ") for line in lines)
    assert sum(line.startswith("best checkpoint: dev: ") for line in lines) == 3


def test_the_installed_script_says_what_is_wrong_in_one_sentence(place: Path, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("regkit")
    if not script.exists():
        pytest.skip("regkit is not installed beside this Python")
    done = shell(f"{script} train --data {place}/data --encoder {place}/encoder -p smrt", tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("regkit: there is no plugin 'smrt'. Did you mean 'smart'? Available: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_demo_trains_with_nothing_named(minilm: Path, tmp_path: Path) -> None:
    ran = regkit("train", "--steps", 2, "--batch-size", 4, "--output", "run", cwd=tmp_path, demo=True)
    assert ran.status == 0, ran.err
    assert list(json.loads(regkit("eval", "run", "--json", cwd=tmp_path).out)["dev"]) == [
        "sentiment",
        "paraphrase",
        "similarity",
    ]


@pytest.mark.slow
def test_the_course_files_train_as_they_stand(course: Path, bert_tiny: Path, tmp_path: Path) -> None:
    arguments = ["--data", course, "--encoder", bert_tiny, "--steps", 4, "--batch-size", 4, "--output", "run"]
    ran = regkit("train", *arguments, cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert regkit("eval", "run", "--split", "test", "--predictions", "p", cwd=tmp_path).status == 0
    assert {path.name: len(rows(path)) - 1 for path in (tmp_path / "p").iterdir()} == {
        "sst-test.csv": 2210,
        "quora-test.csv": 4000,
        "sts-test.csv": 1725,
    }


@pytest.mark.parametrize("command", [*cli.COMMANDS, *cli.GROUPS])
def test_under_torchrun_a_command_that_is_one_process_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    ran = regkit(command, "--no-such-option", cwd=tmp_path)
    refused = (
        f"regkit: regkit {command} is one process; start it without torchrun, which is for train, pretrain, eval, work."
    )
    assert ran.status == 2
    assert ran.err.startswith(refused) == (command not in cli.SHARED)


def test_what_torchrun_left_in_the_environment_is_to_be_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    ran = regkit("runs", cwd=tmp_path)
    said = "regkit: regkit runs is one process, and RANK and WORLD_SIZE say that it is one of 2; unset both."
    assert (ran.status, ran.err.strip()) == (2, said)
