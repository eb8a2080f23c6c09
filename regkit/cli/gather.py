"""Gather: read a run's settings from file and command line, and check what needs no torch."""

import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regkit.base.errors import ConfigError, PluginError, typed
from regkit.base.files import absolute, follow
from regkit.cli.options import flag
from regkit.data import demo
from regkit.data.bare import TableSpec
from regkit.data.declare import TaskSpec, read_again
from regkit.data.find import choose, find_tasks
from regkit.data.formats.hub import on_hub
from regkit.data.per_task import check_names
from regkit.data.tables import open_source
from regkit.hooks import catalog
from regkit.model.encoders import check_encoder
from regkit.runs.elsewhere import setting_called
from regkit.runs.folders import check_source
from regkit.runs.settings import BY_TASK, Settings, check_one_length
from regkit.tasks.labels import as_number

READ_BY = {"data", "text", "label", "kind"}
SETTING = re.compile(r"\s*(\w+)(?:\.(\w+))?\s*=\s*([^=]*)")  # NAME=VALUE, or NAME.KEY=VALUE


def gather(
    config: Path | None,
    given: Mapping[str, Any],
    plugins: Sequence[tuple[str, Mapping[str, Any]]],
    owner: str = "",
) -> Settings:
    """Change the settings of the file by those that are given; paths are made absolute.

    `plugins` are names with their options. Raises ConfigError, or PluginError for a plugin that is given twice.
    """
    return change(Settings.read(config) if config else Settings(), config, given, plugins, owner)


def change(
    base: Settings,
    config: Path | None,
    given: Mapping[str, Any],
    plugins: Sequence[tuple[str, Mapping[str, Any]]] = (),
    owner: str = "",
) -> Settings:
    """Change the settings that a file, if there is one, gave, as `gather` does."""
    if base.encoder_factory and "encoder_factory" not in given:  # a file is data, and may be a stranger's
        allowance = typed(*base.allowance())
        raise ConfigError(f"{config} asks to import {base.encoder_factory}; to import that, add {allowance}.")
    if config is None and not {"data", "encoder", "encoder_factory"} & given.keys():
        base = base.model_copy(update=demo.SETTINGS)
    chosen = {name: dict(options) for name, options in base.plugins.items()}
    for name, options in plugins:
        if [other for other, _ in plugins].count(name) > 1:
            raise PluginError(f"--plugin {name} is given twice; one plugin has one instance a run.")
        chosen[name] = chosen.get(name, {}) | dict(options)
    values = base.model_dump() | dict(given) | {"plugins": chosen}
    if READ_BY & given.keys():  # what the file notes was read off other labels, or in another way
        values["labels"] = {}
    if isinstance(values["tasks"], str):
        values["tasks"] = [name.strip() for name in values["tasks"].split(",")]
    if "epochs" in given and "steps" not in given:
        values["steps"] = None
    for name in ("data", "dev", "test"):
        values[name] = _absolute(values[name], share=name == "dev")
    if isinstance(values["encoder"], str | Path) and follow(Path(values["encoder"])).is_dir():
        values["encoder"] = str(absolute(Path(values["encoder"])))
    called = {name: name if owner else flag(name) for name in given}
    found = Settings.checked(values, owner or "the command line", called)
    check_one_length(given, owner or "the command line")
    return found


def parse(texts: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Read what `--plugin` was given.

    Raises ConfigError for a setting, with the option that sets it, or PluginError.
    """
    for text in texts:
        name, key, value = found.groups() if (found := SETTING.fullmatch(text)) else ("", None, "")
        setting = setting_called(name)
        if setting in Settings.model_fields and name not in catalog.installed():
            option = typed(flag(setting), f"{key}={value}" if key else value)
            raise ConfigError(f"--plugin {text}: {setting} is a setting, and no plugin; give {option}.")
    return [catalog.parse(text) for text in texts]


def _absolute(value: Any, share: bool = False) -> Any:
    """Make a path absolute; a data set of the Hub, a share where one may be, and nothing stay as they are."""
    if not isinstance(value, str | Path):  # nothing, a share, or what the settings refuse
        return value
    if on_hub(Path(value)) or (share and as_number(str(value)) is not None):
        return value
    return absolute(Path(value))


def check(settings: Settings, *, begins: bool) -> None:
    """Check plugins, tasks and encoder by name, in a fraction of the time that importing torch takes.

    Raises RegkitError. `Experiment.build` finds the same and more, but only after torch has been imported. A run that
    does not begin, but goes on, has its encoder in its checkpoint, and its tasks by name.
    """
    for name, options in settings.plugins.items():
        catalog.check_names(name, options)
    make_importable(settings.encoder_factory)
    if not begins:
        return
    if settings.data or settings.finetune:
        found = find_tasks(settings.data, settings.given)
        for name in BY_TASK:
            check_names(name, getattr(settings, name), found)
        _check_group(settings, found)
        read_again(choose(found, settings.tasks), settings.labels, settings.pair_mode)
    check_source(settings.encoder)
    check_encoder(settings.encoder)


def _check_group(settings: Settings, tasks: Mapping[str, TaskSpec]) -> None:
    """Raise ConfigError for a group that is a column of the table.

    Whoever means its rows would not see that some are in both splits.
    """
    tables = [spec.files("train") for spec in tasks.values() if isinstance(spec, TableSpec)] if settings.group else []
    if any(settings.group in open_source(files[0]).columns for files in tables if files):
        raise ConfigError(
            f"--group {settings.group} is a column, and would only name the run for trackers; to keep its rows in one split, "
            f'write group = "{settings.group}" into the tasks.toml that regkit data makes of the table.'
        )


def make_importable(factory: str | None) -> None:
    """Let Python find the user's encoder function in this folder too, behind what is installed.

    Nothing is imported yet. Raises ConfigError where its module is in neither.
    """
    if factory is None:
        return
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    name = factory.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"{flag('encoder_factory')} {factory}: no module '{name}' is here or installed.")
