"""Weights: read checkpoints of BERT and its relatives, and write those that others read.

Known variations: any prefix before the names, LayerNorm parameters as weight/bias or gamma/beta, with or without a pooler,
`model.safetensors` or `pytorch_model.bin` (tensors only, no pickle is run), in one file or several.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from regkit.base.errors import EncoderError, explain, nearest, typed
from regkit.base.files import read_json
from regkit.model.adapter import Adapter
from regkit.model.bert import ACTIVATIONS, Bert, BertConfig, Encoder
from regkit.model.encoders import check_whole
from regkit.model.families import FAMILIES, MODULES, ClassifierNames, Family, Names
from regkit.model.foreign import load_adapter, shown
from regkit.model.own.encoder import Own, factory_of
from regkit.model.weight_files import Tensors, find_weights, read_files

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # weights without any scaling


def load_encoder(folder: Path, *, dropout: float | None = None, bare: bool = False) -> Encoder:
    """Build an encoder with a checkpoint's weights: minBERT, or an adapter for other families.

    `dropout` overrides all dropout rates of its config.json. A missing pooler gets fresh weights from torch's default
    generator. `bare` takes an encoder that has modules of plugins without them: the caller puts them in. Raises EncoderError,
    which names the file or tensor.
    """
    if not bare:
        check_whole(folder)
    values = _read_entries(folder)
    if factory := factory_of(values):
        raise EncoderError(
            f"{folder} has an encoder that {factory} builds; to import that, add {typed('--encoder-factory', factory)}."
        )
    family = values.get("model_type", "bert") if isinstance(values, dict) else None
    if isinstance(family, str) and family not in FAMILIES:
        return load_adapter(folder, family, dropout)
    return _load_bert(folder, dropout)


def _load_bert(folder: Path, dropout: float | None) -> Bert:
    """Build minBERT with the weights of a checkpoint folder."""
    config = read_config(folder)
    if dropout is not None:
        config = replace(config, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    family, paths = FAMILIES[config.model_type], find_weights(folder)
    tensors = _canonical_names(read_files(paths), family, folder)
    names = {**family.tensors(config.num_hidden_layers), **_trained_pooler(family.classifier, tensors, config)}
    for name in (names["word.weight"], names[f"layers.{config.num_hidden_layers - 1}.down.weight"]):
        if name not in tensors:  # checked before a layer is made: config.json may ask for a thousand million
            raise EncoderError(f"{folder}: the checkpoint lacks the tensor '{name}'.")
    with torch.device("meta"):  # shapes first: memory is taken only for tensors that fit
        model = Bert(config)
    needed = _to_hugging_face(model.state_dict(), names)
    fresh = {theirs: needed[theirs] for ours, theirs in names.items() if ours.startswith("pooler.")}
    if fresh.keys() & tensors.keys():
        fresh = {}
    _check(tensors, {name: tensor for name, tensor in needed.items() if name not in fresh}, paths)
    for name, tensor in fresh.items():
        std = config.initializer_range if name.endswith("weight") else 0.0
        tensors[name] = torch.randn(tensor.shape) * std
    ours = _from_hugging_face(tensors, names)
    # Copies, because the tensors may be the file's pages in memory.
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in ours.items()}
    model.load_state_dict(copies, assign=True)
    model.fresh_pooler = bool(fresh)
    return model.requires_grad_(True)


def read_config(folder: Path) -> BertConfig:
    """Read and check the folder's config.json, ignoring what minBERT does not use. Raises EncoderError."""
    path, values = folder / "config.json", _read_entries(folder)
    kind = values.get("model_type", "bert") if isinstance(values, dict) else type(values).__name__
    if not isinstance(kind, str) or kind not in FAMILIES or not isinstance(values, dict):
        raise EncoderError(f"{path} describes a '{kind}' model; minBERT reads {', '.join(FAMILIES)}.")
    chosen = _shape(values, FAMILIES[kind])
    try:
        config = TypeAdapter(BertConfig).validate_python(chosen)
    except ValidationError as error:
        raise EncoderError(explain(error, str(path), chosen)) from None
    if values.get("is_decoder"):
        raise EncoderError(f"{path}: is_decoder is true, so that no token sees those after it; an encoder is needed.")
    if not config.type_vocab_size and "type_vocab_size" not in FAMILIES[kind].fixed:
        raise EncoderError(f"{path}: type_vocab_size is 0; {kind} has at least one segment.")
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


def _read_entries(folder: Path) -> Any:
    """Read the folder's config.json. Raises EncoderError."""
    path = folder / "config.json"
    try:
        return shown(read_json(path))
    except FileNotFoundError:
        raise EncoderError(f"{folder} is not an encoder folder: it has no config.json.") from None
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}.") from None


