"""Faults: plugins that are wrong in one way each, as people write them."""

import copy
import random
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regkit import Batch, Classification, MultitaskModel, Predict, Task, TaskLoss, hookimpl

Terms = Mapping[str, Any]


class FloatTerm:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": output.square().mean().item()}


class VectorTerm:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": output.flatten().square()}


class BackwardInside:
    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor, predict: Predict) -> Terms:
        output.square().mean().backward(retain_graph=True)
        return {"mine": predict(embeddings * 1.1).square().mean()}


class PythonsRandom:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": random.random() * output.square().mean()}


class NumpysRandom:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": float(np.random.rand()) * output.square().mean()}


@dataclass
class ForgottenState:
    average: float = field(default=0.0, init=False)

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": self.average * output.square().mean()}

    @hookimpl
    def after_step(self, step: int) -> None:
        self.average = 0.9 * self.average + 0.1 * step


@dataclass
class SetInState:
    seen: set[int] = field(default_factory=set, init=False)

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": 0.1 * len(self.seen) * output.square().mean()}

    @hookimpl
    def after_step(self, step: int) -> None:
        self.seen = self.seen | {step}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = set(state["seen"])


class WeightInPlace:
    @hookimpl
    def extra_losses(self, model: MultitaskModel, output: Tensor) -> Terms:
        with torch.no_grad():
            next(iter(model.heads["classes"].parameters())).mul_(0.99)
        return {"mine": output.square().mean()}


class SummedLoss:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": output.square().flatten(1).sum() if output.dim() > 1 else output.square().sum()}


class TorchRand:
    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor, predict: Predict) -> Terms:
        return {"mine": (predict(embeddings + 0.1 * torch.randn_like(embeddings)) - output).square().mean()}


class WrapperWithoutReturn:
    @hookimpl(wrapper=True)
    def task_loss(self) -> Generator[None, Tensor, None]:
        loss = yield
        loss * 2


class DecidesNothing:
    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task]) -> None:
        list(tasks)

    @hookimpl
    def epoch_steps(self) -> int:
        return 4


@dataclass
class TeacherWithGradients:
    teacher: MultitaskModel = field(init=False)

    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        self.teacher = copy.deepcopy(model)

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, output: Tensor, predict: Predict) -> Terms:
        target = predict(self.teacher.embed(batch), dropout="off", model=self.teacher)
        return {"mine": task.objective.divergence(output, target)}


class ModeLeftInEval:
    @hookimpl
    def extra_losses(self, model: MultitaskModel, embeddings: Tensor, output: Tensor, predict: Predict) -> Terms:
        model.eval()
        return {"mine": (predict(embeddings * 1.1) - output).square().mean()}


class AnothersName:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"smart": output.square().mean()}


class DetachedTerm:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": output.detach().square().mean()}


class SeedsItself:
    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor) -> Terms:
        torch.manual_seed(0)
        return {"mine": output.square().mean()}


class ClockInTheLoss:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": (time.perf_counter_ns() % 1000) / 1000 * output.square().mean()}


@dataclass
class LoadsNothing(ForgottenState):
    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@dataclass
class ChangesItsOption:
    weight: float = 1.0

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": self.weight * output.square().mean()} if self.weight else {}

    @hookimpl
    def after_step(self) -> None:
        self.weight *= 0.5


class OneKindOnly:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": output.softmax(1).square().mean()}


@dataclass
class LearnsTooEarly:
    count: float = field(default=0.0, init=False)

    @hookimpl
    def before_step(self) -> None:
        self.count += 1

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": 0.01 * self.count * output.square().mean()}

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


@dataclass
class ZeroIsNotZero:
    weight: float = 1.0

    @hookimpl(wrapper=True)
    def task_loss(self) -> Generator[None, Tensor, Tensor]:
        loss = yield
        return loss * (1.5 + self.weight)


class LostInBf16:
    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor, predict: Predict) -> Terms:
        moved = predict(embeddings + 1e-5 * embeddings.detach().sign())
        return {"mine": 1e4 * (moved - output).square().mean()}


class Contrast:
    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        rows = output.flatten(1) if output.dim() > 1 else output[:, None]
        return {"mine": (rows @ rows.T).sigmoid().mean()}


class GradientTakenAway:
    @hookimpl
    def before_step(self, model: MultitaskModel) -> None:
        model.zero_grad()


class EmbeddingsInPlace:
    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor) -> Terms:
        embeddings.data.mul_(1.01)
        embeddings.detach().add_(0.0)
        return {"mine": output.square().mean()}


