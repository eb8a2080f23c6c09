"""Data from the command line: a table alone is trained on, gone on with and scored, and `regkit data` declares it."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.cli.test_bad_input import is_one_sentence
from tests.helpers import Ran, regkit, sentence, write_csv, write_encoder

STARS = [{"id": n, "review": sentence(n), "stars": 1 + n % 3} for n in range(30)]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder, tables of everyday names, and a run that was stopped by its number of updates."""
    folder = tmp_path_factory.mktemp("bare")
    write_encoder(folder / "encoder")
    write_csv(folder / "reviews.csv", STARS)
    write_csv(folder / "new.csv", STARS[:7], ";")
    ran = train(folder, "--text", "review", "--label", "stars", "--output", "run")
    assert ran.status == 0, ran.err
    return folder


def train(folder: Path, *more: object, data: str = "reviews.csv") -> Ran:
    return regkit("train", "--data", data, "--encoder", "encoder", "--steps", 2, *more, cwd=folder)


def test_one_file_is_enough_and_what_was_read_off_it_is_said_and_kept(bare: Path) -> None:
    said = train(bare, "--dry-run").out
    assert "task reviews: classification; 27 train, 3 dev" in said
    assert "guessed by their names: text is review, label is stars; --text and --label say otherwise" in said
    assert "read off stars: classification with the classes 1, 2, 3" in said
    assert "dev: 3 of the 30 training rows are held out" in said
    kept = tomllib.loads((bare / "run" / "config.toml").read_text(encoding="utf8"))
    assert kept["labels"] == {"reviews": {"kind": "classification", "classes": ["1", "2", "3"]}}
    assert (kept["text"], kept["label"], kept["tasks"]) == (["review"], "stars", ["reviews"])


def test_a_run_is_scored_on_its_own_held_out_rows_and_on_every_row_of_another_table(bare: Path) -> None:
    for more, count in (((), 3), (("--data", "new.csv"), 7)):
        ran = regkit("eval", "run", *more, "--predictions", "p", cwd=bare)
        assert ran.status == 0, ran.err
        lines = (bare / "p" / "reviews-dev.csv").read_text(encoding="utf8").splitlines()
        assert len(lines) == 1 + count
        assert {line.split(",")[1] for line in lines[1:]} <= {"1", "2", "3"}


def test_the_same_command_goes_on_with_a_run_although_it_says_less_than_the_run_knows(bare: Path) -> None:
    ran = train(bare, "--output", "run", "--resume", "auto")
    assert (ran.status, "run is finished" in ran.out) == (0, True), ran.err
    is_one_sentence(refused := train(bare, "--output", "run", "--resume", "auto", "--label", "id"))
    assert "has label = stars, not id" in refused.err


def test_what_a_config_notes_of_labels_is_forgotten_where_others_are_read(bare: Path) -> None:
    write_csv(bare / "scores.csv", [{"review": sentence(n), "stars": n / 100} for n in range(30)])

    def planned(*more: object) -> str:
        ran = regkit("train", "run/config.toml", *more, "--dry-run", cwd=bare)
        assert ran.status == 0, ran.err
        return ran.out

    assert "read off" not in planned("--seed", 5)
    assert "read off stars: ordinal with the classes 1, 2, 3" in planned("--kind", "ordinal")
    assert "read off stars: regression from 0 to 0.29" in planned("--data", "scores.csv")
    assert "read off id: regression" in planned("--label", "id")


def test_kind_pair_dev_and_test_can_be_given(bare: Path) -> None:
    said = train(
        bare,
        "--kind",
        "regression",
        "--label",
        "stars",
        "--text",
        "review",
        "--text",
        "id",
        "--dev",
        "new.csv",
        "--test",
        "new.csv",
        "--dry-run",
    )
    assert "task reviews: regression, cross-encoder; 30 train, 7 dev, 7 test" in said.out, said.err
    assert "read off stars: regression from 1 to 3" in said.out
    assert "30 train" in train(bare, "--dev", "0", "--dry-run").out
    assert "15 train, 15 dev" in train(bare, "--dev", "0.5", "--dry-run").out


