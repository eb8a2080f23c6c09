"""The command `regkit data`: say what files hold, and write the `tasks.toml` that declares it."""

from collections.abc import Sequence
from pathlib import Path

from regkit.base.errors import ConfigError, typed
from regkit.base.files import write
from regkit.cli.terminal import Terminal, print_lines
from regkit.data.look import declaration, look


def data(places: Sequence[Path], output: Path | None) -> None:
    """Print what the places hold, and write the declaration to a new file, or print it."""
    if output is not None and output.exists():
        raise ConfigError(f"{output} exists already; name another --output, or remove it.")
    found = look(places)
    console = Terminal()
    print_lines(console, [line for seen in found for line in seen.lines()])
    if output is None:
        print_lines(console, ["", *declaration(found, Path()).splitlines()])
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, declaration(found, output.parent))
    print_lines(console, [f"written to {output}", f"to train on it: {typed('regkit', 'train', '--data', output)}"])