@dataclass
class WrongCost:
    cost: ClassVar[float] = 1.1

    @hookimpl
    def extra_losses(self, task: Task, embeddings: Tensor, output: Tensor, predict: Predict) -> Terms:
        return {"mine": task.objective.divergence(predict(embeddings, dropout="fresh"), output)}


class ActsNowhere:
    @hookimpl
    def extra_losses(self, task: Task, output: Tensor) -> Terms:
        return {"mine": output.square().mean()} if task.name == "sentiment" else {}


class BatchStatistic:
    @hookimpl(wrapper=True)
    def predict(self) -> Generator[None, Tensor, Tensor]:
        output = yield
        return output - output.mean(0)


class OtherLoss:
    """Right: kept beside the wrong ones, so that what the kit says of them is not said of everything."""

    @hookimpl
    def extra_losses(self, embeddings: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss) -> Terms:
        return {"mine": 0.1 * (task_loss(predict(embeddings * 1.1)) - loss)}


class ClassesOnly:
    """Right: refuses by name what it cannot handle."""

    @hookimpl
    def prepare(self, tasks: Sequence[Task]) -> None:
        from regkit import PluginError

        for task in tasks:
            if not isinstance(task.objective, Classification):
                raise PluginError(f"'mine' is for classes, and task '{task.name}' has none; leave it out by `tasks`.")

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": F.softmax(output, 1).square().mean()}


@dataclass(slots=True)
class Reporter:
    """Right: looks on, and counts on the scores of every task."""

    best: float = field(default=0.0, init=False)

    @hookimpl
    def evaluated(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        self.best = max(self.best, *(next(iter(each.values())) for each in scores.values()))


# Of each wrong plugin: the check that fails, and words of its sentence.
FAULTS: Mapping[type, tuple[str, str]] = {
    FloatTerm: ("it_acts", "gives 'mine' as"),
    VectorTerm: ("it_acts", "a tensor of shape"),
    BackwardInside: ("it_acts", "take gradients by torch.autograd.grad"),
    PythonsRandom: ("it_acts", "draws from Python's random"),
    NumpysRandom: ("it_acts", "draws from numpy's global generator"),
    ForgottenState: ("resume_is_exact", "forgets `average`"),
    SetInState: ("a_checkpoint_is_exact", "of type set at 'seen'"),
    WeightInPlace: ("it_acts", "extra_losses changes the weight heads.classes"),
    SummedLoss: ("micro_batches_do_not_show", "the term 'mine' is a sum over the examples"),
    TorchRand: ("micro_batches_do_not_show", "torch.randn_like in extra_losses; use batch.noise"),
    WrapperWithoutReturn: ("it_acts", "is a `return` missing?"),
    DecidesNothing: ("it_acts", "is a `return` missing?"),
    TeacherWithGradients: ("a_teacher_gets_no_gradient", "lets gradients gather in `teacher`"),
    ModeLeftInEval: ("it_acts", "leaves the mode of the model changed"),
    AnothersName: ("terms_have_names_of_their_own", "calls a term 'smart', as plugin 'smart' does"),
    DetachedTerm: ("it_acts", "gives 'mine' without a gradient"),
    SeedsItself: ("hooks_keep_to_their_part", "calls torch.manual_seed; leave that out"),
    ClockInTheLoss: ("resume_is_exact", "two runs with one seed differ already"),
    LoadsNothing: ("resume_is_exact", "forgets `average`"),
    ChangesItsOption: ("resume_is_exact", "forgets `weight`"),
    OneKindOnly: ("every_kind_is_taken_or_refused", "the task 'binary' (Binary, cross_encoder) cannot be trained"),
    LearnsTooEarly: ("a_skipped_step_leaves_no_trace", "keep in after_step what is learned"),
    ZeroIsNotZero: ("strength_zero_is_no_plugin", "weight=0"),
    LostInBf16: ("bf16_is_no_trouble", "measures rounding"),
    Contrast: ("micro_batches_do_not_show", "whole_batches = True"),
    GradientTakenAway: ("it_acts", "no weight has changed"),
    EmbeddingsInPlace: ("it_acts", "changes `embeddings` in place"),
    WrongCost: ("cost_is_as_declared", "2.0"),
    BatchStatistic: ("micro_batches_do_not_show", "the loss of the task of a batch is not the mean"),
}
RIGHT = (OtherLoss, ClassesOnly, Reporter)
