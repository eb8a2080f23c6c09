"""Wording: write numbers and the texts of others as people read them."""

from collections.abc import Sequence

UNITS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 10**3}


def percent(share: float) -> str:
    """Write a share in percent, with two digits where it is small: `0.31`, `7.5`, `100`."""
    return f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.0f}"


def in_bytes(size: float) -> str:
    """Write a number of bytes in the largest unit that it fills."""
    unit, count = next(((unit, count) for unit, count in UNITS.items() if size >= 0.9995 * count), ("bytes", 1))
    return f"{size:.0f} bytes" if unit == "bytes" else f"{size / count:.3g} {unit}"


def enumerated(names: Sequence[str]) -> str:
    """Write names one after the other: `a`, `a and b`, `a, b and c`."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def in_time(seconds: float) -> str:
    """Write a time as hours, minutes and seconds: `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def printable(text: str) -> str:
    """Write out control characters, such as those that command a terminal, as Python does in a string."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
