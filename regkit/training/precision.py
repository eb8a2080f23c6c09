"""Precision: choose the number format of the forward passes, as asked or by timing a matrix product.

A processor with instructions for bf16 multiplies in half the time; one without them takes three times as long.
"""

import hashlib
import json
import math
import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.base.errors import DataError
from regkit.base.files import digest_of, read_json
from regkit.base.kept import KEY, MEASURED, UnkeptError, build_once, cache_root
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks import traits
from regkit.model import Encoder
from regkit.tasks.names import Precision
from regkit.training.arithmetic import arithmetic_of

Format = Literal["fp32", "bf16"]
TYPES: dict[Format, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

NARROW = 192  # the least width at which a step of 8 texts was faster in bf16: at 192 it took 0.89 of fp32's time, at 128 1.17
CLEARLY = 0.9  # of fp32's time: it was 0.5 to 0.65 with the instructions and 3 without, so noise decides nothing
TOKENS = 128  # of the product: those of a small micro-batch
TRIES = 7
KEPT = "ratio.json"
# What tells one processor from another in Linux's list; its clock and its caches there change from boot to boot.
NAMED = ("model name", "flags", "Features", "CPU implementer", "CPU part")


@dataclass(frozen=True)
class Choice:
    """The number format of a run's forward passes, and why it is that."""

    format: Format
    why: str = ""  # nothing where the user, the device or the encoder's size decides

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.format, self.why)))

    @property
    def type(self) -> torch.dtype:
        """The type of the format."""
        return TYPES[self.format]


FP32 = Choice("fp32")


def choose_precision(
    asked: Precision,
    encoder: Encoder,
    device: torch.device,
    plugins: Mapping[str, object],
    processes: Processes = ALONE,
) -> Choice:
    """Choose the number format for an encoder on a device. Of several processes, the first decides.

    A plugin whose passes would be in fp32 anyway decides for it: with the clean pass they are all of a step. What was timed
    once is kept, so that two runs of one command are the same to the last bit. So where nothing can be kept, nothing is
    timed.
    """
    if asked != "auto":
        return Choice(asked)
    if device.type != "cpu":
        return Choice("bf16" if device.type == "cuda" else "fp32")
    shape = _largest(encoder)
    if min(shape) < NARROW:
        return FP32
    if fine := [name for name, plugin in plugins.items() if _is_fine(traits.radius(plugin), device)]:
        return Choice("fp32", f"since perturbations of {' and '.join(fine)} are too small for bf16")
    return Choice(*processes.gather(_timed(*shape) if processes.first else None)[0])


def as_trained(asked: Precision, trained: Precision | None) -> Choice:
    """Choose the number format in which a trained model answers.

    It is that of its training, unless another is asked for. `trained` is the setting of its run. A run that noted no format
    was trained in fp32, or by an older regkit.
    """
    before: Format = "bf16" if trained == "bf16" else "fp32"
    if asked == "auto":
        return Choice(before, "as the run was trained" if before == "bf16" else "")
    return Choice(asked, "" if asked == before else f"though the run was trained in {before}")


def _is_fine(radius: float | None, device: torch.device) -> bool:
    """Whether a pass with a perturbation of this radius is in float32 also in a run in bf16."""
    return radius is not None and arithmetic_of(radius, torch.bfloat16, device) == "fp32"


def _largest(encoder: Encoder) -> tuple[int, int]:
    """Find the inputs and outputs of the encoder's largest linear layer; 0 and 0 if it has none."""
    linear = [part for part in cast(nn.Module, encoder).modules() if isinstance(part, nn.Linear)]
    return max(((part.in_features, part.out_features) for part in linear), key=math.prod, default=(0, 0))


def _timed(inputs: int, outputs: int) -> tuple[Format, str]:
    """Choose by the time of a matrix product on this processor."""
    try:
        ratio = kept_ratio(inputs, outputs)
    except UnkeptError as error:
        return "fp32", f"since bf16 was not tried: {str(error).rstrip('.')}"
    chosen: Format = "bf16" if ratio < CLEARLY else "fp32"
    return chosen, f"since a matrix product in bf16 takes {ratio:.2f} of its time in fp32"


def kept_ratio(inputs: int, outputs: int) -> float:
    """Look up the ratio that `measure` found, or measure it now.

    It holds for this processor and this version of torch. Raises UnkeptError if it cannot be kept.
    """
    shape = [inputs, outputs]
    parts = [shape, _processor(), torch.__version__, digest_of(Path(__file__))]
    return build_once(
        cache_root() / MEASURED,
        lambda: hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:KEY],
        _read,
        lambda folder: _write(folder, measure(inputs, outputs)),
        name="the time of a matrix product",
        say=lambda said: None,
    )


def measure(inputs: int, outputs: int) -> float:
    """Time a product of tokens and weights in bf16 and fp32, in turn.

    Returns the median of the ratios bf16 / fp32.
    """
    values, weight = (torch.linspace(-1, 1, rows * inputs).view(rows, inputs) for rows in (TOKENS, outputs))
    ratios = []
    for _ in range(1 + TRIES):
        single = _seconds(values, weight, halved=False)
        ratios.append(_seconds(values, weight, halved=True) / single)
    return statistics.median(ratios[1:])  # the first product of a shape makes its kernel


@torch.no_grad()
def _seconds(values: Tensor, weight: Tensor, halved: bool) -> float:
    """Time one product by the clock of this thread, which does not count the work of other programs."""
    with torch.autocast("cpu", torch.bfloat16, enabled=halved):
        began = time.thread_time()
        F.linear(values, weight)
        return time.thread_time() - began


def _processor() -> list[str]:
    """Describe this machine's processor: its kind and, on Linux, its name and instructions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf8", errors="replace").splitlines() if info.exists() else []
    named = {line for line in lines if line.partition(":")[0].strip() in NAMED}
    return [platform.machine(), platform.processor(), *sorted(named)]


def _read(folder: Path) -> float:
    """Read a ratio that was kept. Raises DataError for anything else."""
    try:
        found = read_json(folder / KEPT)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / KEPT} cannot be read: {error}.") from None
    if not isinstance(found, float) or not 0 < found < float("inf"):
        raise DataError(f"{folder / KEPT} holds no ratio.")
    return found


def _write(folder: Path, ratio: float) -> None:
    (folder / KEPT).write_text(json.dumps(ratio), encoding="utf8")
