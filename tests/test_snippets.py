"""Every Python snippet of the README and the docs runs, each page from top to bottom, as a reader would run it."""

import traceback
from collections.abc import Iterator
from doctest import ELLIPSIS
from pathlib import Path
from unittest.mock import patch

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from regkit.model import encoders
from tests.helpers import slow_but, write_encoder

ROOT = Path(__file__).parents[1]
SNIPPETS = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)])
PAGES = [page for page in sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")]) if "```python" in page.read_text()]
SLOW = {
    "README.md",
    "hf-trainer.md",
    "kinds.md",
    "notebook.md",
    "predicting.md",
    "sentence-transformers.md",
}  # they train runs


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder where a tiny model stands for the demo's and the example project is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples" / "regkit-cutoff")
    tiny = write_encoder(tmp_path / "tiny")
    with patch.object(encoders, "_demo", lambda: tiny):
        yield


@pytest.mark.usefixtures("somewhere")
@pytest.mark.parametrize(
    "page", slow_but(PAGES, [page for page in PAGES if page.name not in SLOW]), ids=lambda page: page.name
)
def test_the_snippets_of_a_page_run_one_after_the_other(page: Path) -> None:
    """In one test a page, since the names of a snippet are there for the next."""
    for example in SNIPPETS.parse(page).examples():
        try:
            example.evaluate()
        except Exception as error:  # pytest would look for Python in the page's text, for minutes
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(page)]
            line = frames[0].lineno if frames else example.line
            pytest.fail(f"{page}:{line}: {type(error).__name__}: {error}", pytrace=False)
