"""Options: what the user of `python -m tests.benchmarks` chooses for every part."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

BATCHES = {False: "random batches", True: "texts of like length together"}  # by `bucketing`


@dataclass(frozen=True)
class Options:
    encoder: Path
    data: Path | None  # None: the demo's tasks
    task: str  # of the parts that train one: classes of one text
    pairs: str | None = None  # of the part that trains scores of pairs
    batch_size: int = 32
    rounds: int = 20
    epoch: int = 755  # rounds of the part `gpu`
    threads: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    bucketing: bool = True  # texts of like length in one batch
    quick: bool = False  # as little as shows that everything works

    @property
    def device(self) -> torch.device:
        """The GPU where there is one."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type that `precision` names."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32
