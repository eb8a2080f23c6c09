"""Remarks: say what the labels of a split are like, for the plan."""

import torch
from torch import Tensor

from regkit.tasks.names import Split
from regkit.tasks.objectives import Objective

SHOWN = 12  # classes whose counts are listed
MAJORITY = 0.9  # share of one class, above which always naming it would score well


def describe_labels(objective: Objective, split: Split, labels: Tensor | None) -> list[str]:
    """Count the rows of each class; name classes that never come, and one that nearly all rows have."""
    if labels is None or labels.is_floating_point() or labels.ndim != 1:
        return []
    every = range(getattr(objective, "classes", 2))
    counts: list[int] = torch.bincount(labels, minlength=len(every)).tolist()
    listed = [f"{objective.text(each)}: {counts[each]}" for each in every[:SHOWN]]
    more = f", and {len(every) - SHOWN} classes more" if len(every) > SHOWN else ""
    said = [f"{split} rows by class: {', '.join(listed)}{more}"]
    absent = [objective.text(each) for each in every if not counts[each]]
    if split == "train" and absent:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        said.append(f"no train row is labelled {', '.join(absent[:SHOWN])}{more}")
    count = max(counts)
    if count > MAJORITY * len(labels):
        share, most = 100 * count / len(labels), objective.text(counts.index(count))
        said.append(f"{share:.3g} % of the {split} rows are labelled {most}: always saying so would be as accurate")
    return said
