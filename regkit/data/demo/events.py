"""Events: put into words who did what to whom, for the paraphrase and similarity tasks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from regkit.data.demo.choice import Chooser, Example
from regkit.data.demo.words import DEEDS, NUMBERS, SCENES, TIMES, TRAITS, TRANSFERS, join, sentence


@dataclass(frozen=True)
class Event:
    """Who did what to whom, in concepts (see `words`). Some are empty: thanking somebody takes no things."""

    scene: str
    agent: str
    agent_trait: str
    action: str
    other: str
    other_trait: str
    number: str  # of the things
    things: str
    place: str
    time: str
    negated: bool
    asked: bool  # put as a question


def _event(scene_name: str, frame: Chooser, draw: Chooser) -> Event:
    """Draw an event: `frame` decides which parts it has, `draw` what they are.

    So events of one frame differ only in content.
    """
    scene, transfer = SCENES[scene_name], frame.chance(40, "transfer")
    agent = draw.pick(scene.people, "agent")

    def maybe(options: Sequence[str], percent: int, about: str) -> str:
        return draw.pick(options, about) if frame.chance(percent, about) else ""

    return Event(
        scene=scene_name,
        agent=agent,
        agent_trait=maybe(TRAITS, 30, "agent trait"),
        action=draw.pick(TRANSFERS if transfer else DEEDS + scene.deeds * 2, "action"),
        other=draw.pick([person for person in scene.people if person != agent], "other"),
        other_trait=maybe(TRAITS, 30, "other trait"),
        number=draw.pick(NUMBERS, "number") if transfer else "",
        things=draw.pick(scene.things, "things") if transfer else "",
        place=maybe(scene.places, 55, "place"),
        time=maybe(TIMES, 55, "time"),
        negated=draw.chance(30, "negated"),
        asked=frame.chance(15, "asked"),
    )


class Clause(NamedTuple):
    """The parts of a sentence about an event, before it is negated or made a question.

    For example: the nurse, was, thanked, thanked, by the doctor.
    """

    subject: str
    auxiliary: str  # did, was or were
    base: str  # what follows the auxiliary
    past: str  # what replaces "did" and the base
    rest: str


def _forms(verb: str) -> tuple[str, str, str]:
    """Split a verb into its base, its past and a third form.

    That is the participle (the past if none is given) or, for the verb of the other side, a preposition.
    """
    base, past, *third = (form.replace("_", " ") for form in verb.split())
    return base, past, third[0] if third else past


@dataclass(frozen=True)
class Speaker:
    """Puts events into words, with synonyms, voice, order and mood of its own choice."""

    words: Chooser  # of synonyms; speakers who share it and are not contrary use the same words
    syntax: Chooser  # of voice, order and mood
    contrary: bool = False  # takes the synonym after the one that `words` chooses

    def say(self, event: Event) -> str:
        """Put an event into a sentence or a question."""
        clause = self.clause(event)
        place, time = self.word(event.place), self.word(event.time)
        if event.asked and not event.negated and self.syntax.chance(50, "direct question"):
            return sentence(join(clause.auxiliary, clause.subject, clause.base, clause.rest, place, time), "?")
        who = f"it was {clause.subject} that" if self.syntax.chance(10, "cleft") else clause.subject
        text = join(who, self.predicate(clause, event.negated), clause.rest)
        order = self.syntax.pick(("place first", "time first", "time in front"), "order")
        if order == "time in front" and time:
            text = join(f"{time},", text, place)
        else:
            text = join(text, time, place) if order == "time first" else join(text, place, time)
        return sentence(f"is it true that {text}", "?") if event.asked else sentence(text)

    def word(self, concept: str) -> str:
        """Choose one of the synonyms of a concept."""
        synonyms = concept.split("/")
        return synonyms[(self.words.number(concept) + self.contrary) % len(synonyms)]

    def person(self, noun: str, trait: str) -> str:
        """Name a person and, if there is one, the trait."""
        if trait and self.syntax.chance(15, trait):
            return f"the {self.word(noun)} who was {self.word(trait)}"
        return join("the", self.word(trait), self.word(noun))

    def clause(self, event: Event) -> Clause:
        """Choose voice and verb: who is the subject, and what follows."""
        agent = self.person(event.agent, event.agent_trait)
        other = self.person(event.other, event.other_trait)
        things = join(self.word(event.number), self.word(event.things))
        forward, _, backward = event.action.partition("|")
        voice = self.syntax.pick(("active", "active", "active", "passive", "backward"), "voice")
        if voice == "backward" and backward:
            base, past, preposition = _forms(self.word(backward))
            return Clause(other, "did", base, past, join(things, preposition, agent))
        base, past, participle = _forms(self.word(forward))
        person_first = not things or self.syntax.chance(50, "person first")
        if voice != "passive":
            return Clause(agent, "did", base, past, join(other, things) if person_first else f"{things} to {other}")
        if person_first:
            return Clause(other, "was", participle, participle, join(things, "by", agent))
        return Clause(things, "were", participle, participle, f"to {other} by {agent}")

    def predicate(self, clause: Clause, negated: bool) -> str:
        """Write the verb of a clause, negated or not."""
        active = clause.auxiliary == "did"
        finite = "" if active else clause.auxiliary
        if not negated:
            denied_twice = active and self.syntax.chance(10, "denied twice")
            return f"did not fail to {clause.base}" if denied_twice else join(finite, clause.past)
        negation = self.syntax.pick((" not", "n't", "never", "failed to"), "negation")
        if negation == "failed to":
            return f"failed to {clause.base}" if active else f"{clause.auxiliary} not {clause.base}"
        if negation == "never":
            return join(finite, "never", clause.past)
        return f"{clause.auxiliary}{negation} {clause.base}"


Edit = Callable[[Event, Event], Event]  # changes an event; may take parts of a second


def _swap_roles(event: Event, _: Event) -> Event:
    return replace(
        event, agent=event.other, agent_trait=event.other_trait, other=event.agent, other_trait=event.agent_trait
    )


def _swap_traits(event: Event, _: Event) -> Event:
    return replace(event, agent_trait=event.other_trait, other_trait=event.agent_trait)


def _flip(event: Event, _: Event) -> Event:
    return replace(event, negated=not event.negated)


def _take(*names: str) -> Edit:
    return lambda event, second: replace(event, **{name: getattr(second, name) for name in names})


SWAPS: tuple[Edit, ...] = (_swap_roles, _swap_roles, _swap_traits)  # all words stay; roles are swapped twice as often
EDITS: tuple[Edit, ...] = (
    _flip, _take("action"), _take("action", "place"), _take("agent", "agent_trait"), _take("other", "time"),
    _take("number", "things"), _take("place", "time"),
)  # fmt: skip
# All but the time and the number: they stay, so that a stranger does not show by having so few words in common.
_replace_most: Edit = _take(
    "scene", "agent", "agent_trait", "action", "other", "other_trait", "things", "place", "negated"
)


def _trio(draw: Chooser) -> tuple[Event, Event, Event]:
    """Draw three events of one frame: two of the same scene, and a stranger of any scene."""
    frame, scenes = draw.fork("frame"), tuple(SCENES)
    scene, another = draw.pick(scenes, "scene"), draw.pick(scenes, "another scene")
    one, two, three = (_event(name, frame, draw.fork(str(n))) for n, name in enumerate((scene, scene, another)))
    return one, two, three


def paraphrase(draw: Chooser) -> Iterator[Example]:
    """Draw an event with a true paraphrase and a false one; some draws give none.

    After a swap, one speaker gives both, in the same words. Otherwise the true one uses other words more often than the
    false one.
    """
    event, second, stranger = _trio(draw)
    # Strangers are for the learner: with swaps and edits alone, MiniLM stayed at chance for three epochs.
    kind = draw.pick(("swap",) * 4 + ("edit",) * 6 + ("stranger",) * 10, "kind")
    edit = {"swap": draw.pick(SWAPS, "edit"), "edit": draw.pick(EDITS, "edit"), "stranger": _replace_most}[kind]
    changed = edit(event, stranger if kind == "stranger" else second)
    if changed == event or changed.agent == changed.other:
        return
    words = draw.fork("words")
    teller = Speaker(words, draw.fork("teller"))
    true = Speaker(words, draw.fork("true"), contrary=draw.chance(25 if kind == "swap" else 60, "true in other words"))
    false = Speaker(words, draw.fork("false"), contrary=draw.chance(40, "false in other words"))
    yield Example((teller.say(event), true.say(event)), 1)
    yield Example((teller.say(event), (true if kind == "swap" else false).say(changed)), 0)


WEIGHTS = {  # how much a part of an event counts for similarity
    "scene": 1.0, "action": 1.5, "agent": 1.25, "other": 1.25, "agent_trait": 0.5, "other_trait": 0.5,
    "number": 0.25, "things": 0.75, "place": 0.5, "time": 0.5,
}  # fmt: skip


def _likeness(one: Event, two: Event) -> float:
    """Compute the similarity of two events, from 0 to 5.

    It is the weight of the parts that they share, or 60% of that if only one of them is negated.
    """
    told = [name for name in WEIGHTS if getattr(one, name) or getattr(two, name)]
    shared = [name for name in told if getattr(one, name) == getattr(two, name)]
    share = sum(WEIGHTS[name] for name in shared) / sum(WEIGHTS[name] for name in told)
    return round(5 * share * (1.0 if one.negated == two.negated else 0.6), 1)


def similarity(draw: Chooser) -> Iterator[Example]:
    """Draw an event with a copy in which some parts are exchanged; some draws give none.

    At times there is a second copy, with the roles swapped.
    """
    event, second, stranger = _trio(draw)
    percent = draw.pick((0, 0, 20, 40, 60, 100, 100), "change")
    names = [name for name in WEIGHTS if draw.chance(percent, name)]
    changed = _take(*names)(event, stranger if percent == 100 else second)
    changed = replace(changed, negated=event.negated != draw.chance(10, "flip"))
    if changed.agent == changed.other:
        return
    first = Speaker(draw.fork("words"), draw.fork("first"))
    other = Speaker(draw.fork("words"), draw.fork("other"), contrary=draw.chance(50, "other words"))
    for twin in (changed, _swap_roles(changed, changed)) if draw.chance(12, "twin") else (changed,):
        yield Example((first.say(event), other.say(twin)), _likeness(event, twin))
