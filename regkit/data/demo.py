"""Demo data: three small English tasks from a grammar of our own, for runs that name no data.

A row begins as a meaning (an opinion, or who did what to whom). Speakers put it into words, each with habits of its
own, and the label is computed from the meaning, never from the words:

    for draw in (Chooser("paraphrase/0"), Chooser("paraphrase/1"), ...):
        event   = Event(agent="doctor/physician", action="thank thanked", other="nurse/carer", ...)
        changed = swap_roles(event)
        first.say(event), second.say(event)    -> 1   # The doctor thanked the nurse. The carer was thanked by ...
        first.say(event), second.say(changed)  -> 0   # The doctor thanked the nurse. The physician was thanked by ...

Many draws yield such twins, the same words with another label: counting words does not solve these tasks. The tests
say by how much it fails.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import NamedTuple, TypeVar

TASKS: tuple[str, ...] = ("sentiment", "paraphrase", "similarity")
SIZES: dict[str, int] = {"train": 1200, "dev": 400, "test": 400}  # multiples of 10, so that classes come out even

T = TypeVar("T")


@dataclass(frozen=True)
class Chooser:
    """Answers the questions of one draw; asked the same question twice, it gives the same answer.

    It hashes where one expects `random.Random`: rows then depend on no version of Python, and a choice depends on what
    it is about, not on how many came before. So a speaker words two meanings alike wherever they agree.
    """

    seed: str

    def number(self, about: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{about}".encode()).digest()[:8], "big")

    def pick(self, options: Sequence[T], about: str) -> T:
        return options[self.number(about) % len(options)]

    def chance(self, percent: int, about: str) -> bool:
        return self.number(about) % 100 < percent

    def fork(self, name: str) -> "Chooser":
        return Chooser(f"{self.seed}/{name}")


class Example(NamedTuple):
    """One or two sentences and their label."""

    texts: tuple[str, ...]
    label: float


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _sentence(text: str, stop: str = ".") -> str:
    return f"{text[0].upper()}{text[1:]}{stop}"


# ---- Opinions: sentiment ----


class Topic(NamedTuple):
    """What one may review: aspects, where one meets them, and words by strength, from -2 (blame) to 2 (praise)."""

    aspects: tuple[str, ...]
    places: tuple[str, ...]
    words: dict[int, tuple[str, ...]]


def _topic(aspects: str, places: str, *words: str) -> Topic:
    return Topic(_list(aspects), _list(places), dict(zip((-2, -1, 1, 2), map(_list, words), strict=True)))


GENERAL: dict[int, tuple[str, ...]] = {  # fits any topic
    -2: _list("dreadful, awful, horrible, appalling, terrible, atrocious"),
    -1: _list("weak, disappointing, poor, unpleasant, dull, unconvincing"),
    0: _list("average, ordinary, so-so, unremarkable, middling"),
    1: _list("good, nice, pleasant, decent, likeable, enjoyable"),
    2: _list("superb, wonderful, magnificent, outstanding, fantastic, brilliant"),
}

TOPICS: tuple[Topic, ...] = (
    _topic("acting, plot, dialogue, soundtrack, ending, script", "in this film, in the sequel, in the thriller",
           "unwatchable, abysmal", "clumsy, predictable, slow", "funny, touching, clever", "spellbinding, gripping"),
    _topic("soup, bread, dessert, wine, coffee, risotto", "at the bistro, in this diner, at the new pizzeria",
           "inedible, revolting", "bland, greasy, soggy", "tasty, fresh, appetising", "delicious, heavenly"),
    _topic("room, bed, breakfast, view, bathroom, pool", "at this hotel, at the hostel, at the seaside resort",
           "filthy, disgusting", "noisy, cramped, shabby", "clean, cosy, comfortable", "luxurious, breathtaking"),
    _topic("meeting, training, workshop, canteen, software", "at the office, in our department, at my new job",
           "unbearable, disastrous", "tedious, confusing, pointless", "useful, productive", "inspiring, ideal"),
    _topic("match, defence, goalkeeper, second half, pitch", "at the stadium, in the cup, this season",
           "pathetic, hopeless", "sloppy, sluggish, timid", "solid, lively, skilful", "thrilling, electrifying"),
    _topic("screen, battery, keyboard, camera, charger", "on this phone, of the new laptop, of the tablet",
           "useless, worthless", "flimsy, awkward, dim", "handy, reliable, sturdy", "flawless, perfect"),
    _topic("story, hero, opening chapter, translation, style", "in this novel, of the biography, of her last book",
           "unreadable, dire", "shallow, hackneyed, long-winded", "engaging, witty, readable", "masterful, riveting"),
    _topic("singer, band, sound, light show, encore, drummer", "at the festival, at the concert, on the tour",
           "hideous, ghastly", "flat, lifeless, tired", "catchy, energetic, charming", "stunning, dazzling"),
)  # fmt: skip

DEGREES: dict[int, tuple[str, ...]] = {
    -1: _list("slightly, faintly, somewhat, a little, vaguely, mildly"),
    1: _list("utterly, thoroughly, truly, extremely, incredibly, absolutely"),
}

CLAIMS: dict[int, tuple[str, ...]] = {  # by denial; the last of the first row denies twice
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
    """That an aspect is so or is not: "the soup at the bistro" was "slightly bland", was "not superb"."""

    aspect: str
    word: str
    strength: int  # of the word, -2 to 2
    degree: int = 0  # 1 with an intensifier, -1 with a downtoner
    denial: int = 0  # 1 denied, 2 denied outright

    @property
    def value(self) -> int:
        """From -2 to 2. A degree moves a word from or to neutral; a denial turns it over, whatever its strength."""
        sign = (self.strength > 0) - (self.strength < 0)
        if self.denial:
            return -sign * self.denial
        return sign * max(0, min(2, abs(self.strength) + self.degree))

    def say(self, speaker: Chooser) -> str:
        degree = speaker.pick(DEGREES[self.degree], self.word) if self.degree else ""
        return speaker.pick(CLAIMS[self.denial], self.aspect).format(it=self.aspect, so=_join(degree, self.word))


@dataclass(frozen=True)
class Review:
    """A claim, or two: what is granted does not count ("although {granted}, {main}"), unless the two are balanced."""

    main: Claim
    granted: Claim | None = None
    balanced: bool = False

    @property
    def value(self) -> int:
        if self.granted and self.balanced:
            return (self.main.value + self.granted.value) // 2
        return self.main.value

    def say(self, speaker: Chooser) -> str:
        if self.granted is None:
            return _sentence(self.main.say(speaker))
        frame = speaker.pick(BALANCES if self.balanced else CONTRASTS, "frame")
        return _sentence(frame.format(main=self.main.say(speaker), granted=self.granted.say(speaker)))


def _claim(draw: Chooser, topic: Topic, aspect: str) -> Claim:
    strength = draw.pick((-2, -1, -1, 0, 1, 1, 2), "strength")
    word = draw.pick(GENERAL[strength] + topic.words.get(strength, ()), "word")
    if strength == 0:
        return Claim(aspect, word, strength)
    degree, denial = draw.pick(((0, 0), (1, 0), (-1, 0), (0, 1), (0, 2)), "degree and denial")
    return Claim(aspect, word, strength, degree, denial)


def _reviews(draw: Chooser) -> tuple[Review, ...]:
    """A contrast comes with its twin, which grants what the first holds."""
    topic = draw.pick(TOPICS, "topic")
    aspect, another = draw.pick(topic.aspects, "aspect"), draw.pick(topic.aspects, "another")
    main = _claim(draw.fork("main"), topic, f"the {aspect} {draw.pick(topic.places, 'place')}")
    granted = _claim(draw.fork("granted"), topic, f"the {another}")
    shape = draw.pick(("plain", "contrast", "contrast", "contrast", "balance"), "shape")
    if shape == "plain":
        return (Review(main),)
    if shape == "contrast" and aspect != another and main.value * granted.value < 0:
        return Review(main, granted), Review(granted, main)
    if shape == "balance" and aspect != another and main.value in (granted.value, -granted.value):  # or who could say?
        return (Review(main, granted, balanced=True),)
    return ()


def _sentiment(draw: Chooser) -> Iterator[Example]:
    for review in _reviews(draw):
        yield Example((review.say(draw.fork("speaker")),), review.value + 2)


# ---- Events: paraphrase and similarity ----

# A concept is its synonyms, "doctor/physician". An action is a list of verbs, "base past participle" (the last where it
# differs from the past); after a bar, the same seen from the other side, "base past preposition"; _ stands for a blank.


class Scene(NamedTuple):
    """Who does what, with which things, where."""

    people: tuple[str, ...]
    deeds: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]


def _scene(people: str, deeds: str, things: str, places: str) -> Scene:
    return Scene(_list(people), _list(deeds), _list(things), _list(places))


SCENES: dict[str, Scene] = {
    "office": _scene(
        "boss/manager, intern/trainee, accountant/bookkeeper, client/customer, lawyer/attorney, "
        "secretary/office assistant",
        "hire hired/employ employed, promote promoted/advance advanced, dismiss dismissed/fire fired",
        "laptops/notebook computers, contracts/agreements, folders/binders, reports/written summaries",
        "at the office/at work, in the meeting room/in the conference room, in the lobby/in the entrance hall, "
        "in the lift/in the elevator",
    ),
    "restaurant": _scene(
        "cook/chef, waiter/server, guest/diner, grocer/greengrocer, owner/proprietor, barman/bartender",
        "serve served/wait_on waited_on, hug hugged/embrace embraced, annoy annoyed/irritate irritated",
        "cookies/biscuits, drinks/beverages, napkins/serviettes, pans/frying pans",
        "in the kitchen/beside the stove, on the terrace/on the patio, at the bar/at the counter, "
        "in the cellar/in the basement",
    ),
    "hospital": _scene(
        "doctor/physician, nurse/carer, paramedic/ambulance worker, patient/sick person, pharmacist/chemist, "
        "visitor/caller",
        "cure cured/heal healed, examine examined/check checked, comfort comforted/console consoled",
        "pills/tablets, bandages/dressings, blankets/covers, needles/syringes",
        "at the clinic/at the hospital, in the laboratory/in the lab, in the car park/in the parking lot, "
        "in the corridor/in the hallway",
    ),
    "school": _scene(
        "teacher/schoolteacher, pupil/schoolchild, caretaker/janitor, headmaster/principal, librarian/library clerk",
        "teach taught/instruct instructed|learn learned from, punish punished/discipline disciplined, "
        "tease teased/mock mocked",
        "essays/papers, textbooks/schoolbooks, pens/ballpoints, marks/grades",
        "in the classroom/during the lesson, in the library/among the bookshelves, "
        "in the playground/in the schoolyard, in the canteen/in the cafeteria",
    ),
    "sport": _scene(
        "coach/trainer, goalkeeper/goalie, captain/skipper, referee/umpire, striker/forward, fan/supporter",
        "beat beat beaten/defeat defeated|lose lost to, overtake overtook overtaken/pass passed, "
        "injure injured/hurt hurt",
        "trophies/cups, shirts/jerseys, rackets/racquets, tickets/passes",
        "at the stadium/at the arena, in the gym/in the fitness centre, on the pitch/on the field, "
        "in the changing room/in the locker room",
    ),
    "travel": _scene(
        "tourist/holidaymaker, driver/chauffeur, sailor/seaman, hotelkeeper/innkeeper, pilot/airman, "
        "explorer/discoverer",
        "rescue rescued/save saved, follow followed/trail trailed, wake woke woken/rouse roused",
        "suitcases/travel bags, souvenirs/keepsakes, bicycles/bikes, lamps/lanterns",
        "at the airport/in the terminal, at the railway station/at the train station, on the beach/at the seaside, "
        "on the ferry/on the boat",
    ),
    "stage": _scene(
        "actor/performer, singer/vocalist, critic/reviewer, journalist/reporter, painter/artist, writer/author",
        "applaud applauded/cheer cheered, imitate imitated/copy copied, portray portrayed/depict depicted",
        "photos/pictures, records/albums, sketches/drawings, scripts/screenplays",
        "at the cinema/at the movies, in the theatre/in the playhouse, at the museum/at the gallery, "
        "backstage/behind the scenes",
    ),
    "town": _scene(
        "policeman/police officer, thief/robber, postman/mailman, shopkeeper/shop owner, judge/magistrate, "
        "beggar/tramp",
        "arrest arrested/detain detained, chase chased/pursue pursued, attack attacked/assault assaulted",
        "parcels/packages, coats/overcoats, presents/gifts, watches/wristwatches",
        "in the street/on the road, at the market/among the stalls, in the woods/in the forest, "
        "at the town hall/at the city hall",
    ),
    "family": _scene(
        "grandmother/grandma, father/dad, mother/mum, babysitter/nanny, lodger/tenant, boy/lad",
        "scold scolded/rebuke rebuked, frighten frightened/scare scared, soothe soothed/calm calmed",
        "toys/playthings, sweets/candies, sweaters/jumpers, puzzles/brain-teasers",
        "in the garden/in the yard, in the living room/in the lounge, in the attic/in the loft, "
        "on the couch/on the sofa",
    ),
}

DEEDS = _list(  # what anyone may do to anyone
    "thank thanked|receive_thanks received_thanks from, "
    "praise praised/compliment complimented|win_praise won_praise from, "
    "phone phoned/call called|get_a_call got_a_call from, help helped/assist assisted|get_help got_help from, "
    "warn warned/alert alerted|get_a_warning got_a_warning from, "
    "criticise criticised/censure censured|draw_criticism drew_criticism from, greet greeted/welcome welcomed, "
    "trick tricked/fool fooled/deceive deceived, recognise recognised/identify identified, "
    "insult insulted/offend offended, forgive forgave forgiven/pardon pardoned"
)
TRANSFERS = _list(  # what passes things from one person to another
    "give gave given/hand handed|receive received from/get got from, "
    "sell sold|buy bought from/purchase purchased from, "
    "lend lent/loan loaned|borrow borrowed from, send sent/mail mailed, promise promised/pledge pledged"
)
TRAITS = _list(
    "old/elderly, rich/wealthy, famous/well-known, clever/smart, tired/weary/exhausted, angry/furious, cheerful/merry, "
    "shy/timid, brave/courageous, thin/slender, quiet/silent, careless/sloppy, polite/courteous, lazy/idle, "
    "nervous/anxious, stubborn/obstinate, injured/wounded"
)
NUMBERS = _list("two/a couple of, three/3, four/4, six/half a dozen, twelve/a dozen")
TIMES = _list(
    "at noon/at midday, at dawn/at sunrise/at daybreak, at dusk/at sunset/at nightfall, two weeks ago/a fortnight ago, "
    "last autumn/last fall, a year ago/twelve months ago, before the storm/before it stormed, "
    "after the storm/after it stormed, on Christmas Eve/on December 24, on New Year's Day/on January 1, "
    "at Easter/over the Easter break"
)


@dataclass(frozen=True)
class Event:
    """Who did what to whom, in concepts. Some are empty: thanking somebody takes no things."""

    scene: str
    agent: str
    agent_trait: str
    action: str
    other: str
    other_trait: str
    number: str
    things: str
    place: str
    time: str
    negated: bool
    asked: bool


def _event(scene_name: str, frame: Chooser, draw: Chooser) -> Event:
    """The frame says what is told at all, the draw fills it in: events of one frame differ only in content."""
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
    """An event seen from one side, before negation and question: the nurse, was, thanked, thanked, by the doctor."""

    subject: str
    auxiliary: str  # did, was or were
    base: str  # what follows the auxiliary
    past: str  # what replaces "did" and the base
    rest: str


def _forms(verb: str) -> tuple[str, str, str]:
    base, past, *third = (form.replace("_", " ") for form in verb.split())
    return base, past, third[0] if third else past


@dataclass(frozen=True)
class Speaker:
    """Puts events into words: which synonyms, in which voice, order and mood."""

    words: Chooser
    syntax: Chooser
    contrary: bool = False  # takes the synonym after the one that `words` chooses, so two speakers share none

    def say(self, event: Event) -> str:
        clause = self.clause(event)
        place, time = self.word(event.place), self.word(event.time)
        if event.asked and not event.negated and self.syntax.chance(50, "direct question"):
            return _sentence(_join(clause.auxiliary, clause.subject, clause.base, clause.rest, place, time), "?")
        who = f"it was {clause.subject} that" if self.syntax.chance(10, "cleft") else clause.subject
        text = _join(who, self.predicate(clause, event.negated), clause.rest)
        order = self.syntax.pick(("place first", "time first", "time in front"), "order")
        if order == "time in front" and time:
            text = _join(f"{time},", text, place)
        else:
            text = _join(text, time, place) if order == "time first" else _join(text, place, time)
        return _sentence(f"is it true that {text}", "?") if event.asked else _sentence(text)

    def word(self, concept: str) -> str:
        synonyms = concept.split("/")
        return synonyms[(self.words.number(concept) + self.contrary) % len(synonyms)]

    def person(self, noun: str, trait: str) -> str:
        if trait and self.syntax.chance(15, trait):
            return f"the {self.word(noun)} who was {self.word(trait)}"
        return _join("the", self.word(trait), self.word(noun))

    def clause(self, event: Event) -> Clause:
        agent = self.person(event.agent, event.agent_trait)
        other = self.person(event.other, event.other_trait)
        things = _join(self.word(event.number), self.word(event.things))
        forward, _, backward = event.action.partition("|")
        voice = self.syntax.pick(("active", "active", "active", "passive", "backward"), "voice")
        if voice == "backward" and backward:
            base, past, preposition = _forms(self.word(backward))
            return Clause(other, "did", base, past, _join(things, preposition, agent))
        base, past, participle = _forms(self.word(forward))
        person_first = not things or self.syntax.chance(50, "person first")
        if voice != "passive":
            return Clause(agent, "did", base, past, _join(other, things) if person_first else f"{things} to {other}")
        if person_first:
            return Clause(other, "was", participle, participle, _join(things, "by", agent))
        return Clause(things, "were", participle, participle, f"to {other} by {agent}")

    def predicate(self, clause: Clause, negated: bool) -> str:
        active = clause.auxiliary == "did"
        finite = "" if active else clause.auxiliary
        if not negated:
            denied_twice = active and self.syntax.chance(10, "denied twice")
            return f"did not fail to {clause.base}" if denied_twice else _join(finite, clause.past)
        negation = self.syntax.pick((" not", "n't", "never", "failed to"), "negation")
        if negation == "failed to":
            return f"failed to {clause.base}" if active else f"{clause.auxiliary} not {clause.base}"
        if negation == "never":
            return _join(finite, "never", clause.past)
        return f"{clause.auxiliary}{negation} {clause.base}"


Edit = Callable[[Event, Event], Event]  # of an event, with parts of a second


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


SWAPS: tuple[Edit, ...] = (_swap_roles, _swap_roles, _swap_traits)  # all words stay
EDITS: tuple[Edit, ...] = (
    _flip, _take("action"), _take("action", "place"), _take("agent", "agent_trait"), _take("other", "time"),
    _take("number", "things"), _take("place", "time"),
)  # fmt: skip
# All but the time and the number, which stay since a stranger would else be known by its share of common words.
_replace_most: Edit = _take(
    "scene", "agent", "agent_trait", "action", "other", "other_trait", "things", "place", "negated"
)


def _trio(draw: Chooser) -> tuple[Event, Event, Event]:
    """Three events of one frame: the second plays in the scene of the first, the third (a stranger) in any."""
    frame, scenes = draw.fork("frame"), tuple(SCENES)
    scene, another = draw.pick(scenes, "scene"), draw.pick(scenes, "another scene")
    one, two, three = (_event(name, frame, draw.fork(str(n))) for n, name in enumerate((scene, scene, another)))
    return one, two, three


def _paraphrase(draw: Chooser) -> Iterator[Example]:
    """A true retelling and a false one. The true one uses other words and the false one the same, if it is no swap."""
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


WEIGHTS = {
    "scene": 1.0, "action": 1.5, "agent": 1.25, "other": 1.25, "agent_trait": 0.5, "other_trait": 0.5,
    "number": 0.25, "things": 0.75, "place": 0.5, "time": 0.5,
}  # fmt: skip


def _likeness(one: Event, two: Event) -> float:
    """From 0 to 5: the weight of the parts that two events share, 60% of it if only one of them is negated."""
    told = [name for name in WEIGHTS if getattr(one, name) or getattr(two, name)]
    shared = [name for name in told if getattr(one, name) == getattr(two, name)]
    share = sum(WEIGHTS[name] for name in shared) / sum(WEIGHTS[name] for name in told)
    return round(5 * share * (1.0 if one.negated == two.negated else 0.6), 1)


def _similarity(draw: Chooser) -> Iterator[Example]:
    """An event and the same with some parts exchanged; now and then also with the roles swapped."""
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


# ---- Tables ----


class Recipe(NamedTuple):
    """How a task's examples are drawn, what its columns are called, and into how many equal classes they fall."""

    draw: Callable[[Chooser], Iterator[Example]]
    columns: tuple[str, ...]
    classes: int  # of similarity these are the ranges 0 to 1, 1 to 2, .. 4 to 5


