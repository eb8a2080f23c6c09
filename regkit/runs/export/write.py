"""Write: make the folder of an export whole or not at all, compare it, and describe it."""

import shutil
from pathlib import Path

from safetensors import SafetensorError

from regkit.base.errors import RunError
from regkit.base.hidden import hidden
from regkit.runs.export import compare, hf, onnx, sentence
from regkit.runs.export.card import write_card
from regkit.runs.export.source import Source


def export(source: Source, form: str, folder: Path) -> dict[str, float]:
    """Write an export, and return the largest difference of each task's outputs from regkit's.

    It is written beside its place and moved there when it is compared. Nothing is returned where the program that reads
    the form is not installed. Raises ConfigError if the form cannot hold a task, RunError if the outputs are not equal.
    """
    unfinished = hidden(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _fill(source, form, unfinished)
        found = compare.differences(unfinished, form, source)
        for task, difference in found.items():
            if not difference <= compare.CLOSE:
                raise RunError(
                    f"the export of task '{task}' as {form} gives other outputs than regkit, by {difference:.2g} of "
                    "the largest; nothing was written."
                )
        write_card(source, form, unfinished)
        if folder.is_dir():
            folder.rmdir()  # it is empty, as was checked
        unfinished.rename(folder)
    except (OSError, SafetensorError) as error:
        said = getattr(error, "strerror", None) or compare.reason(error)
        raise RunError(f"the export cannot be written to {folder}: {said}; nothing was left there.") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return found


def _fill(source: Source, form: str, folder: Path) -> None:
    for task in source.tasks:
        source.check_form(task, form)
    if form == "onnx":
        onnx.write(source, folder)
        return
    (task,) = source.tasks
    {"hf": hf.write, "sentence-transformers": sentence.write}[form](source, task, folder)
