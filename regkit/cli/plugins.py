"""The command `regkit plugins`: list the installed plugins, or explain one."""

from dataclasses import MISSING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regkit.base.errors import PluginError
from regkit.cli.terminal import Terminal
from regkit.hooks import catalog, option_values
from regkit.hooks.kinds import KINDS
from regkit.tasks.names import FINETUNE

BROKEN = "cannot be imported"  # in place of a kind


def plugins(name: str | None) -> None:
    """List the installed plugins by kind, with the first line of their modules, or explain one of them.

    Both are read from the source: a module is imported only where its source does not tell. Raises PluginError for a name
    that is unknown, or comes with options.
    """
    console = Terminal()
    if name is None:
        _list(console)
        return
    name, _, given = name.partition(":")
    first, rest = catalog.summary(name)
    if given:
        raise PluginError(f"'{name}' is explained with all its options; leave out '{given}'.")
    console.print(Text.assemble((name, "bold"), f"  {first}"), soft_wrap=True)
    if rest:
        console.print(f"\n{rest}", markup=False, highlight=False)
    table = Table("option", "type", "default", "tuned over", "meaning", box=None, pad_edge=False)
    for option in catalog.shown_options(name).values():
        default = "needed" if option.default is MISSING else str(option.default)
        table.add_row(*map(Text, (option.name, option.type, default, str(option.tuned or ""), option.meaning)))
    table.add_row(option_values.STAGES, "list", FINETUNE, "", "The stages in which it acts.")
    console.print()
    console.print(table)


def _list(console: Console) -> None:
    found: dict[str, list[Text]] = {}
    for name, point in catalog.installed().items():
        try:
            kind, first = catalog.kind(name, point), catalog.summary(name, point)[0]
        except PluginError as error:  # one that cannot be imported does not hide the others
            kind, first = BROKEN, str(error)
        found.setdefault(kind, []).append(Text.assemble("  ", (name, "bold"), f"  {first}"))
    for kind in (kind for kind in (*KINDS, BROKEN) if kind in found):
        console.print(Text(kind))
        for line in found[kind]:
            console.print(line, soft_wrap=True)
