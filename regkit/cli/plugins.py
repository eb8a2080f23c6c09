"""The command `regkit plugins`: list the installed plugins, or explain one."""

from dataclasses import MISSING

from rich.table import Table
from rich.text import Text

from regkit.base.errors import PluginError
from regkit.cli.terminal import Terminal
from regkit.hooks import catalog
from regkit.tasks.names import FINETUNE


def plugins(name: str | None) -> None:
    """List the installed plugins with the first line of their modules, or explain one of them.

    Both are read from the source: a module is imported only where its source does not tell.
    """
    console = Terminal()
    if name is None:
        for each, point in catalog.installed().items():
            try:
                first = catalog.summary(each, point)[0]
            except PluginError as error:  # one that cannot be imported does not hide the others
                first = str(error)
            console.print(Text.assemble((each, "bold"), f"  {first}"), soft_wrap=True)
        return
    first, rest = catalog.summary(name)
    console.print(Text.assemble((name, "bold"), f"  {first}"), soft_wrap=True)
    if rest:
        console.print(f"\n{rest}", markup=False, highlight=False)
    table = Table("option", "type", "default", "tuned over", "meaning", box=None, pad_edge=False)
    for option in catalog.shown_options(name).values():
        default = "needed" if option.default is MISSING else str(option.default)
        table.add_row(*map(Text, (option.name, option.type, default, str(option.tuned or ""), option.meaning)))
    table.add_row(catalog.STAGES, "list", FINETUNE, "", "The stages in which it acts.")
    console.print()
    console.print(table)
