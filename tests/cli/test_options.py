"""Settings as options: each is given on the command line, and arrives in the run."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from regkit.cli.commands.training import DOMAIN, DOMAINS_OWN
from regkit.cli.options import flag
from regkit.hooks import catalog
from regkit.runs.elsewhere import HINTS, no_option
from regkit.runs.settings import Settings, options
from tests.helpers import regkit

# Every setting but `plugins`: what is typed, and the value that it means.
GIVEN: dict[str, tuple[list[str], Any]] = {
    "data": (["--data", "data"], None),
    "tasks": (["--tasks", "near, mood"], ["near", "mood"]),
    "pair_mode": (["--pair-mode", "near=cross_encoder"], {"near": "cross_encoder"}),
    "subsample": (["--subsample", "near=20", "--subsample", "mood=0.5"], {"near": 20, "mood": 0.5}),
    "label_noise": (["--label-noise", "near=0.1", "--label-noise", "mood=0.5"], {"near": 0.1, "mood": 0.5}),
    "encoder": (["--encoder", "encoder"], None),
    "encoder_factory": (["--encoder-factory", "tests.model.test_own:Words"], "tests.model.test_own:Words"),
    "fresh_heads": (["--fresh-heads"], True),
    "finetune": (["--finetune"], True),
    "steps": (["--steps=1"], 1),
    "eval_steps": (["--eval-steps", "1"], 1),
    "score_first": (["--score-first"], True),
    "patience": (["--patience", "4"], 4),
    "batch_size": (["--batch-size", "8"], 8),
    "learning_rate": (["--lr", "1e-3"], 1e-3),
    "warmup": (["--warmup", "0.25"], 0.25),
    "weight_decay": (["--weight-decay", "0"], 0.0),
    "clip": (["--clip", "0.5"], 0.5),
    "dropout": (["--dropout", "0.2"], 0.2),
    "pooling": (["--pooling", "max"], "max"),
    "max_length": (["--max-length", "40"], 40),
    "length_bucketing": (["--no-length-bucketing"], False),
    "max_skipped": (["--max-skipped", "3"], 3),
    "measure_every": (["--measure-every", "0"], 0),
    "seed": (["--seed", "-7"], -7),
    "device": (["--device", "cpu"], "cpu"),
    "precision": (["--precision", "fp32"], "fp32"),
    "cuda_graphs": (["--no-cuda-graphs"], False),
    "micro_batch_tokens": (["--micro-batch-tokens", "512"], 512),
    "memory": (["--memory", "64 GB"], 64 * 10**9),
    "save_steps": (["--save-steps", "1"], 1),
    "save_minutes": (["--save-minutes", "0"], 0.0),
    "keep": (["--keep", "3"], 3),
    "keep_state": (["--keep-state"], True),
    "monitor": (["--monitor", "near.pearson"], "near.pearson"),
    "group": (["--group", "table-1/smart"], "table-1/smart"),
}
OF_A_TABLE: dict[str, tuple[list[str], Any]] = {  # what a declaration in a file says instead; epochs in place of steps
    "epochs": (["--epochs", "1"], 1),
    "text": (["--text", "one", "--text", "two"], ["one", "two"]),
    "label": (["--label", "same"], "same"),
    "kind": (["--kind", "classification"], "classification"),
    "dev": (["--dev", "0.25"], 0.25),
    "test": (["--test", "data/same-dev.csv"], "data/same-dev.csv"),
}


def test_every_setting_can_be_given_and_is_what_the_run_was_trained_with(place: Path, tmp_path: Path) -> None:
    assert {*GIVEN, *OF_A_TABLE, "labels", "plugins"} == set(Settings.model_fields)
    words = [word for typed, _ in GIVEN.values() for word in typed]
    ran = regkit("train", *words, "--output", tmp_path / "run", cwd=place)
    assert ran.status == 0, ran.err
    written = tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf8"))
    expected = {name: value for name, (_, value) in GIVEN.items() if value is not None}
    assert expected.items() <= written.items()
    assert (written["data"], written["encoder"]) == (str(place / "data"), str(place / "encoder"))


def test_every_setting_of_a_table_can_be_given_and_is_what_the_run_was_trained_with(
    place: Path, tmp_path: Path
) -> None:
    words = [word for typed, _ in OF_A_TABLE.values() for word in typed]
    table = ("--data", "data/same-train.csv", "--encoder", "encoder")
    ran = regkit("train", *table, *words, "--output", tmp_path / "run", cwd=place)
    assert ran.status == 0, ran.err
    written = tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf8"))
    expected = {name: value for name, (_, value) in OF_A_TABLE.items()} | {"test": str(place / "data" / "same-dev.csv")}
    assert expected.items() <= written.items()


def test_none_leaves_out_what_a_file_gives_and_is_noted(place: Path, tmp_path: Path) -> None:
    given = "dropout = 0.2\npooling = 'max'\n[plugins.smart]\nsigma = 0.5\neta = 'none'\n"
    (tmp_path / "c.toml").write_text(given, encoding="utf8")
    left_out = ("--dropout", "none", "--pooling", "none", "-p", "smart:sigma=none")
    here = ("--data", "data", "--encoder", "encoder", "--steps", "1", "--output", tmp_path / "run")
    ran = regkit("train", tmp_path / "c.toml", *here, *left_out, cwd=place)
    assert ran.status == 0, ran.err
    written = tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf8"))
    assert "dropout" not in written
    assert written["pooling"] == "pooler"
    assert written["plugins"]["smart"] == {"sigma": "none", "eta": "none"}
    assert catalog.make("smart", written["plugins"]["smart"]) == catalog.make("smart", {})


def test_tasks_are_named_with_commas_or_one_by_one(place: Path) -> None:
    words = ("train", "--encoder", "encoder", "--data", "data", "--dry-run")
    one, other, mixed = (
        regkit(*words, *[word for names in given for word in ("--tasks", names)], cwd=place)
        for given in (["near,same,mood"], ["near", "same", "mood"], ["near, same", "mood"])
    )
    assert one.status == 0, one.err
    assert all(f"task {name}: " in one.out for name in ("near", "same", "mood"))
    assert one.out == other.out == mixed.out


@pytest.mark.parametrize("name", ["learning_rate", "length_bucketing", "finetune"])
def test_a_setting_has_its_own_name_and_a_switch_can_be_turned_on_and_off(place: Path, name: str) -> None:
    words = ("train", "--encoder", "encoder", "--data", "data", "--dry-run")
    if name == "learning_rate":
        lines = regkit(*words, "--learning-rate", "0.5", cwd=place).out
        assert "peak learning rate 0.5" in lines
        return
    (place / "c.toml").write_text(f"{name} = false\n", encoding="utf8")
    assert regkit("train", "c.toml", *words[1:], flag(name), cwd=place).status == 0
    ran = regkit("train", "c.toml", *words[1:], flag(f"no_{name}"), cwd=place)
    assert (ran.status, "fine-tuning is off" in ran.err) == ((2, True) if name == "finetune" else (0, False))


def test_pretraining_has_the_defaults_of_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # an option a line
    lines = regkit("pretrain", "--help", cwd=Path.cwd()).out.splitlines()
    plugin = catalog.shown_options(DOMAIN)
    for name in DOMAINS_OWN:
        (line,) = [line for line in lines if re.match(rf"│ {flag(name)}[ ,]", line)]
        default = plugin[name].default
        assert line.count(f"[default: {default}]") == 1 if default is not None else "default" not in line


def test_the_settings_of_pretraining_reach_the_plugin_and_the_run(place: Path, tmp_path: Path) -> None:
    (place / "c.txt").write_text("A cake. A tea.\n\n" * 12, encoding="utf8")
    words = ("pretrain", "--corpus", "c.txt", "--encoder", "encoder", "--output", tmp_path / "out")
    ran = regkit(*words, "--steps", "2", "--lr", "1e-3", "--batch-size", "4", "--clip", "0.5", "--keep", "3", cwd=place)
    assert ran.status == 0, ran.err
    written = tomllib.loads((tmp_path / "out" / "config.toml").read_text(encoding="utf8"))
    given = {"steps": 2, "learning_rate": 1e-3, "batch_size": 4}
    assert given.items() <= written["plugins"]["domain"].items()
    assert (written["clip"], written["keep"], written["finetune"]) == (0.5, 3, False)
    assert (written["epochs"], written["batch_size"], written["learning_rate"]) == (3, 32, 5e-5)


def test_a_run_goes_on_without_the_encoder_that_it_began_with(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "encoder", tmp_path / "encoder")
    words = ("train", "--encoder", "encoder", "--data", place / "data", "--steps", 2, "--output", "run")
    assert regkit(*words, cwd=tmp_path).status == 0
    shutil.rmtree(tmp_path / "encoder")
    ran = regkit("train", "--resume", "run", cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert "run is finished" in ran.out


def test_a_finished_run_is_not_given_other_data_in_vain(place: Path, tmp_path: Path) -> None:
    words = ("train", "--encoder", place / "encoder", "--steps", 1, "--output", "run", "--data")
    assert regkit(*words, place / "data", cwd=tmp_path).status == 0
    shutil.copytree(place / "data", tmp_path / "other")
    (tmp_path / "link").symlink_to(place / "data")
    refused = regkit("train", "--resume", "run", "--data", "other", cwd=tmp_path)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "run is finished, and was trained on " in refused.err
    assert "leave the data out" in refused.err
    assert "run is finished" in regkit("train", "--resume", "run", "--data", "link", cwd=tmp_path).out


@pytest.mark.parametrize("name", HINTS)
def test_what_is_called_otherwise_elsewhere_names_an_option_that_is_here(name: str) -> None:
    known = {flag(setting) for setting in options()} | {
        "--plugin",
        "--output",
        "--resume",
        "--lr",
        "--no-length-bucketing",
    }
    said = no_option(f"--{name}", known)
    assert said.startswith(f"there is no option --{name}. ")
    assert said.endswith(f"{HINTS[name]}.")
    assert flag(name) not in known
    named = [word for word in re.findall(r"--[\w-]+", HINTS[name]) if word != "--config"]
    assert set(named) <= known
    assert len(said) <= 180
