"""Hf: write a task as a `...ForSequenceClassification` of transformers, with equal outputs.

Its head is a linear layer on another layer, which reads [CLS]: `tanh` of the pooler in BERT. A head of ours on the pooler's
output is the same. A head on [CLS] itself goes through that layer by `f(x) - f(-x)`, which is x for ReLU and GELU, and 2x for
the tanh of small numbers.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import ConfigError
from regkit.model import save_encoder
from regkit.model.classifiers import CLASSIFIERS
from regkit.model.families import ClassifierNames
from regkit.model.heads import Cosine, Linear
from regkit.runs.export.files import write_model
from regkit.runs.export.forms import Form, form_of
from regkit.runs.export.source import Source, Texts
from regkit.tasks.task import Task

Layer = tuple[Tensor, Tensor]  # weight and bias of a linear layer

# By activation f: by how much the numbers that go through it are scaled down, and f(x) - f(-x) in units of x.
# tanh(x) is x up to x^3 / 3, which is less than a float32 shows for logits scaled down to a few thousandths.
THROUGH = {"tanh": (2.0**-12, 2.0), "ReLU": (1.0, 1.0), "GELU": (1.0, 1.0)}


def write(source: Source, task: Task, folder: Path) -> None:
    """Write the folder of one task. Raises ConfigError if the family's head cannot hold the task's."""
    names, form = _names(source, task), form_of(task)
    config, tensors = save_encoder(source.model.encoder)
    prefix = next(iter(tensors)).partition(".")[0]
    classes = str(config["architectures"][0]).removesuffix("Model")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{prefix}.pooler.")}
    tensors |= _head(source, task, names, form, prefix)
    config |= {"architectures": [f"{classes}ForSequenceClassification"], **meaning(form)}
    write_model(folder, config, tensors, source)


def meaning(form: Form) -> dict[str, Any]:
    """Describe the outputs as transformers reads it in config.json."""
    return {
        "id2label": {str(number): label for number, label in enumerate(form.labels)},
        "label2id": {label: number for number, label in enumerate(form.labels)},
        "problem_type": form.problem,
    }


def outputs(folder: Path, source: Source, task: Task, pairs: Texts) -> Tensor:
    """Compute the outputs of the folder by transformers, `[pairs, numbers]`."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    texts = map(list, zip(*(source.read_by(task, pair) for pair in pairs), strict=True))
    inputs = tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        found: Tensor = model.eval()(**inputs).logits
    return found


def _names(source: Source, task: Task) -> ClassifierNames:
    """Find how the family's head is called. Raises ConfigError if that head cannot hold the task's."""
    if reason := _reason(source, task):
        others = _other_formats(task, source.model.heads[task.name])
        raise ConfigError(f"task '{task.name}' is no classifier of transformers: {reason}; take --format {others}.")
    return CLASSIFIERS[_family(source)]


def _other_formats(task: Task, head: nn.Module) -> str:
    """Name the formats that hold a task which is no classifier of transformers."""
    if not isinstance(head, Linear | Cosine):
        return "onnx"
    whole = task.pair_mode == "cross_encoder" or isinstance(head, Cosine)
    return "sentence-transformers or onnx" if whole else "onnx, or sentence-transformers for its text vectors"


def _reason(source: Source, task: Task) -> str:
    """Say why the family's own head cannot hold that of the task; nothing if it can."""
    family, pooling, head = _family(source), source.pooling(task), source.model.heads[task.name]
    if task.pair_mode == "bi_encoder":
        return "it reads the texts of a pair apart"
    if type(head) is not Linear:
        return "its head is not one linear layer"
    if family not in CLASSIFIERS:
        return f"regkit does not know the head of the family '{family}'"
    if pooling in ("mean", "max"):
        return f"it reads the {pooling} of the hidden states, and theirs reads [CLS]"
    activation = CLASSIFIERS[family].activation
    if pooling == "pooler" and activation != "tanh":
        return f"it reads the pooler's output, a tanh, and theirs a {activation}, which a run with --pooling cls fits"
    if pooling == "cls" and 2 * task.objective.width > source.model.encoder.width:
        return "it reads [CLS] itself, and has more classes than the layer between them and [CLS] can pass on"
    return ""


def _family(source: Source) -> str:
    return str(save_encoder(source.model.encoder)[0]["model_type"])


def _head(source: Source, task: Task, names: ClassifierNames, form: Form, prefix: str) -> dict[str, Tensor]:
    """Name the tensors of both layers of the head as the family does."""
    below, last = source.pooler(), form.fold(*source.linear(task))
    if source.pooling(task) == "cls":
        below, last = _through(names.activation, *source.linear(task), form)
    inside = names.below.startswith("pooler")  # then the other layer is one of the encoder
    name = f"{prefix}.{names.below}" if inside else names.below
    layers = {name: below, names.name: last}
    return {
        f"{layer}.{kind}": tensor
        for layer, tensors in layers.items()
        for kind, tensor in zip(("weight", "bias"), tensors, strict=True)
    }


def _through(activation: str, weight: Tensor, bias: Tensor, form: Form) -> tuple[Layer, Layer]:
    """Put a linear layer, `[outputs, width]`, on [CLS] through a layer with an activation.

    What comes out is converted to the form. Returns that layer, `[width, width]`, and the last one, `[numbers, width]`.
    """
    outputs, width = weight.shape
    small, gain = THROUGH[activation]
    rest = width - 2 * outputs
    both = nn.functional.pad(small * torch.cat([weight, -weight]), (0, 0, 0, rest))
    offsets = nn.functional.pad(small * torch.cat([bias, -bias]), (0, rest))
    apart = nn.functional.pad(torch.cat([torch.eye(outputs), -torch.eye(outputs)], dim=1), (0, rest))
    return (both, offsets), (form.scale @ apart / (small * gain), form.shift)
