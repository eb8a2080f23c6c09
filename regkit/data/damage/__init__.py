"""Damage: change texts by typing errors and other words, so that what they say stays the same.

A label holds for the changed text as well, and what a model loses on it is what it is not robust to.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from regkit.data.damage.keys import NEIGHBOURS
from regkit.data.damage.thesaurus import OTHERS

WORD = re.compile(r"[^\W\d_]+")
MISSPELT = 0.1  # share of the words that are long enough
REPLACED = 0.5  # share of the words for which there is another
LONG = 4  # letters of a word in which a typing error leaves enough to read

Change = Callable[[str, random.Random], str]


def typos(text: str, drawn: random.Random) -> str:
    """Misspell a tenth of the words of four letters or more, and at least one.

    Each gets one error inside the word. Two letters change places, one is left out or twice there, or a neighbour on the
    keyboard is hit (the four errors of Pruthi et al., 2019, section 2); the first and the last letter stay.
    """
    return _changed(text, lambda word: len(word) >= LONG, MISSPELT, drawn, _misspelt)


def synonyms(text: str, drawn: random.Random) -> str:
    """Put other words of the same meaning in the place of half of those that the thesaurus has.

    At least one is changed.
    """
    return _changed(text, lambda word: word.lower() in OTHERS, REPLACED, drawn, _replaced)


CHANGES: Mapping[str, Change] = {"typos": typos, "synonyms": synonyms}


def damaged(texts: Sequence[tuple[str, ...]], ids: Sequence[str], change: Change) -> list[tuple[str, ...]]:
    """Change the texts of examples, one each or two.

    An example is always changed in the same way, by its name.
    """
    found = []
    for sides, name in zip(texts, ids, strict=True):
        drawn = random.Random(f"{change.__name__} {name}")
        found.append(tuple(change(text, drawn) for text in sides))
    return found


def _changed(
    text: str,
    fits: Callable[[str], bool],
    share: float,
    drawn: random.Random,
    change: Callable[[str, random.Random], str],
) -> str:
    words = [found for found in WORD.finditer(text) if fits(found[0])]
    count = min(max(round(share * len(words)), 1), len(words))
    for found in sorted(drawn.sample(words, count), key=lambda each: each.start(), reverse=True):  # the last one first
        text = text[: found.start()] + change(found[0], drawn) + text[found.end() :]
    return text


def _misspelt(word: str, drawn: random.Random) -> str:
    place = drawn.randrange(1, len(word) - 1)
    letter, following = word[place], word[place + 1]
    ways = [letter + letter + following, following]
    ways += [following + letter] if place + 2 < len(word) and letter != following else []
    if near := NEIGHBOURS.get(letter.lower()):
        ways.append(drawn.choice(near) + following)
    return word[:place] + drawn.choice(ways) + word[place + 2 :]


def _replaced(word: str, drawn: random.Random) -> str:
    other = drawn.choice(OTHERS[word.lower()])
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
