"""Faults: plugins that are wrong in one way each, as people write them."""

import copy
import dataclasses
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from regkit import Batch, MultitaskModel, Predict, Task, hookimpl
from regkit.hooks.watch import FIRST
from regkit.model.dropout import Dropout
from regkit.model.modes import mode

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
            weight(model).mul_(0.99)
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


@dataclass
class TeacherInADictionary:
    models: dict[str, MultitaskModel] = field(default_factory=dict, init=False)

    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        self.models = {"teacher": copy.deepcopy(model)}

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, output: Tensor, predict: Predict) -> Terms:
        teacher = self.models["teacher"]
        return {"mine": task.objective.divergence(output, predict(teacher.embed(batch), dropout="off", model=teacher))}


@dataclass
class ProjectionUntrained:
    """Has a module that no optimizer was given."""

    projection: torch.nn.Linear = field(init=False)

    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        self.projection = torch.nn.Linear(1, 4)

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": self.projection(output.reshape(-1, 1)).square().mean()}


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
        embeddings.detach().add_(1)
        return {"mine": output.square().mean()}


@dataclass
class WrongCost:
    cost: ClassVar[float] = 1.1

    @hookimpl
    def extra_losses(self, task: Task, embeddings: Tensor, output: Tensor, predict: Predict) -> Terms:
        return {"mine": task.objective.divergence(predict(embeddings, dropout="fresh"), output)}


class BatchStatistic:
    @hookimpl(wrapper=True)
    def predict(self) -> Generator[None, Tensor, Tensor]:
        output = yield
        return output - output.mean(0)


def weight(model: MultitaskModel) -> Tensor:
    found: Tensor = model.encoder.layers[0].up.weight
    return found


def hook(name: str, method: Callable[..., Any], **marks: bool) -> type:
    """A class of plugins with one hook."""
    return type(name, (), {name: hookimpl(**marks)(method)})


def doing(action: Callable[[MultitaskModel], object], name: str = "extra_losses") -> type:
    """Plugins that do something to the model, and give no term."""
    return hook(name, lambda self, model: (action(model), {})[1])


def forget_return(self: object) -> Generator[None, Tensor, None]:
    yield


def evaluating(self: object, model: MultitaskModel) -> Generator[None, Tensor, Tensor]:
    with mode(model, training=False):
        return (yield)


def switch_off(self: object) -> Generator[None, Tensor, Tensor]:
    with torch.no_grad():
        return (yield)


def yield_twice(self: object) -> Generator[None, Tensor, Tensor]:
    loss = yield
    yield
    return loss


def sum_up(self: object, task: Task, batch: Batch, output: Tensor) -> Tensor:
    assert batch.labels is not None
    return len(batch) * task.objective.loss(output, batch.labels)


def sum_up_around(self: object, batch: Batch) -> Generator[None, Tensor, Tensor]:
    return len(batch) * (yield)


def pop(self: object, tasks: list[Task]) -> Sequence[Task]:
    return [tasks.pop()]


def step_by_itself(self: object, optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


def shorten(self: object, batch: Batch) -> Batch:
    return dataclasses.replace(batch, labels=None)


def draw_late(self: object, step: int) -> float:
    return 1.0 if step < FIRST else 1.0 + random.random()


class Watchful:
    """Puts a hook of torch's on a module in each call, to see its output."""

    seen: ClassVar[list[float]] = []

    @hookimpl
    def extra_losses(self, model: MultitaskModel, output: Tensor) -> Terms:
        model.encoder.layers[0].register_forward_hook(lambda *given: None)
        return {"mine": output.square().mean()}


class WithoutDropout:
    @hookimpl
    def extra_losses(self, model: MultitaskModel, embeddings: Tensor, output: Tensor, predict: Predict) -> Terms:
        for module in model.modules():
            if isinstance(module, Dropout):
                module.rate = 0.0
        return {"mine": (predict(embeddings * 1.1) - output).square().mean()}


class WeightTurned:
    """Changes a weight so that neither torch's count nor its norm tells."""

    @hookimpl
    def extra_losses(self, model: MultitaskModel, output: Tensor) -> Terms:
        weight(model).data.neg_()
        return {"mine": output.square().mean()}


class EmbeddingsByData:
    @hookimpl
    def extra_losses(self, embeddings: Tensor, output: Tensor) -> Terms:
        embeddings.data.mul_(1.01)
        return {"mine": output.square().mean()}


class SharedByAll:
    """Keeps its state in the class, so that a second run in one process begins with that of the first."""

    counts: ClassVar[dict[str, float]] = {"steps": 0.0}

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": 0.1 * self.counts["steps"] * output.square().mean()}

    @hookimpl
    def after_step(self) -> None:
        self.counts["steps"] += 1


@dataclass
class FromTheSystem:
    """Draws from what no seed of any library reaches."""

    random: Any = field(default_factory=random.SystemRandom, init=False)

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": self.random.random() * output.square().mean()}


@dataclass
class Draws:
    """Draws from a generator of its own."""

    random: Any = field(default_factory=lambda: random.Random(0), init=False)

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": self.random.random() * output.square().mean()}


@dataclass
class DrawsByNumpy(Draws):
    random: Any = field(default_factory=lambda: np.random.default_rng(0), init=False)


@dataclass
class Remembers:
    """Keeps the output of the last step with its graph."""

    last: Tensor | None = field(default=None, init=False)

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        last, self.last = self.last, output.mean()
        return {} if last is None else {"mine": (self.last - last) ** 2}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Unmarked:
    @hookimpl
    def after_step(self) -> None: ...

    def extra_losses(self, loss: Tensor) -> Terms:
        return {"mine": loss}


class HalfAState(ForgottenState):
    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}


class Misspelt:
    @hookimpl
    def extra_loss(self, loss: Tensor) -> Terms:
        return {"mine": loss}


class ModuleTooLate:
    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        model.projection = torch.nn.Linear(2, 2)


class YieldUnmarked:
    @hookimpl
    def task_loss(self) -> Generator[None, Tensor, Tensor]:
        return (yield)
