"""The average of runs is their mean, in a folder that everything takes, and refused where a mean has no meaning."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from regkit import RunError, Settings, load
from regkit.runs.alike import Member, check_alike, doubts, read_member
from regkit.runs.average import Sums, average
from tests.helpers import Ran, regkit, write_encoder, write_tasks

SHORT = ["--data", "data", "--batch-size", "8", "--steps", "4", "--lr", "0.01", "--tasks"]


QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `heads`, `a` and `b` from its heads, and `fresh` from new ones."""
    folder = tmp_path_factory.mktemp("average")
    write_tasks(folder / "data")
    write_encoder(folder / "encoder")
    for name, encoder, *more in (
        ("heads", "encoder", "mood,same", "-p", "freeze"),
        ("a", "heads", "mood,same", "--seed", "1"),
        ("b", "heads", "mood,same", "--seed", "2"),
        ("fresh", "encoder", "mood,same", "--seed", "3"),
    ):
        train(folder, encoder, name, *more)
    return folder


def train(folder: Path, encoder: str, name: str, *more: str) -> None:
    ran = regkit("train", "--encoder", encoder, *SHORT, *more, "--output", name, cwd=folder)
    assert ran.status == 0, ran.err


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "best" / "model.safetensors")


def test_an_average_has_the_mean_of_each_number_and_says_nothing_of_runs_that_began_alike(
    place: Path, tmp_path: Path
) -> None:
    ran = regkit("average", "a", "b", "--output", tmp_path / "soup", cwd=place)
    assert ran.status == 0, ran.err
    one, two, found = weights(place / "a"), weights(place / "b"), weights(tmp_path / "soup")
    assert found.keys() == one.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, ((one[name].double() + two[name].double()) / 2).float(), rtol=0, atol=0)
    assert any(not torch.equal(one[name], two[name]) for name in found)
    assert "did not begin" not in ran.out
    assert "other rows" not in ran.out
    shown = [line.partition(": dev: ")[0] for line in ran.out.splitlines() if ": dev: " in line]
    assert list(dict.fromkeys(shown)) == ["a", "b", "average of 2 runs"]


def test_everything_takes_the_folder_of_an_average(place: Path, tmp_path: Path) -> None:
    soup = tmp_path / "soup"
    made = json.loads(regkit("average", "a", "b", "--output", soup, "--json", cwd=place).out)
    assert made["members"]["a"] == json.loads((place / "a" / "scores.json").read_text())["dev"]
    assert made["kept"] == ["a", "b"]
    again = json.loads(regkit("eval", soup, "--json", cwd=place).out)
    assert again["dev"] == made["dev"] == json.loads((soup / "scores.json").read_text())["dev"]
    noted = json.loads((soup / "average.json").read_text())["averaged"]
    assert [each["run"] for each in noted] == [str(place / "a"), str(place / "b")]  # wherever it is read from
    assert regkit("export", soup, "--task", "mood", "--output", tmp_path / "out", cwd=place).status == 0
    card = (tmp_path / "out" / "README.md").read_text("utf8")
    assert "* weights: the average of those of a, b; data and settings are those of a\n* data: data" in card
    assert "* command: `regkit average a b" in card
    assert "* versions: python" in card
    assert len(load(soup).predict("mood", ["the cake is bad"])) == 1
    train(place, str(soup), str(tmp_path / "next"), "mood,same", "--steps", "1")
    assert regkit("train", "--resume", soup, cwd=place).out.startswith(f"{soup} is finished")
    assert "finished" in regkit("runs", soup, cwd=place).out
    assert regkit("clean", soup, "--yes", cwd=place).status == 0
    assert regkit("average", soup, "a", "--output", tmp_path / "more", cwd=place).status == 0