RECIPES: dict[str, Recipe] = {
    "sentiment": Recipe(_sentiment, ("sentence", "sentiment"), 5),
    "paraphrase": Recipe(_paraphrase, ("sentence1", "sentence2", "is_duplicate"), 2),
    "similarity": Recipe(_similarity, ("sentence1", "sentence2", "similarity"), 5),
}


@cache
def _examples(task: str) -> dict[str, list[Example]]:
    """All splits, the held-out ones first: they stay as they are when the training set grows."""
    draws = (list(RECIPES[task].draw(Chooser(f"{task}/{number}"))) for number in count())
    seen: set[str] = set()
    return {split: _fill(draws, RECIPES[task].classes, SIZES[split], seen) for split in ("test", "dev", "train")}


def _fill(draws: Iterator[list[Example]], classes: int, size: int, seen: set[str]) -> list[Example]:
    """As many examples of each class. A draw's sentences belong to one split and to one draw: none is `seen` again."""
    room = [size // classes] * classes
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
    """Rows of one split with the column names of the course's files; all values are strings, as a CSV reader's."""
    rows: list[dict[str, str]] = []
    for texts, label in _examples(task)[split]:
        values = (*texts, f"{label:.1f}" if task == "similarity" else str(int(label)))
        name = hashlib.sha256("|".join(values).encode()).hexdigest()[:12]
        rows.append({"id": name, **dict(zip(RECIPES[task].columns, values, strict=True))})
    return sorted(rows, key=lambda row: row["id"])  # twins are drawn side by side; this parts them
