"""The command `regkit settings`: list the settings of a run, or explain one."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from regkit.base.described import Option
from regkit.base.errors import ConfigError, nearest
from regkit.cli.options import OFF, flag, in_short
from regkit.cli.terminal import Terminal
from regkit.runs.elsewhere import OTHER_NAMES
from regkit.runs.settings import GROUPS, options

PAGE = "regkit settings --markdown > docs/settings.md"
TABLES = {"labels": "not given", "plugins": "--plugin"}  # what no option of the same name gives
HEAD = f"""\
# Settings

Every choice of a run. On the command line of `regkit train`, `batch_size` is `--batch-size`; a switch such as `finetune` is
`--finetune` or `--no-finetune`. A TOML file given to `regkit train` has the same names at its top, and a table
`[plugins.NAME]` for each plugin; options of the command line change what the file says. A number or a choice that may be left
out is left out by `none`: `--dropout none`, or `dropout = "none"`. `regkit settings NAME` explains one.

This page is written by `{PAGE}`.
"""


def settings(name: str | None, markdown: bool) -> None:
    """Print all settings by group, or one, or the page of the docs."""
    known = options()
    console = Terminal()
    if markdown and name is not None:
        raise ConfigError(f"--markdown prints the page of all settings; leave {name} or --markdown out.")
    if markdown:
        console.out(page(known), end="", highlight=False)
        return
    if name is not None:
        console.print(Text(explained(name, known)), soft_wrap=True)
        return
    for group, members in grouped().items():
        table = Table("name", "type", "default", "meaning", box=None, pad_edge=False, title=group, title_justify="left")
        for member in members:
            table.add_row(*map(Text, row(known[member])))
        console.print(table)
        console.print()


def grouped() -> dict[str, list[str]]:
    """List the names of all settings by group, those that are tables of a file last."""
    return {**GROUPS, "Tables of a file": list(TABLES)}


def row(setting: Option) -> tuple[str, str, str, str]:
    """Write a setting's name, type, default and meaning."""
    return setting.name, setting.type, in_short(setting.default), setting.meaning


def explained(name: str, known: Mapping[str, Option]) -> str:
    """Explain one setting, named as in a file or as on the command line. ConfigError where there is none."""
    wanted = name.lstrip("-").replace("-", "_")
    wanted = {other.lstrip("-"): setting for setting, other in OTHER_NAMES.items()}.get(wanted, wanted)
    wanted = wanted if wanted in known else wanted.removeprefix(OFF)
    if wanted not in known:
        choices = ["--markdown", *map(flag, known)] if name.startswith("-") else known
        raise ConfigError(f"there is no setting '{name}'. {nearest(name, choices)}")
    _, kind, default, meaning = row(known[wanted])
    given = TABLES.get(wanted) or ", ".join([flag(wanted), *filter(None, [OTHER_NAMES.get(wanted)])])
    tuned = f"; tuned over {known[wanted].tuned}" if known[wanted].tuned else ""
    return f"{wanted} ({kind}; default {default}{tuned}; on the command line {given})\n{meaning}"


def page(known: Mapping[str, Option]) -> str:
    """Write the page of the docs."""
    parts = [HEAD]
    for group, members in grouped().items():
        rows = [" | ".join([f"`{name}`", *more]) for name, *more in (row(known[member]) for member in members)]
        lines = ["| name | type | default | meaning |", "| --- | --- | --- | --- |", *(f"| {each} |" for each in rows)]
        parts.append("\n".join([f"## {group}", "", *lines, ""]))
    return "\n".join(parts)
