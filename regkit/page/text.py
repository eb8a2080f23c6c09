"""Text: make what others wrote fit for a page - every sign is shown, and none commands."""

import unicodedata

COMMANDS = {"Cc", "Cs"}  # control characters, and halves of characters, which no file can hold
TURNS = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}  # the direction of what follows
LONG = 600  # characters of a text that are shown


def visible(text: str) -> str:
    """Write control characters by their numbers: `[U+202E]`.

    So are those that turn the direction of the text. What only joins others, as in an emoji of several persons, stays.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"[U+{ord(sign):04X}]" if _commands(sign) else sign for sign in text)


def _commands(sign: str) -> bool:
    return sign in TURNS or (sign not in "\n\t" and unicodedata.category(sign) in COMMANDS)


def excerpt(text: str, most: int = LONG) -> str:
    """Cut a long text, and say how long it is."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\N{HORIZONTAL ELLIPSIS} ({len(text):,} characters)"
