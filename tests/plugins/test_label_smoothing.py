"""Label smoothing against targets written out by hand, and what it leaves alone, refuses and passes on."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from regkit_plugins.label_smoothing import LabelSmoothing
from torch import Tensor
from torch.nn import functional as F

from regkit import Batch, Binary, Multilabel, PluginError, Stage, Task, hookimpl
from regkit.hooks import catalog
from regkit.testing import tiny_kinds, tiny_tasks, tiny_trainer
from regkit.training.stages import prepare
from tests.helpers import regkit, stages_of, write_encoder, write_tasks

TASKS = {task.name: task for task in tiny_tasks()}
ABLE = ["classes", "binary", "features"]
OUTPUTS = {name: [4, 3] if name == "classes" else [4] for name in ABLE}


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch([0, 3, 5, 6], [11, 12, 13, 14])


def begin(plugin: LabelSmoothing, tasks: Sequence[Task]) -> None:
    """As at the beginning of a stage of these tasks; the run has no others."""
    trainer = tiny_trainer({"label_smoothing": plugin}, tasks=tasks)
    ((stage, found),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, found)


def loss_of(plugin: LabelSmoothing, task: Task, output: Tensor) -> Tensor:
    """The loss as the loop computes it."""
    hook = tiny_trainer({"label_smoothing": plugin}).hook
    found: Tensor = hook.task_loss(task=task, batch=batch_of(task), output=output)
    return found


@pytest.mark.parametrize("smoothing", [0.05, 0.3, 0.9])
def test_the_loss_of_classes_is_the_cross_entropy_with_the_targets_of_the_paper(smoothing: float) -> None:
    """(1 - epsilon) at the label, and epsilon / 3 at every class, the label's own included."""
    output, labels = torch.randn(4, 3), batch_of(TASKS["classes"]).labels
    expected = 0.0
    for example, label in enumerate(labels.tolist()):
        total = sum(math.exp(logit) for logit in output[example].tolist())
        for number, logit in enumerate(output[example].tolist()):
            target = (1 - smoothing) * (number == label) + smoothing / 3
            expected -= target * math.log(math.exp(logit) / total) / 4
    found = loss_of(LabelSmoothing(smoothing, ABLE), TASKS["classes"], output)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", ["binary", "features"])
@pytest.mark.parametrize("smoothing", [0.05, 0.3, 0.9])
def test_yes_or_no_is_two_classes_as_torch_smooths_them(task: str, smoothing: float) -> None:
    """The logit of yes against a logit of 0 for no."""
    output = torch.randn(4)
    two = torch.stack([torch.zeros(4), output], dim=1)
    expected = F.cross_entropy(two, batch_of(TASKS[task]).labels, label_smoothing=smoothing)
    torch.testing.assert_close(loss_of(LabelSmoothing(smoothing, ABLE), TASKS[task], output), expected)


KINDS = {task.name: task for task in tiny_kinds()}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_with_classes_is_smoothed_as_its_targets_are(name: str) -> None:
    """By hand, in shares of the loss that each class alone would have: those of the label, mixed with even ones."""
    task, labels = KINDS[name], batch_of(KINDS[name]).labels
    objective, smoothing = task.objective, 0.3
    output = torch.randn(4, objective.width) if objective.width > 1 else torch.randn(4)
    if isinstance(objective, Binary | Multilabel):
        wrong = objective.loss(output, 1 - labels)
        wanted = (1 - smoothing / 2) * objective.loss(output, labels) + smoothing / 2 * wrong
    else:
        each = torch.stack(
            [objective.loss(output, torch.eye(objective.classes)[[place] * 4]) for place in range(objective.classes)]
        )
        wanted = (1 - smoothing) * objective.loss(output, labels) + smoothing * each.mean()
    found = tiny_trainer({"label_smoothing": LabelSmoothing(smoothing)}, tasks=[task]).hook.task_loss(
        task=task, batch=batch_of(task), output=output
    )
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("given", "found"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
@pytest.mark.parametrize("task", ABLE)
def test_the_loss_is_computed_in_float32_or_finer(task: str, given: str, found: str) -> None:
    output = torch.randn(OUTPUTS[task]).to(getattr(torch, given))
    loss = loss_of(LabelSmoothing(0.3, ABLE), TASKS[task], output)
    assert loss.dtype is getattr(torch, found)
    exact = loss_of(LabelSmoothing(0.3, ABLE), TASKS[task], output.double())
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)


