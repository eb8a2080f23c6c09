"""Arguments: options that several commands have."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from regkit.base.errors import ConfigError
from regkit.cli.gather import make_importable, parse
from regkit.cli.options import flag
from regkit.hooks import catalog, option_values
from regkit.runs.radii import RADII, read_radii
from regkit.runs.settings import Settings


class PrecisionName(StrEnum):
    """Name the number formats."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


def plugin_names(incomplete: str) -> list[str]:
    """Complete the name of a plugin."""
    return [name for name in catalog.installed() if name.startswith(incomplete)]


Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        "-p",
        metavar="NAME[:key=value,...]",
        help="Attach a plugin, or ./FILE.py with one; the first is the outermost.",
        autocompletion=plugin_names,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="The folder to write. Without it, a new one in runs/.", rich_help_panel="Saving"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Check everything, print the plan, train nothing.")]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="cuda, mps or cpu. auto takes the first that this machine has.")
]
PrecisionOfAnswers = Annotated[
    PrecisionName, typer.Option(help="Number format of the answers. auto is that in which the run was trained.")
]
AttackRadius = Annotated[
    str | None,
    typer.Option(
        metavar="R[,R]",
        help="How far the attacks of --robust may move the word embeddings, in their root mean square. \\[default: 0.03,0.1]",
    ),
]
EncoderFactory = Annotated[
    str | None, typer.Option(metavar="MODULE:FUNCTION", help="What builds the encoder, if it is one of your own.")
]
PluginCode = Annotated[
    list[str] | None,
    typer.Option("--plugin", "-p", metavar="FILE.py[:CLASS]", help="A plugin in a file, whose code may be run."),
]
ScoresAsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print the scores as JSON, and nothing else.")]


def read_plugins(texts: Iterable[str] | None) -> list[tuple[str, dict[str, Any]]]:
    """Read --plugin: names with their options, and with the code of those in files.

    Raises ConfigError or PluginError.
    """
    parsed = parse([catalog.allowed(text) for text in texts or []])
    return [(name, option_values.noted(name, options)) for name, options in parsed]


def allow_files(texts: Iterable[str] | None) -> None:
    """Allow the code of plugins in files, for a command whose run names its plugins.

    Raises ConfigError for a name.
    """
    for text in texts or []:
        if any(options.keys() != {option_values.CODE} for _, options in read_plugins([text])):
            raise ConfigError(
                f"--plugin {text}: a file is needed, FILE.py, whose code may be run; a run has its own plugins."
            )


def check_factory(encoder_factory: str | None) -> None:
    """Check what the user lets regkit import to build an encoder, and make it importable."""
    named = {"encoder_factory": encoder_factory}
    Settings.checked(named, "the command line", {name: flag(name) for name in named})
    make_importable(encoder_factory)


def given_radii(robust: bool, radii: str | None) -> tuple[float, ...]:
    """Read the radii of attacks that a command line asks for.

    There are none without `--robust` and `--attack-radius`. Raises ConfigError.
    """
    if radii is not None:
        return read_radii(radii, "--attack-radius")
    return RADII if robust else ()
