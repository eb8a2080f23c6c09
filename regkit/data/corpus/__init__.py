"""Corpus: text of any size as passages of token ids, for a stage that is trained without labels."""

from regkit.data.corpus.build import cache_root, load_corpus
from regkit.data.corpus.cache import TokenCache
from regkit.data.corpus.documents import Corpus, read_documents
from regkit.data.corpus.leaks import Leaks, find_leaks
from regkit.data.corpus.sources import HUB

__all__ = ["HUB", "Corpus", "Leaks", "TokenCache", "cache_root", "find_leaks", "load_corpus", "read_documents"]
