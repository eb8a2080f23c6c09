"""Memory: peak and time of a step, transformers' Trainer and a padded loop beside regkit with and without a bound."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from regkit.base.errors import ConfigError
from regkit.training.effects import Meter
from tests.benchmarks import peers
from tests.benchmarks.options import Options
from tests.benchmarks.ours import Plugins, experiment_of, trainer_of, way_of
from tests.benchmarks.peak import Peak, alone, peak_of
from tests.benchmarks.table import Contender, Table, measure
from tests.benchmarks.turns import Way

BOTH: Plugins = {"smart": {}, "bregman": {}}
ESTIMATED: dict[str, Plugins] = {
    "plain": {},
    "smart": {"smart": {}},
    "smart and bregman": BOTH,
    "freelb": {"freelb": {}},
    "rdrop": {"rdrop": {}},
    "pcgrad, all tasks": {"rrobin": {"per_step": 3}, "pcgrad": {}},
    "mixout": {"mixout": {}},
    "sam": {"sam": {}},
    "ema": {"ema": {}},
}


def tables(options: Options) -> Iterator[Table]:
    """Compare steps with and without a bound: what the padded loop took. Then try the estimate for several plugins."""
    trainer = Contender("transformers' Trainer", partial(peers.hugging_face_trainer, options), "accelerate")
    padded = Contender("transformers, a hand-written loop", partial(peers.hand_loop, options), "transformers")
    plain = Contender("regkit", partial(measured, options, {}))
    both = Contender("regkit, smart and bregman", partial(measured, options, BOTH), alike=False)
    title = f"Memory of a step of {options.task}, batches of {options.batch_size}"
    if options.quick:
        yield measure(title, [trainer, padded, plain], options, memory=True)
        return
    bound = alone(peak_of, (padded if find_spec("transformers") else plain).make, options).most
    bounded, said = within(options, bound)
    found = measure(title, [trainer, padded, plain, both, *bounded], options, memory=True)
    yield replace(found, figures={"the bound": said})
    if bounded:
        yield estimates(options, bound)


def within(options: Options, bound: int) -> tuple[list[Contender], str]:
    """Make the contender whose micro-batches fit into so many bytes, if any do, and say how large they are."""
    try:
        tokens = alone(tokens_within, options, BOTH, bound)
    except ConfigError as error:  # of a tiny encoder, most of the memory is that of libraries
        return [], str(error)
    make = partial(measured, options, BOTH, micro_batch_tokens=tokens)
    contender = Contender("regkit, smart and bregman, bounded", make, alike=False)
    return [contender], f"{bound / 1e6:.0f} MB, so micro-batches have at most {tokens} tokens"


def measured(options: Options, plugins: Plugins, **more: Any) -> Way:
    """Make regkit's update as a run does, with what measures its plugins now and then."""
    experiment = experiment_of(options, plugins, **more)
    meter = Meter(experiment.trainer.state, experiment.composition, experiment.settings.measure_every)
    experiment.composition.observe(meter)
    way = way_of(experiment.trainer)

    def work(number: int) -> None:
        way.work(number)
        meter.finish()

    return replace(way, work=work)


def tokens_within(options: Options, plugins: Plugins, bound: int) -> int:
    """Estimate the size of the micro-batches that fit into so many bytes."""
    tasks = None if "rrobin" in plugins else [options.task]
    trainer = trainer_of(options, plugins, tasks=tasks, memory=bound)
    way_of(trainer)
    return trainer.fit.tokens


def peak_within(options: Options, plugins: Plugins, bound: int) -> Peak:
    """Measure what steps take that are to fit into so many bytes."""
    tasks = None if "rrobin" in plugins else [options.task]
    return peak_of(partial(measured, options, plugins, tasks=tasks, memory=bound), options)


def estimates(options: Options, bound: int) -> Table:
    """Tell how near the peak comes to the bound that the estimate was given."""
    figures = {name: peak_said(options, plugins, bound) for name, plugins in ESTIMATED.items()}
    return Table(f"Steps of regkit that may take {bound / 1e6:.0f} MB", [], figures=figures)


def peak_said(options: Options, plugins: Plugins, bound: int) -> str:
    """Say how near the peak comes to the bound, or that no step fits into it."""
    try:
        most = alone(peak_within, options, plugins, bound).most
    except ConfigError as error:
        return str(error)
    return f"peak {most / 1e6:.0f} MB, {most / bound:.2f} of the bound"
