"""Plugins: the commands that list, explain and check plugins."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from regkit.cli.arguments import plugin_names

SHOW = "show"


class PluginsGroup(TyperGroup):
    """A group of commands whose first word may also be the name of a plugin, to be explained."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the command that is left out: `plugins` and `plugins smart` are `plugins show` and `plugins show smart`."""
        given = args[:1] and (args[0] in self.commands or args[0].startswith("-"))
        return super().parse_args(ctx, args if given else [SHOW, *args])


app = typer.Typer(
    cls=PluginsGroup,
    help="List the installed plugins, explain one, or check one.",
    subcommand_metavar="[NAME] | COMMAND [ARGS]...",
)


@app.command(SHOW)
def show(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One plugin, with its options.", autocompletion=plugin_names),
    ] = None,
) -> None:
    """List the installed plugins, or explain one. The word `show` may be left out."""
    from regkit.cli import plugins as listing

    listing.plugins(name)


@app.command("check")
def check(
    plugin: Annotated[
        str,
        typer.Argument(metavar="NAME[:key=value,...]", help="The plugin, with options.", autocompletion=plugin_names),
    ],
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Check that a plugin keeps regkit's promises. Exit status: 0, 1 if it does not, 5 if nothing was checked."""
    from regkit.cli import check as checking

    raise typer.Exit(checking.check(plugin, as_json))
