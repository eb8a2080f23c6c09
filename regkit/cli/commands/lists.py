"""Lists: the commands that look at runs, data and settings."""

from pathlib import Path
from typing import Annotated

import typer

from regkit.base.errors import ConfigError
from regkit.cli.arguments import PluginCode, allow_files
from regkit.data.bare import Given
from regkit.runs.settings import options as known_settings

RunPaths = Annotated[
    list[Path] | None, typer.Argument(metavar="RUN...", help="Runs, or folders of runs. Without it, runs/.")
]


def _setting_names(incomplete: str) -> list[str]:
    return [name for name in known_settings() if name.startswith(incomplete)]


def look_at_data(
    places: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Tables, folders, or hub:NAME.")],
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="The column of the text, or two for a pair. Without it, guessed."),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the label, as --text.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="What the labels are. Without it, read off.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write the declaration of the tasks to this new file, such as tasks.toml."),
    ] = None,
) -> None:
    """Look into files: say what they hold, and write the tasks.toml that declares it."""
    from regkit.cli import data as looking

    looking.data(places, Given(text, label, kind), output)


def runs(
    paths: RunPaths = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, and nothing else.")] = False,
) -> None:
    """List runs with plugins, scores, time and disk; of two runs, print where they differ."""
    from regkit.cli import runs as listing

    listing.runs(paths or [], as_json)


def report(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN|STUDY...", help="Runs, studies, or folders of them. Without it, runs/."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page. Without it, report.html in the first folder.")
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the charts as images to this folder.")] = None,
    plugin: PluginCode = None,
) -> None:
    """Write a page of runs and studies: curves, effects, mistakes, tables with intervals."""
    allow_files(plugin)

    from regkit.cli import page

    page.report(paths or [], output, png)


def clean(
    paths: RunPaths = None,
    cache: Annotated[
        bool, typer.Option("--cache", metavar="", help="Free instead the tokens that are kept of tables and corpora.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Free it without asking.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON, and nothing else; frees only with --yes.")
    ] = False,
) -> None:
    """Free what finished runs hold: training state, and checkpoints that are neither best nor last."""
    if cache and paths:
        raise ConfigError("--cache frees what is no run's; name no run beside it.")
    if cache:
        from regkit.cli.cache import clean as clean_cache

        clean_cache(yes, as_json)
        return
    from regkit.cli import runs as listing

    listing.clean(paths or [], yes, as_json)


def show_settings(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One setting.", autocompletion=_setting_names)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", metavar="", help="Print the page of the docs.")] = False,
) -> None:
    """List the settings of a run with types, defaults and meanings, or explain one."""
    from regkit.cli import settings as listing

    listing.settings(name, markdown)