def test_the_best_answer_of_yes_or_no_is_the_smoothed_label() -> None:
    """By hand: with 0.2 the least loss is at 0.9 for yes and at 0.1 for no, and no surer."""
    task = TASKS["binary"]
    output = torch.where(batch_of(task).labels == 1, math.log(9), -math.log(9)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(LabelSmoothing(0.2, ABLE), task, output), output)
    torch.testing.assert_close(gradient, torch.zeros(4), rtol=0, atol=1e-7)


@pytest.mark.parametrize("named", [["classes"], ["binary"], ["features", "classes"]])
def test_only_the_named_tasks_are_smoothed_and_the_others_keep_their_loss(named: list[str]) -> None:
    for name in TASKS:
        output = torch.randn(OUTPUTS.get(name, [4]))
        plain = TASKS[name].objective.loss(output, batch_of(TASKS[name]).labels)
        found = loss_of(LabelSmoothing(0.3, named), TASKS[name], output)
        assert torch.equal(found, plain) == (name not in named)


def test_without_names_every_task_is_smoothed() -> None:
    for name in ABLE:
        output = torch.randn(OUTPUTS[name])
        found = loss_of(LabelSmoothing(0.3), TASKS[name], output)
        assert not torch.isclose(found, TASKS[name].objective.loss(output, batch_of(TASKS[name]).labels))


@pytest.mark.parametrize(
    ("tasks", "named", "sentence"),
    [
        (
            list(TASKS),
            [],
            "'label_smoothing' is not for task 'score', a regression task. "
            "Name those it is for: label_smoothing:tasks=classes,binary,features.",
        ),
        (
            ["cosine", "classes"],
            ["classes", "cosine"],
            "'label_smoothing' is not for task 'cosine', a regression task. Name those it is for: label_smoothing:tasks=classes.",
        ),
        (["score"], [], "'label_smoothing' is not for task 'score', a regression task. Leave 'label_smoothing' out."),
        (
            ["classes", "binary"],
            ["classes", "binery"],
            "'label_smoothing' knows no task 'binery'. Did you mean 'binary'? Available: binary, classes.",
        ),
        (["classes"], ["quora"], "'label_smoothing' knows no task 'quora'. Available: classes."),
    ],
)
def test_what_it_cannot_smooth_is_refused_in_a_sentence(tasks: list[str], named: list[str], sentence: str) -> None:
    with pytest.raises(PluginError) as caught:
        begin(LabelSmoothing(tasks=named), [TASKS[name] for name in tasks])
    assert str(caught.value) == sentence


@dataclass
class Earlier:
    """A stage before fine-tuning, of one task alone."""

    task: str

    @hookimpl
    def stages(self) -> Sequence[Stage]:
        return [Stage("earlier", [self.task], steps=1)]


def test_a_named_task_may_be_missing_from_a_stage_and_an_unable_one_may_be_there_unnamed() -> None:
    tiny_trainer({"earlier": Earlier("score"), "label_smoothing": LabelSmoothing(0.3, ABLE)}, steps=1).train()
    with pytest.raises(PluginError, match="knows no task 'binery'"):
        tiny_trainer({"earlier": Earlier("score"), "label_smoothing": LabelSmoothing(0.3, ["binery"])}).train()


def test_the_remedy_of_the_refusal_is_accepted_as_it_is_written() -> None:
    with pytest.raises(PluginError) as caught:
        begin(LabelSmoothing(), list(TASKS.values()))
    name, options = catalog.parse(str(caught.value).split(": ")[1].removesuffix("."))
    plugin = catalog.make(name, options)
    begin(plugin, list(TASKS.values()))
    assert plugin.tasks == ABLE


