"""Foreign: read an encoder with transformers, and find a way to run it that gives the same results.

Nothing but a test tells the way: models take any attention function without complaint, and some never call it. The test takes
as long as ten short texts.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regkit.base.errors import EncoderError, short
from regkit.base.failures import ran_out
from regkit.base.files import load_tensors, read_object
from regkit.model.adapter import POOLER, Adapter, attend_packed
from regkit.model.bert import initialise
from regkit.model.modes import mode
from regkit.tasks.batch import Batch
from regkit.tasks.names import ENTRY, HIDDEN

ATTENTION = "regkit"  # the name of our attention function in transformers
CLOSE = 1e-4  # how far hidden states may be from those of one text at a time, in units of the largest
MOST_LAYERS = 512  # as of minBERT: what makes many more of them never ends
USUAL_LONGEST = 512  # tokens of a text for a model that sets no bound


def load_adapter(folder: Path, family: str, dropout: float | None = None) -> Adapter:
    """Build an encoder of transformers with the weights of a checkpoint folder.

    `dropout` overrides all dropout rates of its config.json. A missing pooler gets fresh weights from torch's default
    generator. Raises EncoderError, which names the family or the tensor.
    """
    transformers = _library(folder, family)
    transformers.AttentionInterface.register(ATTENTION, attend_packed)
    try:
        with quiet(transformers):
            model, said = _read(transformers, folder, dropout)
            _check_weights(model, said["missing_keys"])
            adapter = _adapt(model)
    except EncoderError as error:
        raise EncoderError(f"{folder} has a '{family}' model: {error}") from None
    except Exception as error:  # a damaged checkpoint, or a model of images, leads to errors of any kind
        if ran_out(error):
            raise
        reason = short((str(error).strip() or type(error).__name__).splitlines()[0]).rstrip(".: ")
        raise EncoderError(f"{folder} has a '{family}' model, which cannot be used: {reason}.") from None
    if adapter.own_pooler is not None:
        _fill_pooler(folder, adapter, said["unexpected_keys"])
    return adapter.train().requires_grad_(True)


def _library(folder: Path, family: str) -> Any:
    """Import transformers. Raises EncoderError if it is not installed, or does not know the family."""
    said = f"{folder / 'config.json'} describes a '{family}' model; "
    try:
        import transformers
    except ImportError:
        raise EncoderError(
            f"{said}minBERT does not read this family, and transformers may: pip install 'regkit[transformers]'."
        ) from None
    if family not in transformers.CONFIG_MAPPING:  # code beside the weights is never run
        raise EncoderError(f"{said}neither minBERT nor transformers {transformers.__version__} reads this family.")
    return transformers


def _read(transformers: Any, folder: Path, dropout: float | None) -> tuple[Any, Mapping[str, Any]]:
    """Read config and weights, and what transformers says of the tensors.

    Raises EncoderError for an encoder-decoder.
    """
    here = {"trust_remote_code": False, "local_files_only": True}
    values = read_object(folder / "config.json")
    if shown(values) == values:
        config = transformers.AutoConfig.from_pretrained(folder, **here)
    else:
        values = shown(values)
        config = transformers.CONFIG_MAPPING[values["model_type"]].from_dict(values)
    if config.is_encoder_decoder:
        raise EncoderError("it has an encoder and a decoder; an encoder alone is needed.")
    if (getattr(config, "num_hidden_layers", None) or 0) > MOST_LAYERS:
        raise EncoderError(f"it has {config.num_hidden_layers} layers, more than {MOST_LAYERS}.")
    for name, rate in config.to_dict().items() if dropout is not None else ():
        if "dropout" in name and type(rate) in (int, float):
            setattr(config, name, dropout)
    model, said = transformers.AutoModel.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, **here
    )
    for part in (*model.modules(), *model.parameters(), *model.buffers()):
        vars(part).pop("_is_hf_initialized", None)  # or else `reset` would keep the weights that were read
    return model, said


def shown(values: Any) -> Any:
    """Put the family back into what config.json holds, where it was hidden from other programs."""
    entry = values.get(ENTRY) if isinstance(values, dict) else None
    return values | {"model_type": entry[HIDDEN]} if isinstance(entry, dict) and HIDDEN in entry else values


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from reporting while it reads: what matters is refused by name."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_weights(model: Any, missing: set[str]) -> None:
    """Check that all tensors but a pooler's are there and finite.

    Raises EncoderError, which names the tensor.
    """
    if lacking := sorted(name for name in missing if not name.startswith(POOLER)):
        raise EncoderError(f"the checkpoint lacks the tensor '{lacking[0]}'.")
    for name, tensor in model.named_parameters():
        if not tensor.isfinite().all():
            raise EncoderError(f"the tensor '{name}' has numbers that are not finite.")


def _fill_pooler(folder: Path, adapter: Adapter, left_over: set[str]) -> None:
    """Give our own pooler fresh weights, or those in a checkpoint that regkit wrote."""
    pooler = adapter.pooler
    initialise(pooler, getattr(adapter.model.config, "initializer_range", 0.02))
    names = {name: POOLER + name for name in pooler.state_dict()}
    if set(names.values()) <= set(left_over):
        tensors = load_tensors(folder / "model.safetensors")
        pooler.load_state_dict({ours: tensors[theirs] for ours, theirs in names.items()})


def _adapt(model: Any) -> Adapter:
    """Choose the way to run a model. Raises EncoderError if none gives what it gives one text at a time."""
    if not isinstance(model.get_input_embeddings(), nn.Embedding):
        raise EncoderError("it does not read words; an encoder of texts is needed.")
    with torch.no_grad(), mode(model, training=False):
        if not _sees_later_tokens(model):
            raise EncoderError("its tokens do not see those after them, as in a decoder; an encoder is needed.")
        adapter, usual = Adapter(model, *_positions(model)), model.config._attn_implementation
        batch = _test_batch(adapter)
        wanted = _one_at_a_time(adapter, batch)
        for packed in (True, False):
            adapter.packed = packed
            model.set_attn_implementation(ATTENTION if packed else usual)
            with suppress(Exception):  # packed tokens lead some models to errors of any kind
                found = adapter.encode(adapter.embed(batch), batch)
                if (found - wanted).abs().max() <= CLOSE * wanted.abs().max():
                    return adapter
    raise EncoderError("what it makes of a text depends on the padding, so results would depend on the batch.")


def _sees_later_tokens(model: Any) -> bool:
    """Whether the hidden state of any token, as of one in a window, depends on the last token."""
    *text, last, other = _words(model, 9)
    one, two = (_run(model, torch.tensor([*text, word]))[:-1] for word in (last, other))
    return not torch.equal(one, two)


def _positions(model: Any) -> tuple[int, int]:
    """Find the first token's position and a text's most tokens by what a model asks its tables for.

    RoBERTa's relatives begin at 2, and no config tells. Rotary and relative positions have no table.
    """
    word, asked = model.get_input_embeddings(), list[tuple[nn.Embedding, Any]]()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module is not word]
    watched = [table.register_forward_pre_hook(lambda table, given: asked.append((table, *given))) for table in tables]
    _run(model, torch.tensor(_words(model, 3)))
    for each in watched:
        each.remove()
    for table, places in asked:
        found = places.flatten().tolist() if isinstance(places, Tensor) else []
        if len(found) == 3 and found == list(range(found[0], found[0] + 3)):
            return found[0], table.num_embeddings - found[0]
    longest = getattr(model.config, "max_position_embeddings", None)
    return 0, longest if isinstance(longest, int) and longest > 0 else USUAL_LONGEST


def _test_batch(adapter: Adapter) -> Batch:
    """Make a batch of three texts in two segments each, the last one longer than a sliding window."""
    window = getattr(adapter.model.config, "sliding_window", None) or 0
    lengths = [3, 8, min(max(2 * window + 8, 24), adapter.longest)]
    texts = [np.array(_words(adapter.model, length)) for length in lengths]
    return Batch.pack(texts, [np.arange(length) >= length // 2 for length in lengths])


def _one_at_a_time(adapter: Adapter, batch: Batch) -> Tensor:
    """Compute a batch's hidden states, `[tokens, width]`, by the model itself, one text at a time."""
    parts = {"input_ids": batch.tokens} | adapter.told(batch)
    texts = zip(*(torch.split(part, list(batch.lengths)) for part in parts.values()), strict=True)
    return torch.cat([_run(adapter.model, **dict(zip(parts, text, strict=True))) for text in texts])


def _run(model: Any, input_ids: Tensor, **told: Tensor) -> Tensor:
    """Compute the hidden states of one text's words, `[tokens, width]`, by what the model reads of each."""
    inputs = {name: each[None] for name, each in {"input_ids": input_ids, **told}.items()}
    found: Tensor = model(**inputs, attention_mask=torch.ones_like(inputs["input_ids"])).last_hidden_state[0]
    return found


def _words(model: Any, count: int) -> list[int]:
    """Choose ids of words, but not that of padding, and none twice as long as there are enough."""
    ids = np.random.default_rng(count).permutation(model.get_input_embeddings().num_embeddings)
    found: list[int] = np.resize(ids[ids != model.config.pad_token_id], count).tolist()
    return found
