"""Mixup against texts and labels mixed one by one, and what it passes on and refuses."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from regkit_plugins.fixed_weights import FixedWeights
from regkit_plugins.label_smoothing import LabelSmoothing
from regkit_plugins.mixup import Mixup, as_numbers, mixed
from torch import Tensor

from regkit import Batch, MaskedWords, PluginError, Task, TaskLoss, hookimpl
from regkit.testing import tiny_kinds, tiny_tasks, tiny_trainer
from regkit.training.stages import prepare
from tests.helpers import stages_of

TASKS = {task.name: task for task in [*tiny_tasks(), *tiny_kinds()]}
ALL = list(TASKS)


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch([0, 1, 2, 3], [7, 8, 9, 10])


@dataclass
class Asked:
    """Keeps what mixup asks the loss of."""

    vectors: Tensor
    labels: Tensor
    output: Tensor = field(init=False)
    targets: Tensor = field(init=False)

    def __call__(self, output: Tensor, targets: Tensor | None = None) -> Tensor:
        assert targets is not None
        self.output, self.targets = output, targets
        return output.sum()


def drawn(alpha: float, count: int) -> tuple[float, list[int]]:
    """The proportion and the partners that mixup draws next, and set the generator back."""
    state = torch.get_rng_state()
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partners = torch.randperm(count).tolist()
    torch.set_rng_state(state)
    return share, partners


@pytest.mark.parametrize("name", ALL)
def test_vectors_and_labels_are_mixed_with_those_of_a_partner(name: str) -> None:
    task, batch = TASKS[name], batch_of(TASKS[name])
    model = tiny_trainer({}, tasks=[task], dropout=0.0).model
    vectors = model.encode(task, batch, model.embed(batch)).detach()
    asked = Asked(vectors, batch.labels)
    torch.manual_seed(5)
    share, partners = drawn(0.4, 4)
    term = Mixup(alpha=0.4, weight=0.5).extra_losses(model, task, batch, vectors, torch.tensor(3.0), asked)["mixup"]
    assert torch.equal(term, 0.5 * (asked.output.sum() - 3))
    for row, partner in enumerate(partners):
        own = vectors[row * batch.sides : (row + 1) * batch.sides]
        other = vectors[partner * batch.sides : (partner + 1) * batch.sides]
        expected = model.heads[name](share * own + (1 - share) * other)[0]
        torch.testing.assert_close(asked.output[row], expected)
        labels = [number_or_distribution(task, batch.labels[each]) for each in (row, partner)]
        torch.testing.assert_close(asked.targets[row], share * labels[0] + (1 - share) * labels[1])


def number_or_distribution(task: Task, label: Tensor) -> Tensor:
    classes = getattr(task.objective, "classes", 0)
    of_one_class = classes and label.dim() == 0 and task.objective.kind != "binary"
    return torch.eye(classes)[label] if of_one_class else label.float()


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.2, 4.0])
def test_the_proportions_have_the_variance_of_the_beta_distribution(alpha: float) -> None:
    found = torch.tensor([drawn_anew(alpha) for _ in range(400)])
    assert float(found.mean()) == pytest.approx(0.5, abs=0.06)
    assert float(found.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def drawn_anew(alpha: float) -> float:
    """The proportion that mixup draws, read off vectors of 0 and 1."""
    found: list[float] = []

    def task_loss(output: Tensor, targets: Tensor | None = None) -> Tensor:
        assert targets is not None
        values = targets[:, 0][(targets[:, 0] > 0) & (targets[:, 0] < 1)]
        found.extend(values[:1].tolist())
        return output.sum()

    task = TASKS["classes"]
    model = FAST.model
    batch = replace(batch_of(task), labels=torch.tensor([0, 1, 1, 1]))
    while not found:
        Mixup(alpha).extra_losses(model, task, batch, torch.zeros(4, 16), torch.zeros(()), task_loss)
    return found[0]


FAST = tiny_trainer({}, tasks=[TASKS["classes"]], dropout=0.0)


def test_smoothing_and_weights_apply_to_the_mixtures() -> None:
    task = TASKS["classes"]

    @dataclass
    class Keeps:
        found: list[Tensor] = field(default_factory=list)

        @hookimpl
        def extra_losses(self, output: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
            self.found.append(task_loss(output, torch.full((4, 3), 1 / 3)))
            return {}

    plain, both = Keeps(), Keeps()
    options = {"fixed_weights": FixedWeights({"classes": 2.0}), "label_smoothing": LabelSmoothing(0.3)}
    for keeps, plugins in ((plain, {}), (both, options)):
        tiny_trainer({"keeps": keeps, "mixup": Mixup(), **plugins}, tasks=[task], dropout=0.0).passes.losses(
            task, batch_of(task)
        )
    torch.testing.assert_close(both.found[0], 2 * plain.found[0])  # even targets stay even


def test_a_full_weight_leaves_the_loss_of_the_mixtures_alone() -> None:
    task = TASKS["classes"]
    losses = tiny_trainer({"mixup": Mixup()}, tasks=[task], dropout=0.0).passes.losses(task, batch_of(task))
    half = tiny_trainer({"mixup": Mixup(weight=0.5)}, tasks=[task], dropout=0.0).passes.losses(task, batch_of(task))
    torch.testing.assert_close(losses["mixup"], 2 * half["mixup"])
    assert float((losses["task"] + losses["mixup"]).detach()) > 0


def test_vectors_of_bf16_are_mixed_in_float32() -> None:
    assert mixed(torch.ones(2, 3, dtype=torch.bfloat16), torch.tensor([1, 0]), 0.3).dtype == torch.float32


def test_masked_words_are_refused_and_other_tasks_may_be_named() -> None:
    task = replace(TASKS["classes"], name="words", objective=MaskedWords(97))
    trainer = tiny_trainer({"mixup": Mixup()}, tasks=[TASKS["classes"]])
    ((stage, found),) = stages_of(trainer)
    with pytest.raises(
        PluginError, match=r"'mixup' is not for task 'words', a masked words task\. Name .*mixup:tasks=classes\.$"
    ):
        trainer.hook.prepare(model=trainer.model, stage=stage, tasks=[*found, task])
    named = tiny_trainer({"mixup": Mixup(tasks=["classes"])})
    ((stage, found),) = stages_of(named)
    prepare(named.hook, named.model, stage, found)
    other = TASKS["binary"]
    assert named.passes.losses(other, batch_of(other)).keys() == {"task"}


def test_scores_are_mixed_as_they_are() -> None:
    labels = torch.tensor([1.0, 3.0])
    assert as_numbers(TASKS["score"], labels) is labels
