"""GPU: epochs of three tasks in the shape of BERT-base, beside what a GPU should take for them, and steps beside peers.

Weights are random, as only the time counts. Where no GPU is, nothing is measured.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from regkit.model import Bert, BertConfig, save_encoder
from regkit.model.tokenizer import Tokenizer
from regkit.training.loop import Trainer
from regkit.training.stages import Span
from tests.benchmarks import pairs, peers
from tests.benchmarks.options import Options
from tests.benchmarks.ours import Plugins, enter, operations_a_token, regkit_way, trainer_of, update
from tests.benchmarks.surroundings import peak_operations
from tests.benchmarks.table import Contender, Row, Table, measure
from tests.benchmarks.turns import WARM_UP, Spread, clock_of

ROUNDS = 755  # of an epoch: in each, every task has an update
REGULARIZED: Plugins = {"rrobin": {}, "smart": {}, "bregman": {}}
FLASH = "flash_attention_2"  # of transformers, by the package flash_attn


@dataclass(frozen=True)
class Epoch:
    """An epoch that is measured, and the seconds that it should take at most on an H100."""

    name: str
    plugins: Plugins
    batch_size: int
    target: float


EPOCHS = (
    Epoch("plain, batch 64", {"rrobin": {}}, 64, 8),
    Epoch("smart and bregman, batch 64", REGULARIZED, 64, 25),
    Epoch("smart and bregman, batch 8", REGULARIZED, 8, 10),
)


def tables(options: Options) -> Iterator[Table]:
    """Measure epochs, and steps beside peers that know lengths as well; in bf16."""
    if options.device.type != "cuda":
        yield Table("Epochs and steps on a GPU", [], ["Left out: this part needs a GPU."])
        return
    with TemporaryDirectory() as folder:
        encoder = write_shape(Path(folder) / "encoder", options.encoder)
        chosen = replace(options, encoder=encoder, precision="bf16", batch_size=64)
        yield epochs(chosen, 2 if options.quick else ROUNDS)
        yield from steps(chosen)


def write_shape(folder: Path, tokenizer: Path, **shape: Any) -> Path:
    """Write a random encoder, of BERT-base's shape unless told otherwise, for the tokenizer of another."""
    read = Tokenizer.load(tokenizer)
    config, tensors = save_encoder(Bert(BertConfig(len(read), **shape)))
    folder.mkdir()
    read.save(folder)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    save_file(tensors, folder / "model.safetensors")
    return folder


def epochs(options: Options, rounds: int) -> Table:
    """Measure each of `EPOCHS` once, after a few updates that warm up."""
    rows, figures = [], {}
    for epoch in EPOCHS:
        row, share = measured(replace(options, batch_size=epoch.batch_size), epoch, rounds, rows)
        rows.append(row)
        said = f"{row.seconds.median:.2f} s for {rounds} rounds"
        whole = f", or {row.seconds.median * share:.1f} s for {ROUNDS}" if rounds != ROUNDS else ""
        figures[epoch.name] = f"{said}{whole}; at most {epoch.target:g} s are wanted of an H100"
    return Table("Epochs of three tasks in turn, BERT-base, bf16", rows, figures=figures)


def measured(options: Options, epoch: Epoch, rounds: int, before: list[Row]) -> tuple[Row, float]:
    """Measure an epoch of so many rounds; also returns how many times as long a whole one is."""
    trainer = trainer_of(options, epoch.plugins, tasks=None)
    span = enter(trainer)
    for number in range(WARM_UP + len(span.tasks)):  # plugins are watched, kernels tried
        update(trainer, span, number)
    taken = clock_of(options.device)(partial(make_epoch, trainer, span), rounds)
    rate = sum(tokens(span, number) for number in range(rounds * len(span.tasks))) / taken
    peak = peak_operations(options.device, options.precision)
    share = rate * operations_a_token(trainer) * cost(trainer) / peak if peak else None
    ratio = taken / before[0].seconds.median if before else 1.0
    return Row(epoch.name, Spread.of([taken]), Spread.of([ratio]), rate, share), ROUNDS / rounds


def make_epoch(trainer: Trainer, span: Span, rounds: int) -> None:
    """Make an update of each task in each round."""
    for number in range(rounds * len(span.tasks)):
        update(trainer, span, number)


def tokens(span: Span, number: int) -> int:
    """Count the tokens of update `number`, without padding: `rrobin` gives the tasks their turns."""
    feed = span.feed(span.tasks[number % len(span.tasks)])
    return int(feed.lengths[feed.rows(number)].sum())


def cost(trainer: Trainer) -> float:
    """Count the operations of an update in those of a plain one: what each plugin adds, by its own word."""
    return 1.0 + sum(getattr(plugin, "cost", 1.0) - 1.0 for plugin in trainer.state.plugins.values())


def steps(options: Options) -> Iterator[Table]:
    """Compare steps with those of peers; of pairs read apart where the data has such."""
    contenders = [
        Contender("transformers, padded", partial(peers.hand_loop, options), "transformers"),
        Contender(
            "transformers, padding-free with flash-attn", partial(peers.padding_free, options, FLASH), "flash_attn"
        ),
        Contender("regkit", partial(regkit_way, options, {})),
    ]
    operations = operations_a_token(trainer_of(options, {}))
    yield measure(
        f"A step of {options.task}, BERT-base, batches of 64, bf16", contenders, options, operations=operations
    )
    if options.pairs:
        yield measure(f"A step of {options.pairs}, pairs read apart", of_pairs(options, options.pairs), options)


def of_pairs(options: Options, task: str) -> list[Contender]:
    settings: Mapping[str, Any] = {"tasks": [task], "pair_mode": {task: "bi_encoder"}, "pooling": "mean"}
    theirs = partial(pairs.sentence_transformers, options, settings)
    return [
        Contender("sentence-transformers", theirs, "sentence_transformers"),
        Contender("sentence-transformers with flash-attn", partial(theirs, attention=FLASH), "flash_attn"),
        Contender("regkit", partial(regkit_way, options, {}, **settings)),
    ]
