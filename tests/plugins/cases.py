"""Tables of cases for tests of several parameters, most of them for the slow run."""

from collections.abc import Iterable
from typing import Any

import pytest

Row = tuple[Any, ...]


def table(rows: Iterable[Row], quick: Iterable[Row]) -> list[Any]:
    """Mark all rows but these as slow; as `tests.helpers.slow_but`, for rows of several values."""
    chosen = list(quick)
    return [pytest.param(*row, marks=() if row in chosen else pytest.mark.slow) for row in rows]
