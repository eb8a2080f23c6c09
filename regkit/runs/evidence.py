"""Evidence: keep a run's answer for each example, so that scores can be compared without its model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from regkit.base.errors import RunError
from regkit.base.files import load_tensors, read_json, write
from regkit.runs.folders import EVIDENCE
from regkit.tasks.objectives import Objective, described, from_description

TENSORS, NAMES = "evidence.safetensors", EVIDENCE


@dataclass(frozen=True)
class Evidence:
    """What a model answered for the labelled examples of a split."""

    objective: Objective
    output: Tensor  # [examples, ...] what the objective's metrics are computed from
    labels: Tensor  # [examples] or [examples, classes]
    ids: Sequence[str]  # [examples]


Answers = Mapping[str, Mapping[str, Evidence]]  # by split, or by `dev under typos`, and by task


def save(folder: Path, answers: Answers) -> None:
    """Write a run's answers into its folder, the tensors first; OSError where the disk is full."""
    tensors, names = {}, dict[str, dict[str, dict[str, object]]]()
    for split, tasks in answers.items():
        for task, found in tasks.items():
            for part, tensor in (("output", found.output), ("labels", found.labels)):
                tensors[f"{split}/{task}/{part}"] = tensor.clone(memory_format=torch.contiguous_format)
            objective = described(found.objective)
            names.setdefault(split, {})[task] = {"objective": objective, "ids": list(found.ids)}
    write(folder / TENSORS, safetensors.torch.save(tensors))
    write(folder / NAMES, json.dumps(names))


def load(folder: Path) -> Answers:
    """Read the answers of a run. Raises RunError if there are none, or if they cannot be read."""
    try:
        names, tensors = read_json(folder / NAMES), load_tensors(folder / TENSORS)
        return {
            split: {task: _evidence(entry, tensors, f"{split}/{task}") for task, entry in tasks.items()}
            for split, tasks in names.items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(f"{folder} has no answers that can be compared: {error}.") from None


def _evidence(entry: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Evidence:
    output, labels = tensors[f"{name}/output"], tensors[f"{name}/labels"]
    if not len(output) == len(labels) == len(entry["ids"]):
        raise ValueError(f"{name} has {len(output)} answers, {len(labels)} labels and {len(entry['ids'])} ids")
    return Evidence(from_description(entry["objective"]), output, labels, list(entry["ids"]))
