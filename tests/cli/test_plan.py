"""The plan: whose turn it is in an epoch, who answers which hook, the loss, and a step's operations as counted by hand."""

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from regkit import Experiment, PluginError, Settings
from regkit.cli.plan import first_epoch, plan
from regkit.runs.trial import Trial
from regkit.training.stages import measure_length
from tests.helpers import TASKS, VOCABULARY, install, regkit, stages_of, write_csv, write_tasks


def test_the_plan_says_how_large_micro_batches_are_and_what_a_long_text_counts_as(place: Path) -> None:
    chosen = Settings(data=place / "data", encoder=str(place / "encoder"), micro_batch_tokens=300)
    experiment = Experiment.build(chosen)
    longest = max(int(task.splits["train"].lengths().max()) for task in experiment.tasks)
    (said,) = (line for line in plan(experiment) if line.startswith("micro-batches: "))
    found = re.fullmatch(
        r"micro-batches: at most 300 tokens, where the longest example, of (\d+), counts as (\d+): attention keeps squares",
        said,
    )
    assert found
    assert int(found[1]) == longest < int(found[2])


@pytest.mark.parametrize(
    ("more", "repeated"), [({}, True), ({"cuda_graphs": False}, False), ({"memory": 10**12}, False)]
)
def test_the_plan_says_whether_layers_are_repeated_as_cuda_graphs(
    place: Path, more: dict[str, Any], repeated: bool
) -> None:
    experiment = Experiment.build(Settings(data=place / "data", encoder=str(place / "encoder"), **more))
    assert not any("CUDA graphs" in line for line in plan(experiment)), "on a CPU there are none"
    experiment.trainer.streams.device = torch.device("cuda")
    assert any("CUDA graphs" in line for line in plan(experiment)) is repeated


def steps(place: Path, *plugins: str) -> dict[str, tuple[str, str, float]]:
    """By task: the loss, the passes, and the operations relative to a plain step."""
    named = [word for plugin in plugins for word in ("-p", plugin)]
    where = ["--data", place / "data", "--encoder", place / "encoder"]
    ran = regkit(
        "train", *where, "--pooling", "mean", "--dry-run", *named, cwd=place
    )  # every layer computes every token
    assert ran.status == 0, ran.err
    found = {}
    for names, loss, passes, ratio in re.findall(
        r"^step of (.*): loss = (.*); forward passes: (.*); (.*) times the operations of plain$", ran.out, re.MULTILINE
    ):
        found |= {name: (loss, passes, float(ratio)) for name in names.split(", ")}
    assert set(found) == {"mood", "same", "near"}
    return found


# In units of a forward pass a plain step is 3: forward 1, backward 2. An inner gradient is 1, for it ends at the embeddings.
@pytest.mark.parametrize(
    ("plugins", "loss", "passes", "operations"),
    [
        ([], "task", "1 clean", 3),
        (["smart"], "task + 1 x smart", "1 clean, 2 by smart", 8),
        (["smart:steps=2,weight=5"], "task + 5 x smart", "1 clean, 3 by smart", 10),
        (["smart:weight=5%"], "task + auto x smart", "1 clean, 2 by smart", 8),  # most updates are not measured
        (["bregman"], "task + 1 x bregman", "1 clean, 1 by bregman", 4),
        (["rdrop"], "task + 1 x rdrop + rdrop second", "1 clean, 1 by rdrop", 6),
        (["r3f"], "task + 1 x r3f", "1 clean, 1 by r3f", 6),
        (["freelb"], "task + 1 x freelb", "1 clean, 3 by freelb", 10),
        (["sam"], "task", "1 clean, 1 by sam", 6),
        (["sam", "smart"], "task + 1 x smart", "1 clean, 4 by smart, 1 by sam", 16),
        (["neftune", "ema"], "task", "1 clean", 3),
        (["mixout"], "task", "1 clean", 3.5),  # its keys and values are called: see `model.single_query`
    ],
)
def test_the_predicted_cost_is_that_counted_by_hand(
    place: Path, plugins: list[str], loss: str, passes: str, operations: float
) -> None:
    for found in steps(place, *plugins).values():
        assert (found[0], set(found[1].split(", "))) == (loss, set(passes.split(", ")))
        assert found[2] == pytest.approx(
            operations / 3, rel=0.15
        )  # the plan rounds, and heads and norms are small here