def test_a_settings_file_says_the_same_with_paths_that_start_at_its_folder(bare: Path, tmp_path: Path) -> None:
    (bare / "mine.toml").write_text(
        'data = "reviews.csv"\nencoder = "encoder"\ntext = "review"\nlabel = "stars"\ndev = "new.csv"\ntest = "new.csv"\n',
        encoding="utf8",
    )
    ran = regkit("train", bare / "mine.toml", "--dry-run", cwd=tmp_path)
    assert "task reviews: classification; 30 train, 7 dev, 7 test" in ran.out, ran.err


def test_a_run_is_trained_again_and_scored_with_its_table_under_another_name(bare: Path) -> None:
    write_csv(bare / "moved.csv", STARS)
    ran = regkit("train", "run/config.toml", "--data", "moved.csv", "--output", "again", cwd=bare)
    assert "task reviews: classification; 27 train, 3 dev" in ran.out, ran.err
    assert "again: dev: reviews: " in regkit("eval", "again", cwd=bare).out
    assert "task stars: " in train(bare, "--tasks", "stars", "--dry-run").out
    is_one_sentence(refused := train(bare, "--tasks", "to", "--dry-run"))
    assert "there is no task 'to'. " in refused.err


def test_a_folder_with_files_called_after_splits_is_a_task(bare: Path) -> None:
    (bare / "cloned" / "data").mkdir(parents=True)
    (bare / "mood").mkdir()
    for name in ("train", "validation", "test"):
        write_csv(bare / "mood" / f"{name}.csv", STARS)
        write_csv(bare / "cloned" / "data" / f"{name}-00000-of-00001.csv", STARS)
    for name in ("mood", "cloned"):
        assert f"task {name}: classification; 30 train, 30 dev, 30 test" in train(bare, "--dry-run", data=name).out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            ("--text", "reviw"),
            "reviews.csv has no column 'reviw'. Did you mean 'review'? Available: id, review, stars.",
        ),
        (("--text", "a", "--text", "b", "--text", "c"), "--text is ['a', 'b', 'c']; list should have at most 2 items"),
        (("--kind", "regresion"), "--kind is 'regresion'; input should be 'classification', "),
        (("--dev", "1.5"), "--dev is 1.5; input should be less than 1."),
        (("--dev", "nowhere.csv"), "nowhere.csv does not exist."),
        (
            ("--text", "stars", "--data", "three.csv"),
            "three.csv: name the columns by --label COLUMN. Available: a, b, stars.",
        ),
        (("--data", "one.csv", "--dev", "0.1"), "one.csv: no dev split can be made of it: a row of each class stays"),
        (("--data", "tasks.toml", "--text", "review"), "--text is for a table without a declaration; "),
        (("--data", "*.json"), "no file matches "),
    ],
)
def test_what_a_table_cannot_be_is_one_sentence(bare: Path, more: tuple[object, ...], says: str) -> None:
    write_csv(bare / "one.csv", [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    write_csv(bare / "three.csv", [{"a": 1, "b": 2, "stars": 3}])
    (bare / "tasks.toml").write_text(
        '[tasks.t]\ntext = "review"\nlabel = "stars"\ntrain = "reviews.csv"\n', encoding="utf8"
    )
    is_one_sentence(ran := train(bare, *more, "--dry-run"))
    assert says in ran.err


def test_what_regkit_data_writes_is_trained_on_as_it_stands(bare: Path) -> None:
    ran = regkit("data", "reviews.csv", "new.csv", "--output", "found/mine.toml", cwd=bare)
    assert ran.status == 0, ran.err
    assert "train: reviews.csv, fields parted by commas; 27 rows; columns id, review, stars" in ran.out
    assert "new.csv, fields parted by semicolons" in ran.out
    written = (bare / "found" / "mine.toml").read_text(encoding="utf8")
    assert "# 1: the cake is good\n# 2: the soup is fine\n" in written
    assert list(tomllib.loads(written)["tasks"]) == ["reviews", "new"]
    assert tomllib.loads(written)["tasks"]["reviews"]["id"] == "id"
    trained = train(bare, "--dry-run", data="found/mine.toml")
    assert "task reviews: classification; 27 train, 3 dev" in trained.out, trained.err
    is_one_sentence(again := regkit("data", "reviews.csv", "--output", "found/mine.toml", cwd=bare))
    assert "found/mine.toml exists already; " in again.err


def test_regkit_data_looks_into_a_folder_and_says_what_it_cannot_use(bare: Path) -> None:
    folder = bare / "many"
    folder.mkdir()
    for name in (
        "mood-train.csv",
        "mood-dev.tsv",
        "mood-test-student.csv",
        "topic_train-00000-of-00002.csv",
        "topic_train-00001-of-00002.csv",
    ):
        write_csv(folder / name, STARS)
    write_csv(folder / "odd.csv", [{"a": 1, "b": 2, "c": 3}])
    (folder / "README.md").write_text("no table", encoding="utf8")
    out = regkit("data", "many", cwd=bare).out
    assert out.count("\ntask ") + out.startswith("task ") == 2
    assert "30 rows" in out
    assert "train: many/topic_train-00000-of-00002.csv and others, fields parted by commas; 54 rows" in out
    assert (
        "odd (odd.csv): many/odd.csv: name the columns by --text COLUMN and --label COLUMN. Available: a, b, c." in out
    )
    assert "[tasks.mood]\n" in out
    assert "# odd: " in out
    for name, says in (
        ("many/README.md", "name the columns"),
        ("nowhere", "nowhere does not exist."),
        ("encoder/..", None),
    ):
        if says:
            is_one_sentence(ran := regkit("data", name, cwd=bare))
            assert says in ran.err


def test_files_are_one_table_only_as_shards_of_it_and_each_counts_once(bare: Path) -> None:
    folder = bare / "alike"
    folder.mkdir()
    for name in ("base.csv", "base.tsv", "part-1.csv", "part-2.csv", "lab_12.csv", "lab_15.csv", "a b.csv", "a_b.csv"):
        write_csv(folder / name, STARS, "\t" if name.endswith("tsv") else ",")
    out = regkit("data", "alike", "alike/base.csv", "./alike/base.csv", cwd=bare).out
    found = {name: int(rows) for name, rows in re.findall(r"^task (\w+)\n  train: .*; (\d+) rows", out, re.MULTILINE)}
    assert found == {"base": 27, "base_2": 27, "part": 54, "lab_12": 27, "lab_15": 27, "a_b": 27, "a_b_2": 27}


def test_a_split_that_the_command_line_replaces_is_said(bare: Path) -> None:
    (bare / "replaced").mkdir()
    for name in ("train", "validation"):
        write_csv(bare / "replaced" / f"{name}.csv", STARS)
    out = train(bare, "--dev", "0.2", "--dry-run", data="replaced").out
    assert "24 train, 6 dev" in out
    assert "not read: the dev split in validation.csv, because of --dev 0.2" in out


def test_of_two_columns_that_differ_in_case_alone_none_is_guessed(bare: Path) -> None:
    write_csv(bare / "twins.csv", [{"text": sentence(n), "Text": n, "label": n % 3} for n in range(9)])
    is_one_sentence(ran := train(bare, "--dry-run", data="twins.csv"))
    assert "name the columns by --text COLUMN. Available: text, Text, label." in ran.err


def test_regkit_data_is_told_what_it_cannot_guess(bare: Path) -> None:
    write_csv(bare / "unusual.csv", [{"a": sentence(n), "b": 1 + n % 3, "c": n} for n in range(9)])
    is_one_sentence(ran := regkit("data", "unusual.csv", cwd=bare))
    assert "name the columns by --text COLUMN and --label COLUMN" in ran.err
    ran = regkit("data", "unusual.csv", "--text", "a", "--label", "b", "--kind", "ordinal", cwd=bare)
    assert 'kind = "ordinal"\ntext = "a"\nlabel = "b"\n' in ran.out, ran.err


@pytest.mark.parametrize("odd", ["", " ", "7", "0"])
def test_a_column_that_does_not_name_each_row_is_written_as_no_id(bare: Path, odd: str) -> None:
    rows = [{"uid": n or odd, "guid": n, "text": sentence(n), "label": n % 2} for n in range(20)]
    write_csv(bare / "names.csv", rows)
    written = tomllib.loads(regkit("data", "names.csv", cwd=bare).out.partition("\n\n")[2])
    assert written["tasks"]["names"]["id"] == ("uid" if odd == "0" else "guid")


def test_what_regkit_data_writes_is_what_it_found_and_can_be_trained_on(bare: Path) -> None:
    write_csv(bare / "two.csv", [{"text": "good", "label": 1}, {"text": "bad", "label": 0}])
    ran = regkit("data", "two.csv", "--output", "two.toml", cwd=bare)
    assert "dev: none; no dev split can be made of it" in ran.out
    assert train(bare, "--dry-run", data="two.toml").status == 0
    is_one_sentence(ran := regkit("data", "two.csv", "--output", "two.txt", cwd=bare))
    assert ran.err == "regkit: --output is two.txt; a declaration is a TOML file, such as two.toml.\n"
    nested = "".join(json.dumps({"text": ["good", "film"], "label": number % 2}) + "\n" for number in range(20))
    (bare / "nested.jsonl").write_text(nested, encoding="utf8")
    is_one_sentence(ran := regkit("data", "nested.jsonl", cwd=bare))
    assert 'text is ["good", "film"]; a text is needed' in ran.err


def test_tables_of_which_none_can_be_a_task_are_a_failure_and_nothing_is_written(bare: Path) -> None:
    (bare / "none").mkdir()
    write_csv(bare / "none" / "one.csv", [{"text": sentence(n), "label": 1} for n in range(9)])
    write_csv(bare / "none" / "odd.csv", [{"a": 1, "b": 2, "c": 3}])
    ran = regkit("data", "none", "--output", "none.toml", cwd=bare)
    assert (ran.status, (bare / "none.toml").exists()) == (2, False)
    assert "every label is 1; nothing can be learned from it." in ran.out
    assert ran.err == "regkit: none of these 2 tables can be declared as a task: the reason of each is above.\n"


def test_what_a_file_holds_cannot_command_the_terminal_or_break_the_declaration(bare: Path) -> None:
    odd = ("\x1b]0;owned\x07", "a\nb", "c\x00d", "\x9b31m")
    write_csv(bare / "odd.csv", [{"text": f"t{n} {odd[n % 4]}", "label": odd[n % 4]} for n in range(20)])
    looked = regkit("data", "odd.csv", "--output", "odd.toml", cwd=bare)
    planned = train(bare, "--dry-run", data="odd.toml")
    for ran in (looked, planned):
        assert ran.status == 0, ran.err
        assert all(sign.isprintable() for line in ran.out.split("\n") for sign in line)
        assert r"\x1b]0;owned\x07" in ran.out
        assert r"a\nb" in ran.out
    assert len(regkit("data", "odd.toml", cwd=bare).err.splitlines()) == 1


def test_an_id_that_one_of_the_splits_lacks_is_not_written(bare: Path) -> None:
    rows = [{"id": n, "text": sentence(n), "label": n % 2} for n in range(20)]
    (bare / "part").mkdir()
    write_csv(bare / "part" / "train.csv", rows)
    write_csv(bare / "part" / "dev.csv", [{"text": row["text"], "label": row["label"]} for row in rows])
    found = regkit("data", "part", cwd=bare)
    assert (found.status, "id" in tomllib.loads(found.out.partition("\n\n")[2])["tasks"]["part"]) == (0, False)


def test_a_group_of_trackers_is_not_taken_for_one_of_rows(bare: Path) -> None:
    write_csv(bare / "users.csv", [{"user": n % 5, "text": sentence(n), "label": n % 2} for n in range(20)])
    is_one_sentence(ran := train(bare, "--dry-run", "--group", "user", data="users.csv"))
    assert (
        "--group user is a column, and would only name the run for trackers; to keep its rows in one split" in ran.err
    )
    assert train(bare, "--dry-run", "--group", "users", data="users.csv").status == 0


def test_labels_that_are_lists_of_others_are_pointed_out(bare: Path) -> None:
    tags = ["film; story", "story", "film", "comedy; film"]
    write_csv(bare / "tags.csv", [{"text": sentence(n), "label": tags[n % 4]} for n in range(20)])
    ran = train(bare, "--dry-run", data="tags.csv")
    assert "class 'film; story' is a list of other classes; --kind multilabel reads lists" in ran.out, ran.err
    assert "comedy; film' is a list" not in ran.out
    for kind in ("multilabel", "classification"):
        assert "is a list of other" not in train(bare, "--dry-run", "--kind", kind, data="tags.csv").out
