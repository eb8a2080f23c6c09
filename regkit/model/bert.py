"""minBERT: BERT and its relatives on packed tokens, with one call for embeddings, one for layers.

From Devlin et al., 2019. Between the two calls, plugins can perturb the embeddings. RoBERTa, DistilBERT, ELECTRA and others
are the same layers under other names, see `families`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.model.again import called_again
from regkit.model.attention import SelfAttention
from regkit.model.dropout import Dropout
from regkit.model.families import FAMILIES, Family
from regkit.model.plain import is_own, is_plain
from regkit.model.repeat.repeated import Repeated
from regkit.model.table import Table
from regkit.model.walk import modules_of
from regkit.tasks.batch import Batch

ACTIVATIONS = {"gelu": nn.GELU(), "gelu_new": nn.GELU("tanh"), "gelu_pytorch_tanh": nn.GELU("tanh"), "relu": nn.ReLU()}


Count = Annotated[int, Field(strict=True, ge=1, le=2**20)]  # torch cannot even describe tensors of larger dimensions
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]


class Encoder(Protocol):
    """What regkit needs of an encoder: minBERT, or any module with `embed` and `encode`.

    One of the user's own needs `width`, `longest`, `embed` and `encode`; those who ask for more refuse it by name.
    """

    width: int  # of the hidden states
    longest: int  # tokens it can read in one sequence
    attention_heads: int  # of a layer: attention keeps a number for each and each pair of tokens
    norm: nn.LayerNorm  # of the embeddings; the head of masked words takes its epsilon
    activation: nn.Module  # of the layers, and of the head of masked words

    @property
    def word(self) -> nn.Embedding:
        """The word embeddings, to which the head of masked words is tied."""
        ...

    @property
    def head_names(self) -> Mapping[str, Mapping[str, str]]:
        """The names in the family's checkpoints of the tensors of the heads `words` and `follows`, by ours."""
        ...

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, bottom first. Raises EncoderError for an encoder without such a list."""
        ...

    @property
    def pooler(self) -> nn.Module:
        """The module with the weights of `pool`."""
        ...

    def embed(self, batch: Batch) -> Tensor:
        """Look up word embeddings, `[tokens, width]`: plugins perturb these."""
        ...

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Compute hidden states from word embeddings, both `[tokens, width]`.

        With `rows`, indices of tokens, only those are returned: `[rows, width]`.
        """
        ...

    def pool(self, hidden: Tensor) -> Tensor:
        """Turn hidden states of [CLS] into text vectors, both `[sequences, width]`."""
        ...

    def reset(self, module: nn.Module) -> None:
        """Give a part of the encoder fresh weights, drawn from torch's default generator."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """List the parameters, as `torch.nn.Module.parameters` does."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> object:
        """Freeze or unfreeze all parameters, as `torch.nn.Module.requires_grad_` does."""
        ...


@dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT or a relative; the names are those of a BERT checkpoint's config.json."""

    vocab_size: Count = 30522
    hidden_size: Count = 768
    num_hidden_layers: Annotated[int, Field(strict=True, ge=1, le=512)] = 12  # a few milliseconds each, without weights
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    max_position_embeddings: Annotated[Count, Field(ge=8)] = 512
    type_vocab_size: Annotated[int, Field(strict=True, ge=0, le=2**20)] = 2  # segments: the two texts of a pair
    layer_norm_eps: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 1e-12
    hidden_act: str = "gelu"
    hidden_dropout_prob: Share = 0.1
    attention_probs_dropout_prob: Share = 0.1
    initializer_range: Annotated[float, Field(ge=0, le=1e3)] = 0.02
    embedding_size: Count | None = None  # of the embeddings, where they are projected to hidden_size
    first_position: Annotated[int, Field(strict=True, ge=0, le=2**20)] = 0  # that of the first token
    model_type: str = "bert"  # the family


