"""Demo data: three small English tasks from a grammar of our own, for runs that name no data.

A row begins as a meaning (an opinion, or who did what to whom), is put into words by a speaker with habits, and is
labelled from the meaning alone, never from the words:

    draw    = Chooser("paraphrase/17")                       # the 17th draw of a task
    event   = Event(agent="doctor/physician", action="thank thanked|...", other="nurse", ...)
    changed = swap_roles(event)                              # the same words, another meaning
    rows    = [(first.say(event), second.say(event), 1),     # "The doctor thanked the nurse." ...
               (first.say(event), second.say(changed), 0)]   # ... "It was the physician that the nurse ..."

Most draws give such twins, so that counting words is not enough: order, scope and voice decide.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import NamedTuple, TypeVar

TASKS: tuple[str, ...] = ("sentiment", "paraphrase", "similarity")
SIZES: dict[str, int] = {"train": 1200, "dev": 400, "test": 400}  # multiples of 10, so that every class gets its share

T = TypeVar("T")


@dataclass(frozen=True)
class Chooser:
    """Answers every question of a draw, and the same question always alike.

    Hashing replaces `random` for two reasons: the rows cannot depend on the Python version, and a choice depends on
    what it is about, not on how many came before it. So one speaker uses the same words for two meanings wherever
    the meanings agree.
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
    texts: tuple[str, ...]
    label: float


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _sentence(text: str, stop: str = ".") -> str:
    return f"{text[0].upper()}{text[1:]}{stop}"


# --- Opinions: sentiment -----------------------------------------------------------------------------------------------


class Topic(NamedTuple):
    aspects: tuple[str, ...]
    places: tuple[str, ...]
    words: dict[int, tuple[str, ...]]  # by strength: -2 (strong blame) .. 2 (strong praise)


def _topic(aspects: str, places: str, *words: str) -> Topic:
    return Topic(_list(aspects), _list(places), dict(zip((-2, -1, 1, 2), map(_list, words), strict=True)))


GENERAL: dict[int, tuple[str, ...]] = {
    -2: _list("dreadful, awful, horrible, appalling, terrible, atrocious"),
    -1: _list("weak, disappointing, poor, unpleasant, dull, unconvincing"),
    0: _list("average, ordinary, so-so, unremarkable, middling"),
    1: _list("good, nice, pleasant, decent, likeable, enjoyable"),
    2: _list("superb, wonderful, magnificent, outstanding, fantastic, brilliant"),
}

TOPICS: tuple[Topic, ...] = (
    _topic("acting, plot, dialogue, soundtrack, ending, camera work, script", "in this film, in the sequel, in the thriller",
           "unwatchable, abysmal", "clumsy, predictable, slow", "funny, touching, clever", "spellbinding, unforgettable"),
    _topic("soup, bread, dessert, wine, coffee, risotto, seafood", "at the bistro, in this diner, at the new pizzeria",
           "inedible, revolting", "bland, greasy, soggy", "tasty, fresh, appetising", "delicious, heavenly"),
    _topic("room, bed, breakfast, view, bathroom, pool, balcony", "at this hotel, at the hostel, at the seaside resort",
           "filthy, disgusting", "noisy, cramped, shabby", "clean, cosy, comfortable", "luxurious, breathtaking"),
    _topic("meeting, training, workshop, canteen, software, schedule", "at the office, in our department, at my new job",
           "unbearable, disastrous", "tedious, confusing, pointless", "useful, productive, helpful", "inspiring, ideal"),
    _topic("match, defence, goalkeeper, second half, atmosphere, pitch", "at the stadium, in the cup, this season",
           "pathetic, hopeless", "sloppy, sluggish, timid", "solid, lively, skilful", "thrilling, electrifying"),
    _topic("screen, battery, keyboard, camera, design, charger", "on this phone, of the new laptop, of the tablet",
           "useless, worthless", "flimsy, awkward, dim", "handy, reliable, sturdy", "flawless, perfect"),
    _topic("story, hero, opening chapter, translation, style, cover", "in this novel, of the biography, of her last book",
           "unreadable, dire", "shallow, hackneyed, long-winded", "engaging, witty, readable", "masterful, riveting"),
    _topic("singer, band, sound, light show, encore, drummer", "at the festival, at the concert, on the tour",
           "hideous, unlistenable", "flat, lifeless, tired", "catchy, energetic, charming", "stunning, dazzling"),
)  # fmt: skip

