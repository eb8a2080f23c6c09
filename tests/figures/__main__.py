"""Draw all figures again: `python -m tests.figures`."""

from pathlib import Path

from tests.figures import loop

FOLDER = Path(__file__).parents[2] / "docs" / "figures"

if __name__ == "__main__":
    (FOLDER / "loop.svg").write_text(loop.draw(), encoding="utf8")