class Layer(nn.Module):
    """A transformer layer: attention, then a feed-forward network, each added to its input and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.attention = SelfAttention(width, config.num_attention_heads, config.attention_probs_dropout_prob)
        self.attention_norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.up = nn.Linear(width, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.down = nn.Linear(config.intermediate_size, width)
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        attended = self.dropout(self.attention(hidden, batch, rows))
        hidden = self.attention_norm(attended + (hidden if rows is None else hidden[rows]))
        changed: Tensor = self.norm(hidden + self.dropout(self._feed(self.up(hidden))))
        return changed

    def _feed(self, wide: Tensor) -> Tensor:
        if wide.is_cpu and is_plain(
            self.activation, kinds=(nn.GELU, nn.ReLU)
        ):  # else a second call may differ, or cost
            return called_again(self.down, self.activation, wide)
        fed: Tensor = self.down(self.activation(wide))
        return fed


# What is in a minBERT that no plugin has changed.
OWN = (Layer, SelfAttention, nn.Linear, nn.LayerNorm, Dropout, Table, nn.GELU, nn.ReLU, nn.Identity, nn.ModuleList)


class Bert(nn.Module):
    """minBERT. It begins with fresh weights, see `initialise`; `load_encoder` builds it from a checkpoint."""

    fresh_pooler = False  # whether its checkpoint has none, so that it begins with fresh weights
    repeated: Repeated | None = None  # what computes the usual passes, if anything does

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.width, inner = config.hidden_size, config.embedding_size or config.hidden_size
        self.longest = config.max_position_embeddings - config.first_position
        self.attention_heads = config.num_attention_heads
        self.word = _table(config.vocab_size, inner)
        self.position = _table(config.max_position_embeddings, inner)
        self.segment = _table(config.type_vocab_size, inner) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(inner, config.layer_norm_eps)
        self.project = nn.Identity() if inner == self.width else nn.Linear(inner, self.width)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(self.width, self.width)
        self.reset(self)

    @property
    def has_segments(self) -> bool:
        """Whether the embeddings tell the two texts of a pair apart."""
        return self.config.type_vocab_size > 1

    @property
    def family(self) -> Family:
        """The family whose names the checkpoint has."""
        return FAMILIES[self.config.model_type]

    @property
    def head_names(self) -> Mapping[str, Mapping[str, str]]:
        """The names in the family's checkpoints of the tensors of the heads `words` and `follows`, by ours."""
        return {"words": self.family.words, "follows": self.family.follows}

    def embed(self, batch: Batch) -> Tensor:
        """Look up word embeddings, `[tokens, width]`: before position, segment, LayerNorm and dropout.

        Their width is that of the hidden states, but for `embedding_size`.
        """
        embeddings: Tensor = self.word(batch.tokens)
        return embeddings

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Compute the last layer's hidden states from word embeddings, both `[tokens, width]`.

        With `rows`, indices of tokens, the last layer computes only those: `[rows, width]`. `batch.starts` is the
        fastest choice: then it has one query for each sequence.
        """
        if self.repeated and (rows is None or rows is batch.starts) and self.repeated.takes(embeddings, batch):
            parts = [self.position, self.segment, self.norm, self.project, self.dropout, self.layers]
            modules = [each for part in parts if part is not None for each in modules_of(part)]
            if is_own(*modules, kinds=OWN):
                return self.repeated.encode(self, modules, embeddings, batch, first=rows is not None)
        return self.compute(embeddings, batch, rows)

    def compute(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Compute what `encode` returns, as torch does, operation by operation."""
        hidden = embeddings + self.position(batch.positions + self.config.first_position)
        if self.segment is not None:  # some know a single segment, in which both texts of a pair are
            hidden = hidden + self.segment(batch.segments.clamp(max=self.segment.num_embeddings - 1))
        hidden = self.project(self.dropout(self.norm(hidden)))
        for layer in self.layers[:-1]:
            hidden = layer(hidden, batch)
        last: Tensor = self.layers[-1](hidden, batch, rows)
        return last

    def pool(self, hidden: Tensor) -> Tensor:
        """Turn hidden states of [CLS] into text vectors, both `[sequences, width]`."""
        return F.tanh(self.pooler(hidden))

    def reset(self, module: nn.Module) -> None:
        """Give a part of the encoder fresh weights, drawn from torch's default generator."""
        for part in module.modules():
            initialise(part, self.config.initializer_range)


def _table(rows: int, width: int) -> Table:
    """Make an embedding; on the meta device without drawing, as torch would import its compiler (1.5 s)."""
    weight = torch.empty(rows, width)
    return Table(rows, width, weight if weight.is_meta else None)


def initialise(module: nn.Module, std: float) -> None:
    """Give a module BERT's own initial weights.

    Those of linear layers and embeddings are normal with standard deviation `std`, biases are 0, and layer norms are the
    identity.
    """
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return  # see _table
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        module.reset_parameters()
