"""Smart: steps with regularizers, beside the plain step and smart-pytorch."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from tests.benchmarks import peers
from tests.benchmarks.options import BATCHES, Options
from tests.benchmarks.ours import Plugins, regkit_way
from tests.benchmarks.table import Contender, Table, measure

PLUGINS: dict[str, Plugins] = {
    "smart": {"smart": {}},
    "smart and bregman": {"smart": {}, "bregman": {}},
    "rdrop": {"rdrop": {}},
    "sam": {"sam": {}},
    "freelb": {"freelb": {}},
}


def tables(options: Options) -> Iterator[Table]:
    """Compare with a plain step of transformers on random batches, and with regkit's own plain step."""
    chosen = replace(options, bucketing=False)
    contenders = [
        Contender("transformers, a hand-written loop", partial(peers.hand_loop, chosen), "transformers"),
        Contender("smart-pytorch in that loop", partial(peers.smart_pytorch, chosen), "smart_pytorch"),
        plain(chosen),
        regularized(chosen, "smart"),
    ]
    yield measure(f"SMART beside a plain step of {chosen.task}, random batches", contenders, chosen)
    names = list(PLUGINS)[:1] if options.quick else list(PLUGINS)
    title = f"Regularizers beside the plain step of {options.task}, {BATCHES[options.bucketing]}"
    yield measure(title, [plain(options), *(regularized(options, name) for name in names)], options)


def plain(options: Options) -> Contender:
    return Contender("regkit", partial(regkit_way, options, {}))


def regularized(options: Options, name: str) -> Contender:
    """A step with a term that no other row has."""
    return Contender(f"regkit, {name}", partial(regkit_way, options, PLUGINS[name]), alike=False)
