"""Thesaurus: English words that can stand for one another in most sentences, in the same form.

Only what changes neither grammar nor judgement: a word and its synonym are as strong, and take the same article or follow
none.
"""

GROUPS = """
movie film picture
movies films pictures
director filmmaker
directors filmmakers
viewer spectator watcher
viewers spectators watchers
story tale narrative
stories tales narratives
funny humorous comical
hilarious uproarious
scary frightening
sad sorrowful mournful
happy glad joyful cheerful
great terrific marvelous
good fine decent
wonderful marvelous splendid
beautiful gorgeous lovely
brilliant dazzling
clever smart shrewd
smart clever bright
boring tedious dull
dull tedious boring
bad poor lousy
terrible dreadful horrible
awful dreadful horrible
stupid dumb foolish
silly foolish goofy
strange weird odd peculiar
weird strange peculiar
slow sluggish
fast quick rapid speedy
quick fast rapid
quickly rapidly swiftly
big large huge
large big sizable
huge enormous gigantic immense
enormous huge gigantic
small little tiny
tiny minuscule
hard tough difficult
difficult tough hard
easy simple effortless
simple plain straightforward
important significant crucial
famous renowned celebrated
popular well-liked
rich wealthy
kid child youngster
kids children youngsters
child kid youngster
children kids youngsters
man guy fellow
men guys fellows
woman lady
women ladies
girl lass
boy lad
person individual
people folks individuals
friend buddy pal
friends buddies pals
job occupation
jobs occupations
house home
houses homes
car automobile
cars automobiles
street road
road street
city town
country nation
countries nations
doctor physician
doctors physicians
lawyer attorney
lawyers attorneys
phone telephone
phones telephones
picture image
photo photograph
photos photographs
answer reply response
answers replies responses
question query
questions queries
idea notion thought
ideas notions thoughts
mistake error
mistakes errors
problem trouble difficulty
problems troubles difficulties
reason cause
reasons causes
method technique approach
methods techniques approaches
goal aim objective
goals aims objectives
price cost
prices costs
money cash funds
salary pay wage
company firm business
companies firms businesses
buy purchase acquire
bought purchased acquired
buying purchasing acquiring
sell vend
started began commenced
starting beginning commencing
begin start commence
begins starts commences
ended finished concluded
stop halt cease
stops halts ceases
stopped halted ceased
helped assisted aided
helping assisting aiding
show display exhibit
shows displays exhibits
showing displaying exhibiting
use employ utilize
uses employs utilizes
used employed utilized
using employing utilizing
want desire
wants desires
try attempt
tries attempts
tried attempted
trying attempting
choose select pick
chooses selects picks
chose selected picked
choosing selecting picking
increase boost raise
increases boosts raises
increased boosted raised
increasing boosting raising
reduce decrease lessen
reduces decreases lessens
reduced decreased lessened
reducing decreasing lessening
learn study
learning studying
explain clarify
explains clarifies
explained clarified
happen occur
happens occurs
happened occurred
happening occurring
speak talk
speaks talks
speaking talking
talk speak
talking speaking
say state
says states
said stated
believe think
likes enjoys
liked enjoyed
love adore
loves adores
loved adored
hate detest loathe
hates detests loathes
hated detested loathed
walk stroll
walks strolls
walking strolling
walked strolled
jump leap hop
jumps leaps hops
jumping leaping hopping
throw toss hurl
throws tosses hurls
throwing tossing hurling
eat consume
eats consumes
eating consuming
die perish
died perished
dies perishes
kill slay
killed slain
kills slays
killing slaying
attack assault
attacked assaulted
attacks assaults
win triumph
wins triumphs
fix repair mend
fixed repaired mended
fixing repairing mending
build construct
builds constructs
built constructed
building constructing
repair fix mend
send dispatch
sends dispatches
sent dispatched
sending dispatching
find discover locate
finds discovers locates
found discovered located
finding discovering locating
seem appear
seems appears
seemed appeared
watch view see
watching viewing seeing
watched viewed
often frequently
usually generally normally
maybe perhaps possibly
perhaps maybe possibly
very extremely highly
really truly genuinely
truly really genuinely
almost nearly practically
nearly almost
however nevertheless nonetheless
because since as
while whereas
though although
although though
together jointly
correct right
wrong incorrect
best finest
whole entire
entire whole
main chief principal
many numerous
several various
different distinct
similar alike comparable
safe secure
sure certain
rude impolite
polite courteous
quiet silent
loud noisy
angry furious mad
tired weary exhausted
sick ill
ill sick
dirty filthy
clean spotless
empty vacant
dangerous hazardous risky
rare uncommon
modern contemporary
ancient old
new fresh
""".strip().splitlines()

OTHERS: dict[str, list[str]] = {}
for _first, *_rest in map(str.split, GROUPS):
    OTHERS.setdefault(_first, []).extend(word for word in _rest if word not in OTHERS.get(_first, []))
