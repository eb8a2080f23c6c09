"""Labels: read numbers as tables write them."""

import re


def whole(text: str, highest: int) -> float:
    value = number(text)  # the course writes a paraphrase as 1.0
    if value is None or not (value.is_integer() and 0 <= value <= highest):
        raise ValueError(f"a whole number from 0 to {highest}" if highest > 1 else "0 or 1")
    return value


def number(text: str) -> float | None:
    """Read a decimal number such as -1, 2.5 or 1e-05; None for other text, such as 1_0 or nan."""
    return float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) else None