DEGREES: dict[int, tuple[str, ...]] = {
    -1: _list("slightly, faintly, somewhat, a little, vaguely, mildly"),
    1: _list("utterly, thoroughly, truly, extremely, incredibly, absolutely"),
}

# How a claim is made, by the strength of its denial: 0 not denied, 1 denied, 2 denied outright.
CLAIMS: dict[int, tuple[str, ...]] = {
    0: (
        "{it} was {so}",
        "I found {it} {so}",
        "{it} turned out to be {so}",
        "{it} seemed {so} to me",
        "I can't deny that {it} was {so}",
    ),
    1: (
        "{it} was not {so}",
        "{it} wasn't {so}",
        "{it} was hardly {so}",
        "{it} was never {so}",
        "{it} was far from {so}",
        "I didn't find {it} {so}",
    ),
    2: (
        "{it} was not at all {so}",
        "{it} was anything but {so}",
        "{it} was by no means {so}",
        "I did not find {it} {so} in the least",
    ),
}

# Two claims: one that counts and one that is granted, or two that count alike.
CONTRASTS = (
    "{granted}, but {main}", "{granted}, yet {main}", "{granted}; nevertheless {main}",
    "although {granted}, {main}", "{main}, although {granted}", "{main}, even if {granted}",
    "despite the fact that {granted}, {main}", "{main}, despite the fact that {granted}",
    "my brother says that {granted}; I say that {main}", "I say that {main}; my brother says that {granted}",
)  # fmt: skip
BALANCES = ("{main} and {granted}", "{main}; on the other hand, {granted}")


@dataclass(frozen=True)
class Claim:
    """That an aspect is so: "the soup at the bistro" is ("slightly", "bland"), or is not."""

    aspect: str
    word: str
    strength: int  # of the word, -2 .. 2
    degree: int = 0  # 1 with an intensifier, -1 with a downtoner
    denial: int = 0  # 1 denied, 2 denied outright

    @property
    def value(self) -> int:
        """From -2 to 2. Degree moves a word towards or away from neutral, denial turns it over: "not superb" is mildly bad."""
        sign = (self.strength > 0) - (self.strength < 0)
        if self.denial:
            return -sign * self.denial
        return sign * max(0, min(2, abs(self.strength) + self.degree))

    def say(self, speaker: Chooser) -> str:
        so = f"{speaker.pick(DEGREES[self.degree], self.word)} {self.word}" if self.degree else self.word
        return speaker.pick(CLAIMS[self.denial], self.aspect).format(it=self.aspect, so=so)


@dataclass(frozen=True)
class Review:
    """What counts and what is granted: "although {granted}, {main}". In a balance both count alike."""

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
    degree, denial = draw.pick(((0, 0), (1, 0), (-1, 0), (0, 1), (0, 2)), "scope")
    return Claim(aspect, word, strength, degree, denial)


def _sentiment(draw: Chooser) -> Iterator[Example]:
    topic = draw.pick(TOPICS, "topic")
    place = draw.pick(topic.places, "place")
    aspect, another = draw.pick(topic.aspects, "aspect"), draw.pick(topic.aspects, "another")
    main = _claim(draw.fork("main"), topic, f"the {aspect} {place}")
    granted = _claim(draw.fork("granted"), topic, f"the {another}")
    shape = draw.pick(("plain", "contrast", "contrast", "contrast", "balance"), "shape")
    reviews: tuple[Review, ...] = (Review(main),)
    if shape == "contrast" and aspect != another and main.value * granted.value < 0:
        reviews = (Review(main, granted), Review(granted, main))
    if shape == "balance" and aspect != another and main.value in (granted.value, -granted.value):
        reviews = (Review(main, granted, balanced=True),)
    for review in reviews:
        yield Example((review.say(draw.fork("speaker")),), review.value + 2)


# --- Events: paraphrase and similarity ---------------------------------------------------------------------------------

# A concept is its synonyms, "doctor/physician". An action is "base past participle" (the last where it differs from the
# past), and after a bar the same action told from the other side, "base past preposition", with _ for a blank.


class Scene(NamedTuple):
    people: tuple[str, ...]
    deeds: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]


