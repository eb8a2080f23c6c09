"""Pooling: one vector a text, by the setting, by the task, or as the encoder's folder says that it was trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from regkit.base.errors import EncoderError
from regkit.base.randomness import Streams
from regkit.model import Bert, MultitaskModel
from regkit.model.pooling import made_for, text_vectors
from regkit.tasks.names import Pooling
from regkit.testing import TINY, tiny_tasks


def by_hand(encoder: Bert, hidden: Tensor, batch: Any, pooling: Pooling) -> Tensor:
    """Text by text."""
    texts = torch.split(hidden, batch.lengths)
    if pooling == "pooler":
        return torch.tanh(torch.stack([encoder.pooler(text[0]) for text in texts]))
    reduce = {"cls": lambda text: text[0], "mean": lambda text: text.mean(0), "max": lambda text: text.amax(0)}
    return torch.stack([reduce[pooling](text) for text in texts])


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("number", [0, 3], ids=["single", "apart"])
def test_vectors_and_gradients_are_those_of_each_text_by_itself(pooling: Pooling, number: int) -> None:
    torch.manual_seed(0)
    encoder = Bert(TINY).double().eval()
    batch = tiny_tasks()[number].splits["train"].batch([0, 5, 3, 7])
    found, wanted = [], []
    for vectors, gradients in ((text_vectors, found), (None, wanted)):
        embeddings = encoder.embed(batch).detach().requires_grad_()
        if vectors:
            result = vectors(encoder, embeddings, batch, pooling)
        else:
            result = by_hand(encoder, encoder.encode(embeddings, batch), batch, pooling)
        (result * torch.arange(result.numel()).view_as(result).cos()).sum().backward()
        gradients += [result.detach(), embeddings.grad]
    torch.testing.assert_close(found, wanted)


def test_a_task_may_have_its_own() -> None:
    tasks = [replace(task, pooling="max") if task.name == "binary" else task for task in tiny_tasks()]
    model = MultitaskModel(Bert(TINY), tasks, Streams(0), pooling="mean").eval()
    for task in tasks[:3]:
        batch = task.splits["train"].batch([1, 2])
        embeddings = model.embed(batch)
        vectors = text_vectors(model.encoder, embeddings, batch, "max" if task.name == "binary" else "mean")
        assert torch.equal(model.predict(task, batch, embeddings), model.heads[task.name](vectors))


MEAN = {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        (MEAN, "mean"),
        (MEAN | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_mean_tokens": False}, "pooler"),
        ([], "pooler"),
        (None, "pooler"),
    ],
)
def test_the_folder_of_sentence_transformers_says_what_the_encoder_was_trained_with(
    content: object, pooling: str, tmp_path: Path
) -> None:
    (tmp_path / "1_Pooling").mkdir()
    if content is not None:
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(content))
    assert made_for(tmp_path) == pooling


@pytest.mark.parametrize(
    "content",
    [
        MEAN | {"pooling_mode_cls_token": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "lasttoken"},
    ],
)
def test_a_pooling_that_regkit_has_not_is_refused_with_those_it_has(content: object, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match="choose another pooling by --pooling: pooler, cls, mean, max"):
        made_for(tmp_path)
