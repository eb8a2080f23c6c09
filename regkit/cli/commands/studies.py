"""Studies: the commands that make many runs, `regkit ablate`, `regkit tune` and `regkit work`."""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from regkit.base.errors import RegkitError
from regkit.cli.arguments import (
    AttackRadius,
    DryRun,
    EncoderFactory,
    Output,
    PluginCode,
    Plugins,
    allow_files,
    check_factory,
    given_radii,
    plugin_names,
    read_plugins,
)
from regkit.cli.gather import change, check
from regkit.cli.options import takes_settings
from regkit.experiments import draft as drafts
from regkit.experiments import place as places
from regkit.experiments import plan as plans
from regkit.experiments.controls import added, usual
from regkit.experiments.rows import PLAIN, Row, naming, parts
from regkit.experiments.search import search as searches
from regkit.experiments.study import storage as storages
from regkit.hooks import catalog
from regkit.runs import folders
from regkit.runs.settings import GROUPS, Settings


class MakingName(StrEnum):
    """Name the ways in which rows are made of sets."""

    LEAVE_ONE_OUT = "leave-one-out"
    ONE_AT_A_TIME = "one-at-a-time"
    GRID = "grid"


class TableName(StrEnum):
    """Name the forms of a table."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


class SamplerName(StrEnum):
    """Name the samplers of a search."""

    GP = "gp"
    TPE = "tpe"
    RANDOM = "random"


Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE",
        envvar="REGKIT_STORAGE",
        show_envvar=False,
        help="Where the runs are noted: postgresql://..., or a journal file. Without it, SQLite in the study's folder.",
        rich_help_panel="Saving",
    ),
]


Jobs = Annotated[
    int, typer.Option(metavar="N", min=0, help="Processes that work at the same time. 0 leaves that to regkit work.")
]
KeepWeights = Annotated[
    bool,
    typer.Option("--keep-weights", metavar="", help="Keep the best model of every run.", rich_help_panel="Saving"),
]


StudyFile = Annotated[
    Path | None, typer.Argument(metavar="FILE.toml", help="Rows and settings; the options below change them.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        "-p",
        metavar="SET",
        help="A row: plugins and settings joined by +, such as smart:weight=2+dropout=0, or plain.",
        autocompletion=plugin_names,
    ),
]
Seeds = Annotated[str | None, typer.Option(metavar="N|LIST", help="Runs of each row: 5, or 0,1,2. Without it, 5.")]
Making = Annotated[
    MakingName | None,
    typer.Option(metavar="HOW", help="Make rows of the sets: leave-one-out, one-at-a-time or grid."),
]
Baseline = Annotated[
    str | None, typer.Option(metavar="NAME", help="The row that others are compared with. Without it, plain.")
]
RaceTime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Drop rows that are decided, end after a time such as 1h, and say which row to use. Without rows, "
        "the methods that fit the tasks.",
    ),
]
Controls = Annotated[
    bool,
    typer.Option(
        "--controls",
        metavar="",
        help="Add the plain rows that a method has to beat: no dropout, other learning rates, more weight decay, "
        "early stopping, and as much time.",
    ),
]
Robust = Annotated[
    bool,
    typer.Option(
        "--robust",
        metavar="",
        help="Score every run on texts with typing errors, in other words and under attack, and its probabilities.",
    ),
]
Form = Annotated[
    TableName,
    typer.Option("--format", metavar="FORM", help="Print the table for terminal, markdown, latex, csv or json."),
]


@takes_settings([name for names in GROUPS.values() for name in names if name != "seed"])
def ablate(
    file: StudyFile = None,
    plugin: Sets = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
    rows: Making = None,
    baseline: Baseline = None,
    controls: Controls = False,
    robust: Robust = False,
    attack_radius: AttackRadius = None,
    race: RaceTime = None,
    output: Output = None,
    storage: Storage = None,
    keep_weights: KeepWeights = False,
    form: Form = TableName.TERMINAL,
    dry_run: DryRun = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Compare sets of plugins and settings over several seeds; the same command again goes on."""
    draft = drafts.read_draft(file) if file else drafts.Draft()
    radii = given_radii(robust and not draft.radii, attack_radius) or draft.radii
    draft = replace(draft, controls=draft.controls or controls, radii=radii)
    shared = change(draft.settings, file, settings)
    sets = ["+".join(map(catalog.allowed, parts(each))) for each in plugin or []]
    given = (draft, shared, sets, seeds, rows.value if rows else None, baseline)
    seconds = drafts.read_race(race, "--race") if race is not None else draft.race
    if seconds is None:
        plan = plans.made(*given)
    else:
        from regkit.experiments import contest

        plan = contest.made(*given, seconds)
    if plan.controls:
        plan = added(plan, usual(plan.settings))
    place = places.new_place(output, file, shared, storage or draft.storage)
    first = [(row, plan.settings_of(plans.Cell(name, plan.seeds[0]))) for name, row in plan.rows.items()]
    missing = _missing(place, first)
    storages.check_installed()

    from regkit.cli import ablate as comparing

    picks = seconds is not None and not (plugin or draft.rows or draft.sets)
    comparing.ablate(place, plan, jobs, keep_weights, form.value, dry_run, picks, missing)


