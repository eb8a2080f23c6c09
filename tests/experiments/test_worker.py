"""Workers: whatever number of them shares a study, each run is done once, and one that fails stops no other."""

import gc
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from regkit.base.errors import RunError, StoppedError
from regkit.experiments import contest
from regkit.experiments.asked import read_plan
from regkit.experiments.draft import Draft
from regkit.experiments.plan import Cell, made
from regkit.experiments.study import alive, worker
from regkit.experiments.study.order import Cells, in_order
from regkit.experiments.study.outcome import Outcome
from regkit.experiments.study.results import read_results
from regkit.experiments.study.study import DEAD, STOPPED, Claim, Study
from regkit.experiments.study.worker import Worker
from regkit.runs.lock import Say
from regkit.runs.settings import Settings
from tests.experiments.fakes import FakeRunner, again, begin, plan_of
from tests.forked import Forked
from tests.helpers import slow_but

STORAGES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder}/study.db",
    "journal": lambda folder: f"journal:{folder}/journal.log",
}


def work_together(study: Study, runner: FakeRunner, workers: int) -> None:
    """Let so many workers take the cells of a study at the same time."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            Worker(again(study), FakeRunner(runner.ran, runner.wrong, runner.takes, lock=runner.lock)).work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []


@pytest.mark.parametrize("name", slow_but(STORAGES, ["journal"]))
def test_of_several_workers_each_cell_is_done_by_one(name: str, tmp_path: Path) -> None:
    plan = plan_of("smart", "rrobin", seeds=2)
    study = begin(tmp_path / "s", plan, STORAGES[name](tmp_path))
    runner = FakeRunner(takes=0.01)
    work_together(study, runner, 3)
    assert runner.ran == Counter(dict.fromkeys(map(tuple, plan.cells()), 1))
    results = read_results(study, plan)
    assert [(each.row, each.seed) for each in results] == [*map(tuple, plan.cells())]
    assert {each.state for each in results} == {"finished"}
    assert [each.scores["dev"]["t"]["accuracy"] for each in results] == [float(cell.seed) for cell in plan.cells()]
    assert results[0].mains == {"t": ("accuracy", False)}


def test_cells_are_taken_with_all_rows_of_a_seed_first() -> None:
    cells = plan_of("smart", seeds=2).cells()
    assert cells == [Cell("plain", 0), Cell("smart", 0), Cell("plain", 1), Cell("smart", 1)]
    order = in_order(cells)
    assert order(Cells(running={cells[0]: None})) == cells[1]
    assert order(Cells({"plain": {0: 0.5}, "smart": {0: 0.5}})) == cells[2]
    assert order(Cells({"plain": {0: 1.0, 1: 1.0}, "smart": {0: 1.0}}, failed={cells[3]})) is None


def test_what_is_next_can_be_decided_by_the_scores_so_far(tmp_path: Path) -> None:
    def smarts(cells: Cells) -> Cell | None:
        assert 1.0 not in cells.mean_seconds.values()  # of training; a whole run is what counts here
        assert all(each >= runner.takes for each in cells.mean_seconds.values())
        done = len(cells.scores.get("smart", {}))
        return Cell("smart", done) if done < 2 else None

    runner = FakeRunner(takes=0.05)
    Worker(begin(tmp_path / "s", plan_of("smart")), runner, order=lambda plan, until: smarts).work()
    assert runner.ran == Counter({("smart", 0): 1, ("smart", 1): 1})


def test_what_was_there_before_the_first_run_is_left_out_of_the_collection_before_each(tmp_path: Path) -> None:
    there, looked_at = [[each] for each in range(100_000)], []

    class Looking(FakeRunner):
        def run(self, settings: Settings, folder: Path, say: Say) -> Outcome:
            looked_at.append(len(gc.get_objects()))
            return super().run(settings, folder, say)

    Worker(begin(tmp_path / "s", plan_of(seeds=1)), Looking()).work()
    assert max(looked_at) < len(there)


def test_the_seeds_of_a_row_have_one_group_in_trackers_unless_the_user_names_another(tmp_path: Path) -> None:
    groups: list[str | None] = []

    class Noting(FakeRunner):
        def run(self, settings: Settings, folder: Path, say: Say) -> Outcome:
            groups.append(settings.group)
            return super().run(settings, folder, say)

    Worker(begin(tmp_path / "s", plan_of("smart", seeds=2)), Noting()).work()
    assert groups == ["study/plain", "study/smart"] * 2
    own = made(Draft(), Settings(group="mine"), ["smart"], "1", None, None)
    Worker(begin(tmp_path / "own", own), Noting()).work()
    assert groups[4:] == ["mine", "mine"]


def test_data_or_an_encoder_that_changed_since_earlier_runs_is_refused_by_name(tmp_path: Path) -> None:
    study = begin(tmp_path / "s", plan_of(seeds=1))
    worker = Worker(study, FakeRunner())
    worker._check_given({"the dev split of task 'sst'|a": "1", "the encoder|e": "2"})
    worker._check_given({"the dev split of task 'sst'|b": "9"})  # as another row reads it
    again_ = Worker(again(study), FakeRunner())
    again_._check_given({"the encoder|e": "2"})
    with pytest.raises(RunError, match="the dev split of task 'sst' is no longer what earlier runs of this study had"):
        again_._check_given({"the dev split of task 'sst'|a": "3"})


def test_a_plugin_that_ends_the_program_fails_its_own_run_alone(tmp_path: Path) -> None:
    plan = plan_of("smart", seeds=1)
    study = begin(tmp_path / "s", plan)
    worker = Worker(study, FakeRunner(wrong={"plain": SystemExit(3)}))  # type: ignore[dict-item]
    worker.work()
    assert [(each.state, each.error) for each in read_results(study, plan)] == [
        ("failed", "SystemExit: 3 (" + read_results(study, plan)[0].error.partition("(")[2]),
        ("finished", ""),
    ]
    assert worker.taken == 2


def test_a_run_that_is_stopped_says_how_the_study_goes_on(tmp_path: Path) -> None:
    wrong = {"plain": StoppedError("stopped by SIGINT; to go on: regkit train --resume x", signal.SIGINT)}
    study = begin(tmp_path / "s", plan_of(seeds=1))
    with pytest.raises(
        StoppedError, match=f"^plain, seed 0 is stopped, and saved; to go on: regkit work {study.folder}$"
    ):
        Worker(study, FakeRunner(wrong=dict(wrong))).work()


def test_in_a_race_a_row_that_is_decided_gets_no_further_runs_and_none_is_begun_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = contest.made(Draft(), Settings(dropout=0), ["smart", "rdrop"], "12", None, None, 60.0)

    class Scored(FakeRunner):
        def run(self, settings: Settings, folder: Path, say: Say) -> Outcome:
            own = {"smart": 0.5, "rdrop": 0.0}.get("".join(settings.plugins), 0.1) + settings.seed % 3 / 100
            score = own + settings.seed / 1000 * len(settings.plugins)
            return replace(super().run(settings, folder, say), scores={"dev": {"t": {"accuracy": score}}})

    study, runner = begin(tmp_path / "s", plan), Scored()
    study.note(until=time.time() + 60)
    Worker(study, runner).work()
    assert sum(runner.ran.values()) < 36 / 3
    assert str(contest.verdict(plan, read_results(study, plan))).startswith("use 'smart': +")
    late, other = begin(tmp_path / "late", plan), Scored()
    late.note(until=time.time() + 3600)
    hours = property(lambda cells: dict.fromkeys(cells.seconds, 7200.0))
    monkeypatch.setattr(Cells, "mean_seconds", hours)  # a run takes two hours, as is known after the first
    Worker(late, other).work()
    assert other.ran == Counter({("plain", 0): 1, ("rdrop", 0): 1, ("smart", 0): 1})  # none of these was known


def test_a_cell_that_fails_is_noted_with_its_sentence_and_the_next_one_is_taken(tmp_path: Path) -> None:
    plan = plan_of("smart", "rrobin", seeds=2)
    study = begin(tmp_path / "s", plan)
    runner = FakeRunner(wrong={"smart": RunError("no luck."), "rrobin": ZeroDivisionError("division by zero")})
    said: list[str] = []
    Worker(study, runner, say=said.append).work()
    states = {(each.row, each.seed): (each.state, each.error) for each in read_results(study, plan)}
    assert states["plain", 1] == ("finished", "")
    assert states["smart", 0] == ("failed", "no luck.")
    assert states["rrobin", 1][1].startswith("ZeroDivisionError: division by zero (")
    assert "smart, seed 0 failed: no luck." in said
    assert sum(runner.ran.values()) == 6  # none was tried again
    begin(tmp_path / "s", plan)  # the same command again
    runner.wrong.clear()
    Worker(study, runner).work()
    assert {each.state for each in read_results(study, plan)} == {"finished"}
    assert runner.ran["plain", 0] == 1


def test_more_rows_and_seeds_keep_what_is_done(tmp_path: Path) -> None:
    runner = FakeRunner()
    study = begin(tmp_path / "s", plan_of("smart", seeds=1))
    Worker(study, runner).work()
    plan = read_plan(study).joined(plan_of("rrobin", seeds=2), "s")
    begin(tmp_path / "s", plan)
    Worker(study, runner).work()
    assert runner.ran == Counter(dict.fromkeys(map(tuple, plan.cells()), 1))
    assert list(plan.rows) == ["plain", "smart", "rrobin"]


def test_a_signal_leaves_the_run_to_be_taken_up(tmp_path: Path) -> None:
    plan = plan_of(seeds=2)
    study = begin(tmp_path / "s", plan)

    class Interrupted(FakeRunner):
        def run(self, *given: object) -> None:  # type: ignore[override]
            self.interrupts.asked = signal.SIGINT
            raise StoppedError("saved", signal.SIGINT)

    with pytest.raises(StoppedError) as stopped:
        Worker(study, Interrupted()).work()
    assert stopped.value.status == 130
    (trial,) = study.trials()
    assert (trial.state.name, trial.user_attrs[STOPPED]) == ("FAIL", True)
    assert not list((tmp_path / "s" / "workers").iterdir())
    runner = FakeRunner()
    Worker(study, runner).work()
    assert runner.ran == Counter({("plain", 0): 1, ("plain", 1): 1})


def test_weights_that_a_killed_worker_left_are_freed_by_the_next_unless_they_were_to_be_kept(tmp_path: Path) -> None:
    for keeps in (False, True):
        study = begin(tmp_path / f"s{keeps}", plan_of(seeds=1))
        Worker(study, FakeRunner(keep_weights=keeps)).work()
        run = study.folder / "runs" / "plain-0"
        run.mkdir(parents=True)
        (run / "last").symlink_to("checkpoints")
        runner = FakeRunner()
        Worker(study, runner).work()
        assert runner.freed == ([] if keeps else [run])


def hold(folder: Path, address: str) -> None:
    """Take a run in a process of its own, and never end it."""
    study = Study.open("study", folder, address)
    with alive.Pulse(study.folder / "workers", lambda count: None) as pulse:
        study.claim({"row": "plain", "seed": 0}, pulse, folder=str(study.folder / "elsewhere"))
        time.sleep(600)


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_run_to_the_next_and_one_that_lives_keeps_it(tmp_path: Path) -> None:
    plan = plan_of(seeds=2)
    study = begin(tmp_path / "s", plan)
    holder = Forked(hold, study.folder, study.address, cwd=tmp_path)
    try:
        while read_results(again(study), plan)[0].state != "running":
            assert holder.poll() is None, holder.communicate()
            time.sleep(0.01)
        runner = FakeRunner()
        Worker(again(study), runner).work()
        assert runner.ran == Counter({("plain", 1): 1})
        assert [each.state for each in read_results(study, plan)] == ["running", "finished"]
    finally:
        holder.kill()
        holder.wait()
    assert [each.state for each in read_results(study, plan)] == ["waiting", "finished"]
    Worker(again(study), runner).work()
    assert runner.ran == Counter({("plain", 1): 1, ("plain", 0): 1})
    assert study.trials()[0].user_attrs[DEAD] is True


def test_a_worker_on_another_host_is_told_alive_by_its_counter_and_dead_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    watch = alive.Watch(clock=lambda: now[0])
    far = {"host": "elsewhere", "lock": str(tmp_path), "beat": 3}
    assert watch.judge(0, far) == "unknown"
    now[0] = 80.0
    assert watch.judge(0, far | {"beat": 4}) == "alive"
    now[0] = 160.0
    assert watch.judge(0, far | {"beat": 4}) == "alive"
    now[0] = 171.0
    assert watch.judge(0, far | {"beat": 4}) == "dead"
    assert watch.judge(1, {"host": socket.gethostname(), "lock": str(tmp_path / "gone"), "beat": 0}) == "unknown"


def test_a_worker_is_known_where_its_study_was_moved_or_copied_to(tmp_path: Path) -> None:
    with alive.Pulse(tmp_path / "s" / alive.WORKERS, lambda count: None) as pulse:
        noted = pulse.attributes
        shutil.copytree(tmp_path / "s", tmp_path / "copy")
        moved, copied = (alive.Watch(tmp_path / name / alive.WORKERS) for name in ("moved", "copy"))
        assert moved.judge(0, noted) == "alive"  # by where it was begun
        assert copied.judge(0, noted) == "dead"  # nobody works on the copy
        (tmp_path / "s").rename(tmp_path / "moved")
        assert moved.judge(0, noted) == "alive"
    assert moved.judge(0, noted) == "dead"
    assert moved.judge(0, noted | {"lock": ""}) == "unknown"  # its disk has no locks, so the file says nothing


def test_a_worker_waits_until_it_knows_whether_the_others_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin(tmp_path / "s", plan_of(seeds=1))
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    with alive.Pulse(tmp_path / "other", lambda count: None) as pulse:
        study.claim({"row": "plain", "seed": 0}, pulse)
    monkeypatch.undo()
    monkeypatch.setattr(worker, "LOOK", 0.01)
    monkeypatch.setattr(alive, "PATIENCE", 0.05)
    runner, said = FakeRunner(), list[str]()
    Worker(again(study), runner, said.append).work()
    assert runner.ran == Counter({("plain", 0): 1})
    assert len([line for line in said if "waits for a run whose worker shows no sign of life" in line]) == 1


def test_a_worker_that_was_held_for_dead_stops_and_takes_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(seeds=2)
    study = begin(tmp_path / "s", plan)
    monkeypatch.setattr(alive, "BEAT", 0.01)

    class Slow(FakeRunner):
        def run(self, settings, folder, say):  # type: ignore[no-untyped-def]
            if settings.seed == 0 and not self.ran:
                self.ran["lost", 0] += 1
                Claim(study, study.trials()[0]._trial_id).fail(dead=True)
                while not self.interrupts.asked:
                    pass
                raise StoppedError("saved", self.interrupts.asked)
            return super().run(settings, folder, say)

    runner = Slow()
    said: list[str] = []
    Worker(again(study), runner, say=said.append).work()
    assert said[0] == "plain, seed 0: another worker has taken it up"
    assert runner.ran == Counter({("lost", 0): 1, ("plain", 0): 1, ("plain", 1): 1})


def test_a_study_that_is_no_ablation_is_said_to_be_none(tmp_path: Path) -> None:
    study = begin(tmp_path / "s", plan_of())
    study.note(plan={"search": {}})
    with pytest.raises(RunError, match="is no ablation"):
        read_plan(study)
