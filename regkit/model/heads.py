"""Heads: turn text vectors into a task's output, for one text or a pair, read together or apart."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.model.bert import Encoder, initialise
from regkit.model.dropout import Dropout
from regkit.model.modes import in_full
from regkit.tasks.objectives import SCALE, MaskedWords, Objective, Ordinal, Regression
from regkit.tasks.task import Task

DISTANCE = 2.0  # of two thresholds at the start: in the middle between them, a class has a chance of 0.46


class Linear(nn.Module):
    """Dropout and one linear layer on the vector of the text, or of the pair read together.

    From `[examples, width]` to `[examples, outputs]`, or `[examples]` for one output. It is in float32 also where the encoder
    is in bf16: scores that lie close together would become one.
    """

    def __init__(self, width: int, objective: Objective, rate: float) -> None:
        super().__init__()
        self.dropout = Dropout(rate)
        outputs = 1 if isinstance(objective, Ordinal) else objective.width  # its thresholds are in no layer
        self.linear = nn.Linear(width, outputs)
        initialise(self.linear, 0.02)
        if isinstance(objective, Regression):  # begin in the middle of the scale, not at 0
            nn.init.constant_(self.linear.bias, SCALE / 2)

    def forward(self, vectors: Tensor) -> Tensor:
        output = in_full(self.linear, self.dropout(vectors))
        return output.squeeze(1) if output.shape[1] == 1 else output


class PairFeatures(Linear):
    """A linear layer on both vectors of a pair read apart, their distance and their product.

    From `[2 * examples, width]`, sides adjacent, to the shapes of `Linear` (Conneau et al., 2017).
    """

    def __init__(self, width: int, objective: Objective, rate: float) -> None:
        super().__init__(4 * width, objective, rate)

    def forward(self, vectors: Tensor) -> Tensor:
        first, second = vectors[0::2], vectors[1::2]
        return super().forward(torch.cat([first, second, (first - second).abs(), first * second], dim=1))


class Thresholds(nn.Module):
    """A head's score for each text, beside the thresholds of an ordinal task, which all texts share.

    From the input of the head below, which gives one output, to `[examples, classes - 1]` as `Ordinal` reads it: the bias of
    that head stands for the first threshold. Where a step moves every weight alike, as AdamW's, a score moves by the sum of
    many; so that thresholds keep up with it, their weights count by the root of the width.
    """

    def __init__(self, score: Linear, objective: Ordinal) -> None:
        super().__init__()
        self.score, self.lever = score, math.sqrt(score.linear.in_features)
        self.gaps = nn.Parameter(torch.full([objective.classes - 2], math.log(math.expm1(DISTANCE)) / self.lever))
        nn.init.constant_(score.linear.bias, DISTANCE * (objective.classes - 2) / 2)  # begin in the middle

    def forward(self, vectors: Tensor) -> Tensor:
        score: Tensor = self.score(vectors)
        gaps = (self.lever * self.gaps).expand(
            score.shape[0], -1
        )  # a graph of ONNX would keep the number that len gives
        return torch.cat([score[:, None], gaps], dim=1)


class Cosine(nn.Module):
    """The cosine of a pair's two vectors on the scale of a regression; it has no weights.

    A cosine of 0 is the low end of the scale, 1 the high end. From `[2 * examples, width]`, sides adjacent, to
    `[examples]`.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        return SCALE * F.cosine_similarity(vectors[0::2], vectors[1::2])


class WordPredictor(nn.Module):
    """The head that predicts masked words: a layer of its own, then the encoder's word embeddings.

    From `[predictions, width]` to logits, `[predictions, words]` (Devlin et al., 2019, A.1).
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        inner = encoder.word.embedding_dim
        self.transform = nn.Linear(encoder.width, inner)
        self.norm = nn.LayerNorm(inner, encoder.norm.eps)
        self.activation = encoder.activation
        self.bias = nn.Parameter(torch.zeros(encoder.word.num_embeddings))
        initialise(self.transform, 0.02)
        self._words = (encoder.word,)  # in a tuple, so that torch does not register it: its weight is the encoder's

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(self.norm(self.activation(self.transform(hidden))), self._words[0].weight, self.bias)


def head_for(task: Task, encoder: Encoder, rate: float) -> nn.Module:
    """Build the head that fits the task's pair mode and objective, with fresh weights."""
    if isinstance(task.objective, MaskedWords):
        return WordPredictor(encoder)
    if task.pair_mode == "bi_encoder" and isinstance(task.objective, Regression):
        return Cosine()
    form = PairFeatures if task.pair_mode == "bi_encoder" else Linear
    head = form(encoder.width, task.objective, rate)
    return Thresholds(head, task.objective) if isinstance(task.objective, Ordinal) else head
