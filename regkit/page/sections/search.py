"""Search: the section of a page that shows the trials of a search, what mattered, and what was best."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from regkit.base.wording import in_time
from regkit.page.charts.figures import Bars, Dot, Dots, Figure
from regkit.page.charts.scales import DASH, is_number, number, signed
from regkit.page.document import Block, Grid, Note, Panel, Section
from regkit.page.reading.groups import brief
from regkit.page.reading.studies import Search, Trial
from regkit.page.words import interval

FOLDED = 15  # rows of a table that is folded where it has more
WIDE = 30  # from the lowest to the highest value, by which choices among numbers are drawn on a logarithmic axis
CHOICES = 12  # names on an axis
VALUES = {"value": "value", "fresh": "value with fresh seeds"}  # what the search file says of a trial
STATES = {"pruned": "cut short", "fail": "failed", "waiting": "not begun"}  # where optuna has another word


def sections(search: Search, title: str = "") -> list[Section]:
    """Make the section of a search. `title` is put before its heading, where a page shows several studies."""
    before = f"{title}: " if title else ""
    if not search.trials:
        return [Section(f"{before}Search", [Note(["No trial has begun yet."])])]
    blocks: list[Block] = [
        Note([_said(search)]),
        Panel("Trials in their order. Hollow: cut short.", [_history(search)]),
    ]
    blocks += _best(search)
    shares = [(name, share) for name, share in search.importance.items() if is_number(share)]
    if shares:
        bars = Bars("importance", sorted(shares, key=lambda each: -each[1]), percent=True)
        blocks.append(Panel("How much of the variance of the value each parameter explains.", [bars]))
    if slices := _slices(search):
        blocks.append(Panel("The value against each parameter. Hollow: trials that were cut short.", slices))
    return [Section(f"{before}Search", [*blocks, _trials(search)])]


def _said(search: Search) -> str:
    counts = Counter(STATES.get(trial.state, trial.state) for trial in search.trials)
    return f"{len(search.trials)} trials: {', '.join(f'{count} {state}' for state, count in counts.most_common())}."


def _finite(trial: Trial) -> bool:
    return is_number(trial.value)


def _history(search: Search) -> Dots:
    """Draw each trial's value, and the best so far as a line of steps."""
    whole = [(float(trial.number), float(trial.value or 0)) for trial in search.trials if trial.counts]
    best = list(accumulate((value for _, value in whole), min if search.minimize else max))
    line = [point for (at, _), before, now in zip(whole, [*best[:1], *best], best, strict=False)
            for point in ((at, before), (at, now))]  # fmt: skip
    dots = [Dot(float(trial.number), float(trial.value or 0), hollow=not trial.counts)
            for trial in search.trials if _finite(trial)]  # fmt: skip
    return Dots("value of each trial, and the best so far", dots, "trial", "value", line=line)


def _best(search: Search) -> list[Block]:
    """List the best settings beside the defaults, and how far apart they are with fresh seeds."""
    if not search.best:
        return []
    best, default = _params(search.best), _params(search.default)
    rows = [[name, *(_value(values.get(name)) for values in (best, default))] for name in {**best, **default}]
    grid = Grid("The best settings, beside the default", ["parameter", "best", "default"], rows, frozenset({0, 1, 2}))
    return [grid, *_gain(search.best.get("difference"))]


def _params(values: Mapping[str, Any]) -> dict[str, Any]:
    """List the parameters of a trial, and its value."""
    inside = values.get("params")
    if not isinstance(inside, dict):
        return dict(values)
    return inside | {said: values[name] for name, said in VALUES.items() if values.get(name) is not None}


def _gain(found: object) -> list[Block]:
    """Say how much better the best is than the default, by seeds that have chosen nothing."""
    if not isinstance(found, dict) or not is_number(found.get("mean")):
        return []
    low, high = (found[end] if is_number(found.get(end)) else float("nan") for end in ("low", "high"))
    told = interval(low, high) or "no interval: one seed is all there is"
    return [Note([f"With fresh seeds, the best is {signed(found['mean'])} above the default, {told}."])]


def _value(value: object) -> str:
    if value is None:
        return ""
    return number(value, 4) if isinstance(value, float) else brief(value)


def _slices(search: Search) -> list[Figure]:
    found = [trial for trial in search.trials if _finite(trial)]
    names = dict.fromkeys(name for trial in found for name in trial.params)
    ranked = sorted(names, key=lambda name: -search.importance.get(name, 0.0))
    return [
        _slice(name, [trial for trial in found if name in trial.params], name in search.logarithmic) for name in ranked
    ]


def _slice(name: str, trials: Sequence[Trial], logarithmic: bool) -> Dots:
    """Draw the value against a parameter, on the scale that is searched."""
    values = [trial.params[name] for trial in trials]
    numeric = all(is_number(value) and not isinstance(value, bool) for value in values)
    choices = [] if numeric else list(dict.fromkeys(map(brief, values)))
    places = [float(value) if numeric else float(choices.index(brief(value))) for value in values]
    dots = [
        Dot(place, float(trial.value or 0), hollow=not trial.counts)
        for place, trial in zip(places, trials, strict=True)
    ]
    wide = numeric and min(places) > 0 and (logarithmic or max(places) >= WIDE * min(places))
    return Dots(name, dots, name, "value", logarithmic=wide, names=choices[:CHOICES])


def _trials(search: Search) -> Grid:
    names = list(dict.fromkeys(name for trial in search.trials for name in trial.params))
    rows = [
        [
            str(trial.number),
            _state(trial),
            number(trial.value, 4) if trial.value is not None and _finite(trial) else DASH,
            _time(trial),
        ]
        + [_value(trial.params.get(name)) for name in names]
        for trial in search.trials
    ]
    head = ["trial", "state", "value", "time", *names]
    return Grid("Every trial", head, rows, frozenset({0, 1}), folded=len(rows) > FOLDED)


def _state(trial: Trial) -> str:
    return f"{STATES.get(trial.state, trial.state)}{f': {trial.error}' if trial.error else ''}"


def _time(trial: Trial) -> str:
    return DASH if trial.seconds is None or not is_number(trial.seconds) else in_time(trial.seconds)
