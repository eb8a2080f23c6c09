"""Pairs: a training step of pairs read apart, by the cosine of their vectors, beside sentence-transformers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from regkit.data.order import Feed
from regkit.model import save_encoder
from regkit.model.modes import autocast
from regkit.tasks.objectives import SCALE
from regkit.tasks.task import FINETUNE
from tests.benchmarks.by_hand import WHOLE, by_hand
from tests.benchmarks.options import BATCHES, Options
from tests.benchmarks.ours import regkit_way, trainer_of
from tests.benchmarks.padded import Inputs, padded
from tests.benchmarks.table import Contender, Table, measure
from tests.benchmarks.turns import Way


def tables(options: Options) -> Iterator[Table]:
    """Compare steps of a regression of pairs, read apart, with mean pooling."""
    if options.pairs is None:
        yield Table("A step of pairs read apart", [], ["Left out: no task of the data has scores of pairs."])
        return
    settings = {"tasks": [options.pairs], "pair_mode": {options.pairs: "bi_encoder"}, "pooling": "mean"}
    for bucketing, batches in BATCHES.items():
        chosen = replace(options, bucketing=bucketing)
        theirs = partial(sentence_transformers, chosen, settings)
        contenders = [
            Contender("sentence-transformers, a hand-written loop", theirs, "sentence_transformers"),
            Contender("regkit", partial(regkit_way, chosen, {}, **settings)),
        ]
        yield measure(f"A step of {options.pairs}, pairs read apart: {batches}", contenders, chosen)


class Scaled(nn.Module):
    """Put a cosine on the scale of regkit's labels: the losses are then equal."""

    def forward(self, cosine: Tensor) -> Tensor:
        return SCALE * cosine


def sentence_transformers(options: Options, settings: Mapping[str, Any], attention: str | None = None) -> Way:
    """Make the update by hand with sentence-transformers' model, by transformers' usual attention or another."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    trainer, device = trainer_of(options, {}, **settings), options.device
    (task,), bert = (
        trainer.tasks,
        Transformer(str(options.encoder), model_kwargs={"attn_implementation": attention} if attention else None),
    )
    theirs = {name.removeprefix("bert."): weight for name, weight in save_encoder(trainer.model.encoder)[1].items()}
    bert.auto_model.load_state_dict(theirs)
    pooling = Pooling(trainer.model.encoder.width, "mean")
    model = SentenceTransformer(modules=[bert, pooling], device=str(device)).train()
    feed = Feed(task, trainer.streams.seed, FINETUNE, bucketing=options.bucketing)
    error = CosineSimilarityLoss(model, cos_score_transformation=Scaled())

    def forward(number: int) -> tuple[Tensor, Tensor]:
        (batch,) = feed.micro_batches(number, WHOLE)
        with autocast(device, options.dtype):
            vectors = [model(side)["sentence_embedding"] for side in sides(padded(batch, device))]
            loss = error.compute_loss_from_embeddings(vectors, batch.labels.to(device))
            return SCALE * torch.cosine_similarity(*vectors), loss

    return by_hand(model, dict(bert.auto_model.named_parameters(prefix="bert")), feed, forward)


def sides(inputs: Inputs) -> list[Inputs]:
    """Part a padded batch into the first and the second texts, each padded to its own longest."""
    parts = [{name: value[side::2] for name, value in inputs.items()} for side in (0, 1)]
    longest = [int(part["attention_mask"].sum(1).max()) for part in parts]
    return [{name: value[:, :most] for name, value in part.items()} for part, most in zip(parts, longest, strict=True)]