def _scene(people: str, deeds: str, things: str, places: str) -> Scene:
    return Scene(_list(people), _list(deeds), _list(things), _list(places))


SCENES: dict[str, Scene] = {
    "office": _scene(
        "boss/manager, intern/trainee, accountant/bookkeeper, client/customer, lawyer/attorney, secretary/office assistant",
        "hire hired/employ employed, promote promoted/advance advanced, dismiss dismissed/fire fired",
        "laptops/notebook computers, contracts/agreements, folders/binders, reports/written summaries",
        "at the office/at work, in the meeting room/in the conference room, in the lobby/in the entrance hall, in the lift/in the elevator",
    ),
    "restaurant": _scene(
        "cook/chef, waiter/server, guest/diner, grocer/greengrocer, owner/proprietor, barman/bartender",
        "serve served/wait_on waited_on, hug hugged/embrace embraced, annoy annoyed/irritate irritated",
        "cookies/biscuits, drinks/beverages, napkins/serviettes, pans/frying pans",
        "in the kitchen/beside the stove, on the terrace/on the patio, at the bar/at the counter, in the cellar/in the basement",
    ),
    "hospital": _scene(
        "doctor/physician, nurse/carer, surgeon/operating doctor, patient/sick person, pharmacist/chemist, visitor/caller",
        "cure cured/heal healed, examine examined/check checked, comfort comforted/console consoled",
        "pills/tablets, bandages/dressings, blankets/covers, needles/syringes",
        "at the clinic/at the hospital, in the laboratory/in the lab, in the car park/in the parking lot, in the corridor/in the hallway",
    ),
    "school": _scene(
        "teacher/schoolteacher, pupil/schoolchild, caretaker/janitor, headmaster/principal, professor/university lecturer",
        "teach taught/instruct instructed|learn learned from, punish punished/discipline disciplined, tease teased/mock mocked",
        "essays/papers, textbooks/schoolbooks, pens/ballpoints, marks/grades",
        "in the classroom/during the lesson, in the library/among the bookshelves, in the playground/in the schoolyard, "
        "in the canteen/in the cafeteria",
    ),
    "sport": _scene(
        "coach/trainer, goalkeeper/goalie, captain/skipper, referee/umpire, striker/forward, fan/supporter",
        "beat beat beaten/defeat defeated|lose lost to, overtake overtook overtaken/pass passed, injure injured/hurt hurt",
        "trophies/cups, shirts/jerseys, trainers/sneakers, tickets/passes",
        "at the stadium/at the arena, in the gym/in the fitness centre, on the pitch/on the field, in the changing room/in the locker room",
    ),
    "travel": _scene(
        "tourist/holidaymaker, driver/chauffeur, sailor/seaman, hotelkeeper/innkeeper, pilot/airman, explorer/discoverer",
        "rescue rescued/save saved, follow followed/trail trailed, wake woke woken/rouse roused",
        "suitcases/travel bags, souvenirs/keepsakes, bicycles/bikes, lamps/lanterns",
        "at the airport/in the terminal, at the railway station/at the train station, on the beach/at the seaside, on the ferry/on the boat",
    ),
    "stage": _scene(
        "actor/performer, singer/vocalist, critic/reviewer, journalist/reporter, painter/artist, writer/author",
        "applaud applauded/cheer cheered, imitate imitated/copy copied, portray portrayed/depict depicted",
        "photos/pictures, records/albums, sketches/drawings, scripts/screenplays",
        "at the cinema/at the movies, in the theatre/in the playhouse, at the museum/at the gallery, backstage/behind the scenes",
    ),
    "town": _scene(
        "policeman/police officer, thief/robber, postman/mailman, shopkeeper/shop owner, judge/magistrate, beggar/tramp",
        "arrest arrested/detain detained, chase chased/pursue pursued, attack attacked/assault assaulted",
        "parcels/packages, coats/overcoats, presents/gifts, watches/wristwatches",
        "in the street/on the road, at the market/among the stalls, in the woods/in the forest, at the town hall/at the city hall",
    ),
    "family": _scene(
        "grandmother/grandma, father/dad, mother/mum, babysitter/nanny, lodger/tenant, boy/lad",
        "scold scolded/rebuke rebuked, frighten frightened/scare scared, soothe soothed/calm calmed",
        "toys/playthings, sweets/candies, sweaters/jumpers, puzzles/brain-teasers",
        "in the garden/in the yard, in the living room/in the lounge, in the attic/in the loft, on the couch/on the sofa",
    ),
}