def _missing(place: places.Place, runs: Iterable[tuple[Row, Settings]]) -> RegkitError | None:
    """Find what runs would lack, by name and without torch: a plugin, data, or an encoder.

    A study that has begun may have nothing left to run, and no need of it. Otherwise the error is raised.
    """
    try:
        for row, settings in runs:
            with naming(row):
                check(settings, begins=True)
    except RegkitError as error:
        if not place.has_begun:
            raise
        return error
    return None


@takes_settings([name for names in GROUPS.values() for name in names])
def tune(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.toml", help="Settings and \\[search]; the options below change them.")
    ] = None,
    plugin: Plugins = None,
    trials: Annotated[
        str | None, typer.Option(metavar="N", help="Points to try, the default included. \\[default: 30]")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="NAME[=RANGE]",
            help="Vary an option: learning_rate=1e-5..1e-3 log, dropout=0,0.1, or smart.epsilon over its own range.",
        ),
    ] = None,
    sampler: Annotated[SamplerName | None, typer.Option(help="How points are proposed. \\[default: gp]")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Runs of a trial, a seed each. \\[default: 3]")] = None,
    fresh_seeds: Annotated[
        str | None, typer.Option(metavar="N", help="Runs of the winner and the default at the end. \\[default: 10]")
    ] = None,
    jobs: Jobs = 1,
    output: Output = None,
    storage: Storage = None,
    keep_weights: KeepWeights = False,
    dry_run: DryRun = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Search for better settings, and compare the winner with the default on fresh seeds."""
    given = {"trials": trials, "sampler": sampler and sampler.value, "seeds": seeds, "fresh_seeds": fresh_seeds}
    asked = searches.SearchFile.read(file) if file else searches.SearchFile()
    chosen = change(asked.settings, file, settings, read_plugins(plugin))
    search = asked.search(chosen, {name: each for name, each in given.items() if each is not None}, space)
    named = file if file and file.name != folders.STUDY else None  # the file of a study is where it is
    own = output or (folders.RUNS / f"{named.stem}-tune" if named else None)
    place = places.new_place(own, file, chosen, storage or asked.storage, "search")
    missing = _missing(place, [(Row(PLAIN), chosen)])
    storages.check_installed()

    from regkit.cli import tune as tuning

    tuning.tune(place, search, jobs, keep_weights, dry_run, missing)


def work(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study's folder, or its name.")],
    storage: Storage = None,
    keep_weights: KeepWeights = False,
    encoder_factory: EncoderFactory = None,
    plugin: PluginCode = None,
) -> None:
    """Work on a study until no run is left; any number of workers may do so at the same time."""
    place = places.find_place(study, storage)
    check_factory(encoder_factory)
    allow_files(plugin)
    storages.check_installed()

    from regkit.cli import work as working

    working.work(place, encoder_factory, keep_weights)
