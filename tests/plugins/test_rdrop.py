"""R-Drop against a slow, obvious version: two masks on transformers' padded BERT, one example at a time."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from regkit_plugins.rdrop import RDrop
from torch import Tensor
from torch.nn import functional as F

from regkit.tasks.objectives import Classification, Objective, Regression
from regkit.tasks.task import Task
from regkit.testing import tiny_task, tiny_tasks, tiny_trainer
from tests.helpers import PATIENT
from tests.plugins.oracle import (
    KEYS,
    Double,
    InputDropout,
    Oracle,
    examples,
    loss_by_hand,
    same_value_and_gradients,
    total,
)


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_loss_and_its_gradients_are_those_of_the_oracle(task: Task) -> None:
    masks = InputDropout()
    trainer = tiny_trainer({"rdrop": RDrop(weight=0.7), "masks": masks}, dropout=0.0)
    trainer.model.double()
    batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
    losses = trainer.passes.losses(task, batch)

    oracle, terms = Oracle(trainer), []
    both = zip(*(examples(batch, mask) for mask in masks.masks), batch.labels, strict=True)
    for (ids, segments, first), (_, _, second), label in both:
        texts = [oracle.bert.embeddings.word_embeddings(text) for text in ids]
        one, other = (
            oracle.output(task, [text * part for text, part in zip(texts, mask, strict=True)], segments)
            for mask in (first, second)
        )
        supervised = loss_by_hand(task, one, label) + loss_by_hand(task, other, label)
        terms.append(supervised / 2 + 0.7 * oracle.distance(task, one, other) / 2)
    same_value_and_gradients(trainer, task, total(losses), oracle, torch.stack(terms).mean())


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_second_pass_draws_masks_of_its_own(task: Task) -> None:
    masks = InputDropout()
    trainer = tiny_trainer({"rdrop": RDrop(), "masks": masks})
    losses = trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS))
    first, second = masks.masks
    assert not torch.equal(first, second)
    assert float(losses["rdrop"].detach()) > 1e-6
    assert abs(float(losses["rdrop second"].detach())) > 1e-6


def test_the_second_pass_has_as_much_dropout_as_the_first() -> None:
    masks = InputDropout()
    trainer = tiny_trainer({"rdrop": RDrop(), "masks": masks}, dropout=0.3)
    modes = []
    trainer.model.encoder.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    trainer.model.heads["classes"].register_forward_pre_hook(lambda module, _: modes.append(module.training))
    task = tiny_tasks()[0]
    trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS))
    assert modes == [True, True]
    assert [mask.bool().all().item() for mask in masks.masks] == [False, False]


def test_the_clean_pass_and_its_loss_are_as_without_the_plugin() -> None:
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    with_it = tiny_trainer({"rdrop": RDrop()}).passes.losses(task, batch)["task"]
    assert torch.equal(with_it, tiny_trainer({}).passes.losses(task, batch)["task"])


def test_without_dropout_it_is_the_plain_loss() -> None:
    for task in tiny_tasks():
        losses = tiny_trainer({"rdrop": RDrop()}, dropout=0.0).passes.losses(
            task, task.splits["train"].batch([0, 1, 2, 3], KEYS)
        )
        assert float(losses["rdrop"].detach()) == float(losses["rdrop second"].detach()) == 0


def answer(
    objective: Objective, weight: float, first: Tensor, second: Tensor, labels: Tensor, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """R-Drop's whole loss of two outputs, and its gradients in the first and the second; of batches of 4."""
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    loss = objective.loss(first, labels)
    terms = RDrop(weight, **options).extra_losses(
        task=replace(tiny_task("any", objective), batch_size=4),
        embeddings=torch.empty(0),
        output=first,
        loss=loss,
        predict=lambda _, dropout: second,
        task_loss=lambda other: objective.loss(other, labels),
    )
    found = total({"task": loss} | terms)
    return (found.detach(), *torch.autograd.grad(found, [first, second]))


LOGITS = st.lists(st.floats(-4, 4), min_size=24, max_size=24)


@PATIENT
@given(LOGITS, st.floats(0.01, 5))
def test_exchanging_the_two_passes_exchanges_their_gradients(logits: list[float], weight: float) -> None:
    """Neither side is a constant, no direction of the divergence is missing, and both losses count the same."""
    first, second = torch.tensor(logits, dtype=torch.float64).view(2, 4, 3)
    labels = torch.tensor([0, 1, 2, 1])
    value, one, two = answer(Classification(3), weight, first, second, labels)
    turned, other_one, other_two = answer(Classification(3), weight, second, first, labels)
    torch.testing.assert_close(value, turned)
    torch.testing.assert_close(one, other_two)
    torch.testing.assert_close(two, other_one)


