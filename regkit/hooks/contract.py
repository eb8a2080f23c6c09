"""Contract: the version of the hooks, and whether a plugin was built for it.

The first number grows with a change that a plugin may break on, the second with an addition. docs/contract.md lists what
the version covers. None of it needs torch.
"""

import re

from regkit.base.errors import PluginError, short

CONTRACT = "1.0"
ATTRIBUTE = "contract"  # of a plugin's class: the version that it was built for


def check(name: str, built_for: object) -> None:
    """Raise PluginError if a plugin was built for a contract that this regkit does not keep.

    None says nothing, and passes.
    """
    if built_for is None:
        return
    if not (isinstance(built_for, str) and re.fullmatch(r"[0-9]+\.[0-9]+", built_for)):
        raise PluginError(
            f"plugin '{name}': its {ATTRIBUTE} is {short(repr(built_for))}; text is needed, '{CONTRACT}'."
        )
    theirs, ours = _numbers(built_for), _numbers(CONTRACT)
    if theirs[0] == ours[0] and theirs <= ours:
        return
    remedy = "update regkit" if theirs > ours else "update the plugin, or install an older regkit"
    raise PluginError(
        f"plugin '{name}' was built for contract {built_for} of regkit, and this regkit has {CONTRACT}; {remedy}."
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
