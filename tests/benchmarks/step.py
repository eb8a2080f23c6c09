"""Step: a training step of one task, by regkit and by its peers, on the same batches of real text."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from tests.benchmarks import peers
from tests.benchmarks.options import BATCHES, Options
from tests.benchmarks.ours import operations_a_token, regkit_way, trainer_of
from tests.benchmarks.table import Contender, Table, measure


def tables(options: Options) -> Iterator[Table]:
    """Compare steps on random batches, and on batches of texts of like length."""
    for bucketing, batches in BATCHES.items():
        chosen = replace(options, bucketing=bucketing)
        title = f"A step of {chosen.task}, batches of {chosen.batch_size}, {chosen.precision}: {batches}"
        yield measure(title, contenders(chosen), chosen, operations=operations_a_token(trainer_of(chosen, {})))


def contenders(options: Options) -> list[Contender]:
    return [
        Contender("transformers, a hand-written loop", partial(peers.hand_loop, options), "transformers"),
        Contender("transformers' Trainer", partial(peers.hugging_face_trainer, options), "accelerate"),
        Contender("regkit", partial(regkit_way, options, {})),
    ]
