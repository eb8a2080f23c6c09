"""Formats: name the forms of an export, and check what can be checked without torch."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from regkit.base.errors import ConfigError, RunError, nearest, short
from regkit.runs.settings import Settings

NEEDED = {"onnx": ["onnx", "onnxscript", "onnxruntime"]}  # libraries, without which a form cannot be written
SEVERAL = {"onnx"}  # hold several tasks; the others hold one


def check_output(folder: Path) -> None:
    """Raise RunError if an export cannot be written to this folder, which is new or empty."""
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{short(folder)} exists already; name another --output, or remove it.")
    above = next(each for each in folder.absolute().parents if os.path.lexists(each))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise RunError(f"{short(above)} is no folder that can be written to; name another --output.")


def choose_tasks(folder: Path, settings: Settings, form: str, wanted: Sequence[str]) -> list[str]:
    """Choose the tasks to export: those that are wanted, or all.

    Raises RunError for a run without tasks, and ConfigError for a name that is unknown or missing.
    """
    if not settings.finetune:
        raise RunError(f"{folder} was pretrained: its folder is an encoder that transformers reads, and has no task.")
    names = settings.tasks or []
    for task in wanted:
        if task not in names:
            raise ConfigError(f"{folder} has no task '{task}'. {nearest(task, names)}")
    chosen = list(dict.fromkeys(wanted or names))
    if len(chosen) > 1 and form not in SEVERAL:
        asked = f"--task is given for {', '.join(chosen)}" if wanted else f"{folder} has the tasks {', '.join(chosen)}"
        raise ConfigError(f"{asked}, and {form} holds one; choose it by --task NAME.")
    return chosen


def check_libraries(form: str) -> None:
    """Raise ConfigError if a library that writes this form is missing."""
    missing: Sequence[str] = [name for name in NEEDED.get(form, ()) if find_spec(name) is None]
    if missing:
        raise ConfigError(f"--format {form} needs {' and '.join(missing)}: pip install 'regkit[{form}]'.")
