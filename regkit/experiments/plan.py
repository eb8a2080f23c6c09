"""Plan: what a study runs - the settings that all rows share, the rows, the seeds, the baseline."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from regkit.base.bounds import NONE
from regkit.base.errors import ConfigError, RegkitError, nearest
from regkit.base.files import absolute
from regkit.experiments.draft import Draft, read_making, read_robust, read_seeds
from regkit.experiments.rows import ALL, PLAIN, Row, make_rows, parse_set
from regkit.hooks import catalog, option_values
from regkit.runs.settings import Settings

SEEDS = 5
WITHOUT_RESULT = {"device", "group", "keep", "keep_state", "save_steps", "save_minutes", "micro_batch_tokens", "memory"}


class Cell(NamedTuple):
    """One run of a study."""

    row: str
    seed: int


class Choice(NamedTuple):
    """The next run of a study, if there is one, and the plan that has its row."""

    plan: "Plan"
    cell: Cell | None
    later: bool = False  # whether there may be one when others are done
    said: str = ""  # what to say when it begins


@dataclass(frozen=True)
class Plan:
    """What a study runs."""

    settings: Settings
    rows: Mapping[str, Row]  # by name, in the order of the table
    seeds: Sequence[int]
    baseline: str
    race: float | None = None  # seconds for which the rows race; without it, every row has every seed
    controls: bool = False  # whether to add the plain rows that a method has to beat, see `controls`
    radii: Sequence[float] = ()  # of the attacks, where each run is scored on changed examples, too

    @classmethod
    def of(cls, draft: Draft) -> "Plan":
        """Complete a draft: rows are made, and a plain row is added where there is no baseline.

        Raises ConfigError for two rows that are one, and for a baseline that is no row.
        """
        rows = [*draft.rows, *make_rows(draft.sets, draft.making)]
        names = [row.name for row in rows]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"two rows are called '{twice}'; give one of them another name.")
        baseline = draft.baseline or next((row.name for row in rows if not row.changes), None)
        if baseline is None and draft.making == "leave-one-out":
            baseline = ALL
        if baseline is None or (baseline == PLAIN and PLAIN not in names):
            baseline, rows = PLAIN, [Row(PLAIN), *rows]
        known = {row.name: row for row in rows}
        if baseline not in known:
            raise ConfigError(f"the baseline '{baseline}' is no row. {nearest(baseline, known)}")
        _check_rows(draft.settings, rows)
        seeds = tuple(draft.seeds or range(SEEDS))
        return cls(draft.settings, known, seeds, baseline, controls=draft.controls, radii=draft.radii)

    def cells(self) -> list[Cell]:
        """List the runs: all rows with the first seed, then all with the next."""
        return [Cell(name, seed) for seed in self.seeds for name in self.rows]

    def settings_of(self, cell: Cell) -> Settings:
        """Build the settings of a run."""
        return self.rows[cell.row].apply(self.settings).model_copy(update={"seed": cell.seed})

    def joined(self, other: "Plan", owner: str) -> "Plan":
        """Add another plan's rows and seeds.

        Raises ConfigError, in the name of the `owner`, where one row differs, and where runs would be scored on changed
        examples which others were not.
        """
        if other.radii and other.radii != self.radii:
            began = f"with attacks of {', '.join(map(str, self.radii))}" if self.radii else "without --robust"
            raise ConfigError(
                f"{owner} began {began}, and a finished run keeps no weights to score again; leave it out, or name "
                "another --output to begin a new study."
            )
        other = other._named_like(self)
        other = replace(other, settings=filled_from(self.settings, other.settings))
        for name, row in other.rows.items():
            noted = self.rows.get(name, row).apply(self.settings)
            if said := _difference(noted, row.apply(other.settings)):
                raise ConfigError(f"{owner} has row '{name}' with {said}; name another --output to begin a new study.")
        for name in self.rows.keys() - other.rows.keys():
            if _difference(self.rows[name].apply(self.settings), self.rows[name].apply(other.settings)):
                raise ConfigError(f"{owner} has other settings; name another --output to begin a new study.")
        was_race = self.race is not None and other.race is None  # whose seeds are only the most that might be run
        ours = () if was_race else tuple(self.seeds)
        seeds = [*ours, *(seed for seed in other.seeds if seed not in ours)]
        return replace(other, rows={**self.rows, **other.rows}, seeds=tuple(seeds), radii=self.radii)

    def _named_like(self, noted: "Plan") -> "Plan":
        """Name encoders that are gone as another plan does."""
        rows = dict(self.rows)
        for name in rows.keys() & noted.rows.keys():
            ours, theirs = (each.rows[name].settings.get("encoder") for each in (self, noted))
            if isinstance(ours, str):
                rows[name] = replace(rows[name], settings={**rows[name].settings, "encoder": noted_name(ours, theirs)})
        encoder = noted_name(self.settings.encoder, noted.settings.encoder)
        return replace(self, rows=rows, settings=self.settings.model_copy(update={"encoder": encoder}))

    def as_values(self) -> dict[str, Any]:
        """Put the plan into plain values, in the form of a file."""
        values = self.settings.model_dump(mode="json", exclude_none=True, exclude={"seed"})
        rows = {name: _without_none(row.changes) for name, row in self.rows.items()}
        own: dict[str, Any] = {"race": self.race} if self.race is not None else {}
        own |= {"controls": True} if self.controls else {}
        own |= {"robust": list(self.radii)} if self.radii else {}
        return values | own | {"seeds": list(self.seeds), "baseline": self.baseline, "rows": rows}

    def toml(self, **more: Any) -> str:
        """Write a TOML file that gives this plan again."""
        return tomli_w.dumps({**more, **self.as_values()})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Plan":
        """Read the plan that `as_values` wrote. Raises ConfigError for one of another version."""
        own = ("seeds", "baseline", "rows", "race", "controls", "robust")
        settings = Settings.checked({name: value for name, value in values.items() if name not in own}, "the study")
        rows = {
            name: Row.checked(name, changes, f"row '{name}'", Path("/")) for name, changes in values["rows"].items()
        }
        return cls(
            settings,
            rows,
            tuple(values["seeds"]),
            values["baseline"],
            values.get("race"),
            values.get("controls", False),
            read_robust(values.get("robust", False), "the study: robust"),
        )


def noted_name(encoder: str | None, noted: str | None) -> str | None:
    """Name an encoder as a study has noted it, if both are one folder.

    A path is made absolute only while the folder is there.
    """
    return noted if encoder and noted and str(absolute(Path(encoder))) == noted else encoder


def filled_from(noted: Settings, given: Settings) -> Settings:
    """Fill in what settings leave open, the precision and CUDA graphs, as the study has it."""
    precision = noted.precision if given.precision == "auto" else given.precision
    graphs = noted.cuda_graphs if given.cuda_graphs is None else given.cuda_graphs
    return given.model_copy(update={"precision": precision, "cuda_graphs": graphs})


def made(
    draft: Draft, shared: Settings, sets: Sequence[str], seeds: str | None, making: str | None, baseline: str | None
) -> Plan:
    """Make the plan of what a file describes and a command line changes.

    The controls that it may ask for are added later. Raises ConfigError or PluginError.
    """
    way = read_making(making, "--rows") or draft.making
    given = [parse_set(each) for each in sets]
    if not (given or draft.rows or draft.sets):
        raise ConfigError("there is nothing to compare; give sets, -p smart -p rrobin, or a file with [rows.NAME].")
    return Plan.of(
        replace(
            draft,
            settings=shared,
            sets=[*draft.sets, *given],
            making=way,
            seeds=read_seeds(seeds, "--seeds") if seeds is not None else draft.seeds,
            baseline=baseline or draft.baseline,
        )
    )


def _without_none(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: NONE if value is None else value for name, value in changes.items()}


def _check_rows(shared: Settings, rows: Iterable[Row]) -> None:
    """Raise ConfigError for a row that has nothing to compare."""
    for row in rows:
        if not row.apply(shared).finetune:
            raise ConfigError(f"row '{row.name}': a run without fine-tuning has no scores; leave finetune = false out.")


def check_twins(plan: Plan, noted: Collection[str]) -> None:
    """Raise ConfigError for a new row whose runs would be those of another, however either is written.

    `noted` are the rows that the study has, which go on.
    """
    seen: dict[str, str] = {}
    for name in sorted(plan.rows, key=lambda name: name not in noted):
        twin = seen.setdefault(_meaning(plan.rows[name].apply(plan.settings)), name)
        if twin != name and name not in noted:
            raise ConfigError(f"rows '{twin}' and '{name}' do not differ; leave one of them out.")


def _meaning(settings: Settings) -> str:
    """Write what decides what a run comes to: the same text for what can be written in several ways."""
    plugins = {name: _options_meant(name, given) for name, given in settings.plugins.items()}  # their order counts
    return repr(settings.model_dump(exclude=WITHOUT_RESULT) | {"plugins": plugins})


def _options_meant(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return option_values.meant(name, catalog.make(name, given), given)
    except RegkitError:  # the row's first run says it
        return given


def _difference(ours: Settings, theirs: Settings) -> str:
    """Say where two rows differ, and what is there; nothing if their runs are the same."""
    for name in Settings.model_fields:
        old, new = getattr(ours, name), getattr(theirs, name)
        if name not in WITHOUT_RESULT and repr(old) != repr(new):  # of plugins, the order counts
            return f"{name} = {old}, not {new}"
    return ""
