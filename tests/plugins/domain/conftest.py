"""A small corpus, as a file."""

from pathlib import Path

import pytest

from tests.plugins.domain.helpers import random_documents, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    return write_corpus(tmp_path / "corpus.txt", random_documents(24))
