"""Files: write a model's config.json, tensors and tokenizer as transformers reads them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from regkit.base.files import save_tensors
from regkit.runs.export.source import Source


def write_model(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: Source) -> None:
    """Write config.json, model.safetensors and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", tensors)
    write_tokenizer(folder, source)


def write_tokenizer(folder: Path, source: Source) -> None:
    """Write the tokenizer, which cuts a text where regkit does if it is asked to cut."""
    source.tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    write_json(path, json.loads(path.read_text(encoding="utf8")) | {"model_max_length": source.longest})


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file, each with memory of its own."""
    save_tensors({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
