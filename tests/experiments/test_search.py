"""Search: the default first, then proposals; a trial is taken up with its point; the winner is judged by fresh seeds."""

import contextlib
import dataclasses
import functools
import math
import random
import threading
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regkit.base.errors import ConfigError, RunError, StoppedError
from regkit.experiments.asked import read_asked
from regkit.experiments.search import space
from regkit.experiments.search.found import Found, Gain
from regkit.experiments.search.progress import Progress, score_of
from regkit.experiments.search.search import Extent, Search, SearchFile
from regkit.experiments.search.space import space_of
from regkit.experiments.study.alive import Watch
from regkit.experiments.study.study import PLAN, ROUND, Study
from regkit.experiments.study.worker import Worker
from regkit.runs.interrupts import Interrupts
from regkit.runs.settings import Settings

optuna = pytest.importorskip("optuna")

SETTINGS = Settings(plugins={"smart": {}}, learning_rate=1e-4)
RANGES = {"smart.epsilon": True, "learning_rate": "1e-5..1e-3 log"}
Score = Callable[[Settings], float]


@pytest.fixture(autouse=True)
def options_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker reads what the search is before every run, which takes longer here than the run."""
    monkeypatch.setattr(space, "_options", functools.cache(space._options))


@dataclass(frozen=True)
class Outcome:
    """What a made-up run came to."""

    value: float
    scores: Mapping[str, Any]
    mains: Mapping[str, tuple[str, bool]]

    def as_attributes(self) -> dict[str, Any]:
        return {"scores": self.scores, "mains": self.mains, "seconds": 1.0}


@dataclass
class Pretender:
    """Runs nothing: a score is a function of the settings, seed included."""

    score: Score
    ran: list[tuple[str, int]] = field(default_factory=list)
    stops_after: int | None = None
    keep_weights: bool = False
    interrupts: Interrupts = field(default_factory=Interrupts)

    def run(self, settings: Settings, folder: Path, say: Callable[[str], None]) -> Outcome:
        if self.stops_after is not None and len(self.ran) >= self.stops_after:
            raise StoppedError("stopped", 15)
        self.ran.append((folder.name.rpartition("-")[0], settings.seed))
        value = self.score(settings)
        return Outcome(
            value if math.isfinite(value) else 0.0, {"dev": {"t": {"accuracy": value}}}, {"t": ("accuracy", False)}
        )

    def free(self, folder: Path) -> None: ...


def hill(settings: Settings) -> float:
    """The best learning rate is ten times the default; a seed counts for more than the rest."""
    return 0.6 - 0.1 * math.log10(settings.learning_rate / 1e-3) ** 2 + 0.05 * (settings.seed % 3) + noise(settings)


def noise(settings: Settings, size: float = 0.002) -> float:
    return random.Random(f"{settings.seed}/{settings.learning_rate}/{settings.plugins}").gauss(0, size)


def search_of(trials: int = 8, seeds: int = 2, fresh: int = 3, sampler: str = "random", **more: Any) -> Search:
    extent = Extent(trials=trials, seeds=seeds, fresh_seeds=fresh, sampler=sampler)  # type: ignore[arg-type]
    settings = SETTINGS.model_copy(update=more)
    return Search(settings, space_of(settings, RANGES, "[search]"), extent)


STUDIES: dict[Path, Study] = {}  # by folder, in memory


def begin(folder: Path, search: Search) -> Study:
    if folder not in STUDIES:
        storage = optuna.storages.InMemoryStorage()
        number = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "study")
        STUDIES[folder] = Study("study", folder, "", storage, number)
    study = STUDIES[folder]
    study.note(**{PLAN: search.as_values(), ROUND: int(study.attributes().get(ROUND, 0)) + 1})
    return study


def work(folder: Path, search: Search, score: Score = hill) -> tuple[Found, Pretender]:
    study, runner = begin(folder, search), Pretender(score)
    Worker(study, runner).work()
    return read(study, search), runner


def read(study: Study, search: Search) -> Found:
    return Found(Progress.of(search, study, study.trials(), study.attributes()[ROUND]))


def test_the_default_comes_first_and_the_winner_is_run_again_with_it_on_fresh_seeds(tmp_path: Path) -> None:
    found, runner = work(tmp_path, search_of())
    assert runner.ran[:2] == [("default", 0), ("default", 1)]
    winner = found.progress.winner
    assert winner is not None
    last = [(row, seed) for seed in (1000, 1001, 1002) for row in ("default", f"trial-{winner.number}")]
    assert runner.ran[-6:] == last
    assert len(runner.ran) == len(set(runner.ran))
    assert {seed for _, seed in runner.ran[:-6]} == {0, 1}


def test_the_runs_of_a_row_are_counted_apart_on_the_seeds_that_chose_and_on_fresh_ones(tmp_path: Path) -> None:
    search, said = search_of(), list[str]()
    Worker(begin(tmp_path, search), Pretender(hill), said.append).work()
    told = [line.rpartition("; ")[2] for line in said if "runs are finished" in line]
    assert told[:2] == ["1 of 2 runs are finished", "2 of 2 runs are finished"]  # of the default
    assert sorted(told[-6:]) == [f"{done} of 3 runs are finished" for done in (1, 1, 2, 2, 3, 3)]  # it, and the winner


def test_fresh_seeds_are_those_of_no_trial() -> None:
    for seed in (0, 5, 999):
        search = search_of(seeds=20, fresh=50, seed=seed)
        assert not set(search.seeds) & set(search.fresh)
        assert search.seeds[0] == seed
    with pytest.raises(ConfigError, match="1000"):
        Extent.checked({"seeds": 1001}, "x")
    with pytest.raises(ConfigError, match=r"^x: trials is True; a number is needed"):
        Extent.checked({"trials": True}, "x")


def test_what_is_reported_is_the_difference_on_fresh_seeds_and_not_the_score_that_chose(tmp_path: Path) -> None:
    def luck(settings: Settings) -> float:
        return 0.5 + noise(settings, 0.05)  # no point is better than another

    search = search_of(trials=12)
    found, _ = work(tmp_path, search, luck)
    winner, gain = found.progress.winner, found.gain
    assert winner is not None
    assert gain is not None
    settings = search.row(winner.number, winner.values).apply(SETTINGS)
    pairs = [(settings.model_copy(update={"seed": s}), SETTINGS.model_copy(update={"seed": s})) for s in search.fresh]
    assert gain.mean == pytest.approx(sum(luck(own) - luck(other) for own, other in pairs) / 3)
    assert gain.pairs == 3
    assert winner.mean - found.default.mean > 0.03  # which the search would have one believe
    assert not gain.told
    assert any(str(gain) in line and "cannot be told from nothing" in line for line in found.conclusion())


def test_a_real_gain_is_told_with_its_interval(tmp_path: Path) -> None:
    found, _ = work(tmp_path, search_of())
    assert found.gain is not None
    assert found.gain.low > 0
    assert found.chosen is found.progress.winner
    assert found.conclusion()[-1].endswith("use it")


def test_where_the_winner_is_worse_with_fresh_seeds_the_default_is_kept(tmp_path: Path) -> None:
    def treacherous(settings: Settings) -> float:
        good = settings.learning_rate != SETTINGS.learning_rate
        return 0.5 + (0.1 if good else 0.0) * (1 if settings.seed < 1000 else -1) + noise(settings)

    found, _ = work(tmp_path, search_of(), treacherous)
    assert found.progress.winner is not None
    assert found.chosen is found.default
    assert found.settings() == SETTINGS
    *_, said, config = found.conclusion()
    assert said.endswith("the default is better")
    assert config == "the config is that of the default, which did no worse"


def test_nothing_better_is_said_and_costs_no_fresh_runs(tmp_path: Path) -> None:
    found, runner = work(tmp_path, search_of(), lambda settings: -abs(settings.learning_rate - 1e-4))
    assert found.progress.winner is None
    assert found.conclusion() == ["nothing beat the default in 8 trials; use it"]
    assert max(seed for _, seed in runner.ran) == 1


def test_a_clearly_worse_trial_costs_one_seed(tmp_path: Path) -> None:
    found, runner = work(tmp_path, search_of(trials=12, seeds=3))
    states = Counter(found.progress.trials.state(trial) for trial in found.progress.trials.trials)
    assert states["pruned"] > 2
    assert len(runner.ran) < 12 * 3
    best = min(found.progress.trials.trials, key=lambda trial: abs(math.log10(trial.values["learning_rate"] / 1e-3)))
    assert found.progress.trials.state(best) == "complete"


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    search = search_of(sampler="tpe")
    whole, undisturbed = work(tmp_path / "whole", search)
    ran = list[tuple[str, int]]()
    for stops_after in (1, 4, 6, None):
        study, runner = begin(tmp_path / "parts", search), Pretender(hill, stops_after=stops_after)
        with contextlib.suppress(StoppedError):
            Worker(study, runner).work()
        ran += runner.ran
    assert ran == undisturbed.ran
    assert read(study, search).as_json() == whole.as_json()


def test_a_dead_workers_trial_is_taken_up_with_its_point_and_its_seeds_that_are_done(tmp_path: Path) -> None:
    search = search_of()
    study = begin(tmp_path, search)
    with pytest.raises(StoppedError):
        Worker(study, Pretender(hill, stops_after=3)).work()  # it has done seed 0 of trial 1, and was at seed 1
    trial = study.trials()[-1]
    standing = read(study, search).progress
    cell, row = standing.next() or pytest.fail("nothing is next")
    assert (cell.row, cell.seed) == ("trial-1", 1) == (trial.user_attrs["row"], trial.user_attrs["seed"])
    assert row.changes == trial.user_attrs["changes"] == study.trials()[2].user_attrs["changes"]


def test_the_point_of_a_worker_that_died_at_the_first_seed_is_kept(tmp_path: Path) -> None:
    search = search_of()
    study = begin(tmp_path, search)
    with pytest.raises(StoppedError):
        Worker(study, Pretender(hill, stops_after=2)).work()
    announced = study.trials()[-1].user_attrs
    cell, row = read(study, search).progress.next() or pytest.fail("nothing is next")
    assert (cell.row, cell.seed, row.changes) == ("trial-1", 0, announced["changes"])


def test_of_two_workers_that_announced_one_trial_at_once_the_point_is_that_of_the_run(tmp_path: Path) -> None:
    search = search_of()
    study = begin(tmp_path, search)
    points = [{"learning_rate": rate, "smart.epsilon": 0.01} for rate in (1e-5, 1e-3)]
    key, pulse = {"row": "trial-1", "seed": 0}, SimpleNamespace(attributes={})
    first, second = (study.claim(key, pulse, changes=search.row(1, point).changes) for point in points)  # type: ignore[arg-type]
    assert first is not None
    assert second is None  # withdrawn
    assert read(study, search).progress.trials.trials[1].values == points[0]
    first.fail(dead=True)
    again = study.claim(key, pulse, changes=search.row(1, points[1]).changes)  # type: ignore[arg-type]
    assert again is not None
    again.complete(0.5, scores={"dev": {"t": {"accuracy": 0.5}}}, mains={"t": ("accuracy", False)})
    assert read(study, search).progress.trials.trials[1].values == points[1]


def test_several_workers_do_every_run_once_and_try_different_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = search_of(trials=10)
    study = begin(tmp_path, search)
    monkeypatch.setattr("regkit.experiments.study.worker.LOOK", 0.02)
    monkeypatch.setattr(Search, "from_values", lambda values: search)  # Python 3.11 parses in one thread at a time
    runners, errors = [Pretender(hill) for _ in range(3)], list[BaseException]()

    def worker(runner: Pretender) -> None:
        try:
            Worker(dataclasses.replace(study, watch=Watch()), runner).work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=worker, args=[runner]) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    ran = Counter(cell for runner in runners for cell in runner.ran)
    assert set(ran.values()) == {1}
    found = read(study, search)
    points = [trial.values for trial in found.progress.trials.trials]
    assert len(points) == 10
    assert all(point not in points[:number] for number, point in enumerate(points))
    assert found.gain is not None
    assert found.gain.pairs == 3


def test_a_run_that_fails_ends_its_trial_and_no_other(tmp_path: Path) -> None:
    def fails_above(settings: Settings) -> float:
        if settings.learning_rate > 3e-4:
            raise RunError("it does not converge.")
        return hill(settings)

    found, _ = work(tmp_path, search_of(), fails_above)
    failed = [trial for trial in found.progress.trials.trials if trial.failed]
    assert failed
    assert all(trial.failed == "it does not converge." for trial in failed)
    assert found.progress.winner not in failed
    values = {each["number"]: each["value"] for each in found.as_json()["trials"]}
    worst = min(values[trial.number] for trial in found.progress.trials.trials if trial not in failed)
    told = {
        trial.number: value
        for trial, (_, value) in zip(found.progress.trials.trials, found.progress.tried, strict=True)
    }
    assert all(told[trial.number] == worst for trial in failed)


def test_without_a_default_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    def fails(settings: Settings) -> float:
        raise RunError("no such thing.")

    found, runner = work(tmp_path, search_of(), fails)
    assert runner.ran == [("default", 0)]
    assert found.conclusion() == ["the default settings fail, so that there is nothing to compare with: no such thing."]


def test_a_score_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    found, _ = work(tmp_path, search_of(), lambda each: math.nan if each.learning_rate > 3e-4 else hill(each))
    assert {trial.failed for trial in found.progress.trials.trials} == {"", "its score is not finite"}


def test_one_seed_runs_and_says_that_nothing_can_be_told(tmp_path: Path) -> None:
    found, _ = work(tmp_path, search_of(seeds=1, fresh=1))
    assert "from one seed nothing can be told" in found.conclusion()[-1]
    found, _ = work(tmp_path / "none", search_of(seeds=1, fresh=0))
    assert "nothing can be told" in found.conclusion()[-1]


def test_a_default_outside_the_space_is_the_first_trial_all_the_same(tmp_path: Path) -> None:
    search = Search(
        SETTINGS, space_of(SETTINGS, {"dropout": True, "learning_rate": "5e-4..1e-3"}, ""), Extent(trials=4)
    )
    found, runner = work(tmp_path, search, lambda settings: 0.5)
    assert runner.ran[0] == ("default", 0)
    assert found.default.values == {"dropout": None, "learning_rate": 1e-4}


def test_a_space_that_is_exhausted_ends_the_search(tmp_path: Path) -> None:
    search = Search(
        SETTINGS, space_of(SETTINGS, {"smart.steps": "1..3"}, ""), Extent(trials=30, seeds=1, fresh_seeds=0)
    )
    found, _ = work(tmp_path, search, lambda settings: noise(settings))
    assert sorted(trial.values["smart.steps"] for trial in found.progress.trials.trials) == [1, 2, 3]
    assert found.progress.is_searched


def test_the_same_search_goes_on_with_more_trials_and_another_one_is_refused(tmp_path: Path) -> None:
    search = search_of(trials=4)
    work(tmp_path, search)
    more = search.joined(search_of(trials=6), "study 's'")
    _, runner = work(tmp_path, more)
    assert ("default", 0) not in runner.ran
    assert {row for row, seed in runner.ran if seed < 1000} == {"trial-4", "trial-5"}
    for other in (search_of(seeds=3), search_of(sampler="gp"), search_of(batch_size=8), search_of(seed=1)):
        with pytest.raises(ConfigError, match=r"^study 's' has .* name another --output"):
            search.joined(other, "study 's'")
    assert search.joined(search_of(trials=4, device="cpu"), "s").extent.trials == 4


def test_a_search_is_the_same_when_it_is_read_back(tmp_path: Path) -> None:
    settings = Settings(plugins={"smart": {}, "weighted": {"weights": {"sst": 1.0}}})
    ranges = {"dropout": "none, 0, 0.1", "smart.steps": "1..3", "weighted.weights.sst": True, "smart.unit": True}
    search = Search(settings, space_of(settings, ranges | {"warmup": "0..0.2 step 0.1"}, ""), Extent(trials=7))
    assert Search.from_values(search.as_values()) == search
    (tmp_path / "study.toml").write_text(search.toml(storage="journal:x"))
    read_again = SearchFile.read(tmp_path / "study.toml")
    assert read_again.search(read_again.settings, {}, None) == search
    study = begin(tmp_path, search)
    assert read_asked(study) == search


def test_the_best_settings_are_a_config_that_says_where_it_comes_from(tmp_path: Path) -> None:
    found, _ = work(tmp_path, search_of())
    text = found.toml("runs/mine")
    (tmp_path / "best.toml").write_text(text)
    assert Settings.read(tmp_path / "best.toml") == found.settings()
    assert found.settings().learning_rate != SETTINGS.learning_rate
    assert text.startswith("# found by `regkit tune`, study runs/mine\n# trial ")
    assert str(found.gain) in text
    assert "smart" in tomllib.loads(text)["plugins"]


def test_the_record_has_every_trial_the_shares_the_winner_and_the_default(tmp_path: Path) -> None:
    found, _ = work(tmp_path, search_of(trials=14))
    record = found.as_json()
    assert [each["number"] for each in record["trials"]] == [*range(14)]
    assert all(set(each) == {"number", "state", "value", "params", "seconds", "error"} for each in record["trials"])
    assert set(record["importance"]) == set(RANGES)
    assert set(record["logarithmic"]) == set(RANGES)
    assert max(record["importance"], key=record["importance"].get) == "learning_rate"
    assert record["best"]["difference"]["mean"] == pytest.approx(record["best"]["fresh"] - record["default"]["fresh"])


@pytest.mark.parametrize(
    ("monitor", "expected"),
    [("mean", (0.5 - 2.0) / 2), ("a.accuracy", 0.5), ("a.loss", -1.5), ("b.mae", -2.0), ("other.x", -0.75)],
)
def test_the_score_that_is_sought_is_the_monitored_one_higher_being_better(monitor: str, expected: float) -> None:
    scores = {"dev": {"a": {"accuracy": 0.5, "loss": 1.5}, "b": {"mae": 2.0}}}
    mains = {"a": ["accuracy", False], "b": ["mae", True]}
    assert score_of({"scores": scores, "mains": mains}, monitor) == expected


def test_a_gain_is_paired_by_seed() -> None:
    gain = Gain.of({1000: 0.9, 1001: 0.5, 1002: 0.7}, {1001: 0.4, 1003: 0.1, 1000: 0.75})
    assert gain is not None
    assert (gain.mean, gain.pairs) == (pytest.approx((0.15 + 0.1) / 2), 2)
    assert gain.high - gain.mean == pytest.approx(0.025 * 12.706, rel=1e-3)  # t of one degree of freedom
    assert Gain.of({1000: 0.9}, {}) is None


def test_the_command_line_changes_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('trials = 9\nlearning_rate = 1e-4\n[search]\nlearning_rate = true\nwarmup = "0..0.2"\n')
    asked = SearchFile.read(path)
    search = asked.search(asked.settings, {"seeds": "5"}, ["learning_rate=1e-4..1e-3 log", "dropout=0, 0.1"])
    assert (search.extent.trials, search.extent.seeds) == (9, 5)
    assert [str(each).partition(" (")[0] for each in search.space.values()] == [
        "learning_rate: 0.0001 to 0.001, log",
        "warmup: 0 to 0.2",
        "dropout: 0, 0.1",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search = 3", "a table is needed"),
        ("trials = 0\n[search]\nwarmup = true", "trials is 0"),
        ('sampler = "grid"\n[search]\nwarmup = true', "sampler is 'grid'"),
        ("[search]\nwarm = true", "Did you mean 'warmup'?"),
        ("[search]", "there is nothing to search"),
        ("trails = 3", "has no option 'trails'"),
        ("robust = true", "has no option 'robust'. That is for regkit ablate; leave it out here."),
        ("storage = 3", "storage is 3"),
    ],
)
def test_a_file_that_is_no_search_is_refused_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text)

    def read() -> Search:
        asked = SearchFile.read(path)
        return asked.search(asked.settings, {}, None)

    with pytest.raises(ConfigError) as caught:
        read()
    assert said in str(caught.value)
    assert "f.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
