"""Ladder: measure what rounding does to SMART's term and to its gradient, by number format and radius.

    python -m tests.benchmarks.ladder [ENCODER] [DATA] [--tasks sst,quora,sts] [--formats bf16,fp16,TF32,fp32] [--device cuda]

The encoder is first fine-tuned for a few updates, so that its heads say something. The perturbation is found in float64,
and the term at it is computed in each format, dropout off: its error, and that of its gradient with respect to all
weights, are relative to float64. The worst of the tasks is printed. On a CPU, products in TF32 are imitated.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from regkit_plugins.smart import Smart
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from regkit import Experiment, Settings
from regkit.model import MultitaskModel, tf32
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task

RADII = (0.3, 0.1, 0.05, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # in units of the RMS of the word embeddings
UPDATES, EXAMPLES = 30, 16
BITS = 13  # of float32's 23 that TF32 leaves out
PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm}


class TF32(TorchDispatchMode):
    """Matrix products as TF32 makes them, forward and backward: factors with 10 bits of mantissa, sums in float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in PRODUCTS:
            *added, one, other = args
            args = (*added, rounded(one), rounded(other))
        return func(*args, **(kwargs or {}))


def rounded(values: Tensor) -> Tensor:
    """Round float32 to TF32's bits, to the nearest."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + (1 << (BITS - 1))) & -(1 << BITS)).view(torch.float32)


FORMATS: dict[str, Callable[[str], AbstractContextManager[Any]]] = {
    "bf16": lambda device: torch.autocast(device, torch.bfloat16),
    "fp16": lambda device: torch.autocast(device, torch.float16),
    "TF32": lambda device: tf32.switched(tf32.ON) if device == "cuda" else TF32(),
    "fp32": lambda device: nullcontext(),
}


class Term:
    """SMART's term of a batch at one perturbation, and the float64 that it is compared with."""

    def __init__(self, model: MultitaskModel, task: Task, batch: Batch, radius: float) -> None:
        self.model, self.task, self.batch, self.device = model, task, batch, batch.tokens.device.type
        self.exact = copy.deepcopy(model).double()
        smart = Smart(epsilon=radius, sigma=radius, eta=100 * radius)
        clean = self.exact.embed(batch).detach()
        output = self.exact.predict(task, batch, clean).detach()

        def predict(embeddings: Tensor, **_: Any) -> Tensor:
            return self.exact.predict(task, batch, embeddings)

        self.nudge = smart.adversary(task, batch, clean, output, predict).detach()
        self.wanted = self.of(self.exact, nullcontext())

    def of(
        self, model: MultitaskModel, format_: AbstractContextManager[Any], scale: float = 1.0
    ) -> tuple[float, Tensor]:
        """Compute the term and its gradient, which is scaled up on its way back: fp16 has no small numbers."""
        model.zero_grad()
        with format_:
            embeddings = model.embed(self.batch)
            nudge = self.nudge.to(embeddings.dtype)
            outputs = [model.predict(self.task, self.batch, each) for each in (embeddings + nudge, embeddings)]
            term = self.task.objective.divergence(*outputs)
            (scale * term).backward()
        gradients = [each.grad.double().flatten() / scale for each in model.parameters() if each.grad is not None]
        return float(term.detach()), torch.cat(gradients)

    def errors(self, name: str) -> tuple[float, float]:
        """Compute how far the term and its gradient are from float64's, relative to these."""
        term, gradient = self.wanted
        found, slope = self.of(self.model, FORMATS[name](self.device), 2.0**10 / term if name == "fp16" else 1.0)
        return abs(found - term) / term, float((slope - gradient).norm() / gradient.norm())


def table(
    encoder: str | None, data: Path | None, tasks: list[str] | None, formats: list[str], device: str = "cpu"
) -> Iterator[str]:
    """Write the table, a row as it is measured."""
    settings = Settings(
        data=data, encoder=encoder, tasks=tasks, steps=UPDATES, device=device, precision="fp32", learning_rate=1e-4
    )
    experiment = Experiment.build(settings)
    experiment.trainer.train()
    experiment.model.eval()
    yield f"| radius, RMS | {' | '.join(f'{name}: term | gradient' for name in formats)} |"
    yield f"| {' | '.join(['---'] * (1 + 2 * len(formats)))} |"
    for radius in RADII:
        terms = [
            Term(experiment.model, task, task.splits["dev"].batch(rows, rows).to(torch.device(device)), radius)
            for task in experiment.tasks
            for rows in [list(range(EXAMPLES))]
        ]
        worst = [max(error) for name in formats for error in zip(*(each.errors(name) for each in terms), strict=True)]
        yield f"| {radius:g} | {' | '.join(f'{100 * each:.2g} %' for each in worst)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The errors of SMART's term by number format and radius.")
    parser.add_argument("encoder", nargs="?")
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--tasks", type=lambda text: text.split(","))
    parser.add_argument(
        "--formats", type=lambda text: text.split(","), default=list(FORMATS), help="fp16 is slow on a CPU"
    )
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    with sdpa_kernel(SDPBackend.MATH) if chosen.device == "cpu" else nullcontext():  # whose products are seen by TF32
        for line in table(chosen.encoder, chosen.data, chosen.tasks, chosen.formats, chosen.device):
            print(line, flush=True)
