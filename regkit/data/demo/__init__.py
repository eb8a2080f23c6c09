"""Demo data: generate three small English tasks from a grammar, for runs that name no data.

A row begins as a meaning (an opinion, or who did what to whom). Speakers put it into words, each with habits of its
own, and the label is computed from the meaning, never from the words:

    for draw in (Chooser("paraphrase/0"), Chooser("paraphrase/1"), ...):
        event   = Event(agent="doctor/physician", action="thank thanked", other="nurse/carer", ...)
        changed = swap_roles(event)
        first.say(event), second.say(event)    -> 1   # The doctor thanked the nurse. The carer was thanked by ...
        first.say(event), second.say(changed)  -> 0   # The doctor thanked the nurse. The physician was thanked by ...

Many draws yield such twins, the same words with another label: counting words does not solve these tasks. The tests
say by how much it fails.

The words are in `words`, the grammar in `opinions` (sentiment) and `events` (paraphrase and similarity); here each
task's examples are drawn, divided among the splits and written as tables.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from typing import NamedTuple

from regkit.data.demo.choice import Chooser, Example
from regkit.data.demo.events import paraphrase, similarity
from regkit.data.demo.opinions import sentiment

__all__ = ["SETTINGS", "SIZES", "TASKS", "table"]

TASKS: tuple[str, ...] = ("sentiment", "paraphrase", "similarity")
SIZES: dict[str, int] = {"train": 300, "dev": 200, "test": 200}  # multiples of 10, so that classes are equal in size
SETTINGS: dict[str, float] = {"learning_rate": 1e-4}  # the demo's encoder is small; a BERT-base needs less


class Recipe(NamedTuple):
    """How a task's examples are drawn, what its columns are called, and how many classes they have."""

    draw: Callable[[Chooser], Iterator[Example]]
    columns: tuple[str, ...]
    classes: int  # equal in size; of similarity these are the ranges 0 to 1, 1 to 2, .. 4 to 5


RECIPES: dict[str, Recipe] = {
    "sentiment": Recipe(sentiment, ("sentence", "sentiment"), 5),
    "paraphrase": Recipe(paraphrase, ("sentence1", "sentence2", "is_duplicate"), 2),
    "similarity": Recipe(similarity, ("sentence1", "sentence2", "similarity"), 5),
}


@cache
def _examples(task: str) -> dict[str, list[Example]]:
    """Draw all splits, the held-out ones first, so that these do not change when the training set grows.

    They are drawn once, for the first table; a later change of `SIZES` has no effect.
    """
    draws = (list(RECIPES[task].draw(Chooser(f"{task}/{number}"))) for number in count())
    seen: set[str] = set()
    return {split: _fill(draws, RECIPES[task].classes, SIZES[split], seen) for split in ("test", "dev", "train")}


def _fill(draws: Iterator[list[Example]], classes: int, size: int, seen: set[str]) -> list[Example]:
    """Draw `size` examples, the same number of each class.

    Draws with a sentence that was `seen` before are left out, so that a sentence belongs to one draw and to one split.
    """
    room = [size // classes] * classes  # left in each class
    taken: list[Example] = []
    while any(room):
        examples = next(draws)
        sentences = {text for example in examples for text in example.texts}
        if sentences & seen or any(len(set(example.texts)) < len(example.texts) for example in examples):
            continue
        seen |= sentences
        for example in examples:
            kind = min(int(example.label), classes - 1)
            if room[kind]:
                room[kind] -= 1
                taken.append(example)
    return taken


def table(task: str, split: str) -> list[dict[str, str]]:
    """Return the rows of one split, with the column names of the course's files.

    All values are strings, like those of a CSV reader.
    """
    rows: list[dict[str, str]] = []
    for texts, label in _examples(task)[split]:
        values = (*texts, f"{label:.1f}" if task == "similarity" else str(int(label)))
        name = hashlib.sha256("|".join(values).encode()).hexdigest()[:12]
        rows.append({"id": name, **dict(zip(RECIPES[task].columns, values, strict=True))})
    return sorted(rows, key=lambda row: row["id"])  # twins are drawn side by side; this separates them
