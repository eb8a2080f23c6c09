"""Adapter: run an encoder of transformers as if it were minBERT, packed or with padding inside.

It has the methods of minBERT, so tasks and plugins see no difference. Which of the two ways a family takes is found out by
`foreign`, when it is read.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.base.errors import EncoderError
from regkit.model.attention import add_padding, attend_within, remove_padding, usual_heads
from regkit.model.families import FAMILIES, WORDS, ClassifierNames, Names
from regkit.model.kernels import Form
from regkit.tasks.batch import Batch

POOLER = "pooler."  # what stands in a checkpoint before the tensors of a pooler that the family lacks

# Heads of masked words in the form of BERT's. Those of ModernBERT, EuroBERT, MobileBERT and RemBERT have another.
WORD_HEADS: dict[str, Names] = {
    **dict.fromkeys(["deberta", "deberta-v2", "megatron-bert"], WORDS),
    **dict.fromkeys(["jina_embeddings_v3", "mpnet", "roberta-prelayernorm"], FAMILIES["roberta"].words),
    "albert": {ours: theirs.removeprefix("cls.").replace("transform.", "") for ours, theirs in WORDS.items()},
    "nomic_bert": {ours: theirs.replace("LayerNorm", "layer_norm") for ours, theirs in WORDS.items()},
}

# Families whose `...ForSequenceClassification` has its head on the pooler, as BERT's.
ON_POOLER = {
    "albert": ClassifierNames(below="pooler"),
    **dict.fromkeys(["megatron-bert", "rembert"], ClassifierNames()),
}


class Adapter(nn.Module):
    """An encoder of transformers with the methods of minBERT; `load_encoder` builds it from a checkpoint.

    `model` is one of transformers without a head, the first token's position is `first_position`, and texts have at most
    `longest` tokens. If `packed`, the model calls `attend_packed`.
    """

    def __init__(self, model: Any, first_position: int, longest: int, packed: bool = False) -> None:
        super().__init__()
        self.model, config = model, model.config
        self.family: str = config.model_type
        self.width: int = config.hidden_size
        self.first_position, self.longest, self.packed = first_position, longest, packed
        self.attention_heads: int = _first(config, "num_attention_heads", "num_heads") or usual_heads(self.width)
        self.takes = set(inspect.signature(model.forward).parameters)
        has_pooler = isinstance(getattr(model, "pooler", None), nn.Module)
        self.own_pooler = None if has_pooler else nn.Linear(self.width, self.width)
        epsilon = _first(config, "layer_norm_eps", "norm_eps", "rms_norm_eps") or 1e-12
        self.norm = nn.LayerNorm(self.word.embedding_dim, epsilon, elementwise_affine=False)
        self.activation = _activation(_first(config, "hidden_act", "hidden_activation") or "gelu")

    @property
    def has_segments(self) -> bool:
        """Whether the embeddings tell the two texts of a pair apart."""
        return "token_type_ids" in self.takes and getattr(self.model.config, "type_vocab_size", 1) > 1

    @property
    def word(self) -> nn.Embedding:
        """The word embeddings."""
        found: nn.Embedding = self.model.get_input_embeddings()
        return found

    @property
    def head_names(self) -> Mapping[str, Mapping[str, str]]:
        """The names in the family's checkpoints of the head `words`; none where its form is not that of ours."""
        return {"words": WORD_HEADS.get(self.family, {}), "follows": {}}

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, bottom first. Raises EncoderError for a family that has no such list."""
        return layers_of(self.model)

    @property
    def pooler(self) -> nn.Module:
        """The module with the weights of `pool`: the family's, or our own where it has none."""
        found: nn.Module = self.model.pooler if self.own_pooler is None else self.own_pooler
        return found

    def embed(self, batch: Batch) -> Tensor:
        """Look up word embeddings, `[tokens, width]`; some families' are narrower than the hidden states."""
        embeddings: Tensor = self.word(batch.tokens)
        return embeddings

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Compute the last hidden states, `[tokens, width]`, from word embeddings, or only those of `rows`."""
        inputs = {"inputs_embeds": embeddings} | self.told(batch)
        if self.packed:
            inputs["position_ids"] = batch.positions + self.first_position
            alone = {name: value[None] for name, value in inputs.items()}  # to the model, a batch of one long text
            hidden: Tensor = self.model(**alone, batch=batch).last_hidden_state[0]
        else:
            padded = {name: add_padding(value, batch) for name, value in inputs.items()}
            found = self.model(**padded, attention_mask=batch.visible.long()).last_hidden_state
            hidden = remove_padding(found, batch)
        return hidden if rows is None else hidden[rows]

    def told(self, batch: Batch) -> dict[str, Tensor]:
        """Collect what a model reads of each token beside its embedding, `[tokens]` each, by the names of its arguments.

        Some know a single segment, in which both texts of a pair are. In Longformer, [CLS] sees the whole text, as where
        transformers classifies texts by it.
        """
        known = max(1, getattr(self.model.config, "type_vocab_size", 1))
        found = {
            "token_type_ids": batch.segments.clamp(max=known - 1),
            "global_attention_mask": (batch.positions == 0).long(),
        }
        return {name: value for name, value in found.items() if name in self.takes}

    def pad_inside(self) -> None:
        """Run the model with padding and torch's own attention from now on, as other programs do."""
        if self.packed:
            self.packed = False
            self.model.set_attn_implementation("sdpa")

    def pool(self, hidden: Tensor) -> Tensor:
        """Turn hidden states of [CLS] into text vectors, both `[sequences, width]`."""
        pooler = self.pooler
        pooled: Tensor = F.tanh(pooler(hidden)) if isinstance(pooler, nn.Linear) else pooler(hidden[:, None])
        return pooled

    @torch.no_grad()
    def reset(self, module: nn.Module) -> None:
        """Give a part of the encoder fresh weights as its family does, drawn from torch's default generator."""
        for part in reversed(list(module.modules())):  # a module may set the weights of those inside it
            self.model._init_weights(part)

    def own_form(self, weights: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Convert to the form of the family's checkpoints: the content of config.json, and named tensors.

        `weights` are another state of the same encoder.
        """
        entries = json.loads(self.model.config.to_json_string()) | {"architectures": [type(self.model).__name__]}
        names = {"model": f"{self.model.base_model_prefix}.", "own_pooler": POOLER}  # as minBERT writes its own
        tensors = {
            names[owner] + rest: tensor.contiguous()
            for name, tensor in (weights or self.state_dict()).items()
            for owner, _, rest in [name.partition(".")]
        }
        return entries, tensors


def layers_of(model: Any) -> nn.ModuleList:
    """Find the transformer layers of a model of transformers, bottom first.

    Raises EncoderError if there is no such list.
    """
    count, found = getattr(model.config, "num_hidden_layers", None), dict[str, nn.ModuleList]()
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inside:
            found[name] = module
    if len(found) != 1:  # ALBERT's layers are one layer, and XLM has lists of their parts
        family = model.config.model_type
        raise EncoderError(f"an '{family}' encoder has no list of layers with weights of their own.")
    return next(iter(found.values()))


def attend_packed(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend within each sequence of the option `batch`, as an attention function of transformers.

    From `[1, heads, tokens, width]` to `[1, tokens, heads, width]`, and no attention weights.
    """
    form = Form(options.get("dropout") or 0.0, options.get("scaling"), options.get("sliding_window"))
    query, key, value = (_by_token(part[0], query.shape[1]) for part in (query, key, value))
    return attend_within(query, key, value, options["batch"], form)[None], None


def _by_token(part: Tensor, heads: int) -> Tensor:
    """Turn `[heads, tokens, width]` to `[tokens, heads, width]`; queries may share a key."""
    return part.repeat_interleave(heads // len(part), dim=0).transpose(0, 1)


def _first(config: Any, *names: str) -> Any:
    """Read the first of these entries of a config that is there."""
    found: Iterator[Any] = (getattr(config, name, None) for name in names)
    return next((value for value in found if value is not None), None)


def _activation(name: str) -> nn.Module:
    from transformers.activations import ACT2FN

    found: nn.Module = ACT2FN[name]
    return found
