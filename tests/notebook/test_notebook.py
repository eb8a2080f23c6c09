"""The example notebook runs from its first cell to its last, in a kernel of its own."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import write_encoder

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.mark.slow
def test_the_example_notebook_runs_and_says_what_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    for cell in notebook.cells:
        cell.source = cell.source.replace("steps=10", "steps=3")
    assert sum("steps=3" in cell.source for cell in notebook.cells) == 3
    notebook.cells.insert(0, nbformat.v4.new_code_cell(small_demo(tmp_path / "packages")))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "\n".join(text(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "read off label: classification with the classes no, yes" in shown
    assert "plugin calm (weight=0.3): answers extra_losses" in shown
    assert "(2, 16)" in shown
    assert "task 'film', train has 160 texts and 159 labels." in shown
    assert "step 3/3" not in shown, "the line of progress is removed at the end"
    assert list((tmp_path / "runs" / "data").iterdir())


def small_demo(folder: Path) -> str:
    """Write a tiny encoder in the form of the demo's package, and return what makes it the demo's: MiniLM takes a minute."""
    write_encoder(folder / "small" / "model")
    (folder / "small" / "__init__.py").touch()
    found = f"import sys; sys.path.insert(0, {str(folder)!r})"
    return f"{found}\nfrom regkit.model import encoders; encoders.DEMO_PACKAGE = 'small'"


def text(output: Any) -> str:
    return str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
