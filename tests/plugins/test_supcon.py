"""The supervised contrastive loss against a loop over pairs, and what it refuses."""

import math

import pytest
import torch
from regkit_plugins.freeze import Freeze
from regkit_plugins.supcon import SupCon, contrast
from torch import Tensor
from torch.nn import functional as F

from regkit import Batch, PluginError
from regkit.testing import tiny_kinds, tiny_tasks, tiny_trainer
from regkit.training.stages import prepare
from tests.helpers import stages_of

TASKS = {task.name: task for task in [*tiny_tasks(), *tiny_kinds()]}


def by_hand(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """L_out of Khosla et al., pair by pair."""
    total = torch.zeros((), dtype=vectors.dtype)
    cosine = F.cosine_similarity
    for i in range(len(labels)):
        others = [k for k in range(len(labels)) if k != i]
        positives = [j for j in others if labels[j] == labels[i]]
        below = sum((cosine(vectors[i], vectors[k], dim=0) / temperature).exp() for k in others)
        for j in positives:
            total = total - ((cosine(vectors[i], vectors[j], dim=0) / temperature).exp() / below).log() / len(positives)
    return total / len(labels)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0, 0], [0, 1, 2], [1, 1, 1]])
def test_the_term_and_its_gradient_are_those_of_the_paper(labels: list[int], temperature: float) -> None:
    torch.manual_seed(1)
    vectors = torch.randn(len(labels), 5, dtype=torch.float64, requires_grad=True)
    found, wanted = (each(vectors, torch.tensor(labels), temperature) for each in (contrast, by_hand))
    torch.testing.assert_close(found, wanted)
    if wanted.requires_grad:
        torch.testing.assert_close(*(torch.autograd.grad(each, vectors)[0] for each in (found, wanted)))


def test_a_batch_of_one_example_gives_0_and_a_gradient_of_0() -> None:
    vectors = torch.randn(1, 5, requires_grad=True)
    loss = contrast(vectors, torch.tensor([2]), 0.3)
    assert loss == 0
    assert torch.equal(torch.autograd.grad(loss, vectors)[0], torch.zeros(1, 5))


def test_texts_of_one_class_move_together() -> None:
    vectors = torch.tensor([[1.0, 0.2], [0.3, 1.0], [-1.0, 0.1], [-0.2, -1.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    (gradient,) = torch.autograd.grad(contrast(vectors, labels, 0.5), vectors)
    moved = vectors.detach() - 0.1 * gradient
    for one, other in ((0, 1), (2, 3)):
        was, now = (F.cosine_similarity(each[one], each[other], dim=0) for each in (vectors, moved))
        assert now > was


@pytest.mark.parametrize("name", ["classes", "binary", "grades"])
def test_the_run_contrasts_the_vectors_that_the_head_reads(name: str) -> None:
    task = TASKS[name]
    batch: Batch = task.splits["train"].batch([0, 1, 2, 3], [7, 8, 9, 10])
    trainer = tiny_trainer({"supcon": SupCon(weight=3.0)}, tasks=[task], dropout=0.0)
    term = trainer.passes.losses(task, batch)["supcon"]
    model = trainer.model
    vectors = model.encode(task, batch, model.embed(batch))
    torch.testing.assert_close(term, 3 * by_hand(vectors, batch.labels, 0.3))


def test_other_tasks_have_no_term() -> None:
    task = TASKS["classes"]
    trainer = tiny_trainer({"supcon": SupCon(tasks=["binary"])}, dropout=0.0)
    assert trainer.passes.losses(task, task.splits["train"].batch([0, 1], [7, 8])).keys() == {"task"}


@pytest.mark.parametrize("name", ["score", "cosine", "features", "ranks", "labels", "shares"])
def test_tasks_without_a_class_and_a_vector_for_each_example_are_refused_by_name(name: str) -> None:
    trainer = tiny_trainer({"supcon": SupCon()}, tasks=[TASKS["classes"], TASKS[name]])
    ((stage, found),) = stages_of(trainer)
    with pytest.raises(PluginError) as caught:
        prepare(trainer.hook, trainer.model, stage, found)
    assert f"'supcon' is not for task '{name}'" in str(caught.value)
    assert str(caught.value).endswith("Name those it is for: supcon:tasks=classes.")
    assert ("whose pairs are read apart" in str(caught.value)) == (name in ("features", "ranks"))


def test_a_frozen_encoder_whose_vectors_do_not_move_is_refused() -> None:
    trainer = tiny_trainer({"supcon": SupCon(), "freeze": Freeze()}, tasks=[TASKS["classes"]])
    with pytest.raises(
        PluginError, match=r"'supcon' moves the vectors of texts, but the encoder is frozen; leave it out"
    ):
        trainer.train()


def test_equal_vectors_give_the_logarithm_of_the_number_of_others() -> None:
    assert float(contrast(torch.ones(6, 4), torch.zeros(6), 0.05)) == pytest.approx(math.log(5))
