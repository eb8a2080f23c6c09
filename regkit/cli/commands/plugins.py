"""Plugins: the commands that list, explain, check and begin plugins."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from regkit.cli.arguments import Device, plugin_names
from regkit.cli.scaffold import KindName
from regkit.hooks import catalog

SHOW = "show"  # the command that is meant where none is named


class PluginsGroup(TyperGroup):
    """A group of commands whose first word may also be the name of a plugin, to be explained."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the command `show` where it is left out.

        `plugins smart` is `plugins show smart`, and `plugins` is `plugins show`.
        """
        return super().parse_args(ctx, args if self._names_a_command(args) else [SHOW, *args])

    def _names_a_command(self, args: list[str]) -> bool:
        """Whether the first word is a command, or was meant to be one.

        It was if no plugin is called so, and more words follow.
        """
        if not args or args[0] in self.commands or args[0].startswith("-"):
            return bool(args)
        return len(args) > 1 and not args[1].startswith("-") and args[0] not in catalog.installed()


app = typer.Typer(
    cls=PluginsGroup,
    help="List the installed plugins by kind, explain one, check one, or begin a new one.",
    subcommand_metavar="[NAME] | COMMAND [ARGS]...",
)


@app.command(SHOW)
def show(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One plugin, or ./FILE.py with one.", autocompletion=plugin_names),
    ] = None,
) -> None:
    """List the installed plugins by kind, or explain one. The word `show` may be left out."""
    from regkit.cli import plugins as listing

    listing.plugins(name if name is None else catalog.allowed(name))


@app.command("check")
def check(
    plugin: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:key=value,...]", help="The plugin, or ./FILE.py with one.", autocompletion=plugin_names
        ),
    ],
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Check that a plugin keeps regkit's promises. Status 1: it does not; 5: nothing was checked."""
    from regkit.cli import check as checking

    raise typer.Exit(checking.check(catalog.allowed(plugin), device, as_json))


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What --plugin will call it, such as my_method.")],
    kind: Annotated[KindName, typer.Option(help="What it is; each begins as a small method that works.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write. Without it, regkit-NAME.")
    ] = None,
) -> None:
    """Write a project for a plugin of your own, which installs, passes its tests, and trains at once."""
    from regkit.cli import scaffold

    scaffold.new(name, kind, output)
