"""Corpus: read text of any size as passages of token ids, for a stage that is trained without labels."""

from regkit_plugins.domain.corpus.build import load_corpus
from regkit_plugins.domain.corpus.cache import TokenCache
from regkit_plugins.domain.corpus.documents import Corpus, read_documents
from regkit_plugins.domain.corpus.leaks import WINDOW, Leaks, find_leaks
from regkit_plugins.domain.corpus.sources import HUB

__all__ = [
    "HUB",
    "WINDOW",
    "Corpus",
    "Leaks",
    "TokenCache",
    "find_leaks",
    "load_corpus",
    "read_documents",
]
