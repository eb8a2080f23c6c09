"""The command `regkit report`: write a page of runs and studies, and its charts as images."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from regkit.base.errors import ConfigError
from regkit.base.files import replacing
from regkit.cli.terminal import Terminal, print_line
from regkit.page import build, page
from regkit.page.reading import found as reading

KILO = 1000


def report(paths: Sequence[Path], output: Path | None, png: Path | None) -> None:
    """Write the page, and the images where asked; print where they are."""
    if png:
        _check_images(png)
    found = reading.find(paths)
    where = build.where(paths, output)
    _check(where)
    console = Terminal()
    document = build.document(found, lambda line: print_line(console, line))
    text = page.html(document)
    with replacing(where) as file:
        file.write(text)
    print_line(console, f"{where}: {len(text.encode()) / KILO:.0f} kB")
    if png:
        from regkit.page.charts import images  # which imports matplotlib

        count = images.save(document, png)
        print_line(console, f"{png}: {count} chart{'s' if count != 1 else ''}")


def _check(where: Path) -> None:
    """Refuse to write where no page can be, or where something else is. Raises ConfigError."""
    if where.is_dir():
        raise ConfigError(f"--output is {where}, which is a folder; name a file.")
    if not where.parent.is_dir():
        raise ConfigError(f"--output is {where}, and there is no folder {where.parent}.")
    if where.exists() and not page.is_ours(where):
        raise ConfigError(f"{where} exists, and is no report of regkit; name another --output.")


def _check_images(folder: Path) -> None:
    """Raise ConfigError if images cannot be drawn, or written there."""
    if find_spec("matplotlib") is None:
        raise ConfigError("--png draws by matplotlib: pip install 'regkit[plots]'.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--png is {folder}, which is no folder; name another.")
