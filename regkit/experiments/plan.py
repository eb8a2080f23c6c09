"""Plan: what a study runs - the settings that all rows share, the rows, the seeds, the baseline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import tomli_w

from regkit.base.errors import ConfigError, nearest, typed
from regkit.base.files import absolute
from regkit.experiments.rows import ALL, NONE, PLAIN, Making, Row, make_rows, parse_set
from regkit.runs.settings import Settings, read_values

SEEDS = 5
MOST_SEEDS = 1000
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
class Draft:
    """A study as a file describes it; what it leaves open is None."""

    settings: Settings = field(default_factory=Settings)
    rows: Sequence[Row] = ()
    sets: Sequence[Row] = ()  # of which `making` makes rows
    making: Making | None = None
    seeds: Sequence[int] | None = None
    baseline: str | None = None
    controls: bool = False
    robust: bool = False
    storage: str | None = None


def read_draft(path: Path) -> Draft:
    """Read a study from a TOML file.

    It has settings as in a config, `seeds`, `baseline`, `controls`, `robust`, and tables `[rows.NAME]`. `make = "grid"`,
    or another way, makes rows of the sets that `of = ["smart", "rrobin"]` lists. Raises ConfigError.
    """
    values, folder = read_values(path), absolute(path).parent
    names = ("rows", "seeds", "baseline", "controls", "robust", "make", "of", "storage")
    own = {name: values.pop(name) for name in names if name in values}
    if "search" in values:
        raise ConfigError(f"{path} asks for a search, which is for {typed('regkit', 'tune', path)}.")
    if "seed" in values:
        raise ConfigError(f"{path}: a study has several seeds: seeds = 5, or seeds = [0, 1, 2].")
    settings = Settings.checked(values, str(path)).below(folder)
    rows, sets = own.get("rows", {}), own.get("of", [])
    if not isinstance(rows, dict) or not all(isinstance(changes, dict) for changes in rows.values()):
        raise ConfigError(f"{path}: rows are tables, [rows.NAME], each with the settings and plugins that it changes.")
    if not isinstance(sets, list) or not all(isinstance(each, str) for each in sets):
        raise ConfigError(f'{path}: of is {sets!r}; a list of sets is needed, such as ["smart", "rrobin"].')
    if ("make" in own) != bool(sets):
        raise ConfigError(f'{path}: make = "grid", or another way, and of = ["smart", "rrobin"] go together.')
    for name in ("baseline", "storage"):
        if not isinstance(own.get(name, ""), str):
            raise ConfigError(f"{path}: {name} is {own[name]!r}; a text is needed.")
    for name in ("controls", "robust"):
        if not isinstance(own.get(name, False), bool):
            raise ConfigError(f"{path}: {name} is {own[name]!r}; true or false is needed.")
    return Draft(
        settings,
        [Row.checked(name, changes, f"{path}: row '{name}'", folder) for name, changes in rows.items()],
        [parse_set(each) for each in sets],
        read_making(own.get("make"), f"{path}: make"),
        read_seeds(own["seeds"], f"{path}: seeds") if "seeds" in own else None,
        own.get("baseline"),
        own.get("controls", False),
        own.get("robust", False),
        own.get("storage"),
    )


def read_making(value: object, owner: str) -> Making | None:
    """Read the way in which rows are made. Raises ConfigError."""
    known: Mapping[str, Making] = {name: name for name in get_args(Making)}
    if value is None:
        return None
    if value not in known:
        raise ConfigError(f"{owner} is {value!r}. {nearest(str(value), known)}")
    return known[str(value)]


def read_seeds(value: object, owner: str) -> tuple[int, ...]:
    """Read seeds: a number of them, or a list.

    Raises ConfigError for none, one that is twice there, or another value.
    """
    given: object = value
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() for part in parts if part):
            raise ConfigError(f"{owner} is {value!r}; give a number of seeds, or a list such as 0,1,2.")
        given = int(value) if parts[1:] == [] and parts[0] else [int(part) for part in parts if part]
    whole = isinstance(given, int) and not isinstance(given, bool)
    if isinstance(given, int) and whole and not 1 <= given <= MOST_SEEDS:
        raise ConfigError(f"{owner} is {value!r}; give a number from 1 to {MOST_SEEDS}, or a list.")
    seeds = tuple(range(given)) if isinstance(given, int) and whole else given
    if not isinstance(seeds, list | tuple) or not seeds or not all(type(each) is int and each >= 0 for each in seeds):
        raise ConfigError(f"{owner} is {value!r}; give a number of seeds, or a list of numbers from 0.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{owner}: a seed is given twice; every run of a row has another one.")
    return tuple(seeds)


@dataclass(frozen=True)
class Plan:
    """What a study runs."""

    settings: Settings
    rows: Mapping[str, Row]  # by name, in the order of the table
    seeds: Sequence[int]
    baseline: str
    race: float | None = None  # seconds for which the rows race; without it, every row has every seed
    controls: bool = False  # whether to add the plain rows that a method has to beat, see `controls`
    robust: bool = False  # whether to score each run on changed examples, too

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
        asked = {"controls": draft.controls, "robust": draft.robust}
        return cls(draft.settings, known, tuple(draft.seeds or range(SEEDS)), baseline, **asked)

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
        if other.robust and not self.robust:
            raise ConfigError(
                f"{owner} began without --robust, and a finished run keeps no weights to score again; leave it out, or name "
                "another --output to begin a new study."
            )
        other = other._named_like(self)
        other = replace(other, settings=with_precision_of(self.settings, other.settings))
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
        return replace(other, rows={**self.rows, **other.rows}, seeds=tuple(seeds), robust=self.robust)

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
        own = {"race": self.race} if self.race is not None else {}
        own |= {name: True for name in ("controls", "robust") if getattr(self, name)}
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
        asked = {name: values.get(name, False) for name in ("controls", "robust")}
        return cls(settings, rows, tuple(values["seeds"]), values["baseline"], values.get("race"), **asked)


def noted_name(encoder: str | None, noted: str | None) -> str | None:
    """Name an encoder as a study has noted it, if both are one folder.

    A path is made absolute only while the folder is there.
    """
    return noted if encoder and noted and str(absolute(Path(encoder))) == noted else encoder


def with_precision_of(noted: Settings, given: Settings) -> Settings:
    """Give settings that leave the precision open that of the study."""
    precision = noted.precision if given.precision == "auto" else given.precision
    return given.model_copy(update={"precision": precision})


def made(
    draft: Draft, shared: Settings, sets: Sequence[str], seeds: str | None, making: str | None, baseline: str | None
) -> Plan:
    """Make the plan of what a file describes and a command line changes, without the controls that it may ask for.

    Raises ConfigError or PluginError.
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
    """Refuse two rows whose runs would be the same, and one that has nothing to compare.

    Raises ConfigError.
    """
    seen: dict[str, str] = {}
    for row in rows:
        settings = row.apply(shared)
        if not settings.finetune:
            raise ConfigError(f"row '{row.name}': a run without fine-tuning has no scores; leave finetune = false out.")
        found = repr(settings.model_dump(exclude=WITHOUT_RESULT))
        if found in seen:
            raise ConfigError(f"rows '{seen[found]}' and '{row.name}' do not differ; leave one of them out.")
        seen[found] = row.name


def _difference(ours: Settings, theirs: Settings) -> str:
    """Say where two rows differ, and what is there; nothing if their runs are the same."""
    for name in Settings.model_fields:
        old, new = getattr(ours, name), getattr(theirs, name)
        if name not in WITHOUT_RESULT and repr(old) != repr(new):  # of plugins, the order counts
            return f"{name} = {old}, not {new}"
    return ""
