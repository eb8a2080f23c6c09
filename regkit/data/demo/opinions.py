"""Opinions: put reviews into words and compute their sentiment, for the sentiment task.

A speaker is a `Chooser` here: it picks the adverb of a degree and the pattern of a clause.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from regkit.data.demo.choice import Chooser, Example
from regkit.data.demo.words import DEGREES, GENERAL, TOPICS, Topic, join, sentence

CLAIMS: dict[int, tuple[str, ...]] = {  # by denial; the last for 0 is a double negation, which denies nothing
    0: ("{it} was {so}", "I found {it} {so}", "{it} turned out to be {so}", "{it} seemed {so} to me",
        "I can't deny that {it} was {so}"),
    1: ("{it} was not {so}", "{it} wasn't {so}", "{it} was hardly {so}", "{it} was never {so}",
        "{it} was far from {so}", "I didn't find {it} {so}"),
    2: ("{it} was not at all {so}", "{it} was anything but {so}", "{it} was by no means {so}",
        "I did not find {it} {so} in the least"),
}  # fmt: skip

CONTRASTS = (
    "{granted}, but {main}", "{granted}, yet {main}", "{granted}; nevertheless {main}",
    "although {granted}, {main}", "{main}, although {granted}", "{main}, even if {granted}",
    "despite the fact that {granted}, {main}", "{main}, despite the fact that {granted}",
    "my brother says that {granted}; I say that {main}", "I say that {main}; my brother says that {granted}",
)  # fmt: skip
BALANCES = ("{main} and {granted}", "{main}; on the other hand, {granted}")


@dataclass(frozen=True)
class Claim:
    """A claim about an aspect: "the soup at the bistro" was "slightly bland", or was "not superb"."""

    aspect: str
    word: str
    strength: int  # of the word, -2 to 2
    degree: int = 0  # 1 with an intensifier ("utterly"), -1 with a downtoner ("slightly")
    denial: int = 0  # 1 denied ("not"), 2 denied outright ("by no means")

    @property
    def value(self) -> int:
        """The sentiment, from -2 to 2.

        A degree moves a word away from neutral or towards it; a denial reverses it, whatever its strength.
        """
        sign = (self.strength > 0) - (self.strength < 0)
        if self.denial:
            return -sign * self.denial
        return sign * max(0, min(2, abs(self.strength) + self.degree))

    def say(self, speaker: Chooser) -> str:
        """Put the claim into a clause."""
        degree = speaker.pick(DEGREES[self.degree], self.word) if self.degree else ""
        return speaker.pick(CLAIMS[self.denial], self.aspect).format(it=self.aspect, so=join(degree, self.word))


@dataclass(frozen=True)
class Review:
    """One claim, or two.

    What is granted ("although {granted}, {main}") does not count, unless the two are balanced.
    """

    main: Claim
    granted: Claim | None = None
    balanced: bool = False

    @property
    def value(self) -> int:
        """The sentiment, from -2 to 2."""
        if self.granted and self.balanced:
            return (self.main.value + self.granted.value) // 2
        return self.main.value

    def say(self, speaker: Chooser) -> str:
        """Put the review into a sentence."""
        if self.granted is None:
            return sentence(self.main.say(speaker))
        frame = speaker.pick(BALANCES if self.balanced else CONTRASTS, "frame")
        return sentence(frame.format(main=self.main.say(speaker), granted=self.granted.say(speaker)))


def _claim(draw: Chooser, topic: Topic, aspect: str) -> Claim:
    strength = draw.pick((-2, -1, -1, 0, 1, 1, 2), "strength")
    word = draw.pick(GENERAL[strength] + topic.words.get(strength, ()), "word")
    if strength == 0:
        return Claim(aspect, word, strength)
    degree, denial = draw.pick(((0, 0), (1, 0), (-1, 0), (0, 1), (0, 2)), "degree and denial")
    return Claim(aspect, word, strength, degree, denial)


def _reviews(draw: Chooser) -> tuple[Review, ...]:
    """Draw a plain or balanced review, or a contrast and its twin; some draws give none.

    The twin has the same claims with their parts exchanged: it grants what the first holds.
    """
    topic = draw.pick(TOPICS, "topic")
    aspect, another = draw.pick(topic.aspects, "aspect"), draw.pick(topic.aspects, "another")
    main = _claim(draw.fork("main"), topic, f"the {aspect} {draw.pick(topic.places, 'place')}")
    granted = _claim(draw.fork("granted"), topic, f"the {another}")
    shape = draw.pick(("plain", "contrast", "contrast", "contrast", "balance"), "shape")
    if shape == "plain":
        return (Review(main),)
    if shape == "contrast" and aspect != another and main.value * granted.value < 0:
        return Review(main, granted), Review(granted, main)
    if (
        shape == "balance" and aspect != another and abs(main.value) == abs(granted.value)
    ):  # otherwise the sentiment is debatable
        return (Review(main, granted, balanced=True),)
    return ()


def sentiment(draw: Chooser) -> Iterator[Example]:
    """Draw reviews with their sentiment, from 0 (blame) to 4 (praise); some draws give none."""
    for review in _reviews(draw):
        yield Example((review.say(draw.fork("speaker")),), review.value + 2)
