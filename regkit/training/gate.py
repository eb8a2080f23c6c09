"""Gate: let an update through only if all its numbers are finite.

The CPU does not wait for the GPU's work. The GPU itself decides whether the optimizer moves anything. So the CPU queues the
optimizer's step first, and reads the answer while the GPU still makes that step, so it can prepare the next update
meanwhile.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from regkit.base.late import Late
from regkit.hooks.adamw import AdamW
from regkit.training.update import Update


@dataclass
class Gate:
    """Decides on one update by its losses and the norm of its gradient."""

    update: Update
    norm: Tensor  # before clipping
    early: bool  # whether the answer is needed before the optimizer's step, as a plugin works on the clipped gradient
    known: int = field(init=False)  # weights that the optimizer keeps something of
    finite: Tensor = field(init=False)  # a scalar, where the norm is
    answer: Late = field(init=False)

    def __post_init__(self) -> None:
        self.known = len(self.update.optimizer.state)
        self.finite = self._finite()
        self.answer = Late(self.finite)

    @property
    def late(self) -> bool:
        """Whether the optimizer's step may be queued before the answer is there.

        The optimizer is told on the device.
        """
        optimizer = self.update.optimizer
        told = type(optimizer) in (AdamW, torch.optim.AdamW) and all(group["fused"] for group in optimizer.param_groups)
        return told and self.norm.is_cuda and not self.early

    @property
    def shut(self) -> bool:
        """Whether it is known before the optimizer's step that a number is not finite."""
        return not self.late and not self.opens()

    def opens(self) -> bool:
        """Whether all numbers are finite; note: this waits until the GPU has computed them.

        If they are not, the optimizer forgets what it began to keep in a step that has moved nothing.
        """
        opens = bool(self.answer.read())
        state = self.update.optimizer.state
        for weight in [] if opens else list(state)[self.known :]:
            del state[weight]
        return opens

    def step(self) -> None:
        """Step the optimizer if all numbers are finite.

        Where that is not known yet, the step is queued, and moves nothing if they are not.
        """
        optimizer = self.update.optimizer
        if self.late:
            vars(optimizer)["found_inf"] = (~self.finite).float()  # as torch's GradScaler tells it
        try:
            optimizer.step()
        finally:
            vars(optimizer).pop("found_inf", None)

    def _finite(self) -> Tensor:
        update = self.update
        sizes = [self.norm, *(loss for terms in update.losses.values() for loss in terms.values())]
        for group in update.optimizer.param_groups:  # scalars that a plugin learns are not in the model's norm
            sizes += [each.grad for each in group["params"] if each.grad is not None and not each.dim()]
        return torch.stack([size.float() for size in sizes]).isfinite().all()
