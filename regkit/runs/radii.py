"""Radii: how far the attacks of `--robust` may move word embeddings.

They are in root mean squares of an example's embeddings.
"""

from regkit.base.errors import ConfigError

MOST = 1000.0  # far outside of all embeddings; beyond 1e20 a pass is no longer finite
RADII = (0.03, 0.1)  # one that a plain narrow encoder survives in part, and one that it does not


def read_radii(value: object, owner: str) -> tuple[float, ...]:
    """Read radii in order: a list of numbers above 0 and up to `MOST`, or a text that lists some.

    Raises ConfigError for none, one that is twice there, or another value.
    """
    given = value.split(",") if isinstance(value, str) else value
    try:
        found = sorted(map(_radius, given)) if isinstance(given, list | tuple) else []
    except (ValueError, OverflowError):  # no number, or a whole one of 400 digits
        found = []
    if not found or not all(0 < each <= MOST for each in found):
        raise ConfigError(f"{owner} is {value!r}; give numbers above 0, up to {MOST:g}, such as 0.03,0.1.")
    if len(set(found)) < len(found):
        raise ConfigError(f"{owner}: a radius is given twice; every attack has another one.")
    return tuple(found)


def attack_within(radius: float) -> str:
    """Name the attack of a radius."""
    return f"attack {radius}"


def _radius(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return float(value)
