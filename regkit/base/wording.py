"""Wording: write numbers as people read them."""


def percent(share: float) -> str:
    """Write a share in percent, with two digits where it is small: `0.31`, `7.5`, `100`."""
    return f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.0f}"