DEEDS = _list(  # what anyone may do to anyone
    "thank thanked|receive_thanks received_thanks from, "
    "praise praised/compliment complimented|win_praise won_praise from, phone phoned/call called|get_a_call got_a_call from, "
    "help helped/assist assisted|get_help got_help from, warn warned/alert alerted|get_a_warning got_a_warning from, "
    "criticise criticised/censure censured|draw_criticism drew_criticism from, greet greeted/welcome welcomed, "
    "trick tricked/fool fooled/deceive deceived, recognise recognised/identify identified, insult insulted/offend offended, "
    "forgive forgave forgiven/pardon pardoned"
)
TRANSFERS = _list(  # what passes things from one person to another
    "give gave given/hand handed|receive received from/get got from, sell sold|buy bought from/purchase purchased from, "
    "lend lent/loan loaned|borrow borrowed from, send sent/mail mailed, show showed shown/present presented"
)
TRAITS = _list(
    "old/elderly, rich/wealthy, famous/well-known, clever/smart, tired/weary/exhausted, angry/furious, cheerful/merry, "
    "shy/timid, brave/courageous, thin/slender, quiet/silent, careless/sloppy, polite/courteous, lazy/idle, nervous/anxious, "
    "stubborn/obstinate, injured/wounded"
)
NUMBERS = _list("two/a couple of, three/3, four/4, six/half a dozen, twelve/a dozen")
TIMES = _list(
    "at noon/at midday, at dawn/at sunrise/at daybreak, at dusk/at sunset/at nightfall, two weeks ago/a fortnight ago, "
    "last autumn/last fall, a year ago/twelve months ago, before the storm/before it stormed, after the storm/after it stormed, "
    "on Christmas Eve/on December 24, on New Year's Day/on January 1, on Sunday/at the weekend"
)


@dataclass(frozen=True)
class Event:
    """Who did what to whom. Every field but the last two is a concept, or empty."""

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


@dataclass(frozen=True)
class Speaker:
    """How one tells an event: which of the synonyms, in which voice and order."""

    words: Chooser
    syntax: Chooser
    contrary: bool = False  # takes the synonyms after those that `words` chooses: another wording than that of an echo

    def word(self, concept: str) -> str:
        synonyms = concept.split("/")
        return synonyms[(self.words.number(concept) + self.contrary) % len(synonyms)]


class Clause(NamedTuple):
    """An event seen from one side, before tense, negation and question: the nurse | was | thanked | by the doctor."""

    subject: str
    auxiliary: str  # did, was or were
    base: str
    past: str  # what stands alone after "did" goes: thanked; the same as the base where the auxiliary stays
    rest: str


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _person(noun: str, trait: str, speaker: Speaker) -> str:
    if trait and speaker.syntax.chance(15, f"relative clause {trait}"):
        return f"the {speaker.word(noun)} who was {speaker.word(trait)}"
    return _join("the", speaker.word(trait), speaker.word(noun))


def _clause(event: Event, speaker: Speaker) -> Clause:
    agent = _person(event.agent, event.agent_trait, speaker)
    other = _person(event.other, event.other_trait, speaker)
    things = _join(speaker.word(event.number), speaker.word(event.things))
    forward, _, backward = event.action.partition("|")
    voice = speaker.syntax.pick(("active", "active", "active", "passive", "backward"), "voice")
    if voice == "backward" and backward:
        base, past, preposition = _forms(speaker.word(backward))
        return Clause(other, "did", base, past, _join(things, preposition, agent))
    base, past, participle = _forms(speaker.word(forward))
    recipient_first = speaker.syntax.chance(50, "recipient first")
    if voice != "passive":
        return Clause(
            agent, "did", base, past, _join(other, things) if recipient_first or not things else f"{things} to {other}"
        )
    if recipient_first or not things:
        return Clause(other, "was", participle, participle, _join(things, "by", agent))
    return Clause(things, "were", participle, participle, f"to {other} by {agent}")


def _forms(verb: str) -> tuple[str, str, str]:
    base, past, *third = verb.split()
    return base.replace("_", " "), past.replace("_", " "), third[0] if third else past.replace("_", " ")


