"""Samplers: propose the next point of a space from what was tried.

It is proposed by a Gaussian process, by TPE or at random.
"""

import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, Literal, get_args

from regkit.experiments.search.dimension import Dimension, Space

SamplerName = Literal["gp", "tpe", "random"]
SAMPLERS: Sequence[SamplerName] = get_args(SamplerName)
STARTS = 10  # points at most that are drawn at random before a model is fitted
TOLD = 10  # points from which on importance is estimated
FINITE = 10_000  # points of a space that are listed, to find one that was not tried; of more, one is drawn

Tried = tuple[Mapping[str, Any], float | None]  # a point and its value, higher being better; None while it is running


def propose(space: Space, tried: Sequence[Tried], sampler: SamplerName, seed: int) -> dict[str, Any] | None:
    """Propose a point that was not tried; None where there is no other.

    The answer depends on the arguments alone, so a search that was interrupted proposes what it would have proposed.
    Points that are running count: the Gaussian process and TPE stay away from them. A point outside the space, such as a
    default, is passed over.
    """
    with _optuna() as optuna:
        study = optuna.create_study(direction="maximize", sampler=_sampler(optuna, sampler, seed, len(space)))
        study.add_trials(_history(optuna, space, tried))
        asked = study.ask(_distributions(optuna, space)).params
    found = {name: _decoded(each, asked[name]) for name, each in space.items()}
    points = [dict(point) for point, _ in tried]
    if found not in points:
        return found
    return _another(space, points, seed) if _is_finite(space) else propose(space, tried, "random", seed + 1)


def importance(space: Space, tried: Sequence[Tried]) -> dict[str, float]:
    """Estimate which share of the variance of the values each option explains.

    The method is fANOVA (Hutter et al., ICML 2014). Nothing for fewer than ten values, or if all are equal.
    """
    done = [(point, value) for point, value in tried if value is not None and _within(space, point)]
    if len(done) < TOLD or len({value for _, value in done}) == 1:
        return {}
    with _optuna() as optuna:
        study = optuna.create_study(direction="maximize")
        study.add_trials(_history(optuna, space, done))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return {
            name: float(share)
            for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
        }


def _sampler(optuna: Any, name: SamplerName, seed: int, dimensions: int) -> Any:
    starts = min(STARTS, 2 * dimensions + 2)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=starts, deterministic_objective=False)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=starts, multivariate=True, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)


def _history(optuna: Any, space: Space, tried: Sequence[Tried]) -> list[Any]:
    distributions, states = _distributions(optuna, space), optuna.trial.TrialState
    return [
        optuna.trial.create_trial(
            state=states.RUNNING if value is None else states.COMPLETE,
            value=value,
            params={name: _encoded(each, point[name]) for name, each in space.items()},
            distributions=distributions,
        )
        for point, value in tried
        if _within(space, point)
    ]


def _within(space: Space, point: Mapping[str, Any]) -> bool:
    return all(name in point and each.contains(point[name]) for name, each in space.items())


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    """Describe the space to optuna. Choices are told by their place: numbers in order, words without."""
    kinds, found = optuna.distributions, dict[str, Any]()
    for name, each in space.items():
        low, high, log, step = each.range.low, each.range.high, each.range.log, each.range.step
        if each.choices and each.ordered:
            found[name] = kinds.IntDistribution(0, len(each.choices) - 1)
        elif each.choices:
            found[name] = kinds.CategoricalDistribution(range(len(each.choices)))
        elif each.whole:
            found[name] = kinds.IntDistribution(int(low), int(high), log=log, step=int(step or 1))
        else:
            found[name] = kinds.FloatDistribution(low, high, log=log, step=step)
    return found


def _encoded(dimension: Dimension, value: Any) -> Any:
    return dimension.choices.index(value) if dimension.choices else value


def _decoded(dimension: Dimension, code: Any) -> Any:
    return dimension.choices[code] if dimension.choices else code


def _is_finite(space: Space) -> bool:
    return math.prod(_size(each) for each in space.values()) <= FINITE


def _another(space: Space, points: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any] | None:
    """Draw a point that was not tried; the same point with the same seeds would score the same."""
    every = [dict(zip(space, values, strict=True)) for values in product(*map(_values, space.values()))]
    left = [point for point in every if point not in points]
    return random.Random(seed).choice(left) if left else None


def _size(dimension: Dimension) -> float:
    if dimension.choices:
        return len(dimension.choices)
    step = dimension.range.step or (1 if dimension.whole else 0)
    return math.floor((dimension.range.high - dimension.range.low) / step + 1e-9) + 1 if step else math.inf


def _values(dimension: Dimension) -> Sequence[Any]:
    if dimension.choices:
        return dimension.choices
    low, step = dimension.range.low, dimension.range.step or 1
    kind = int if dimension.whole else float
    return [kind(low + number * step) for number in range(int(_size(dimension)))]


@contextmanager
def _optuna() -> Iterator[Any]:
    """Import optuna, silently: the search itself says what there is to say."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)