def test_hooks_are_listed_in_the_loops_order_with_who_answers(place: Path) -> None:
    plugins = ["neftune", "rrobin", "smart", "bregman", "rdrop"]
    named = [word for plugin in plugins for word in ("-p", plugin)]
    ran = regkit("train", "--data", place / "data", "--encoder", place / "encoder", "--dry-run", *named, cwd=place)
    assert [line for line in ran.out.splitlines() if line.startswith("hook ")] == [
        "hook prepare: bregman",
        "hook epoch_steps: rrobin",
        "hook choose_tasks: rrobin",
        "hook embed: neftune (around)",
        "hook extra_losses: smart, bregman, rdrop",
        "hook measure: smart",
        "hook after_step: bregman",
    ]


def test_operations_are_counted_as_torch_counts_them(place: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    experiment = build(place / "data", {"smart": {}})
    ((stage, tasks),) = stages_of(experiment.trainer)
    for task in tasks:
        with FlopCounterMode(display=False) as count:
            trial = Trial.of(experiment, experiment.composition, stage, task)
        assert trial.operations == count.get_total_flops() > 0


# The epoch: tasks of 24, 14 and 10 examples, in batches of 4, 7 and 4, so of 6, 2 and 3 updates.


@pytest.fixture(scope="module")
def uneven(place: Path) -> Path:
    data = write_tasks(place / "uneven")
    for name, size in (("same", 14), ("near", 10)):
        lines = (data / f"{name}-train.csv").read_text(encoding="utf8").splitlines()[: size + 1]
        (data / f"{name}-train.csv").write_text("\n".join(lines) + "\n", encoding="utf8")
    declared = TASKS.replace('kind = "binary"', 'kind = "binary"\nbatch_size = 7')
    (data / "tasks.toml").write_text(declared, encoding="utf8")
    return data


def build(data: Path, plugins: dict[str, dict[str, Any]], **settings: Any) -> Experiment:
    encoder = str(data.parent / "encoder")
    values = {"data": data, "encoder": encoder, "batch_size": 4, "device": "cpu", "plugins": plugins, **settings}
    return Experiment.build(Settings(**values))


def test_a_batch_size_of_a_tasks_own_is_said_where_another_was_asked_for(uneven: Path) -> None:
    (said,) = [line for line in plan(build(uneven, {})) if line.startswith("task same:")]
    assert said.endswith("; batches of 7, as the task says, and not of 4")
    (said,) = [line for line in plan(build(uneven, {}, batch_size=32)) if line.startswith("task same:")]
    assert said.endswith("; batches of 7"), "nobody asked for 32"


def epoch_lines(lines: Sequence[str]) -> list[str]:
    """What is said below the line of the stage."""
    start = next(number for number, line in enumerate(lines) if line.startswith("stage "))
    return [line.strip() for line in lines[start + 1 :] if line.startswith("  ")]


@pytest.mark.parametrize(
    ("plugins", "stage", "said"),
    [
        (
            {},
            "33 updates, 11 an epoch",
            [
                "mood: in 6 of the first 11 updates; every example once",
                "same: in 2 of the first 11 updates; every example once",
                "near: in 3 of the first 11 updates; every example once",
            ],
        ),
        (
            {"rrobin": {}},
            "54 updates, 18 an epoch",
            [
                "mood: in 6 of the first 18 updates; every example once",
                "same: in 6 of the first 18 updates; every example 3 times",
                "near: in 6 of the first 18 updates; every example 2 times",
            ],
        ),
        (
            {"rrobin": {"stop": "shortest", "per_step": 3}},
            "6 updates, 2 an epoch",
            [
                "mood: in 2 of the first 2 updates; 33.3 % of its examples, the others left out",
                "same: in 2 of the first 2 updates; every example once",
                "near: in 2 of the first 2 updates; 66.7 % of its examples, the others left out",
            ],
        ),
        (
            {"weighted": {"weights": {"mood": 0, "same": 1, "near": 1}}},
            "33 updates, 11 an epoch",
            [
                "mood: in 0 of the first 11 updates; scored, but not trained in this epoch",
                "same: in 6 of the first 11 updates; every example 3 times",
                "near: in 5 of the first 11 updates; every example 1.67 times",
            ],
        ),
        (
            {"adaptive": {}},
            "33 updates, 11 an epoch",
            [
                "mood: in 4 of the first 11 updates, as known now: 'adaptive' learns; 66.7 % of its examples, the others left out",
                "same: in 4 of the first 11 updates, as known now: 'adaptive' learns; every example 2 times",
                "near: in 3 of the first 11 updates, as known now: 'adaptive' learns; every example once",
            ],
        ),
        (
            {"only": {"task": "near"}},
            "9 updates, 3 an epoch",
            [
                "mood: in 0 of the first 3 updates; scored, but not trained in this epoch",
                "same: in 0 of the first 3 updates; scored, but not trained in this epoch",
                "near: in 3 of the first 3 updates; every example once",
            ],
        ),
    ],
    ids=["nothing", "rrobin", "shortest", "weighted", "adaptive", "only"],
)
def test_the_plan_says_how_often_each_task_is_seen(
    uneven: Path, plugins: dict[str, dict[str, Any]], stage: str, said: list[str]
) -> None:
    lines = plan(build(uneven, plugins))
    assert f"stage finetune: {stage}, peak learning rate 5e-05" in lines
    assert epoch_lines(lines) == said


@pytest.mark.parametrize(
    "plugin", [None, "rrobin:per_step=2", "temperature:T=3", 'weighted:weights={"mood":1,"same":0,"near":2.5}']
)
def test_what_the_plan_says_is_what_happens(uneven: Path, tmp_path: Path, plugin: str | None) -> None:
    """The printed counts, the epoch as the trainer foresees it, and the log of a run of two epochs."""
    named = ("-p", plugin, "-p", "neftune") if plugin else ()
    place, run = uneven.parent, tmp_path / "run"
    words = ("--data", uneven, "--encoder", place / "encoder", "--batch-size", 4, "--epochs", 2, "--output", run)
    ran = regkit("train", *words, *named, cwd=tmp_path)
    assert ran.status == 0, ran.err
    records = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf8").splitlines()]
    logged = [list(record["losses"]) for record in records if "losses" in record]
    again = Experiment.build(Settings.read(run / "config.toml"))
    ((stage, tasks),) = stages_of(again.trainer)
    foreseen = first_epoch(again.trainer, stage, tasks)
    length, total = measure_length(again.trainer.hook, again.trainer.streams, stage, tasks)
    assert (length, total) == (len(foreseen), len(logged))
    assert logged[:length] == foreseen
    printed = re.findall(r"^  (\w+): in (\d+) of the first (\d+) updates", ran.out, re.MULTILINE)
    counts = Counter(name for names in logged[:length] for name in names)
    assert printed == [(name, str(counts[name]), str(length)) for name in ("mood", "same", "near")]
    assert f"stage finetune: {total} updates, {length} an epoch" in ran.out


def test_of_a_stage_shorter_than_an_epoch_the_plan_tells_what_there_is(uneven: Path) -> None:
    lines = epoch_lines(plan(build(uneven, {"rrobin": {}}, steps=4)))
    assert [line.partition(";")[0].split(" updates")[0] for line in lines] == [
        "mood: in 2 of the first 4",
        "same: in 1 of the first 4",
        "near: in 1 of the first 4",
    ]


def test_of_one_task_the_plan_says_that_there_is_nothing_to_choose(uneven: Path, tmp_path: Path) -> None:
    words = ("--data", uneven, "--encoder", uneven.parent / "encoder", "--batch-size", 7, "--output", tmp_path / "run")
    ran = regkit("train", *words, "--tasks", "same", "-p", "temperature", "--epochs", 1, cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert epoch_lines(ran.out.splitlines())[:2] == [
        "same: in 2 of the first 2 updates; every example once",
        "there is one task only: 'temperature' has nothing to choose from",
    ]
    without = epoch_lines(plan(build(uneven, {"neftune": {}}, tasks=["same"])))
    assert without == ["same: in 2 of the first 2 updates; every example once"]


@pytest.mark.parametrize("surgeon", ["pcgrad", "gradvac", "cagrad"])
def test_surgery_on_one_task_a_step_is_refused_and_the_remedy_that_is_named_works(uneven: Path, surgeon: str) -> None:
    with pytest.raises(PluginError) as refused:
        plan(build(uneven, {surgeon: {}}))
    said = str(refused.value)
    assert said.startswith(f"'{surgeon}' ")
    remedy = "let several share a step: --plugin rrobin:per_step=3."
    assert said.endswith(f"gradients of several tasks, but every step has one; {remedy}")
    for scheduler in ({"rrobin": {}}, {"proportional": {}}):
        with pytest.raises(PluginError, match="but every step has one"):
            plan(build(uneven, {**scheduler, surgeon: {}}))
    for tasks in (2, 3):  # of three tasks, two in turn are several as well
        lines = epoch_lines(plan(build(uneven, {"rrobin": {"per_step": tasks}, surgeon: {}})))
        assert lines[0] == f"mood: in 6 of the first {18 // tasks} updates; every example once"


def test_a_refused_surgery_leaves_no_run_behind_and_the_remedy_trains(uneven: Path, tmp_path: Path) -> None:
    words = ("--data", uneven, "--encoder", uneven.parent / "encoder", "--output", tmp_path / "run", "-p", "pcgrad")
    ran = regkit("train", *words, cwd=tmp_path)
    assert (ran.status, list(tmp_path.iterdir())) == (2, [])
    assert "rrobin:per_step=3" in ran.err
    ran = regkit("train", *words, "-p", "rrobin:per_step=3", "--epochs", 1, cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert (tmp_path / "run" / "best").exists()


def test_surgery_on_a_single_task_is_refused_without_a_remedy_that_would_not_work(uneven: Path) -> None:
    with pytest.raises(PluginError, match=r"^'pcgrad' .*, but every step has one; leave it out\.$"):
        plan(build(uneven, {"pcgrad": {}}, tasks=["mood"]))


@pytest.mark.parametrize("surgeon", ["pcgrad", "gradvac", "cagrad", "gradnorm", "famo"])
def test_surgery_on_a_frozen_encoder_is_refused_before_a_remedy_that_would_not_help(uneven: Path, surgeon: str) -> None:
    """Whether or not tasks share a step: the shared parameters have no gradient."""
    for scheduler in ({}, {"rrobin": {"per_step": 2}}):
        with pytest.raises(PluginError) as refused:
            plan(build(uneven, {**scheduler, "freeze": {}, surgeon: {}}, tasks=["mood", "same"]))
        where = "the encoder is frozen in stage 'finetune'; leave it out, or train the encoder."
        assert str(refused.value) == f"'{surgeon}' looks at the tasks' gradients of the encoder, but {where}"


ICY = """
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def prepare(self, model):
        model.encoder.requires_grad_(False)

    @hookimpl
    def epoch_steps(self):
        return 4

    @hookimpl
    def choose_tasks(self, tasks):
        return tasks

    @hookimpl
    def combine_gradients(self, gradients):
        return gradients.sum(0)
"""


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry run", "run"])
def test_surgery_is_refused_where_a_plugin_has_frozen_the_encoder_itself(
    uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry: list[str]
) -> None:
    install(monkeypatch, tmp_path / "strangers", icy=ICY)
    words = ("--data", uneven, "--encoder", uneven.parent / "encoder", "--output", tmp_path / "run", "-p", "icy")
    ran = regkit("train", *words, "--tasks", "mood,same", *dry, cwd=tmp_path)
    assert (ran.status, (tmp_path / "run").exists()) == (2, False)
    assert "'icy' looks at the tasks' gradients of the encoder, but the encoder is frozen" in ran.err


def test_of_dev_labels_that_are_all_alike_the_plan_says_what_they_leave_out_and_what_decides(
    place: Path, tmp_path: Path
) -> None:
    data = write_tasks(tmp_path / "data")
    (tmp_path / "encoder").symlink_to(place / "encoder")
    write_csv(data / "near-dev.csv", [{"one": "tea", "two": "jam", "score": 3}] * 2)
    write_csv(data / "same-dev.csv", [{"one": "tea", "two": "jam", "same": 1}] * 2)
    lines = [line.strip() for line in plan(build(data, {}))]
    assert "every dev label is 1: auc is not defined, and left out" in lines
    assert "every dev label is 3: pearson and spearman are not defined, and left out" in lines
    assert "the best checkpoint has the highest mean score of the tasks other than near" in lines
    alone = plan(build(data, {}, tasks=["near"]))
    assert alone[-1] == "  the best checkpoint has the lowest loss: no task has a score that could decide"
    assert "best" not in "".join(plan(build(data, {}, monitor="same.loss")))


def without(folder: Path, *splits: str) -> Path:
    """Take lines out of a folder's tasks.toml: these splits."""
    file = write_tasks(folder) / "tasks.toml"
    lines = [line for line in file.read_text(encoding="utf8").splitlines() if not any(name in line for name in splits)]
    file.write_text("\n".join(lines), encoding="utf8")
    return folder


def test_the_plan_says_what_has_no_dev_split_and_what_follows(place: Path, tmp_path: Path) -> None:
    encoder = str(place / "encoder")
    some = Settings(encoder=encoder, data=without(tmp_path / "some", "same-dev", "near-dev"))
    lines = plan(Experiment.build(some))
    assert [line for line in lines if "dev split" in line] == [
        "  same: no dev split, so it has no scores; dev = 0.1 in its declaration holds some out",
        "  near: no dev split, so it has no scores; dev = 0.1 in its declaration holds some out",
    ]
    none = Settings(encoder=encoder, data=without(tmp_path / "none", "-dev"))
    said = "  no task has a dev split: there are no scores, and the newest checkpoint is kept as the best"
    assert plan(Experiment.build(none))[-1] == said


def last_command(out: str) -> list[str]:
    """The words of the command in the last line."""
    return shlex.split(out.splitlines()[-1].partition(": regkit ")[2])


def test_the_command_at_the_end_works_with_the_splits_that_there_are(place: Path, tmp_path: Path) -> None:
    """Also where a path has a blank."""
    train = ("train", "--encoder", place / "encoder", "--steps", 1)
    near = without(tmp_path / "near", "-dev")
    with (near / "tasks.toml").open("a", encoding="utf8") as file:
        file.write('\ntest = "near-dev.csv"\n')  # the last task is `near`
    ends = {}
    for name, data in {"dev": place / "data", "test": near, "none": without(tmp_path / "neither", "-dev")}.items():
        output = f"the {name} run"
        ran = regkit(*train, "--data", data, "--output", output, cwd=tmp_path)
        assert (ran.status, ran.err) == (0, "")
        ends[name] = last_command(ran.out)
        words = [str(place / "data") if word == "PATH" else word for word in ends[name]]
        assert regkit(*words, cwd=tmp_path).status == 0
        again = last_command(regkit("train", "--resume", output, cwd=tmp_path).out)
        assert again == (ends[name] if name == "dev" else ["eval", output, "--data", "PATH"])
    assert ends == {
        "dev": ["eval", "the dev run"],
        "test": ["eval", "the test run", "--split", "test"],
        "none": ["eval", "the none run", "--data", "PATH"],
    }


def test_a_stage_after_one_with_a_frozen_encoder_is_compared_with_its_own_plain_step(
    place: Path, tmp_path: Path
) -> None:
    words = ("train", "--data", place / "data", "--encoder", place / "encoder", "--steps", 2, "--dry-run")
    ran = regkit(*words, "-p", "freeze:stages=domain", "-p", "domain:corpus=tasks,steps=2", cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert (
        "step of mood, same, near: loss = task; forward passes: 1 clean; 1.0 times the operations of plain" in ran.out
    )
    assert re.search(r"step of mlm.* 0\.\d times the operations of plain", ran.out)


def test_what_a_later_stage_refuses_is_refused_before_the_first_one_is_trained(place: Path, tmp_path: Path) -> None:
    words = ("train", "--data", place / "data", "--encoder", place / "encoder", "--steps", 2, "--output", "run")
    ran = regkit(*words, "-p", "freeze", "-p", "domain:corpus=tasks,steps=2", cwd=tmp_path)
    assert ran.status == 2
    assert ran.err.startswith("regkit: task 'near' has nothing to train while the encoder is frozen: a cosine has no")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("kinds", "said"), [(1, True), (2, False)])
def test_an_encoder_without_segments_says_what_tells_the_texts_of_a_pair_apart(
    kinds: int, said: bool, tmp_path: Path
) -> None:
    from tests.model.foreign_families import write_foreign, write_vocabulary

    write_tasks(tmp_path / "data")
    write_foreign(tmp_path / "encoder", "roberta", vocab_size=len(VOCABULARY), type_vocab_size=kinds)
    write_vocabulary(tmp_path / "encoder")
    train = ["train", "--data", "data", "--encoder", "encoder", "--dry-run"]
    assert ("it has no segments" in regkit(*train, cwd=tmp_path).out) == said
    assert "it has no segments" not in regkit(*train, "--tasks", "mood", cwd=tmp_path).out


@pytest.mark.parametrize(("pooling", "said"), [("pooler", ", which the checkpoint lacks and begins anew"), ("cls", "")])
def test_a_pooler_that_the_checkpoint_lacks_is_said(place: Path, tmp_path: Path, pooling: str, said: str) -> None:
    shutil.copytree(place / "encoder", tmp_path / "encoder")
    weights = tmp_path / "encoder" / "model.safetensors"
    save_file({name: each for name, each in load_file(weights).items() if "pooler" not in name}, weights)
    words = ["train", "--data", place / "data", "--dry-run", "--pooling", pooling, "--encoder"]
    for encoder, wanted in ((tmp_path / "encoder", said), (place / "encoder", "")):
        ran = regkit(*words, encoder, cwd=place)
        (line,) = [line for line in ran.out.splitlines() if line.startswith("encoder: ")]
        assert re.search(r"a text is [^,]*(.*)$", line)[1] == wanted