def _predicate(clause: Clause, negated: bool, speaker: Speaker) -> str:
    active = clause.auxiliary == "did"
    if not negated:
        if active and speaker.syntax.chance(10, "double negation"):
            return f"did not fail to {clause.base}"
        return clause.past if active else f"{clause.auxiliary} {clause.past}"
    negation = speaker.syntax.pick(("not", "n't", "never", "failed to"), "negation")
    if negation == "failed to" and active:
        return f"failed to {clause.base}"
    if negation == "never":
        return f"never {clause.past}" if active else f"{clause.auxiliary} never {clause.past}"
    return f"{clause.auxiliary}n't {clause.base}" if negation == "n't" else f"{clause.auxiliary} not {clause.base}"


def _say(event: Event, speaker: Speaker) -> str:
    clause = _clause(event, speaker)
    place, time = speaker.word(event.place), speaker.word(event.time)
    order = speaker.syntax.pick(("place, time", "time, place", "time first"), "order")
    after = {"place, time": _join(place, time), "time, place": _join(time, place), "time first": place}[order]
    if event.asked and not event.negated and speaker.syntax.chance(50, "direct question"):
        return _sentence(_join(clause.auxiliary, clause.subject, clause.base, clause.rest, place, time), "?")
    cleft = speaker.syntax.chance(10, "cleft")
    text = _join("it was" if cleft else "", clause.subject, "that" if cleft else "",
                 _predicate(clause, event.negated, speaker), clause.rest, after)  # fmt: skip
    text = f"{time}, {text}" if time and order == "time first" else text
    return _sentence(f"is it true that {text}", "?") if event.asked else _sentence(text)


def _event(scene_name: str, frame: Chooser, draw: Chooser) -> Event:
    """The frame says what kind of event and what is told of it, the draw fills it in."""
    scene, transfer = SCENES[scene_name], frame.chance(40, "transfer")
    agent = draw.pick(scene.people, "agent")

    def maybe(percent: int, options: Sequence[str], about: str) -> str:
        return draw.pick(options, about) if frame.chance(percent, about) else ""

    return Event(
        scene=scene_name,
        agent=agent,
        agent_trait=maybe(30, TRAITS, "agent trait"),
        action=draw.pick(TRANSFERS if transfer else DEEDS + scene.deeds * 2, "action"),
        other=draw.pick([person for person in scene.people if person != agent], "other"),
        other_trait=maybe(30, TRAITS, "other trait"),
        number=draw.pick(NUMBERS, "number") if transfer else "",
        things=draw.pick(scene.things, "things") if transfer else "",
        place=maybe(55, scene.places, "place"),
        time=maybe(55, TIMES, "time"),
        negated=draw.chance(30, "negated"),
        asked=frame.chance(15, "asked"),
    )


def _swap_roles(event: Event) -> Event:
    return replace(
        event, agent=event.other, agent_trait=event.other_trait, other=event.agent, other_trait=event.agent_trait
    )


def _swap_traits(event: Event) -> Event:
    return replace(event, agent_trait=event.other_trait, other_trait=event.agent_trait)


def _flip(event: Event) -> Event:
    return replace(event, negated=not event.negated)


def _take(*names: str) -> Callable[[Event, Event], Event]:
    """An edit that replaces some fields by those of another event."""
    return lambda event, fresh: replace(event, **{name: getattr(fresh, name) for name in names})


SWAPS: tuple[Callable[[Event, Event], Event], ...] = (
    lambda event, _: _swap_roles(event),
    lambda event, _: _swap_roles(event),
    lambda event, _: _swap_traits(event),
)
EDITS: tuple[Callable[[Event, Event], Event], ...] = (
    lambda event, _: _flip(event),
    _take("action"), _take("action", "place"), _take("agent", "agent_trait"), _take("other", "time"), _take("number", "things"), _take("place", "time"),
)  # fmt: skip


