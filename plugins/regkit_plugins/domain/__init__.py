"""Domain: predict masked words and next passages on text of the domain first (Sun et al., 2019).

It adds a stage with two tasks before fine-tuning. `mlm` predicts 15 % of the words; of these 80 % are masked, 10 % become
another word and 10 % stay (Devlin et al., NAACL 2019, section 3.1 and appendix A.1). `nsp` predicts whether the second
passage follows the first in its document or is from another document. Masks and second passages are drawn anew every epoch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from regkit import (
    Classification,
    Count,
    Dataset,
    Encoder,
    MaskedWords,
    PluginError,
    Positive,
    Split,
    Stage,
    Task,
    Tokenizer,
    Tuned,
    derive,
    hookimpl,
)
from regkit_plugins.domain.corpus import HUB, WINDOW, Corpus, TokenCache, find_leaks, load_corpus
from regkit_plugins.domain.masking import MaskedTexts, Words
from regkit_plugins.domain.pairs import Pairs

STAGE = "domain"
MOST_SCORED = 500  # largest number of held-out documents, if it is given as a share
Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclass
class Domain:
    corpus: str
    """A file, a folder or a glob of text, JSON lines, tables or Parquet, hub:NAME, or `tasks`: the run's training texts."""
    epochs: Count = 1
    """Passes over the corpus."""
    steps: Count | None = None
    """Number of updates, instead of epochs."""
    learning_rate: Annotated[Positive, Tuned(1e-5, 5e-4, log=True)] = 5e-5
    """Peak learning rate of the stage."""
    batch_size: Count = 32
    """Sequences per update."""
    length: Annotated[int, Field(ge=8)] = 128
    """Largest number of tokens in a sequence."""
    mask: Annotated[Fraction, Tuned(0.1, 0.4)] = 0.15
    """Fraction of the tokens that are predicted."""
    whole_words: Annotated[bool, Tuned()] = False
    """Mask all pieces of a word, or none of them."""
    nsp: bool | None = None
    """Predict next passages too; by default if the corpus has two documents of two passages."""
    held_out: Positive = 0.01
    """Documents that are scored, not trained on: a number, or a share below 1 (then from 2 to 500)."""
    leaks: Literal["keep", "drop"] = "keep"
    """Passages that hold a text of a dev or test split: keep and count them, or drop them."""
    documents: Literal["auto", "lines", "files", "blank", "tags"] = "auto"
    """What forms a document: a line, a file, or the text between blank lines or <doc> tags."""
    text: str = "text"
    """Field that holds the text in JSON lines, tables, Parquet and Hub data sets."""
    errors: Literal["strict", "replace"] = "strict"
    """At bytes that are not UTF-8: stop, or replace them."""
    names: list[str] = field(init=False, repr=False, default_factory=list)  # of the stage's tasks

    def __post_init__(self) -> None:
        if self.corpus != "tasks" and not self.corpus.startswith(HUB):  # a run may be resumed from another folder
            self.corpus = str(Path(self.corpus).expanduser().absolute())
        if self.steps is not None and self.epochs != 1:
            raise PluginError(
                "'domain' has epochs and steps, and either says how long it trains; leave one of them out."
            )

    @hookimpl
    def tasks(self, given: Sequence[Task], tokenizer: Tokenizer, encoder: Encoder) -> list[Task]:
        cache = self._cache(given, tokenizer)
        notes = list(cache.notes)
        if self.corpus != "tasks":
            cache = self._without_leaks(cache, given, tokenizer, notes)
        least = 2 if len(cache) > 3 else 1  # a pair needs another document
        few = min(max(least, round(self.held_out * len(cache))), MOST_SCORED) if self.held_out < 1 else self.held_out
        parts = cache.held_out(few, derive(0, STAGE))
        room = min(self.length, encoder.longest)
        words = Words(tokenizer, encoder.word.num_embeddings, self.mask, self.whole_words)
        if not words.any_in(cache.tokens):
            raise PluginError(f"'domain' finds no word in {self.corpus} that the encoder's tokenizer knows.")
        masked: list[Dataset] = [MaskedTexts(part, words, room) for part in parts]
        splits: dict[Split, Dataset] = dict(zip(("train", "dev"), masked, strict=True))
        tasks = [
            Task("mlm", MaskedWords(words.count), splits, None, self.batch_size, encoder.head_names["words"], notes)
        ]
        pairs = [Pairs(part, tokenizer, room) for part in parts]
        short = f"{sum(pair.short for pair in pairs)} of {len(cache)} documents have no two passages, and give no pair."
        possible = all(len(pair) and len(pair.cache) > 1 for pair in pairs)
        if self.nsp and not possible:
            raise PluginError(
                f"'domain' finds no pairs of passages to train and to score: {short} "
                "Hold out more with domain:held_out=NUMBER, or use domain:nsp=false."
            )
        if self.nsp or (self.nsp is None and possible):
            halves: dict[Split, Dataset] = dict(zip(("train", "dev"), pairs, strict=True))
            follows = Classification(2, ("follows", "from_another_document"))
            tasks.append(
                Task(
                    "nsp",
                    follows,
                    halves,
                    "cross_encoder",
                    self.batch_size,
                    encoder.head_names["follows"],
                    [short],
                    "pooler" if hasattr(encoder, "pool") else None,
                )
            )
        self.names = [task.name for task in tasks]
        return tasks

    @hookimpl
    def stages(self) -> list[Stage]:
        return [Stage(STAGE, self.names, self.epochs, self.steps, self.learning_rate)]

    def _cache(self, given: Sequence[Task], tokenizer: Tokenizer) -> TokenCache:
        if self.corpus == "tasks":
            if not given:
                raise PluginError("'domain' has no tasks whose texts it could read; name a corpus, or --data.")
            texts = {text.tobytes(): text for task in given for text in texts_of(task, ["train"], tokenizer)}
            return TokenCache.of([[text] for text in texts.values()])
        corpus = Corpus(self.corpus, documents=self.documents, field=self.text, errors=self.errors)
        return load_corpus(corpus, tokenizer)

    def _without_leaks(
        self, cache: TokenCache, given: Sequence[Task], tokenizer: Tokenizer, notes: list[str]
    ) -> TokenCache:
        scored = {task.name: searched(texts_of(task, ["dev", "test"], tokenizer), tokenizer) for task in given}
        leaks = find_leaks(cache, scored)
        for name, found in leaks.texts.items():
            if len(found):
                notes.append(
                    f"{len(found)} of {len(scored[name])} dev and test texts of task {name} are in the corpus."
                )
        if not len(leaks.passages):
            return cache
        if self.leaks == "keep":
            notes.append(f"They are in {len(leaks.passages)} passages, which are kept; domain:leaks=drop drops them.")
            return cache
        notes.append(f"The {len(leaks.passages)} passages that hold them are dropped.")
        return cache.without(leaks.passages)


def texts_of(task: Task, splits: Sequence[str], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Yield the token ids of each text of a task, without special tokens; a pair gives both its texts."""
    for split in splits:
        examples: Any = task.splits.get(split)  # type: ignore[call-overload]
        if examples is None:
            continue
        for start, end in zip(examples.offsets[:-1], examples.offsets[1:], strict=True):
            tokens, second = examples.tokens[start:end], int(np.searchsorted(examples.segments[start:end], 1))
            yield from (np.asarray(text) for text in tokenizer.split(tokens, second))


def searched(texts: Iterable[np.ndarray], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Choose the tokens to look for of each text: all, or all but the first of a long text.

    In a byte-level tokenizer the first token is another where a space stands before it, as it does within a passage.
    """
    alone, after_space = tokenizer.encode(["a", " a"])
    return [text[1:] if alone != after_space and len(text) > WINDOW else text for text in texts]
