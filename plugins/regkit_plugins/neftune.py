"""NEFTune: add uniform noise to the word embeddings of every training text (Jain et al., ICLR 2024).

Equation 1 of arXiv 2310.05914: noise in [-1, 1] times alpha / sqrt(L d), with L the number of tokens of the text and d the
width. Evaluation and teachers use no noise.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from regkit import Batch, NonNegative, Tuned, hookimpl


@dataclass
class NEFTune:
    alpha: Annotated[NonNegative, Tuned(0.1, 5, log=True)] = 1.0
    """Size of the noise; the paper tries 5, 10 and 15, on models and texts some ten times wider and longer."""

    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0.0}

    @hookimpl(wrapper=True)
    def embed(self, batch: Batch) -> Generator[None, Tensor, Tensor]:
        embeddings = yield
        if not self.alpha:
            return embeddings
        tokens = batch.counts[batch.sequence_of].to(embeddings.dtype)  # [tokens]: the length of each token's text
        size = self.alpha / (tokens * embeddings.shape[1]).sqrt()
        return embeddings + size[:, None] * batch.noise(embeddings, "neftune", "uniform")
