"""Weights: read any BERT checkpoint in Hugging Face form, and write one that others read.

Known variations: names with and without the prefix `bert.`, LayerNorm parameters as weight/bias or gamma/beta, with or
without a pooler, `model.safetensors` or `pytorch_model.bin` (tensors only, no pickle is run).
"""

import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from pickle import UnpicklingError

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from regkit.base.errors import EncoderError, explain, nearest
from regkit.base.files import check_plain, load_tensors, read_json
from regkit.model.bert import ACTIVATIONS, Bert, BertConfig, Encoder

Tensors = dict[str, Tensor]
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # weights without any scaling


def load_encoder(folder: Path, *, dropout: float | None = None) -> Bert:
    """Build minBERT with the weights of a checkpoint folder.

    `dropout` overrides both dropout rates of its config.json. A missing pooler gets fresh weights from torch's default
    generator. Raises EncoderError, which names the file or tensor.
    """
    config = read_config(folder)
    if dropout is not None:
        config = replace(config, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    path = _find_weights(folder)
    tensors = _canonical_names(_read_tensors(path))
    last = f"encoder.layer.{config.num_hidden_layers - 1}.output.dense.weight"
    if last not in tensors:  # checked before a layer is made: config.json may ask for a thousand million
        raise EncoderError(f"{folder}: the checkpoint lacks the tensor '{last}'.")
    with torch.device("meta"):  # shapes first: memory is taken only for tensors that fit
        model = Bert(config)
    needed = _to_hugging_face(dict(model.state_dict()), config.num_hidden_layers)
    fresh = {name: tensor for name, tensor in needed.items() if name.startswith("pooler.")}
    if fresh.keys() & tensors.keys():
        fresh = {}
    _check(tensors, {name: tensor for name, tensor in needed.items() if name not in fresh}, path)
    for name, tensor in fresh.items():
        std = config.initializer_range if name.endswith("weight") else 0.0
        tensors[name] = torch.randn(tensor.shape) * std
    ours = _from_hugging_face(tensors, config.num_hidden_layers)
    # Copies, because the tensors may be the file's pages in memory.
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in ours.items()}
    model.load_state_dict(copies, assign=True)
    return model.requires_grad_(True)


def read_config(folder: Path) -> BertConfig:
    """Read and check the folder's config.json, ignoring what minBERT does not use. Raises EncoderError."""
    path = folder / "config.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise EncoderError(f"{folder} is not an encoder folder: it has no config.json.") from None
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}.") from None
    if not isinstance(values, dict) or values.get("model_type", "bert") != "bert":
        kind = values.get("model_type") if isinstance(values, dict) else type(values).__name__
        raise EncoderError(f"{path} describes a '{kind}' model; minBERT reads BERT checkpoints (model_type 'bert').")
    chosen = {field.name: values[field.name] for field in fields(BertConfig) if field.name in values}
    try:
        config = TypeAdapter(BertConfig).validate_python(chosen)
    except ValidationError as error:
        raise EncoderError(explain(error, str(path), chosen)) from None
    if (kind := values.get("position_embedding_type", "absolute")) != "absolute":
        raise EncoderError(f"{path}: position_embedding_type is '{kind}'; minBERT has absolute positions.")
    if config.hidden_act not in ACTIVATIONS:
        raise EncoderError(f"{path}: hidden_act is '{config.hidden_act}'. {nearest(config.hidden_act, ACTIVATIONS)}")
    if config.hidden_size % config.num_attention_heads:
        raise EncoderError(
            f"{path}: hidden_size {config.hidden_size} is not a multiple of num_attention_heads "
            f"{config.num_attention_heads}."
        )
    return config


