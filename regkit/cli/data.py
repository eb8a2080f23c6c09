"""The command `regkit data`: say what files hold, and write the `tasks.toml` that declares it."""

from collections.abc import Sequence
from pathlib import Path

from regkit.base.errors import ConfigError, DataError, typed
from regkit.base.files import write
from regkit.cli.terminal import Terminal, print_lines
from regkit.data.bare import Given
from regkit.data.look import declaration, look


def data(places: Sequence[Path], given: Given, output: Path | None) -> None:
    """Print what the places hold, and write the declaration to a new file, or print it.

    Raises DataError where nothing can be declared.
    """
    if output is not None and output.exists():
        raise ConfigError(f"{output} exists already; name another --output, or remove it.")
    if output is not None and output.suffix != ".toml":
        raise ConfigError(f"--output is {output}; a declaration is a TOML file, such as {output.stem or 'tasks'}.toml.")
    found = look(places, given)
    console = Terminal()
    print_lines(console, [line for seen in found for line in seen.lines()])
    if not any(seen.found for seen in found):
        raise DataError(f"none of these {len(found)} tables can be declared as a task: the reason of each is above.")
    if output is None:
        print_lines(console, ["", *declaration(found, Path()).splitlines()])
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, declaration(found, output.parent))
    print_lines(console, [f"written to {output}", f"to train on it: {typed('regkit', 'train', '--data', output)}"])
