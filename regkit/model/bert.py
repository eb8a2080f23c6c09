"""minBERT: BERT on packed tokens, with the word embeddings and the layers above them apart (Devlin et al., 2019)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.model.attention import SelfAttention
from regkit.model.dropout import Dropout
from regkit.tasks.batch import Batch

ACTIVATIONS = {"gelu": nn.GELU(), "gelu_new": nn.GELU("tanh"), "gelu_pytorch_tanh": nn.GELU("tanh"), "relu": nn.ReLU()}


Count = Annotated[int, Field(strict=True, ge=1, le=2**20)]  # torch cannot even describe tensors of larger sides
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]


class Encoder(Protocol):
    """What regkit asks of an encoder: minBERT, or any module with the same two calls."""

    width: int
    longest: int  # tokens it can read in one sequence
    word: nn.Embedding  # the word embeddings, to which the head of masked words is tied
    norm: nn.LayerNorm  # of the embeddings; that head's own has its epsilon
    activation: nn.Module  # of the layers, and of that head

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's, bottom first."""
        ...

    @property
    def pooler(self) -> nn.Module:
        """What `pool` has weights in."""
        ...

    def embed(self, batch: Batch) -> Tensor:
        """Token ids to word embeddings, `[tokens, width]`: what plugins perturb."""
        ...

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Word embeddings to hidden states, `[tokens, width]`, or `[rows, width]` of the tokens numbered in `rows`."""
        ...

    def pool(self, hidden: Tensor) -> Tensor:
        """Hidden states of [CLS] to text vectors, both `[sequences, width]`."""
        ...

    def reset(self, module: nn.Module) -> None:
        """Give a part of the encoder fresh weights, drawn from torch's default generator."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As torch's modules give them."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> object:
        """As torch's modules do it."""
        ...


@dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT; the names are those of a checkpoint's config.json."""

    vocab_size: Count = 30522
    hidden_size: Count = 768
    num_hidden_layers: Annotated[int, Field(strict=True, ge=1, le=512)] = 12  # a few milliseconds each, before weights
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    max_position_embeddings: Annotated[Count, Field(ge=8)] = 512
    type_vocab_size: Annotated[Count, Field(ge=2)] = 2  # the texts of a pair
    layer_norm_eps: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 1e-12
    hidden_act: str = "gelu"
    hidden_dropout_prob: Share = 0.1
    attention_probs_dropout_prob: Share = 0.1
    initializer_range: Annotated[float, Field(ge=0, le=1e3)] = 0.02


class Layer(nn.Module):
    """One transformer layer: attention, then a feed-forward network, each added to its input and normalised."""

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
        changed: Tensor = self.norm(hidden + self.dropout(self.down(self.activation(self.up(hidden)))))
        return changed


class Bert(nn.Module):
    """minBERT. Fresh weights are normal with standard deviation `initializer_range`; `weights.load` reads a checkpoint."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.hidden_size
        self.longest = config.max_position_embeddings
        self.word = nn.Embedding(config.vocab_size, self.width)
        self.position = nn.Embedding(config.max_position_embeddings, self.width)
        self.segment = nn.Embedding(config.type_vocab_size, self.width)
        self.norm = nn.LayerNorm(self.width, config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(self.width, self.width)
        self.reset(self)

    def embed(self, batch: Batch) -> Tensor:
        """Token ids to word embeddings, `[tokens, width]`: before position, segment, LayerNorm and dropout."""
        embeddings: Tensor = self.word(batch.tokens)
        return embeddings

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Word embeddings to the last layer's hidden states, `[tokens, width]`.

        With `rows`, numbers of tokens, the last layer computes only those: `[rows, width]`. `batch.starts` is the
        fastest choice: then it has one query a sequence.
        """
        hidden = embeddings + self.position(batch.positions) + self.segment(batch.segments)
        hidden = self.dropout(self.norm(hidden))
        for layer in self.layers[:-1]:
            hidden = layer(hidden, batch)
        last: Tensor = self.layers[-1](hidden, batch, rows)
        return last

    def pool(self, hidden: Tensor) -> Tensor:
        """Hidden states of [CLS] to text vectors, both `[sequences, width]`."""
        return F.tanh(self.pooler(hidden))

    def reset(self, module: nn.Module) -> None:
        """Give a part of the encoder fresh weights, drawn from torch's default generator."""
        for part in module.modules():
            initialise(part, self.config.initializer_range)


def initialise(module: nn.Module, std: float) -> None:
    """BERT's own initial weights: normal in linear layers and embeddings, biases 0, layer norms the identity."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        module.reset_parameters()
