"""Words: list the words that sentences are made of, and join them.

The lists are written as text, their items separated by ", ". Those about events hold concepts and actions:

    "doctor/physician"                          a concept is its synonyms
    "warn warned/alert alerted"                 so is an action; each verb gives its base and past,
    "give gave given"                           and its participle where that differs from the past
    "teach taught|learn learned from"           after a bar, the verb of the other side, with its preposition
    "phone phoned|get_a_call got_a_call from"   _ stands for a space
"""

from typing import NamedTuple


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def join(*parts: str) -> str:
    """Join the parts with spaces, leaving out empty ones."""
    return " ".join(part for part in parts if part)


def sentence(text: str, stop: str = ".") -> str:
    """Add a capital letter and a full stop, or another `stop`."""
    return f"{text[0].upper()}{text[1:]}{stop}"


# ---- Opinions: sentiment ----


class Topic(NamedTuple):
    """What is reviewed: aspects, places, and words by strength, from -2 (blame) to 2 (praise)."""

    aspects: tuple[str, ...]
    places: tuple[str, ...]
    words: dict[int, tuple[str, ...]]


def _topic(aspects: str, places: str, *words: str) -> Topic:
    return Topic(_list(aspects), _list(places), dict(zip((-2, -1, 1, 2), map(_list, words), strict=True)))


GENERAL: dict[int, tuple[str, ...]] = {  # words by strength that fit any topic
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

DEGREES: dict[int, tuple[str, ...]] = {  # 1 makes a word stronger, -1 weaker
    -1: _list("slightly, faintly, somewhat, a little, vaguely, mildly"),
    1: _list("utterly, thoroughly, truly, extremely, incredibly, absolutely"),
}


# ---- Events: paraphrase and similarity ----


class Scene(NamedTuple):
    """Where people meet: who they are, what they do to one another, what they have, and the places."""

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
