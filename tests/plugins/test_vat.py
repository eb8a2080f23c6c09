"""VAT against an oracle in float64 on transformers' BERT, one example at a time, and how good its direction is."""

from itertools import product

import pytest
import torch
from regkit_plugins.vat import VAT, divergence
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from regkit import Batch, Binary, Multilabel, PluginError, Task
from regkit.testing import tiny_kinds, tiny_tasks, tiny_trainer
from regkit.testing.tiny import measured, unscored
from tests.plugins.cases import table
from tests.plugins.oracle import KEYS, Oracle, chances_by_hand, examples, same_value_and_gradients

TASKS = [*tiny_tasks(), *tiny_kinds()]
EACH = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
QUICK = {("cosine", 1), ("labels", 2)}  # the others are slow


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch([0, 1, 2, 3], KEYS)


def one_sided(task: Task, target: Tensor, output: Tensor) -> Tensor:
    """KL(target, output) of one example, by torch's own distributions."""
    if task.objective.kind == "regression":
        return (target - output) ** 2
    if isinstance(task.objective, Binary | Multilabel):
        return kl_divergence(Bernoulli(logits=target), Bernoulli(logits=output)).mean()  # over labels
    return kl_divergence(*(Categorical(probs=chances_by_hand(task, each)) for each in (target, output)))


class VATOracle(Oracle):
    """Algorithm 1 of the paper, example by example."""

    def __init__(self, trainer, vat: VAT) -> None:
        super().__init__(trainer)
        self.vat = vat

    def term(self, task: Task, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        terms, found = [], []
        for ids, segments, drawn in examples(batch, noise):
            texts = [self.bert.get_input_embeddings()(text) for text in ids]
            clean = [text.detach() for text in texts]
            target = self.output(task, texts, segments).detach()
            size = torch.cat(clean).norm()
            direction = torch.cat(drawn) / torch.cat(drawn).norm()
            lengths = [len(text) for text in texts]
            for _ in range(self.vat.steps):
                step = (self.vat.xi * size * direction).requires_grad_()
                moved = [text + part for text, part in zip(clean, step.split(lengths), strict=True)]
                (gradient,) = torch.autograd.grad(one_sided(task, target, self.output(task, moved, segments)), step)
                direction = gradient / gradient.norm()
            nudge = self.vat.epsilon * size * direction
            moved = [text + part for text, part in zip(texts, nudge.split(lengths), strict=True)]
            terms.append(one_sided(task, target, self.output(task, moved, segments)))
            found.append(nudge)
        return torch.stack(terms).mean(), torch.cat(found)


@pytest.mark.parametrize(("name", "steps"), table(product([task.name for task in TASKS], [1, 2]), QUICK))
def test_the_term_and_its_gradients_are_those_of_the_oracle(name: str, steps: int) -> None:
    (task,) = (task for task in TASKS if task.name == name)
    vat = VAT(weight=2.0, epsilon=0.1, xi=0.01, steps=steps)
    trainer = tiny_trainer({"vat": vat}, tasks=[task], dropout=0.0)
    trainer.model.double()
    batch, oracle = batch_of(task), VATOracle(trainer, vat)
    noise = batch.noise(trainer.model.embed(batch), "vat")
    term = trainer.passes.losses(task, batch)["vat"]
    expected, _ = oracle.term(task, batch, noise)
    same_value_and_gradients(trainer, task, term, oracle, 2 * expected)


@EACH
def test_the_divergence_is_one_sided_and_a_mean_over_examples(task: Task) -> None:
    torch.manual_seed(2)
    target, output = (torch.randn(5, task.objective.width).squeeze(1) for _ in range(2))
    expected = sum(one_sided(task, *rows) for rows in zip(target, output, strict=True)) / 5
    torch.testing.assert_close(divergence(task, target, output), expected, rtol=1e-4, atol=1e-6)
    assert divergence(task, output, output) == pytest.approx(0, abs=1e-6)


def test_the_direction_found_is_better_than_a_random_one() -> None:
    tasks = unscored(tiny_tasks()[:2])
    _, _, records = measured({"vat": VAT()}, tasks=tasks)
    found = [record["measures"][name]["vat"]["over random"] for record in records for name in record["measures"]]
    assert len(found) > 3
    assert min(found) > 2


def test_every_example_is_moved_by_its_share_of_its_norm() -> None:
    vat, task = VAT(epsilon=0.3), TASKS[0]
    batch, read = batch_of(task), []
    embeddings = torch.randn(len(batch.tokens), 16)
    vat.extra_losses(task, batch, embeddings, predict=lambda each, radius: read.append(each) or sums(batch, each))
    nudge = read[-1].detach() - embeddings
    for row, part in zip(embeddings.split(batch.example_lengths), nudge.split(batch.example_lengths), strict=True):
        assert float(part.norm() / row.norm()) == pytest.approx(0.3, rel=1e-4)


def sums(batch: Batch, embeddings: Tensor) -> Tensor:
    """Logits of three classes from the sums of an example's first three coordinates, squashed."""
    parts = embeddings.split(batch.example_lengths)
    return torch.stack([part.sum(0)[:3].tanh() for part in parts])


def test_an_objective_without_a_distribution_is_refused_by_name() -> None:
    class Rank:
        kind = "rank"

    with pytest.raises(PluginError, match=r"task 'order' \(rank\) has neither; leave 'vat' out\.$"):
        VAT().prepare([Task("order", Rank(), {})])