def load_known_heads(folder: Path, heads: nn.ModuleDict, names: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Load the heads whose tensors the checkpoint has, and return the names of these heads.

    `names` maps, for each head, our names of its tensors to the checkpoint's. A head keeps its fresh weights if a tensor
    is missing, has another shape or is not finite.
    """
    tensors, filled = _canonical_names(_read_tensors(_find_weights(folder))) if names else {}, []
    tensors = {name: tensor for name, tensor in tensors.items() if _dense_floats(tensor)}
    for name, pairs in names.items():
        found = {ours: tensors[theirs] for ours, theirs in pairs.items() if theirs in tensors}
        wanted = heads[name].state_dict()
        shapes = [{key: value.shape for key, value in each.items()} for each in (found, wanted)]
        if shapes[0] == shapes[1] and all(tensor.isfinite().all() for tensor in found.values()):
            heads[name].load_state_dict(found)
            filled.append(name)
    return filled


def save_encoder(model: Encoder, weights: Mapping[str, Tensor] | None = None) -> tuple[dict[str, object], Tensors]:
    """Convert the encoder to Hugging Face form: the content of config.json, and named tensors.

    `weights` are its whole `state_dict` if the model itself holds only shards. Raises EncoderError for an encoder other
    than minBERT.
    """
    if not isinstance(model, Bert):
        raise EncoderError(f"regkit can write checkpoints of minBERT, not of {type(model).__name__}.")
    config = {"model_type": "bert", "architectures": ["BertModel"], "position_embedding_type": "absolute"}
    tensors = _to_hugging_face(dict(weights or model.state_dict()), model.config.num_hidden_layers)
    return config | asdict(model.config), {f"bert.{name}": tensor for name, tensor in tensors.items()}


def _find_weights(folder: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return folder / name
    raise EncoderError(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin is there.")


def _read_tensors(path: Path) -> Tensors:
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path)
        check_plain(path)
        _check_uncompressed(path)
        found = dict(torch.load(path, map_location="cpu", weights_only=True))
        return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    except UnpicklingError:  # torch's own message says how to run such code anyway
        raise EncoderError(f"{path} cannot be read: it holds more than tensors, or is damaged.") from None
    except Exception as error:  # a damaged pickle leads torch to errors of any kind
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise EncoderError(f"{path} cannot be read: {reason}") from None


def _check_uncompressed(path: Path) -> None:
    """Check that a zip file does not grow when it is read, as torch's own do not. Raises ValueError."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed, or its parts overlap")


# The names of every tensor in minBERT and in Hugging Face form; {} is the layer's number.
NAMES = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "segment": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
}
LAYER_NAMES = {
    "layers.{}.attention.query": "encoder.layer.{}.attention.self.query",
    "layers.{}.attention.key": "encoder.layer.{}.attention.self.key",
    "layers.{}.attention.value": "encoder.layer.{}.attention.self.value",
    "layers.{}.attention.out": "encoder.layer.{}.attention.output.dense",
    "layers.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "layers.{}.up": "encoder.layer.{}.intermediate.dense",
    "layers.{}.down": "encoder.layer.{}.output.dense",
    "layers.{}.norm": "encoder.layer.{}.output.LayerNorm",
}


def _names(layers: int) -> dict[str, str]:
    names = NAMES | {ours.format(i): theirs.format(i) for i in range(layers) for ours, theirs in LAYER_NAMES.items()}
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in names.items() for kind in ("weight", "bias")}


def _canonical_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """Drop the prefix `bert.` from the names, and call LayerNorm's parameters weight and bias."""
    plain = {}
    for key, tensor in tensors.items():
        name = str(key).removeprefix("bert.")
        for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        plain[name] = tensor
    return plain


def _from_hugging_face(theirs: Tensors, layers: int) -> Tensors:
    """Rename tensors from Hugging Face to minBERT; those that it has no place for are left out."""
    return {ours: theirs[name] for ours, name in _names(layers).items() if name in theirs}


def _to_hugging_face(ours: Tensors, layers: int) -> Tensors:
    """Rename tensors from minBERT to Hugging Face, without the prefix `bert.`."""
    return {name: ours[mine].contiguous() for mine, name in _names(layers).items() if mine in ours}


def _check(tensors: Tensors, needed: Tensors, path: Path) -> None:
    """Check that all needed tensors are there, in the shapes of config.json, and finite.

    Raises EncoderError, which names the tensor.
    """
    folder = path.parent
    for name, like in needed.items():
        if name not in tensors:
            raise EncoderError(f"{folder}: the checkpoint lacks the tensor '{name}'.")
        if tensors[name].shape != like.shape:
            found, wanted = list(tensors[name].shape), list(like.shape)
            raise EncoderError(f"{folder}: the tensor '{name}' has shape {found}, but config.json asks for {wanted}.")
        if not _dense_floats(tensors[name]):
            kind = f"{tensors[name].dtype}, {tensors[name].layout}, on {tensors[name].device}".replace("torch.", "")
            raise EncoderError(
                f"{folder}: the tensor '{name}' is {kind}; weights are dense float32, float16, bfloat16 or float64."
            )
    if sum(tensors[name].nbytes for name in needed) > path.stat().st_size:  # tensors of a pickle may share memory
        raise EncoderError(f"{path} cannot be read: its tensors are larger than the file.")
    for name in needed:
        if not tensors[name].isfinite().all():
            raise EncoderError(f"{folder}: the tensor '{name}' has numbers that are not finite.")


def _dense_floats(tensor: Tensor) -> bool:
    return tensor.dtype in FLOATS and tensor.layout is torch.strided and not tensor.is_meta