def test_both_sides_of_the_divergence_are_differentiated() -> None:
    labels = torch.tensor([1, 0])
    first, second = torch.tensor([[0.0, 1, 2], [1, 1, 0]]), torch.tensor([[0.5, 0, 1], [2, 0, 0]])
    small, large = (answer(Classification(3), weight, first, second, labels) for weight in (1.0, 3.0))
    for one, other in zip(small[1:], large[1:], strict=True):
        assert (other - one).abs().max() > 0.1


def test_an_impossible_class_changes_nothing() -> None:
    """A divergence averaged over classes, as by kl_div with reduction="mean", would shrink."""
    first, second = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1])
    value, one, _ = answer(Classification(3), 1.0, first, second, labels)
    never = torch.full((4, 2), -300.0, dtype=torch.float64)
    wide = [torch.cat([output, never], 1) for output in (first, second)]
    wider, wide_one, _ = answer(Classification(5), 1.0, *wide, labels)
    torch.testing.assert_close(wider, value)
    torch.testing.assert_close(wide_one[:, :3], one)


@pytest.mark.parametrize("objective", [Classification(3), tiny_tasks()[1].objective, Regression(0, 5)])
def test_every_example_twice_gives_the_same_loss(objective: Objective) -> None:
    shape = (4, 3) if objective.width > 1 else (4,)
    first, second = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0]).to(objective.label_type)
    once = answer(objective, 1.0, first, second, labels)[0]
    doubled = (values.repeat_interleave(2, 0) for values in (first, second, labels))
    torch.testing.assert_close(answer(objective, 1.0, *doubled)[0], once)


def test_the_divergence_is_half_the_sum_of_both_directions_times_the_weight() -> None:
    first, second = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.4, 0.6]]).log()
    there = 0.8 * torch.tensor(0.8 / 0.4).log() + 0.2 * torch.tensor(0.2 / 0.6).log()
    back = 0.4 * torch.tensor(0.4 / 0.8).log() + 0.6 * torch.tensor(0.6 / 0.2).log()
    supervised = -(torch.tensor(0.8).log() + torch.tensor(0.4).log()) / 2
    found = answer(Classification(2), 3.0, first, second, torch.tensor([0]))[0]
    torch.testing.assert_close(found, supervised + 3.0 * (there + back) / 2)


def test_the_sum_with_a_weight_of_a_quarter_is_half_the_loss_of_the_authors_code() -> None:
    """Which adds up both losses, and half the mean of both divergences, each summed over the batch."""
    first, second = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1])
    there, back = (
        F.kl_div(one.log_softmax(-1), other.softmax(-1), reduction="sum")
        for one, other in ((first, second), (second, first))
    )
    authors = F.cross_entropy(first, labels) + F.cross_entropy(second, labels) + 0.5 * (there + back) / 2
    found = answer(Classification(3), 0.25, first, second, labels, reduction="sum")[0]
    torch.testing.assert_close(2 * found, authors)
    torch.testing.assert_close(answer(Classification(3), 1.0, first, second, labels)[0], found)  # 4 / 4: batches of 4


def test_of_a_score_the_default_is_half_the_loss_of_the_authors_code_with_either_reduction() -> None:
    first, second = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0.0, 1, 2, 1])
    authors = F.mse_loss(first, labels) + F.mse_loss(second, labels) + F.mse_loss(first, second)
    for options in ({}, {"reduction": "sum"}):
        torch.testing.assert_close(2 * answer(Regression(0, 5), 1.0, first, second, labels, **options)[0], authors)


def test_the_sum_does_not_depend_on_how_a_batch_is_cut() -> None:
    first, second = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    whole, *halves = (
        answer(Classification(3), 2.0, first[rows], second[rows], torch.tensor([0, 1, 2, 1])[rows], reduction="sum")[0]
        for rows in (slice(None), slice(2), slice(2, None))
    )
    torch.testing.assert_close(torch.stack(halves).mean(), whole)


def test_the_second_loss_goes_through_the_wrappers_of_the_first() -> None:
    for task in tiny_tasks():
        batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
        plain = tiny_trainer({"rdrop": RDrop()}).passes.losses(task, batch)
        for plugins in ({"rdrop": RDrop(), "double": Double()}, {"double": Double(), "rdrop": RDrop()}):
            doubled = tiny_trainer(plugins).passes.losses(task, batch)
            for term, times in {"task": 2, "rdrop second": 2, "rdrop": 1}.items():
                torch.testing.assert_close(doubled[term], times * plain[term])


def test_no_update_has_the_masks_of_another() -> None:
    masks = InputDropout()
    task = tiny_tasks()[0]
    trainer = tiny_trainer({"rdrop": RDrop(), "masks": masks}, tasks=[task], steps=3, micro_batch_tokens=20)
    trainer.train()
    found = [tuple(mask.flatten()[:32].tolist()) for mask in masks.masks]
    assert len(found) > 6  # micro-batches, two passes each
    assert len(set(found)) == len(found)
