"""Wording: write numbers and the texts of others as people read them."""


def percent(share: float) -> str:
    """Write a share in percent, with two digits where it is small: `0.31`, `7.5`, `100`."""
    return f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.0f}"


def printable(text: str) -> str:
    """Write out control characters, such as those that command a terminal, as Python does in a string."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
