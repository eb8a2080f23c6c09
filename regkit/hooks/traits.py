"""Traits: read what a plugin says of itself by attributes of its class."""

from collections.abc import Mapping


def strengths(plugin: object) -> Mapping[str, float]:
    """List the options that set how strongly a plugin acts, each with the value at which it does nothing.

    They are those of its class attribute `neutral`, or else `weight` at 0.
    """
    found: Mapping[str, float] | None = getattr(plugin, "neutral", None)
    if found is None:
        return {"weight": 0.0} if hasattr(plugin, "weight") else {}
    return found


def radius(plugin: object) -> float | None:
    """Read how small the perturbation in a plugin's passes is, from `radius`.

    It is in units of the RMS of word embeddings. None for a plugin that has none, or whose options make it do nothing.
    """
    if any(getattr(plugin, name, None) == value for name, value in strengths(plugin).items()):
        return None
    found = getattr(plugin, "radius", None)
    return found if isinstance(found, float) else None


def is_scaled(plugin: object, term: str) -> bool:
    """Whether the option `weight` of a plugin scales one of its terms.

    It scales all, or those in its class attribute `scaled`.
    """
    return term in getattr(plugin, "scaled", (term,))


def needs_whole_batches(plugin: object) -> bool:
    """Whether a plugin compares the examples of a batch, which then must not be cut: `whole_batches`."""
    return bool(getattr(plugin, "whole_batches", False))
