"""The command `regkit export`: write a run's best model in a form that other programs read."""

from collections.abc import Sequence
from pathlib import Path

from regkit.base.files import absolute
from regkit.cli.terminal import Terminal, print_line
from regkit.runs import folders
from regkit.runs.export.compare import READERS
from regkit.runs.export.source import read_source
from regkit.runs.export.write import export as write_export
from regkit.runs.settings import Settings


def export(run: Path, settings: Settings, names: Sequence[str], form: str, output: Path) -> None:
    """Write the export, and say where it is and how its outputs compare with regkit's."""
    source = read_source(folders.find_run(run), settings, names)
    found = write_export(source, form, absolute(output))
    console = Terminal()
    for task, difference in found.items():
        print_line(
            console, f"{task}: read back by {READERS[form]}, its outputs differ from regkit's by {difference:.1g}"
        )
    if not found:
        print_line(console, f"not read back, as {READERS[form]} is not installed")
    print_line(console, f"{form} folder: {output}; its README.md names no licence yet: that is yours to choose")
