"""The command `regkit plugins`: list the installed plugins, or explain one."""

from dataclasses import MISSING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regkit.base.errors import PluginError
from regkit.hooks import catalog
from regkit.tasks.task import FINETUNE


def plugins(name: str | None) -> None:
    """List the installed plugins with the first line of their modules, or explain one of them."""
    console = Console()
    if name is None:
        for each in catalog.installed():
            try:
                first = catalog.summary(each)[0]
            except PluginError as error:  # one that cannot be imported does not hide the others
                first = str(error)
            console.print(Text.assemble((each, "bold"), f"  {first}"), soft_wrap=True)
        return
    first, rest = catalog.summary(name)
    console.print(Text.assemble((name, "bold"), f"  {first}"), soft_wrap=True)
    if rest:
        console.print(f"\n{rest}", markup=False, highlight=False)
    table = Table("option", "type", "default", "meaning", box=None, pad_edge=False)
    for option in catalog.options(catalog.load_class(name)).values():
        default = "needed" if option.default is MISSING else str(option.default)
        table.add_row(*map(Text, (option.name, option.type, default, option.meaning)))
    table.add_row(catalog.STAGES, "list", FINETUNE, "The stages in which it acts.")
    console.print()
    console.print(table)
