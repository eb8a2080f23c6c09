"""What tests of domain pretraining share: small corpora, datasets, and checks of what is drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from regkit_plugins.domain import Domain
from regkit_plugins.domain.corpus import TokenCache
from regkit_plugins.domain.masking import MaskedTexts, Words
from regkit_plugins.domain.pairs import Pairs
from scipy.stats import binomtest, chisquare
from torch import Tensor

from regkit import Classification, MaskedWords, Streams, Task
from regkit.hooks.compose import compose
from regkit.hooks.defaults import Defaults
from regkit.model import Bert, MultitaskModel
from regkit.model.families import FOLLOWS, WORDS
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.batch import Batch
from regkit.tasks.task import Stage
from regkit.testing import TINY, tiny_tokenizer
from regkit.training.passes import Passes
from regkit.training.update import Update
from tests.helpers import SPECIAL

Documents = Sequence[Sequence[Sequence[int]]]
MLM, NSP = MaskedWords(TINY.vocab_size), Classification(2)
STEPS = 5  # of the domain stage, in runs


def random_documents(documents: int = 12, *, seed: int = 0, most: int = 6, longest: int = 14) -> list[list[list[int]]]:
    """Documents of 2 to `most` passages of 1 to `longest` tokens that are not special."""
    random = np.random.default_rng(seed)
    sizes = [random.integers(1, longest + 1, random.integers(2, most + 1)) for _ in range(documents)]
    return [[random.integers(len(SPECIAL), TINY.vocab_size, size).tolist() for size in each] for each in sizes]


def write_corpus(path: Path, documents: Documents) -> str:
    """As text whose tokens these are, with blank lines between documents."""
    texts = ("\n".join(" ".join(str(token - len(SPECIAL)) for token in each) for each in one) for one in documents)
    path.write_text("\n\n".join(texts) + "\n", encoding="utf8")
    return str(path)


def words(share: float = 0.15, whole: bool = False, tokenizer: Tokenizer | None = None) -> Words:
    tokenizer = tokenizer or tiny_tokenizer()
    return Words(tokenizer, len(tokenizer), share, whole)


def masked(documents: Documents, *, room: int = TINY.max_position_embeddings, share: float = 0.15) -> MaskedTexts:
    return MaskedTexts(TokenCache.of(documents), words(share), room)


def pairs(documents: Documents, *, room: int = TINY.max_position_embeddings) -> Pairs:
    return Pairs(TokenCache.of(documents), tiny_tokenizer(), room)


def tokens_of(dataset: Any) -> list[list[int]]:
    """Every sequence of a corpus's texts, without special tokens, unmasked."""
    return [dataset.sequence(row)[1:-1].tolist() for row in range(len(dataset))]


def heads(documents: Documents, **changes: Any) -> MultitaskModel:
    """A tiny model with both heads, with biases that a fresh one does not have."""
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = MultitaskModel(Bert(replace(TINY, **rates, **changes)), both(documents), Streams(0), dropout=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def both(documents: Documents) -> list[Task]:
    return [
        Task("mlm", MLM, {"train": masked(documents, room=30, share=0.4)}, head_names=WORDS),
        Task("nsp", NSP, {"train": pairs(documents, room=30)}, "cross_encoder", head_names=FOLLOWS),
    ]


def gradients(model: MultitaskModel, task: Task, parts: Sequence[Batch]) -> Tensor:
    """The loss of a batch in parts; its gradient is left in the model."""
    hook = compose({}, Defaults([task], Stage("domain", [task.name])), Streams(0)).hook
    model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    update = Update(Passes(model, hook, Streams(0)), optimizer, [(task, parts)])
    update.compute()
    return update.losses[task.name]["task"]


def likely(times: int, of: int, share: float) -> None:
    """Raise AssertionError for an unlikely count; a right version fails once in 10000 times."""
    assert binomtest(int(times), int(of), share).pvalue > 1e-4, f"{times / of} instead of {share}"


def uniform(counts: Sequence[int] | np.ndarray) -> None:
    assert chisquare(np.asarray(counts)).pvalue > 1e-4


def domain(corpus: str, **options: Any) -> Domain:
    return Domain(corpus, **{"steps": STEPS, "batch_size": 4, "held_out": 4, "learning_rate": 1e-2, **options})
