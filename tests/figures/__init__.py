"""Figures: the pictures of the README and the docs, drawn by `python -m tests.figures` into docs/figures/."""
