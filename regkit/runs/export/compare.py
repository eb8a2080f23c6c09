"""Compare: read an export back by the program that it is for, and compare its outputs with regkit's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from regkit.base.errors import RunError, short
from regkit.base.failures import ran_out
from regkit.model.foreign import quiet
from regkit.runs.export import hf, onnx, sentence
from regkit.runs.export.forms import form_of, one_number
from regkit.runs.export.source import Source, Texts
from regkit.tasks.task import Task

CLOSE = 1e-4  # how far outputs may be from regkit's, in units of the largest, or of 1
READERS = {"hf": "transformers", "sentence-transformers": "sentence_transformers", "onnx": "onnxruntime"}
OUTPUTS: dict[str, Callable[[Path, Source, Task, Texts], Tensor]] = {
    "hf": hf.outputs,
    "sentence-transformers": sentence.outputs,
    "onnx": onnx.outputs,
}
# Of different lengths, one of them longer than some encoders read; the words do not matter.
PAIRS = [
    ("The soup was good.", "The soup was very good, and so was the bread."),
    ("No", "Yes?"),
    ("A man is playing a guitar on a stage in front of many people. " * 12, "Someone makes music."),
    ("Prices rose by 3.5 % in 2019.", "In 2019, prices fell. " * 20),
]


def differences(folder: Path, form: str, source: Source, pairs: Texts = PAIRS) -> dict[str, float]:
    """Compute the largest difference between an export's outputs and regkit's, by task.

    It is in units of the largest output, or of 1. Empty if the program that reads the export is not installed. Raises
    RunError if it does not read it.
    """
    if find_spec(READERS[form]) is None:
        return {}
    found = {}
    for task in source.tasks:
        whole = source.whole(task, pairs)
        wanted = expected(form, source, task, whole)
        try:
            with _silent(form):
                got = OUTPUTS[form](folder, source, task, whole)
        except Exception as error:  # whatever a library raises that cannot read it
            if ran_out(error):
                raise
            raise RunError(
                f"{READERS[form]} cannot read the export of task '{task.name}': {reason(error)}; leave that task out by "
                "--task NAME of another, or take another --format."
            ) from error
        found[task.name] = float((got - wanted).abs().max() / max(1.0, float(wanted.abs().max())))
    return found


def reason(error: Exception) -> str:
    """Say what a library raised, in the line that begins with it, without the place in its code."""
    said = (line.strip().rstrip(".:") for line in str(error).splitlines())
    return short(next(filter(None, said), type(error).__name__))


def _silent(form: str) -> AbstractContextManager[None]:
    """Keep transformers, on which sentence-transformers stands, from reporting while it reads."""
    if form == "onnx":
        return nullcontext()
    import transformers

    return quiet(transformers)


def expected(form: str, source: Source, task: Task, pairs: Texts) -> Tensor:
    """Compute what an export gives for these pairs if it is right: sentence-transformers may give vectors."""
    if form != "sentence-transformers":
        return form_of(task).convert(source.outputs(task, pairs))
    if task.pair_mode != "cross_encoder":
        return source.vectors(task, pairs)
    meaning = one_number(form_of(task))
    activation: torch.nn.Module = getattr(torch.nn, meaning.activation)()
    converted: Tensor = activation(meaning.convert(source.outputs(task, pairs)))
    return converted
