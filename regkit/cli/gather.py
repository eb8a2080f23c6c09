"""Gather: read a run's settings from file and command line, and check what needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regkit.base.errors import PluginError
from regkit.base.files import absolute, follow
from regkit.cli.options import flag
from regkit.data import demo
from regkit.data.declare import choose, find_tasks
from regkit.hooks import catalog
from regkit.model.encoders import check_encoder
from regkit.runs.settings import Settings


def gather(config: Path | None, given: Mapping[str, Any], plugins: Sequence[str]) -> Settings:
    """Change the settings of the file by those given on the command line; paths are made absolute."""
    base = Settings.read(config) if config else Settings()
    if config is None and not {"data", "encoder"} & given.keys():
        base = base.model_copy(update=demo.SETTINGS)
    chosen = {name: dict(options) for name, options in base.plugins.items()}
    parsed = [catalog.parse(text) for text in plugins]
    for name, options in parsed:
        if [other for other, _ in parsed].count(name) > 1:
            raise PluginError(f"--plugin {name} is given twice; one plugin has one instance a run.")
        chosen[name] = chosen.get(name, {}) | options
    values = base.model_dump() | dict(given) | {"plugins": chosen}
    if isinstance(values["tasks"], str):
        values["tasks"] = [name.strip() for name in values["tasks"].split(",")]
    if "epochs" in given and "steps" not in given:
        values["steps"] = None
    if values["data"] is not None:
        values["data"] = absolute(Path(values["data"]))
    if values["encoder"] and follow(Path(values["encoder"])).is_dir():
        values["encoder"] = str(absolute(Path(values["encoder"])))
    return Settings.checked(values, "the command line", {name: flag(name) for name in given})


def check(settings: Settings, *, begins: bool) -> None:
    """Check plugins, tasks and encoder by name, in a fraction of the time that importing torch takes.

    Raises RegkitError. `Experiment.build` finds the same and more, but only after torch has been imported. A run that
    does not begin, but goes on, has its encoder in its checkpoint, and its tasks by name.
    """
    for name, options in settings.plugins.items():
        catalog.check_names(name, options)
    if not begins:
        return
    if settings.data or settings.finetune:
        choose(find_tasks(settings.data), settings.tasks)
    check_encoder(settings.encoder)
