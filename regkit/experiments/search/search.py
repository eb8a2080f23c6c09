"""Search: what `regkit tune` is asked to do - settings, space, number of trials, seeds.

The scores that chose the winner are too good: it is the best of many, partly by luck, and more so the more were tried. So the
winner and the default are run again with seeds that no trial had, and only that difference says whether the search helped.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from regkit.base.bounds import Count, as_written
from regkit.base.errors import ConfigError, explain
from regkit.base.files import absolute
from regkit.experiments.plan import WITHOUT_RESULT, Plan, filled_from, noted_name
from regkit.experiments.rows import Row
from regkit.experiments.search.dimension import Space
from regkit.experiments.search.samplers import SamplerName
from regkit.experiments.search.space import changed, check_length, space_of
from regkit.experiments.search.trials import DEFAULT
from regkit.runs.settings import Settings, read_values

SEARCH = "search"  # the table of a file that says what is varied
BASELINE = "default"  # the row of trial 0
FRESH = 1000  # the first seed that no trial has, counted from that of the settings


class Extent(BaseModel):
    """How long a search is, and how it searches: beside the settings in a file, or on the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: Count = 30
    seeds: Annotated[int, Field(ge=1, le=FRESH)] = 3
    fresh_seeds: Annotated[int, Field(ge=0)] = 10
    sampler: SamplerName = "gp"

    _written = field_validator("*", mode="wrap")(as_written)

    @classmethod
    def checked(cls, values: Mapping[str, Any], owner: str, called: Mapping[str, str] | None = None) -> "Extent":
        """Check plain values. ConfigError names the `owner`, or what the user called the value: `--trials`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(error, owner, cls.model_fields, called=called)) from None


@dataclass(frozen=True)
class SearchFile:
    """A search as a file describes it."""

    settings: Settings = field(default_factory=Settings)
    extent: Mapping[str, Any] = field(default_factory=dict)  # not yet checked, as the command line may change it
    ranges: Mapping[str, Any] | None = None  # of the table [search]
    storage: str | None = None
    name: str = ""

    @classmethod
    def read(cls, path: Path) -> "SearchFile":
        """Read a search from a TOML file. Raises ConfigError.

        It has settings as in a config, a table [search], and what `Extent` has.
        """
        values = read_values(path)
        extent = {name: values.pop(name) for name in Extent.model_fields if name in values}
        ranges, storage = values.pop(SEARCH, None), values.pop("storage", None)
        if ranges is not None and not isinstance(ranges, dict):
            raise ConfigError(f"{path}: search is {ranges!r}; a table is needed, with a range of each name.")
        if storage is not None and not isinstance(storage, str):
            raise ConfigError(f"{path}: storage is {storage!r}; a text is needed.")
        return cls(Settings.checked(values, str(path)).below(absolute(path).parent), extent, ranges, storage, str(path))

    def search(self, settings: Settings, extent: Mapping[str, Any], ranges: Sequence[str] | None) -> "Search":
        """Change the file by what the command line gave: all settings, what `Extent` has, `NAME=RANGE`.

        Raises ConfigError or PluginError.
        """
        found = Extent.checked(
            {**self.extent, **extent}, self.name, {name: f"--{name.replace('_', '-')}" for name in extent}
        )
        space = dict(space_of(settings, self.ranges, f"{self.name}: [search]")) if self.ranges or not ranges else {}
        if ranges:
            space |= space_of(settings, _ranges(ranges), "--space")
            check_length(settings, space, "--space")
        return Search(settings, space, found)


@dataclass(frozen=True)
class Search:
    """What a search is asked to do."""

    settings: Settings  # those of the default; `monitor` names the score that is sought
    space: Space
    extent: Extent = field(default_factory=Extent)

    @property
    def seeds(self) -> Sequence[int]:
        """List the seeds of every trial, from that of the settings."""
        return range(self.settings.seed, self.settings.seed + self.extent.seeds)

    @property
    def fresh(self) -> Sequence[int]:
        """List the seeds for the winner and the default, which no trial has."""
        return range(self.settings.seed + FRESH, self.settings.seed + FRESH + self.extent.fresh_seeds)

    @property
    def default(self) -> dict[str, Any]:
        """The point of the space at which the settings are, or beside which, if it is outside."""
        return {name: each.default for name, each in self.space.items()}

    def as_values(self) -> dict[str, Any]:
        """Put it into plain values, in the form of a file."""
        search = {name: each.as_value() for name, each in self.space.items()}
        return {**self.extent.model_dump(), **self.settings.model_dump(mode="json", exclude_none=True), SEARCH: search}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Search":
        """Read what `as_values` wrote."""
        own = {name: values[name] for name in Extent.model_fields}
        rest = {name: value for name, value in values.items() if name not in own and name != SEARCH}
        settings = Settings.checked(rest, "the study")
        return cls(settings, space_of(settings, values[SEARCH], "the study"), Extent.checked(own, "the study"))

    def toml(self, **more: Any) -> str:
        """Write a TOML file that gives this search again."""
        return tomli_w.dumps({**more, **self.as_values()})

    def joined(self, other: "Search", owner: str) -> "Search":
        """Go on with this search as another one asks: with more trials, or more fresh seeds.

        Raises ConfigError, in the name of the `owner`, for one of other settings.
        """
        encoder = noted_name(other.settings.encoder, self.settings.encoder)
        settings = filled_from(self.settings, other.settings.model_copy(update={"encoder": encoder}))
        other = replace(other, settings=settings)
        ours, theirs = (_comparable(each) for each in (self, other))
        if different := next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), None):
            raise ConfigError(
                f"{owner} has {different} = {ours.get(different)}, not {theirs.get(different)}; "
                "name another --output to begin a new search."
            )
        most = {name: max(getattr(each.extent, name) for each in (self, other)) for name in ("trials", "fresh_seeds")}
        return replace(other, extent=other.extent.model_copy(update=most))

    def plan(self, rows: Iterable[Row], seeds: Sequence[int]) -> Plan:
        """Make a plan of some of its rows: what a table compares with the default."""
        return Plan(self.settings, {row.name: row for row in rows}, tuple(seeds), BASELINE)

    def row(self, number: int, values: Mapping[str, Any]) -> Row:
        """Make the row of a trial."""
        if number == DEFAULT:
            return Row(BASELINE)
        whole = changed(self.settings, values).plugins
        own = {name: value for name, value in values.items() if "." not in name}
        plugins: dict[str, dict[str, Any]] = {}
        for name in [name for name in values if name not in own]:
            plugin, option, *_ = name.split(".")
            plugins.setdefault(plugin, {})[option] = whole[plugin][option]
        return Row(f"trial-{number}", own, plugins)


def _ranges(texts: Sequence[str]) -> dict[str, str | bool]:
    """Read what `--space` was given. Raises ConfigError for a name that is given twice."""
    found = dict[str, str | bool]()
    for name, value in map(_range, texts):
        if name in found:
            raise ConfigError(f"--space: {name} is given twice.")
        found[name] = value
    return found


def _range(text: str) -> tuple[str, str | bool]:
    """Read `NAME=RANGE` or `NAME` from the command line."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if equals and not value:
        raise ConfigError(f"--space {text}: give a range or choices, or {name} alone for its own range.")
    return name, value if value not in ("", "true") else True


def _comparable(search: Search) -> dict[str, Any]:
    values = search.as_values()
    return {name: value for name, value in values.items() if name not in {*WITHOUT_RESULT, "trials", "fresh_seeds"}}
