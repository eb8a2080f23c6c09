"""Child-Tuning: update only a part of the encoder's weights in each step (Xu et al., EMNLP 2021).

Sections 2.2 and 2.3 of arXiv 2109.05687. The child network is drawn anew for each update, and what is left of the gradient is
divided by its share (task_free); or it is the weights with the largest Fisher information, chosen once at the start
(task_driven). Masks act on the gradient as it was clipped. Heads, which are new, are trained as a whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from regkit import Count, MultitaskModel, PluginError, Task, Tuned, hookimpl


@dataclass
class ChildTuning:
    network: Annotated[Literal["task_free", "task_driven"], Tuned()] = "task_free"
    """How the child network is chosen: at random, or by the Fisher information."""
    share: Annotated[float, Field(gt=0, le=1), Tuned(0.1, 0.5)] = 0.3
    """Share of the encoder's weights that are in it (p_F or p_D)."""
    examples: Count = 1024
    """Training examples of each task that the Fisher information is estimated from."""
    masks: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)  # of each weight, for task_driven

    neutral: ClassVar[Mapping[str, float]] = {"share": 1.0}

    @hookimpl(trylast=True)  # others may change the weights while they prepare
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        if not list(model.shared_parameters()):
            raise PluginError(
                "'child_tuning' trains a part of the encoder, but the encoder is frozen; "
                "leave it out, or what freezes the encoder."
            )
        if self.network == "task_driven" and self.share < 1:
            self.masks = largest(self._information(model, tasks), self.share)

    @hookimpl
    def clipped(self, model: MultitaskModel) -> None:
        if self.share == 1:
            return
        for name, parameter in shared(model):
            if parameter.grad is None:
                continue
            if self.network == "task_driven":
                parameter.grad.mul_(self.masks[name])
            else:
                parameter.grad.mul_(torch.rand_like(parameter.grad) < self.share).div_(self.share)

    def _information(self, model: MultitaskModel, tasks: Sequence[Task]) -> dict[str, Tensor]:
        """Estimate the diagonal of the Fisher information, by the name of the weight.

        It is the squared gradient of an example's loss: the mean over the examples of each task, and then over tasks.
        """
        found = {name: torch.zeros_like(parameter) for name, parameter in shared(model)}
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            for task in tasks:
                for gradients, count in self._gradients(model, task):
                    for total, gradient in zip(found.values(), gradients, strict=True):
                        total.addcmul_(gradient, gradient, value=1 / count / len(tasks))
        finally:
            for module, training in modes.items():
                module.training = training
        return found

    def _gradients(self, model: MultitaskModel, task: Task) -> Iterable[tuple[Sequence[Tensor], int]]:
        """Compute the gradient of each chosen example's loss; also returns how many examples there are."""
        if "train" not in task.splits:
            raise PluginError(
                f"'child_tuning' finds no training examples of task '{task.name}' for network=task_driven; use task_free."
            )
        examples, parameters = task.splits["train"], [parameter for _, parameter in shared(model)]
        rows = torch.randperm(len(examples))[: self.examples].tolist()
        for row in rows:
            batch = examples.batch([row], [row]).to(parameters[0].device)
            assert batch.labels is not None
            loss = task.objective.loss(model.predict(task, batch, model.embed(batch)), batch.labels)
            yield torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True), len(rows)

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.masks = {name: mask.to(self.masks[name].device) for name, mask in state["masks"].items()}


def shared(model: MultitaskModel) -> list[tuple[str, nn.Parameter]]:
    """List the encoder's trainable weights by name."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if name.startswith("encoder.")]
    return [(name, parameter) for name, parameter in named if parameter.requires_grad]


def largest(values: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Mark this share of all numbers, at least one, that are the largest: a mask for each tensor."""
    flat = torch.cat([value.flatten() for value in values.values()])
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.topk(max(round(share * len(flat)), 1)).indices] = True
    parts = torch.split(chosen, [value.numel() for value in values.values()])
    return {name: part.view_as(value).clone() for part, (name, value) in zip(parts, values.items(), strict=True)}