def _shape(values: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """Collect the fields of BertConfig from the entries of a family's config.json."""
    values = {**family.usual, **values}
    chosen = {
        field.name: values[family.entry(field.name)]
        for field in fields(BertConfig)
        if family.entry(field.name) in values
    }
    chosen |= {"model_type": family.name, "first_position": 0, **family.fixed}
    if family.after_padding:
        padding = values["pad_token_id"]
        chosen["first_position"] = padding + 1 if isinstance(padding, int) else padding
    return chosen


def load_known_heads(folder: Path, heads: nn.ModuleDict, names: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Load the heads whose tensors the checkpoint has, and return the names of these heads.

    `names` maps, for each head, our names of its tensors to the checkpoint's. A head keeps its fresh weights if a tensor
    is missing, has another shape or is not finite.
    """
    if not names:
        return []
    tensors, filled = read_tensors(folder), []
    for name, pairs in names.items():
        found = {ours: tensors[theirs] for ours, theirs in pairs.items() if theirs in tensors}
        wanted = heads[name].state_dict()
        shapes = [{key: value.shape for key, value in each.items()} for each in (found, wanted)]
        if shapes[0] == shapes[1] and all(tensor.isfinite().all() for tensor in found.values()):
            heads[name].load_state_dict(found)
            filled.append(name)
    return filled


def read_tensors(folder: Path) -> Tensors:
    """Read the weights of a checkpoint folder, encoder and heads.

    Raises EncoderError, which names the file.

    Nothing stands before the names of a family that minBERT reads, see `_canonical_names`.
    """
    family = FAMILIES.get(_read_entries(folder).get("model_type", "bert"))
    tensors = read_files(find_weights(folder))
    tensors = _canonical_names(tensors, family, folder) if family else tensors
    stored = {name: tensor for name, tensor in tensors.items() if _dense_floats(tensor)}
    # A tensor of a pickle may be one number, said to be repeated a million million times.
    return {name: tensor for name, tensor in stored.items() if tensor.nbytes <= tensor.untyped_storage().nbytes()}


def save_encoder(model: Encoder, weights: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Any], Tensors]:
    """Convert the encoder to Hugging Face form: the content of config.json, and named tensors.

    `weights` are another state of the same encoder. Raises EncoderError for an encoder that `load` did not build.
    """
    if isinstance(model, Adapter | Own):
        return model.own_form(weights)
    if not isinstance(model, Bert):
        raise EncoderError(
            f"regkit can write checkpoints of what it builds, not of {type(model).__name__}; name what builds it by "
            "the setting encoder_factory."
        )
    config, family = model.config, model.family
    entries: dict[str, Any] = {"model_type": family.name, "architectures": [f"{family.classes}Model"]}
    if not family.entries:
        entries["position_embedding_type"] = "absolute"
    if family.after_padding:
        entries["pad_token_id"] = config.first_position - 1
    own = {"model_type", "first_position", *family.fixed}
    shape = {name: value for name, value in asdict(config).items() if name not in own and value is not None}
    entries |= {family.entry(name): value for name, value in shape.items()}
    tensors = _to_hugging_face(weights or model.state_dict(), family.tensors(config.num_hidden_layers))
    return entries, {f"{family.prefix}.{name}": tensor for name, tensor in tensors.items()}


def _canonical_names(tensors: Mapping[str, Tensor], family: Family, path: Path) -> Tensors:
    """Drop what stands before the encoder's names, and call LayerNorm's parameters weight and bias.

    Programs put `module.`, `model.`, `_orig_mod.` and others before. The tensor of the word embeddings tells what it is.
    Raises EncoderError where a checkpoint has several encoders.
    """
    anchor = f"{MODULES['word']}.weight"
    found = sorted({str(name).removesuffix(anchor) for name in tensors if f".{name}".endswith(f".{anchor}")})
    if len(found) > 1:
        raise EncoderError(
            f"{path} has several encoders: {', '.join(repr(prefix) for prefix in found)}; one is needed."
        )
    before = found[0] if found else ""
    outer = before.removesuffix(f"{family.prefix}.")  # before the heads
    plain = {}
    for key, tensor in tensors.items():
        name = str(key)
        name = name.removeprefix(before) if before and name.startswith(before) else name.removeprefix(outer)
        for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        plain[name] = tensor
    if TASK_TYPE in plain:  # of ERNIE: every token has that of task 0
        segments = f"{MODULES['segment']}.weight"
        plain[segments] = plain[segments] + plain[TASK_TYPE][0] if segments in plain else plain[TASK_TYPE][:1]
    return plain


TASK_TYPE = "embeddings.task_type_embeddings.weight"


def _trained_pooler(classifier: ClassifierNames, tensors: Tensors, config: BertConfig) -> dict[str, str]:
    """Find the layer of a classifier that does what our pooler does, and map our names to its.

    RoBERTa's classifier has one, and then its checkpoint has no pooler, or one that was not trained.
    """
    found = tensors.get(f"{classifier.below}.weight")
    if classifier.activation != "tanh" or found is None or found.shape != (config.hidden_size,) * 2:
        return {}
    return {f"pooler.{kind}": f"{classifier.below}.{kind}" for kind in ("weight", "bias")}


def _from_hugging_face(theirs: Tensors, names: Names) -> Tensors:
    """Rename tensors from Hugging Face to minBERT; those that it has no place for are left out."""
    return {ours: theirs[name] for ours, name in names.items() if name in theirs}


def _to_hugging_face(ours: Mapping[str, Tensor], names: Names) -> Tensors:
    """Rename tensors from minBERT to Hugging Face, without the family's prefix."""
    return {name: ours[mine].contiguous() for mine, name in names.items() if mine in ours}


def _check(tensors: Tensors, needed: Tensors, paths: Sequence[Path]) -> None:
    """Check that all needed tensors are there, in the shapes of config.json, and finite.

    Raises EncoderError, which names the tensor.
    """
    folder = paths[0].parent
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
    if sum(tensors[name].nbytes for name in needed) > sum(path.stat().st_size for path in paths):
        # tensors of a pickle may share memory
        raise EncoderError(f"{paths[0]} cannot be read: its tensors are larger than the file.")
    for name in needed:
        if not tensors[name].isfinite().all():
            raise EncoderError(f"{folder}: the tensor '{name}' has numbers that are not finite.")


def _dense_floats(tensor: Tensor) -> bool:
    return tensor.dtype in FLOATS and tensor.layout is torch.strided and not tensor.is_meta
