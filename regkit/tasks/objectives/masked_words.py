"""Masked words: which words a text has where the encoder cannot see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regkit.tasks.batch import Batch
from regkit.tasks.labels import whole
from regkit.tasks.objectives.checks import check_metric
from regkit.tasks.objectives.numbers import kl_both_ways, wide
from regkit.tasks.objectives.objective import Scores
from regkit.tasks.scores import SCORES, Metric


@dataclass(frozen=True)
class MaskedWords:
    """Which words were masked, labelled by their ids (Devlin et al., 2019).

    The output is logits, `[masked words, words]`. The mean is over masked words, not over texts.
    """

    words: int
    metric: str = field(default="accuracy", repr=False)
    kind: ClassVar[str] = "masked words"
    scores: ClassVar[Mapping[str, Metric]] = SCORES[kind]
    label_type: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        check_metric(self.kind, self.metric)

    @property
    def width(self) -> int:
        return self.words

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(wide(output), labels, reduction="sum") / max(len(labels), 1)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        return kl_both_ways(output, other).sum() / max(len(output), 1)

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Compute the log-probability of each word, `[masked words, words]`."""
        return wide(output).log_softmax(-1)

    def prediction(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        """Count each example's masked words, add up their losses and count the correct ones: `[examples, 3]`.

        The logits of a whole split would fill memory.
        """
        assert batch.labels is not None
        assert batch.targets is not None
        losses = F.cross_entropy(wide(output), batch.labels, reduction="none")
        found = torch.stack([torch.ones_like(losses), losses, (self.prediction(output) == batch.labels).float()], dim=1)
        sums = found.new_zeros(len(batch), 3)
        return sums.index_add(0, batch.example_of[batch.targets], found)

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        masked, loss, found = evidence.double().sum(0).tolist()
        loss /= max(masked, 1)
        with np.errstate(over="ignore"):  # it may be infinite
            perplexity = float(np.exp(loss))
        return {"accuracy": found / max(masked, 1), "perplexity": perplexity, "loss": loss}

    def label(self, text: str) -> float:
        return whole(text, self.words - 1)

    def text(self, label: float) -> str:
        return str(int(label))