def test_on_the_command_line_the_refusal_leaves_no_run_and_the_remedy_makes_one(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    write_tasks(tmp_path / "data")
    train = ["train", "--encoder", "encoder", "--data", "data", "--steps", 1, "--output", "run", "-p"]
    ran = regkit(*train, "label_smoothing", cwd=tmp_path)
    assert (ran.status, ran.err) == (
        2,
        "regkit: 'label_smoothing' is not for task 'near', a regression task. "
        "Name those it is for: label_smoothing:tasks=mood,same.\n",
    )
    assert not (tmp_path / "run").exists()
    assert regkit(*train, "label_smoothing:tasks=mood,same", cwd=tmp_path).status == 0


@pytest.mark.parametrize("smoothing", [1.0, -0.1])
def test_a_share_that_leaves_no_target_or_more_than_all_of_it_is_refused(smoothing: float) -> None:
    with pytest.raises(PluginError, match="smoothing"):
        catalog.make("label_smoothing", {"smoothing": smoothing})


@dataclass
class Double:
    """Weighs every loss, and notes what it was given."""

    seen: list[Tensor] = field(default_factory=list, init=False)

    @hookimpl(wrapper=True)
    def task_loss(self) -> Generator[None, Tensor, Tensor]:
        loss = yield
        self.seen.append(loss)
        return 2 * loss


@pytest.mark.parametrize("order", [["double", "label_smoothing"], ["label_smoothing", "double"]])
@pytest.mark.parametrize("task", [TASKS[name] for name in (*ABLE, "score")], ids=lambda task: task.name)
def test_a_plugin_that_weighs_losses_is_given_the_smoothed_one(order: list[str], task: Task) -> None:
    double = Double()
    plugins = {"double": double, "label_smoothing": LabelSmoothing(0.3, ABLE)}
    trainer = tiny_trainer({name: plugins[name] for name in order}, dropout=0.0)
    loss = trainer.passes.losses(task, batch_of(task))["task"]
    output = trainer.model.predict(task, batch_of(task), trainer.model.embed(batch_of(task)))
    smoothed = loss_of(LabelSmoothing(0.3, ABLE), task, output)
    torch.testing.assert_close(double.seen, [smoothed])
    torch.testing.assert_close(loss, 2 * smoothed)


@dataclass
class Elsewhere:
    """Asks for the loss of another output."""

    found: list[tuple[Tensor, Tensor]] = field(default_factory=list, init=False)

    @hookimpl
    def extra_losses(self, output: Tensor, task_loss: Callable[[Tensor], Tensor]) -> Mapping[str, Tensor]:
        other = output.detach() + 1
        self.found.append((other, task_loss(other)))
        return {}


def test_the_loss_that_other_plugins_ask_for_is_smoothed_too() -> None:
    elsewhere = Elsewhere()
    plugins = {"elsewhere": elsewhere, "label_smoothing": LabelSmoothing(0.3, ABLE)}
    tiny_trainer(plugins).passes.losses(TASKS["classes"], batch_of(TASKS["classes"]))
    ((output, loss),) = elsewhere.found
    torch.testing.assert_close(loss, loss_of(LabelSmoothing(0.3, ABLE), TASKS["classes"], output))


@dataclass
class Scores:
    found: list[Mapping[str, Mapping[str, float]]] = field(default_factory=list, init=False)

    @hookimpl
    def evaluated(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        self.found.append(scores)


def test_the_loss_of_an_evaluation_is_the_plain_one() -> None:
    def before_training(plugins: Mapping[str, object]) -> Mapping[str, Mapping[str, float]]:
        scores = Scores()
        tiny_trainer({"scores": scores, **plugins}, steps=1).train()
        return scores.found[0]

    assert before_training({"label_smoothing": LabelSmoothing(0.5, ABLE)}) == before_training({})


@dataclass
class Mine:
    @hookimpl
    def task_loss(self, output: Tensor) -> Tensor:
        return output.sum()


def test_another_plugin_that_decides_the_loss_is_refused() -> None:
    plugins: Sequence[tuple[str, object]] = [("label_smoothing", LabelSmoothing()), ("mine", Mine())]
    with pytest.raises(PluginError, match="'label_smoothing' and 'mine' both decide task_loss; keep one of them"):
        tiny_trainer(dict(plugins))
