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
from tests.benchmarks.turns import Spread, clock_of

ROUNDS = 755  # of an epoch: in each, every task has an update
FIRST = 40  # of them, in which regkit watches plugins closely and captures most of its graphs
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
        yield epochs(chosen, 3 if options.quick else options.epoch)
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


def epochs(options: Options, rounds: int = ROUNDS) -> Table:
    """Measure so many rounds of each of `EPOCHS`, once.

    What is left of an epoch is taken to be like its later rounds.
    """
    rows: list[Row] = []
    figures = {}
    for epoch in EPOCHS:
        first, later, row = measured(replace(options, batch_size=epoch.batch_size), epoch, rounds, rows)
        rows.append(row)
        beginning = min(FIRST, rounds // 2)
        whole = first + later * (ROUNDS - beginning) / (rounds - beginning)
        told = "" if rounds == ROUNDS else f", by {rounds} of them"
        figures[epoch.name] = (
            f"{whole:.1f} s for {ROUNDS} rounds{told}, {first:.1f} s of these for the first {beginning}; at most "
            f"{epoch.target:g} s are wanted of an H100"
        )
    return Table(f"{rounds} rounds of three tasks in turn, BERT-base, bf16", rows, figures=figures)


def measured(options: Options, epoch: Epoch, rounds: int, before: list[Row]) -> tuple[float, float, Row]:
    """Measure so many rounds from the first update on.

    Returns the seconds of the first ones, those of the others, and the row.
    """
    trainer = trainer_of(options, epoch.plugins, tasks=None)
    span, clock = enter(trainer), clock_of(options.device)
    parts = range(min(FIRST, rounds // 2)), range(min(FIRST, rounds // 2), rounds)
    first, later = (clock(partial(make_rounds, trainer, span), part) for part in parts)
    rate = sum(tokens(span, number) for number in range(rounds * len(span.tasks))) / (first + later)
    peak = peak_operations(options.device, options.precision)
    share = rate * operations_a_token(trainer) * cost(trainer) / peak if peak else None
    ratio = (first + later) / before[0].seconds.median if before else 1.0
    return first, later, Row(epoch.name, Spread.of([first + later]), Spread.of([ratio]), rate, share)


def make_rounds(trainer: Trainer, span: Span, rounds: range) -> None:
    """Make an update of each task in each round."""
    for number in range(rounds.start * len(span.tasks), rounds.stop * len(span.tasks)):
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