def _paraphrase(draw: Chooser) -> Iterator[Example]:
    frame, scenes = draw.fork("frame"), tuple(SCENES)
    scene = draw.pick(scenes, "scene")
    event, fresh = (_event(scene, frame, draw.fork(name)) for name in ("event", "fresh"))
    kind = draw.pick(("swap",) * 5 + ("edit",) * 6 + ("other",) * 9, "kind")
    if kind == "other":
        changed = replace(
            _event(draw.pick(scenes, "other scene"), frame, draw.fork("fresh")), time=event.time, number=event.number
        )
    else:
        changed = draw.pick(SWAPS if kind == "swap" else EDITS, "edit")(event, fresh)
    if changed == event or changed.agent == changed.other:
        return
    words = draw.fork("words")
    first = Speaker(words, draw.fork("first"))
    second = Speaker(words, draw.fork("second"), contrary=draw.chance(25 if kind == "swap" else 80, "contrary"))
    third = second if kind == "swap" else Speaker(words, draw.fork("third"), contrary=draw.chance(30, "third contrary"))
    yield Example((_say(event, first), _say(event, second)), 1)
    yield Example((_say(event, first), _say(changed, third)), 0)


WEIGHTS = {"scene": 0.5, "action": 1.5, "agent": 1.5, "other": 1.5, "agent_trait": 0.5, "other_trait": 0.5,
           "number": 0.25, "things": 0.75, "place": 0.5, "time": 0.5}  # fmt: skip


def _similarity_of(one: Event, two: Event) -> float:
    """The weight of what two events share, from 0 to 5; if one is denied and the other not, 40% of that."""
    said = [name for name in WEIGHTS if getattr(one, name) or getattr(two, name)]
    shared = [name for name in said if getattr(one, name) == getattr(two, name)]
    share = sum(WEIGHTS[name] for name in shared) / sum(WEIGHTS[name] for name in said)
    return round(5 * share * (1.0 if one.negated == two.negated else 0.4), 1)


def _similarity(draw: Chooser) -> Iterator[Example]:
    frame, scenes = draw.fork("frame"), tuple(SCENES)
    scene = draw.pick(scenes, "scene")
    event, fresh = (_event(scene, frame, draw.fork(name)) for name in ("event", "fresh"))
    percent = draw.pick((0, 0, 20, 40, 60, 100, 100), "change")
    if percent == 100:
        fresh = _event(draw.pick(scenes, "other scene"), frame, draw.fork("fresh"))
    changed = _take(*(name for name in WEIGHTS if draw.chance(percent, name)))(event, fresh)
    if draw.chance(10, "flip"):
        changed = _flip(changed)
    if changed.agent == changed.other:
        return
    first = Speaker(draw.fork("words"), draw.fork("first"))
    second = Speaker(draw.fork("words"), draw.fork("second"), contrary=draw.chance(20, "contrary"))
    for twin in (changed, _swap_roles(changed)) if draw.chance(16, "swap") else (changed,):
        yield Example((_say(event, first), _say(twin, second)), _similarity_of(event, twin))


# --- Tables ------------------------------------------------------------------------------------------------------------


class Task(NamedTuple):
    draw: Callable[[Chooser], Iterator[Example]]
    columns: tuple[str, ...]
    classes: int  # which fill up evenly; for similarity those are the ranges 0-1, 1-2, .. 4-5


RECIPES = {
    "sentiment": Task(_sentiment, ("sentence", "sentiment"), 5),
    "paraphrase": Task(_paraphrase, ("sentence1", "sentence2", "is_duplicate"), 2),
    "similarity": Task(_similarity, ("sentence1", "sentence2", "similarity"), 5),
}


@cache
def _examples(task: str) -> dict[str, list[Example]]:
    """All splits, the held-out ones first: they stay as they are when the training set grows."""
    draws = (list(RECIPES[task].draw(Chooser(f"{task}/{number}"))) for number in count())
    seen: set[str] = set()
    return {split: _fill(draws, RECIPES[task].classes, SIZES[split], seen) for split in ("test", "dev", "train")}


def _fill(draws: Iterator[list[Example]], classes: int, size: int, seen: set[str]) -> list[Example]:
    """As many examples of each class. The sentences of a draw belong to one split, so none occurs in two."""
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
    """Rows of one split with the column names of the course's files, all strings, as a CSV reader would give them."""
    rows = []
    for example in _examples(task)[split]:
        label = f"{example.label:.1f}" if task == "similarity" else str(int(example.label))
        name = hashlib.sha256("|".join(example.texts).encode()).hexdigest()[:12]
        rows.append({"id": name, **dict(zip(RECIPES[task].columns, (*example.texts, label), strict=True))})
    return sorted(rows, key=lambda row: row["id"])  # twins are drawn side by side; this parts them
