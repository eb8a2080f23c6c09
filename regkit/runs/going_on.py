"""Going on: say how a run that was stopped or failed goes on."""

from pathlib import Path

from regkit.base.errors import typed
from regkit.hooks import catalog, uninstalled
from regkit.runs.settings import Settings


def how_to_go_on(settings: Settings, folder: Path) -> str:
    """Write the command that goes on; with plugins of classes that Python handed in, it is one of Python."""
    handed = uninstalled.handed()
    if own := [handed[name].__name__ for name in settings.plugins if name in handed]:
        factory = f", encoder_factory={settings.encoder_factory!r}" if settings.encoder_factory else ""
        plugins = f"plugins=[{', '.join(own)}]{factory}"
        return f"to go on, hand in the plugins again: regkit.train(resume={str(folder)!r}, {plugins})"
    allowance = [*settings.allowance(), *catalog.allowance()]
    return f"to go on: {typed('regkit', 'train', '--resume', folder, *allowance)}"


def with_what_code(settings: Settings) -> str:
    """Say that plugins in files must stay as they are for the run to go on; nothing if there are none."""
    files = [str(file.path) for name, file in uninstalled.files().items() if name in settings.plugins]
    return f", for {' and '.join(files)} as it is (other code needs a new run)" if files else ""
