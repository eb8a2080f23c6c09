"""Benchmarks time what training does, compare what was computed first, and say what was measured."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regkit import Experiment, Settings
from regkit.data.find import find_tasks
from regkit.hooks import catalog
from regkit.model.tokenizer import Tokenizer
from regkit.testing import tiny_tasks, tiny_trainer
from tests.benchmarks import __main__ as command
from tests.benchmarks import apart, gains, gpu, peers, surgery, surroundings
from tests.benchmarks.alike import Outcome, UnlikeError, compare
from tests.benchmarks.options import Options
from tests.benchmarks.ours import enter, operations_a_token, outcome, regkit_way, step_of, trainer_of
from tests.benchmarks.paced import Paced
from tests.benchmarks.table import Contender, Row, Table, measure, shown
from tests.benchmarks.turns import Spread, Way, in_turn, ratios
from tests.helpers import write_encoder, write_tasks


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """A tiny encoder and tiny tasks."""
    folder = tmp_path_factory.mktemp("benchmarks")
    encoder, data = write_encoder(folder / "encoder"), write_tasks(folder / "data")
    return Options(encoder, data, "mood", "near", batch_size=4, rounds=1, quick=True)


@pytest.mark.parametrize("plugins", [{}, {"smart": {}}])
def test_the_step_that_is_timed_updates_the_model(plugins: dict[str, object]) -> None:
    made = {name: catalog.make(name, options) for name, options in plugins.items()}
    trainer = tiny_trainer(made, tasks=tiny_tasks()[:1])
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    step = step_of(trainer)
    for number in (1, 2):  # at 0 the warm-up has a rate of 0
        step(number)
    assert trainer.state.position.step == 3
    moved = [name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])]
    assert len(moved) > len(before) / 2


def test_ways_are_timed_in_turn_and_in_the_other_order_each_second_round() -> None:
    seen: list[str] = []
    works = {name: lambda number, name=name: seen.append(f"{name}{number}") for name in "ab"}
    taken = in_turn(works, 2, lambda work, number: work(number) or float(number), warm_up=1)
    assert seen == ["b0", "a0", "a1", "b1", "b2", "a2"]
    assert taken == {"a": [1.0, 2.0], "b": [1.0, 2.0]}, "rounds that warm up are not counted"


def test_a_ratio_is_that_of_one_round() -> None:
    found = ratios({"first": [1.0, 10.0, 2.0], "other": [2.0, 20.0, 4.0]})["other"]
    assert Spread.of(found) == Spread(2.0, 2.0, 2.0), "a machine that is slow in one round changes no ratio"


def test_the_time_of_a_processor_does_not_count_waiting() -> None:
    from tests.benchmarks.turns import clock_of

    assert clock_of(torch.device("cpu"))(lambda number: time.sleep(0.05), 0) < 0.02


def test_what_does_not_compute_the_same_is_not_timed() -> None:
    def contender(name: str, value: float) -> Contender:
        made = Outcome(torch.ones(3), {"weight": torch.full([2], value)})
        return Contender(name, lambda: Way(pytest.fail, lambda: made))

    with pytest.raises(UnlikeError, match=r"'b' and 'a' do not compute the same.*most in weight; nothing was timed"):
        measure("two", [contender("a", 1.0), contender("b", 1.01)], Options(Path(), None, ""))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Outcome(torch.ones(2), {"one": torch.ones(2), "two": torch.ones(2)}), "only one of them trains two"),
        (Outcome(torch.tensor([1.0, float("nan")]), {"one": torch.ones(2)}), "do not compute the same"),
        (Outcome(torch.ones(3), {"one": torch.ones(2)}), "have outputs of other shapes"),
    ],
)
def test_a_difference_that_is_no_rounding_is_named(other: Outcome, said: str) -> None:
    with pytest.raises(UnlikeError, match=said):
        compare({"a": Outcome(torch.ones(2), {"one": torch.ones(2)}), "b": other}, "fp32")


def test_a_peer_that_is_not_installed_is_left_out_and_named() -> None:
    there, gone = Contender("here", lambda: Way(lambda number: None)), Contender("gone", pytest.fail, "no_such_module")
    table = measure("some", [there, gone], Options(Path(), None, "", rounds=1))
    assert [row.name for row in table.rows] == ["here"]
    assert table.notes == ["gone is left out: its library is not installed (pip install 'regkit[bench]')."]


def test_a_loop_of_another_library_waits_between_two_steps() -> None:
    done: list[int] = []

    def train(paced: Paced) -> None:
        paced.wait()
        for number in range(2):
            done.append(number)
            paced.wait()

    paced = Paced(train, threads=1)
    assert done == []
    paced.step(0)
    assert done == [0]
    paced.step(1)
    with pytest.raises(RuntimeError, match="it has no more steps"):
        paced.step(2)


@pytest.mark.slow
def test_peers_start_from_regkits_weights_and_see_its_batches(options: Options) -> None:
    made = {"hand": peers.hand_loop(options), "regkit": regkit_way(options, {})}
    said = compare({name: way.outcome() for name, way in made.items() if way.outcome}, "fp32")
    assert "agree to" in said[0]
    assert [way.units(1) for way in made.values() if way.units] == [made["hand"].units(1)] * 2  # type: ignore[misc]


def test_asking_what_a_step_computes_changes_nothing(options: Options) -> None:
    trainer = trainer_of(options, {"smart": {}})
    span = enter(trainer)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    first, again = outcome(trainer, span), outcome(trainer, span)
    assert torch.equal(first.outputs, again.outputs)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert all(weight.grad is None for weight in trainer.model.parameters())


def test_the_engine_of_torchjd_has_the_gradient_of_the_plugin(options: Options) -> None:
    pytest.importorskip("torchjd")
    together = surgery.of_each_task(options)
    ours = regkit_way(options, {**together, "torchjd": {"aggregator": "UPGrad"}}, tasks=None).outcome
    theirs, mean = surgery.engine(options).outcome, regkit_way(options, together, tasks=None).outcome
    assert ours is not None
    assert theirs is not None
    assert mean is not None
    compare({"ours": ours(), "theirs": theirs()}, "fp32")
    with pytest.raises(UnlikeError):
        compare({"ours": ours(), "the sum": mean()}, "fp32")


def test_operations_are_six_for_each_weight_of_the_layers(options: Options) -> None:
    trainer = trainer_of(options, {})
    layers = sum(weight.numel() for name, weight in trainer.model.named_parameters() if ".layers." in name)
    assert operations_a_token(trainer) == 6 * layers


@pytest.mark.parametrize(
    ("card", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H200", "fp32", 67e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("a card of next year", "bf16", None),
    ],
)
def test_a_cards_peak_is_looked_up_by_its_name(
    card: str, precision: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "device_name", lambda device: card)
    assert surroundings.peak_operations(torch.device("cuda"), precision) == peak


def test_a_table_has_no_column_of_which_nothing_was_measured() -> None:
    spread = Spread(0.5, 0.4, 0.6)
    text = shown(Table("Some", [Row("one", Spread(0.1, 0.1, 0.1), Spread(1, 1, 1)), Row("two", spread, spread)]))
    assert text.splitlines()[2:] == [
        "| way | ms | ratio | quartiles |",
        "| --- | --- | --- | --- |",
        "| one | 100 | 1.000 |  |",
        "| two | 500 | 0.500 | 0.400 to 0.600 |",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["setp"], "there is no part 'setp'. Did you mean 'step'?"),
        (["effect"], "'effect' is a command of its own: python -m tests.benchmarks.effect."),
        (["--task", "modo"], "there is no task 'modo'. Did you mean 'mood'?"),
        (["--encoder", "nowhere/at/all"], "nowhere/at/all"),
    ],
)
def test_a_wrong_word_is_one_sentence(
    words: list[str], said: str, options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(options.data), "--encoder", str(options.encoder), *words]
    assert command.main(given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # other libraries' own
def test_the_quick_form_measures_its_parts_and_writes_all_tables(
    options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    parts = [
        part for part in command.PARTS if part not in ("memory", "run", "gpu")
    ]  # many programs: these take a minute
    words = ["--encoder", str(options.encoder), "--data", str(options.data), "--batch-size", "4", "--rounds", "1"]
    assert command.main([*parts, *words, "--quick", "--json", str(file)]) == 0, capsys.readouterr().err
    found, printed = json.loads(file.read_text(encoding="utf8")), capsys.readouterr().out
    assert {table["part"] for table in found["tables"]} == set(parts)
    assert all(table["rows"] or table["figures"] for table in found["tables"])
    assert all(f"## {table['title']}" in printed for table in found["tables"])
    assert found["surroundings"]["threads"] == 1
    assert "clock: " in printed


def test_a_part_for_gpus_says_so_on_a_cpu(options: Options) -> None:
    if options.device.type == "cuda":
        pytest.skip("needs a machine without a GPU")
    (table,) = gpu.tables(options)
    assert table.notes == ["Left out: this part needs a GPU."]


SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.slow
def test_an_epoch_gives_each_task_its_update_in_each_round(options: Options, tmp_path: Path) -> None:
    """The part `gpu` on a CPU, with a tiny encoder of the tokenizer that it is given."""
    chosen = replace(options, encoder=gpu.write_shape(tmp_path / "shape", options.encoder, **SHAPE))
    trainer = trainer_of(chosen, {"rrobin": {}}, tasks=None)
    span, seen = enter(trainer), []
    for number in range(6):
        (task,) = trainer.hook.choose_tasks(tasks=span.tasks, step=number, total_steps=6)
        seen.append(task.name)
        assert gpu.tokens(span, number) == sum(span.feed(task).micro_batches(number, 10**6)[0].lengths)
    assert seen[:3] == seen[3:] == [task.name for task in span.tasks]
    table = gpu.epochs(chosen, 3)
    assert [row.name for row in table.rows] == [epoch.name for epoch in gpu.EPOCHS]
    assert all(row.rate and "s for 755 rounds, by 3 of them, " in table.figures[row.name] for row in table.rows)


def test_what_is_left_of_an_epoch_is_like_its_later_rounds(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {40: 8.0, 60: 3.0}  # by rounds
    row = gpu.measured(replace(options, batch_size=4), gpu.EPOCHS[0], 1, [])[2]
    monkeypatch.setattr(gpu, "measured", lambda _, __, rounds, before: (seconds[40], seconds[rounds - 40], row))
    assert (
        gpu.epochs(options, 100).figures["plain, batch 64"].startswith("43.8 s for 755 rounds, by 100 of them, 8.0 s")
    )


def test_operations_of_an_update_count_what_plugins_add(options: Options) -> None:
    assert gpu.cost(trainer_of(options, {"rrobin": {}})) == 1
    assert gpu.cost(trainer_of(options, gpu.REGULARIZED)) == pytest.approx(1 + 5 / 3 + 1 / 3)


@pytest.mark.slow
def test_a_peer_without_padding_computes_the_same(options: Options) -> None:
    """Of one text at a time, which any attention can take for a batch without padding."""
    chosen = replace(options, batch_size=1)
    made = {"padded": peers.hand_loop(chosen), "free": peers.padding_free(chosen, "sdpa")}
    compare({name: way.outcome() for name, way in made.items() if way.outcome}, "fp32")


def test_a_model_apart_has_the_very_examples_of_a_run(options: Options, tmp_path: Path) -> None:
    settings = Settings(data=options.data, encoder=str(options.encoder), subsample={"mood": 7, "near": 5}, seed=3)
    for task in Experiment.build(settings).tasks:
        if task.name != "same":
            spec, tokenizer = find_tasks(options.data)[task.name], Tokenizer.load(options.encoder)
            alone = apart.task_of(task.name, spec, tokenizer, int(settings.subsample[task.name]), 3)
            apart.write_rows(alone, tmp_path, "dev")
            rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
            train = task.splits["train"]
            assert [float(row["label"]) for row in rows] == train.labels.tolist()
            texts = [row[side] for row in rows for side in ("text", "other") if side in row]
            tokens = [tokenizer.join([encoded])[0] for encoded in tokenizer.encode(texts)]
            assert np.concatenate(tokens).tolist() == train.tokens.tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_models_apart_are_trained_and_scored(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    words = [str(options.encoder), str(options.data), "--tasks", "mood", "near", "--split", "dev", "--seeds", "1"]
    apart.compare(apart.parser().parse_args([*words, "--epochs", "1"]))
    assert re.match(r"seed 0: mood 0\.\d{3}, near -?\d\.\d{3}, mean -?\d\.\d{3}\nmean ", capsys.readouterr().out)


def test_every_part_and_study_has_a_module_that_the_help_describes() -> None:
    listed = command.listed()
    assert all(f"  {name} " in listed for name in (*command.PARTS, *command.STUDIES))


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["step", "--quick", "--json", str(tmp_path / "nowhere" / "x.json")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("benchmarks: ")
    assert not said.out


@pytest.mark.slow  # two processes that start
def test_growth_measures_tasks_twice_and_draws_them(options: Options, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "ids-sst-train.csv").write_text("sentence\n" + "a good film and a long one\n" * 20, encoding="utf8")
    words = [options.encoder, tmp_path, tmp_path / "work", "--rows", "--tasks", 2, "--words", 3, "--steps", 2]
    words += ["--json", tmp_path / "found.json", "--picture", tmp_path / "found.svg"]
    subprocess.run([sys.executable, "-m", "tests.benchmarks.growth", *map(str, words)], check=True, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf8"))
    assert [(each["kind"], each["count"], each["time"]) for each in found] == [
        ("tasks", 2, turn) for turn in ("first", "second")
    ]
    assert all(each["disk"] > 0 < each["own"] <= each["peak"] for each in found)
    assert (tmp_path / "found.svg").read_text(encoding="utf8").count("<svg") == 1


def test_gains_are_a_table_and_a_picture_of_what_rows_gain_over_the_hardest_control(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = {"mean": 0.01, "low": 0.002, "high": 0.018, "p": 0.031, "adjusted": 0.062, "told": True}
    rival = {**found, "mean": 0.004, "low": -0.004, "told": False, "p": 0.25, "adjusted": 0.5, "control": "dropout=0"}
    entry = {
        "split": "dev",
        "task": "sst",
        "metric": "accuracy",
        "mean": 0.5,
        "deviation": 0.01,
        "difference": None,
        "rival": None,
    }
    rows = [
        {"name": "plain", "settings": {}, "entries": [entry], "cost": {"seconds_ratio": 1.0}},
        {
            "name": "smart",
            "settings": {"plugins": {"smart": {}}},
            "entries": [{**entry, "mean": 0.51, "difference": found, "rival": rival}],
            "cost": {"seconds_ratio": 2.5},
        },
    ]
    (tmp_path / "table.json").write_text(
        json.dumps({"name": "few", "baseline": "plain", "rows": rows}), encoding="utf8"
    )
    words = [sys.executable, "-m", "tests.benchmarks.gains", str(tmp_path), "--picture", str(tmp_path / "gains.svg")]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "| plain | 0.500 ± 0.010 |  |  |  |  | 1.00 |" in said
    over = "**+0.010 [+0.002, +0.018]** | +0.004 [-0.004, +0.018] dropout=0 | 0.250 | 0.500 | 2.50 |"
    assert f"| smart | 0.510 ± 0.010 | {over}" in said
    assert (tmp_path / "gains.svg").read_text(encoding="utf8").count("<svg") == 1
    said = subprocess.run([*words[:4], "--together"], check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == [
        "| row | few | operations |",
        "| --- | --- | --- |",
        "| plain | 0.500 ± 0.010 |  |",
        "| smart | **+0.010 [+0.002, +0.018]** |  |",
    ]
    said = subprocess.run([*words[:4], "--split", "test"], check=True, capture_output=True, text=True).stdout
    assert "smart" not in said, "there is no score of that split"


def test_gains_of_one_seed_have_no_interval_and_of_none_no_score() -> None:
    nothing = dict.fromkeys(("low", "high", "p", "adjusted"))
    entry = {"mean": 0.5, "deviation": None, "difference": {"mean": 0.01, **nothing, "told": False}, "rival": None}
    row = {"name": "smart", "cost": {"seconds_ratio": 2.5}}
    assert gains.line(row, entry) == "| smart | 0.500 | +0.010 |  |  |  | 2.50 |"
    missing = {"mean": None, "deviation": None, "difference": {"mean": None, **nothing}, "rival": None}
    assert gains.line(row, missing) == "| smart |  |  |  |  |  | 2.50 |"
