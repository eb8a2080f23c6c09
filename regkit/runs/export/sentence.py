"""Sentence: write a task as a model of sentence-transformers, with equal outputs.

A pair that is read together becomes a CrossEncoder, which gives the outputs. Anything else becomes a SentenceTransformer,
which gives the vector of a text; the head that reads such vectors is beside it, unless it is their cosine.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from regkit.base.errors import ConfigError
from regkit.model import save_encoder
from regkit.model.heads import Cosine, Linear
from regkit.model.pooling import THEIRS
from regkit.runs.export.files import write_json, write_model, write_tensors
from regkit.runs.export.forms import form_of, one_number
from regkit.runs.export.source import Source, Texts
from regkit.tasks.names import ENTRY
from regkit.tasks.task import Pooling, Task

MODULES = "sentence_transformers.models."  # where every version finds these three
HEAD = "head.safetensors"  # a linear head, for whoever has the vectors
VECTOR, SCORES = "sentence_embedding", "scores"  # what sentence-transformers calls them


def write(source: Source, task: Task, folder: Path) -> None:
    """Write the folder of one task. Raises ConfigError for a head with thresholds, as of an ordinal task."""
    head, pooling = source.model.heads[task.name], source.pooling(task)
    if not isinstance(head, Linear | Cosine):
        raise ConfigError(f"task '{task.name}' has a head that is not one linear layer; take --format onnx.")
    config, tensors = save_encoder(source.model.encoder)
    write_model(folder, config | {ENTRY: {"pooling": pooling}}, tensors, source)
    modules = [("", "Transformer"), _pooling(folder, source.model.encoder.width, pooling)]
    if pooling == "pooler":
        modules.append(_dense(folder, len(modules), source.pooler(), nn.Tanh()))
    if task.pair_mode == "cross_encoder":
        form = one_number(form_of(task))
        modules.append(_dense(folder, len(modules), form.fold(*source.linear(task))))
        activation = _path(getattr(nn, form.activation)())
        _write_modules(folder, modules, {"model_type": "CrossEncoder", "activation_fn": activation}, source.longest)
        return
    if isinstance(head, Linear):
        weight, bias = form_of(task).fold(*source.linear(task))
        write_tensors(folder / HEAD, {"weight": weight, "bias": bias})
    own = {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"}
    _write_modules(folder, modules, own, source.longest)


def outputs(folder: Path, source: Source, task: Task, pairs: Texts) -> Tensor:
    """Compute by sentence-transformers: of a pair read together `[pairs, numbers]`, else text vectors."""
    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer

    quietly = {"convert_to_tensor": True, "show_progress_bar": False}
    if task.pair_mode == "cross_encoder":
        scorer = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        return torch.as_tensor(scorer.predict(list(pairs), **quietly)).reshape(len(pairs), -1)
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found: Tensor = model.encode([text for pair in pairs for text in source.read_by(task, pair)], **quietly)
    return found


def _pooling(folder: Path, width: int, pooling: Pooling) -> tuple[str, str]:
    """Write the module that makes one vector of the hidden states; the pooler reads the first."""
    path, chosen = "1_Pooling", "cls" if pooling == "pooler" else pooling
    (folder / path).mkdir()
    modes = {name: mode == chosen for name, mode in THEIRS.items()}
    write_json(folder / path / "config.json", {"word_embedding_dimension": width, **modes})
    return path, "Pooling"


def _dense(
    folder: Path, number: int, layer: tuple[Tensor, Tensor], activation: nn.Module | None = None
) -> tuple[str, str]:
    """Write a linear layer as a module; without an activation, its output is the scores."""
    path, (weight, bias) = f"{number}_Dense", layer
    outputs, width = weight.shape
    config = {
        "in_features": width,
        "out_features": outputs,
        "bias": True,
        "activation_function": _path(activation or nn.Identity()),
        "module_input_name": VECTOR,
        "module_output_name": VECTOR if activation else SCORES,
    }
    (folder / path).mkdir()
    write_json(folder / path / "config.json", config)
    write_tensors(folder / path / "model.safetensors", {"linear.weight": weight, "linear.bias": bias})
    return path, "Dense"


def _write_modules(folder: Path, modules: list[tuple[str, str]], own: dict[str, Any], longest: int) -> None:
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": MODULES + name}
        for number, (path, name) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    transformer: dict[str, Any] = {"max_seq_length": longest, "do_lower_case": False}
    if own["model_type"] == "CrossEncoder":  # or else it would look for a classifier
        transformer |= {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
        method = {"method": "forward", "method_output_name": "last_hidden_state"}
        transformer["modality_config"] = {"text": method}
    write_json(folder / "sentence_bert_config.json", transformer)
    write_json(folder / "config_sentence_transformers.json", own | {"prompts": {}, "default_prompt_name": None})


def _path(module: nn.Module) -> str:
    """Write the import path of a module's class."""
    return f"{type(module).__module__}.{type(module).__name__}"