@pytest.mark.parametrize("scores", [[0.2, 0.5, 0.5], [0.9, 0.4, 0.3]], ids=["rising", "falling"])
def test_a_greedy_average_keeps_a_run_only_if_the_score_does_not_fall(
    scores: list[float], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `fresh`, `a` and `b` in this order, by what the averages of one, two and three of them score."""
    asked: list[int] = []
    means = iter([0.1, 0.0, 0.2, *scores, 1.0])  # of b, a and fresh; of the averages; of the last one again

    def scored(*arguments: object) -> float:
        asked.append(1)
        return next(means)

    monkeypatch.setattr("regkit.runs.average.monitored", scored)
    soup = average([place / name for name in ("b", "a", "fresh")], tmp_path / "soup", greedy=True, device="cpu")
    names = [member.folder.name for member in soup.kept]
    assert names == (["fresh", "b", "a"] if scores[0] == 0.2 else ["fresh"])
    expected = [weights(place / name)[QUERY].double() for name in names]
    found = weights(tmp_path / "soup")[QUERY]
    torch.testing.assert_close(found.double(), torch.stack(expected).mean(0), rtol=0, atol=1e-7)


def refused(ran: Ran) -> str:
    assert ran.status == 2, ran.out
    assert ran.err.count("\n") == 1
    return ran.err.removeprefix("regkit: ").rstrip("\n")


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (["a"], "average needs two runs or more; name their folders."),
        (["a", "b/../a"], "b/../a is the same run as a; name each once."),
        (["a", "c"], "there is no run c. "),
    ],
)
def test_runs_without_an_average_are_refused_in_a_sentence(
    runs: list[str], said: str, place: Path, tmp_path: Path
) -> None:
    assert refused(regkit("average", *runs, "--output", tmp_path / "soup", cwd=place)).startswith(said)
    assert not (tmp_path / "soup").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c | {"intermediate_size": 40}, "intermediate_size is 32 in a, and 40 in other; an average needs the same"),
        (lambda c: c | {"hidden_act": "relu"}, "hidden_act is gelu in a, and relu in other; "),
        (lambda c: {n: v for n, v in c.items() if n != "layer_norm_eps"}, "layer_norm_eps is 1e-12 in a, and not set in other; "),
        (lambda c: with_heads(c, {"mood": c["regkit"]["heads"]["mood"]}), "the list of tasks is mood, same in a, and mood in other; "),
        (lambda c: with_heads(c, c["regkit"]["heads"] | {"same": ["Binary()", "bi_encoder", "mean"]}),
         "task 'same' is Binary(), cross_encoder, pooler in a, and Binary(), bi_encoder, mean in other; "),
        (lambda c: c | {"hidden_dropout_prob": 0.5, "architectures": ["X"]}, ""),
    ],
    ids=["width", "activation", "norm", "tasks", "form", "dropout"],
)  # fmt: skip
def test_runs_of_another_form_are_refused_and_what_changes_no_output_is_not(
    change: Callable[[Any], Any], said: str, place: Path, tmp_path: Path
) -> None:
    mine, settings = place / "a" / "best", Settings()
    shutil.copy(mine / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(change(json.loads((mine / "config.json").read_text()))))
    one, other = Member(Path("a"), mine, settings), Member(Path("other"), tmp_path, settings)
    with pytest.raises(RunError) if said else contextlib.nullcontext() as caught:
        check_alike(one, other)
    assert str(caught.value if caught else "").startswith(said)
    (tmp_path / "config.json").write_text((mine / "config.json").read_text())
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RunError, match="other has another tokenizer than a; an average needs the same"):
        check_alike(one, other)


def test_an_average_is_told_of_what_a_run_trained_on_and_of_a_run_without_an_end(place: Path, tmp_path: Path) -> None:
    """Another dev split alone is no doubt: that of the first run scores all."""
    for name in ("a", "b"):
        shutil.copytree(place / name, tmp_path / name, symlinks=True)
    members = [read_member(tmp_path / name) for name in ("a", "b")]
    forms = json.loads((tmp_path / "b" / "tasks.json").read_text())
    forms["mood"][2]["dev"] = "other"
    (tmp_path / "b" / "tasks.json").write_text(json.dumps(forms))
    assert not [said for said in doubts(members) if "other rows" in said]
    forms["mood"][2]["train"] = "other"
    (tmp_path / "b" / "tasks.json").write_text(json.dumps(forms))
    (tmp_path / "b" / "finished.json").unlink()
    assert [said for said in doubts(members) if "of task 'mood'" in said]
    assert f"{tmp_path / 'b'} is not finished: this is its best checkpoint so far" in doubts(members)


def with_heads(config: dict[str, Any], heads: dict[str, Any]) -> dict[str, Any]:
    return config | {"regkit": config["regkit"] | {"heads": heads}}


def test_an_output_is_needed_and_must_be_free(place: Path) -> None:
    said = refused(regkit("average", "a", "b", cwd=place))
    assert said == "name the folder to write: `regkit average a b --output DIR`." or "--output DIR" in said
    assert refused(regkit("average", "a", "b", "--output", "fresh", cwd=place)) == (
        "fresh is a run already; name another --output."
    )


def test_runs_that_did_not_begin_alike_are_averaged_and_said(place: Path, tmp_path: Path) -> None:
    for runs, said in (
        (["a", "fresh"], "a began from "),
        (["fresh", "heads"], "the heads began new, from the seeds 3, 0: "),
    ):
        found = json.loads(regkit("average", *runs, "--output", tmp_path / runs[1], "--json", cwd=place).out)
        assert [each for each in found["warnings"] if each.startswith(said)], found["warnings"]


def test_whole_numbers_are_the_firsts_and_a_mean_of_equals_is_that_number() -> None:
    weights = {"x": torch.tensor([0.1, 1e-8, 3e7]), "half": torch.tensor([0.1]).half(), "steps": torch.tensor([3])}
    sums = Sums(weights)
    for steps in (3, 4, 5):
        sums = sums.plus(weights | {"steps": torch.tensor([steps])})
    assert all(torch.equal(sums.mean()[name], tensor) for name, tensor in weights.items())
    assert sums.mean()["half"].dtype == torch.float16
    with pytest.raises(RunError, match="other names or shapes"):
        sums.plus({"x": torch.zeros(2)})
