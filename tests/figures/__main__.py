"""Draw the figures again: `python -m tests.figures [loop] [terminal]`; the second trains the demo, for minutes."""

import sys
from pathlib import Path

from tests.figures import loop, terminal

FOLDER = Path(__file__).parents[2] / "docs" / "figures"
TRAINING = ["-p", "smart", "-p", "rrobin"]
FIGURES = {"loop": loop.draw, "terminal": lambda: terminal.draw(TRAINING)}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        (FOLDER / f"{name}.svg").write_text(FIGURES[name](), encoding="utf8")
