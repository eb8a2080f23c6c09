"""Adaptive: give more updates to the tasks furthest below their reference score (Jean et al., 2019).

The explicit schedule of arXiv 1909.06434: a task's share is 1 / (min(1, score / reference)^alpha + floor), where the
reference is the best score so far, or one you give, such as the score of the task trained alone. Where less is better, the
ratio is reference / score. Shares change when the dev splits are scored; until then all tasks have the same share. An epoch
has as many updates as the tasks have batches together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch

from regkit import Objective, PluginError, Positive, Task, Tuned, apportion, hookimpl, nearest, turn


@dataclass
class Adaptive:
    reference: dict[str, Positive] = field(default_factory=dict)
    """Scores to reach, such as {"sst": 0.5}; a task without one is compared with its own best score."""
    alpha: Annotated[Positive, Tuned(1, 10, log=True)] = 5.0
    """How strongly a task that falls behind is preferred."""
    floor: Positive = 0.05
    """Keeps the share of a task with a score of 0 finite."""
    draw: int = field(init=False, repr=False, default=0)  # seed of the order of all epochs
    best: dict[str, float] = field(init=False, repr=False, default_factory=dict)
    shares: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # by task, from the last scores
    objectives: dict[str, Objective] = field(init=False, repr=False, default_factory=dict)  # by task

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        self.draw = int(torch.randint(2**62, ()))
        self.objectives = {task.name: task.objective for task in tasks}
        for name in self.reference:
            if name not in self.objectives:
                raise PluginError(f"'adaptive' knows no task '{name}'. {nearest(name, self.objectives)}")
        return sum(task.batches for task in tasks)

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        total = sum(task.batches for task in tasks)
        counts = apportion([self.shares.get(task.name, 1.0) for task in tasks], total)
        return [tasks[turn(counts, step, self.draw)]]

    @hookimpl
    def evaluated(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        if not step:
            return  # nothing was trained yet, so no task has fallen behind
        for name, objective in self.objectives.items():
            if objective.metric in scores.get(name, {}):
                score = max(scores[name][objective.metric], 0.0)
                lower = objective.scores[objective.metric].lower_is_better
                self.best[name] = (min if lower else max)(self.best.get(name, score), score)
                reference = self.reference.get(name) or self.best[name]
                reached, whole = (reference, score) if lower else (score, reference)
                ratio = min(1.0, reached / whole) if whole else float(lower)
                self.shares[name] = 1 / (ratio**self.alpha + self.floor)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "shares": self.shares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.shares = dict(state["best"]), dict(state["shares"])
