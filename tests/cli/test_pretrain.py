"""regkit pretrain: the domain stage alone, from the command line to an encoder folder that others read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import everything_in, regkit, sentence, write_encoder, write_tasks


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with `encoder`, `data`, and a corpus of 24 documents of four passages."""
    write_encoder(tmp_path / "encoder")
    write_tasks(tmp_path / "data")
    documents = ["\n".join(sentence(4 * number + part) for part in range(4)) for number in range(24)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(documents) + "\n", encoding="utf8")
    return tmp_path


COMMAND = ("pretrain", "--corpus", "corpus.txt", "--encoder", "encoder", "--output", "domain-bert")


def test_it_leaves_a_folder_that_is_an_encoder_and_a_run_that_is_finished(place: Path) -> None:
    from transformers import BertForPreTraining

    ran = regkit(*COMMAND, "--steps", 6, "--lr", 0.01, cwd=place)
    assert ran.status == 0, ran.err
    assert "to build on it: regkit train --encoder domain-bert" in ran.out
    assert "stage domain: 6 updates" in ran.out
    assert "finetune" not in ran.out
    assert "tokens/s" in ran.out
    folder = place / "domain-bert"
    found, info = BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    best = load_file(folder / "best" / "model.safetensors")
    assert torch.equal(found.cls.predictions.transform.dense.weight, best["heads.mlm.transform.weight"])
    assert not [name for name in load_file(folder / "model.safetensors") if name.startswith("heads.")]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"mlm", "nsp"} == set(log[0]["sample"]["dev"])
    again = regkit("train", "--resume", "domain-bert", cwd=place)
    assert (again.status, "is finished" in again.out) == (0, True), again.err


def test_the_next_run_takes_it_as_its_encoder(place: Path) -> None:
    assert regkit(*COMMAND, "--steps", 3, cwd=place).status == 0
    ran = regkit("train", "--encoder", "domain-bert", "--data", "data", "--steps", 2, cwd=place)
    assert ran.status == 0, ran.err
    ran = regkit("pretrain", "--corpus", "corpus.txt", "--encoder", "domain-bert", "--steps", 1, cwd=place)
    assert ran.out.count(": used\n") == 2, ran.err


def test_the_texts_of_tasks_are_a_corpus_and_other_options_are_the_plugins(place: Path) -> None:
    command = ("pretrain", "--corpus", "tasks", "--data", "data", "--encoder", "encoder", "--output", "out")
    ran = regkit(
        *command, "--steps", 2, "-p", "domain:whole_words=true,mask=0.3", "-p", "rrobin:stages=domain", cwd=place
    )
    assert ran.status == 0, ran.err
    assert "whole_words=True" in ran.out
    assert "task mood" not in ran.out


def test_what_is_pretrained_has_no_task_to_score(place: Path) -> None:
    assert regkit(*COMMAND, "--steps", 1, cwd=place).status == 0
    ran = regkit("eval", "domain-bert", cwd=place)
    assert ran.status == 2
    assert ran.err == (
        "regkit: domain-bert was pretrained, and has no task to score; its dev scores are in scores.json.\n"
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--corpus", "nowhere"), "no file matches"),
        (("-p", "domain:lenght=9"), "'domain' has no option 'lenght'. Did you mean 'length'?"),
        (
            ("-p", "smart:stages=domian"),
            "'smart' shall act in stage 'domian'. Did you mean 'domain'? Available: domain.",
        ),
        (
            ("-p", "smart"),
            "'smart' acts in no stage of this run, which is 'domain'; smart:stages=domain lets it.",
        ),
        (
            ("--steps", 3, "-p", "domain:epochs=2"),
            "'domain' has epochs and steps, and either says how long it trains; leave one of them out.",
        ),
        (("--corpus", "tasks"), "'domain' has no tasks whose texts it could read; name a corpus, or --data."),
        (("--epochs", 0), "--epochs is '0'; "),
    ],
)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing_behind(
    place: Path, more: tuple[object, ...], says: str
) -> None:
    before = everything_in(place)
    ran = regkit(*COMMAND, *more, cwd=place)
    assert ran.status == 2
    assert ran.err.startswith("regkit: ")
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert everything_in(place) == before


def test_without_fine_tuning_and_without_a_stage_there_is_nothing_to_do(place: Path) -> None:
    (place / "c.toml").write_text('finetune = false\nencoder = "encoder"\n')
    ran = regkit("train", "c.toml", cwd=place)
    assert (ran.status, ran.err) == (
        2,
        "regkit: there is no stage to train: fine-tuning is off, and no plugin adds one.\n",
    )


def test_a_dry_run_says_what_it_would_do_and_does_nothing(place: Path) -> None:
    ran = regkit(*COMMAND, "--dry-run", cwd=place)
    assert ran.status == 0, ran.err
    assert "step of mlm" in ran.out
    assert not (place / "domain-bert").exists()
