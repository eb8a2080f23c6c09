"""Ascent: how much of the worst perturbation SMART's search finds, how large its term is, and where its effect goes.

    python -m tests.benchmarks.ascent ENCODER DATA --task sst [--radii 0.01 0.1] [--moments 8 60 184]

A plain training is looked at in a few of its updates, one batch each, under the dropout masks of that update. The worst
point is looked for by many steps of the gradient's sign from several starts; of each example the best one counts.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from regkit_plugins.smart import Smart
from torch import Tensor

import regkit
from regkit import Batch, MultitaskModel, Predict, Task, hookimpl
from regkit.hooks.option_values import SHARE
from regkit.model.modes import mode
from regkit.model.pooling import vectors_by_pooling
from regkit.training.auto_weights import holding

STARTS, STEPS, CROSSING = 5, 50, 12.5  # of the long search; all its steps together are so many radii
CORNERS = 4  # random ones to average over
POOLINGS = ("mean", "cls", "pooler")


@dataclass
class Place:
    """A batch in the middle of a training, and a box around its embeddings."""

    task: Task
    batch: Batch
    embeddings: Tensor  # [tokens, width], detached
    output: Tensor  # the clean one, detached
    predict: Predict
    radius: float

    @property
    def reach(self) -> Tensor:
        return self.radius * self.batch.rms(self.embeddings)

    def found(self, smart: Smart) -> Tensor:
        return smart.adversary(self.task, self.batch, self.embeddings, self.output, self.predict).detach()

    def far(self, nudge: Tensor) -> Tensor:
        """Compute the divergence of each example from its clean output: `[examples]`."""
        with torch.no_grad():
            moved = self.predict(self.embeddings + nudge)
        pairs = zip(moved.split(1), self.output.split(1), strict=True)
        return torch.stack([self.task.objective.divergence(*pair) for pair in pairs])

    def climbed(self, nudge: Tensor) -> Tensor:
        """Climb by many steps of the gradient's sign, each shorter than the one before."""
        for step in range(STEPS):
            nudge.requires_grad_()
            distance = self.task.objective.divergence(self.output, self.predict(self.embeddings + nudge))
            (slope,) = torch.autograd.grad(distance, nudge)
            length = 2 * CROSSING / STEPS * (1 - step / STEPS)
            nudge = inside(nudge.detach() + length * self.reach * slope.sign(), self.reach)
        return nudge

    def worst(self) -> Tensor:
        """Compute the largest divergence found of each example, from where three usual steps end and random starts."""
        starts = [self.found(Smart(epsilon=self.radius, steps=3))]
        starts += [self.reach * self.batch.noise(self.embeddings, f"start {n}", "uniform") for n in range(STARTS - 1)]
        return torch.stack([self.far(self.climbed(start)) for start in starts]).amax(0)

    def corner(self, number: int = 0) -> Tensor:
        return self.reach * self.batch.noise(self.embeddings, f"corner {number}").sign()


def inside(nudge: Tensor, reach: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(nudge, reach), -reach)


def search(place: Place) -> Mapping[str, float]:
    """Divide what searches find by the most that is known to be there."""
    radius, most = place.radius, place.worst().mean()
    searches = {f"K={steps}": Smart(epsilon=radius, steps=steps) for steps in (1, 2, 3)}
    searches |= {f"eta {far} radii": Smart(epsilon=radius, eta=far * radius) for far in (10, 1)}
    found = {name: float(place.far(place.found(smart)).mean() / most) for name, smart in searches.items()}
    random = torch.stack([place.far(place.corner(number)).mean() for number in range(CORNERS)]).mean()
    return found | {"random": float(random / most)}


def share(place: Place, model: MultitaskModel, loss: Tensor, embeddings: Tensor, output: Tensor) -> Mapping[str, float]:
    """Compute the term of weight 1, its share of the gradient, and the weight that would make that a tenth."""
    nudge = place.found(Smart(epsilon=place.radius))
    term = place.task.objective.divergence(place.predict(embeddings + nudge), output)
    found = holding(model, loss, {"smart": term}, {"smart": SHARE})["smart"]
    weight = found.weight if found else float("nan")
    return {"term": float(term.detach()), "share": 1 / (1 + 9 * weight), "auto weight": weight}


def moves(place: Place, model: MultitaskModel) -> Mapping[str, float]:
    """Compute how far text vectors and outputs move, over the spread among the texts of the batch, without dropout."""
    nudge, found = place.found(Smart(epsilon=place.radius)), {}
    poolings = [name for name in POOLINGS if name != "pooler" or hasattr(model.encoder, "pool")]

    def seen(embeddings: Tensor) -> Mapping[str, Tensor]:
        vectors = vectors_by_pooling(model.encoder, embeddings, place.batch, poolings)
        output = model.predict(place.task, place.batch, embeddings)
        output = output - output.mean(1, keepdim=True) if output.dim() == 2 else output[:, None]
        return vectors | {"output": output}

    with mode(model, training=False), torch.no_grad():
        clean, moved = seen(place.embeddings), seen(place.embeddings + nudge)
    for name, values in clean.items():
        found[f"{name} moves"] = float((moved[name] - values).norm() / (values - values.mean(0)).norm())
    return found


@dataclass
class Look:
    """Print what SMART would find in some updates of a training, which stays as it is."""

    moments: tuple[int, ...] = ()
    radii: tuple[float, ...] = ()
    update: int = field(default=0, init=False)

    @hookimpl
    def extra_losses(
        self,
        model: MultitaskModel,
        task: Task,
        batch: Batch,
        embeddings: Tensor,
        output: Tensor,
        loss: Tensor,
        predict: Predict,
    ) -> Mapping[str, Tensor]:
        if self.update in self.moments:
            place = Place(task, batch, embeddings.detach(), output.detach(), predict, 0.0)
            for here in (replace(place, radius=radius) for radius in self.radii):
                found = {**search(here), **share(here, model, loss, embeddings, output), **moves(here, model)}
                print(" | ".join(cells(task.name, self.update, here.radius, found)), flush=True)
        return {}

    @hookimpl
    def after_step(self, step: int) -> None:
        self.update = step + 1

    def state_dict(self) -> dict[str, int]:
        return {"update": self.update}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.update = state["update"]


def cells(task: str, update: int, radius: float, found: Mapping[str, float]) -> Iterator[str]:
    yield from (task, f"update {update}", f"radius {radius}")
    yield from (f"{name} {value:.2g}" for name, value in found.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What SMART's search finds in the updates of a plain training.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="sst")
    parser.add_argument("--radii", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--moments", type=int, nargs="+", default=[8, 60, 184])
    parser.add_argument("--updates", type=int, default=192)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        regkit.train(
            chosen.data,
            plugins=[Look(tuple(chosen.moments), tuple(chosen.radii))],
            output=Path(folder) / "run",
            quiet=True,
            encoder=str(chosen.encoder),
            tasks=[chosen.task],
            steps=chosen.updates,
            eval_steps=chosen.updates,
            learning_rate=chosen.learning_rate,
            batch_size=chosen.batch_size,
            seed=chosen.seed,
            subsample={chosen.task: chosen.examples},
            precision="fp32",
            micro_batch_tokens=16384,
            measure_every=0,
        )
