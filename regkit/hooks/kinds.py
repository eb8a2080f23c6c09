"""Kinds: tell what a plugin is for - a regularizer, a scheduler - by the hooks that it answers."""

from collections.abc import Mapping
from typing import NamedTuple

from regkit.hooks.following import LOG

REPORTERS, OTHERS = "reporters", "optimization"
ATTRIBUTE = "kind"  # of a plugin's class: the kind, where its hooks do not tell


class Sign(NamedTuple):
    """Hold what tells a kind: the hooks of which one is answered, or wrapped."""

    answered: frozenset[str]
    wrapped: frozenset[str] = frozenset()


LOSS = frozenset({"extra_losses", "augment", "embed", "encode", "predict"})
SIGNS = {  # the first that holds
    "stages": Sign(frozenset({"tasks", "stages"})),
    "schedulers": Sign(frozenset({"choose_tasks", "epoch_steps"})),
    "surgery": Sign(frozenset({"combine_gradients"})),
    "regularizers": Sign(LOSS | {"task_loss"}, LOSS),
    "weighting": Sign(frozenset(), frozenset({"task_loss", "combine_gradients"})),
}
KINDS = ("regularizers", "stages", OTHERS, "schedulers", "surgery", "weighting", REPORTERS)  # as they are listed


def kind_of(hooks: Mapping[str, str], declared: object = None) -> str:
    """Tell the kind of a plugin by its hooks and the role in each, `answer` or `wrapper`.

    One that its class declares goes before. What fits no other kind acts on the weights or their optimizer.
    """
    if declared in KINDS:
        return str(declared)
    if hooks and hooks.keys() <= set(LOG):
        return REPORTERS
    answered, wrapped = ({hook for hook, role in hooks.items() if role == each} for each in ("answer", "wrapper"))
    found = (kind for kind, sign in SIGNS.items() if answered & sign.answered or wrapped & sign.wrapped)
    return next(found, OTHERS)
