"""Controls: plain rows, which change a setting or nothing.

What a method gains has to be more than what they gain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from regkit.experiments.plan import Plan
from regkit.experiments.rows import Row, parse_set
from regkit.runs.settings import Settings

SLOWER, FASTER = 0.5, 2  # learning rates, in that of all rows
STRONGER = 10  # weight decay, likewise
USUAL_DECAY = 0.01  # where all rows have none
# What is learned from: a row that changes it asks another question, and neither competes nor is competed with.
DATA = {"data", "tasks", "text", "label", "kind", "dev", "test", "subsample", "label_noise"}
MISSED = 0.1  # share of a method's time by which the epochs of a control may miss it
SCORINGS = 4  # where all rows have one, so that a run can be stopped at its best earlier


def is_control(changes: Mapping[str, Any]) -> bool:
    """Whether a row with these changes is plain: no plugin of its own, none taken away, and the same data."""
    return not changes.get("plugins") and not changes.keys() & DATA


def is_method(changes: Mapping[str, Any]) -> bool:
    """Whether a row with these changes competes with the plain ones.

    It has plugins of its own, and the same data.
    """
    return bool(changes.get("plugins")) and not changes.keys() & DATA


def controls_of(plan: Plan) -> list[str]:
    """Name the plain rows of a plan."""
    return [name for name, row in plan.rows.items() if is_control(row.changes)]


def methods_of(plan: Plan) -> list[str]:
    """Name the rows of a plan that compete with the plain ones."""
    return [name for name, row in plan.rows.items() if is_method(row.changes)]


def no_dropout() -> Row:
    """Make the control without dropout, which gains more on some data than any method."""
    return parse_set("dropout=0")


def usual(settings: Settings) -> list[Row]:
    """Make the controls that take as long as the shared settings.

    They have no dropout, other learning rates, and another weight decay.
    """
    decay = STRONGER * settings.weight_decay or USUAL_DECAY
    sets = [
        *(f"learning_rate={factor * settings.learning_rate:g}" for factor in (SLOWER, FASTER)),
        f"weight_decay={decay:g}",
    ]
    return [no_dropout(), *map(parse_set, sets)]


def stopped_early(between: int) -> list[Row]:
    """Make the control that is scored more often than all rows, and stops at its best.

    All rows have so many updates between two evaluations, and the score of every run is that of its best. There is none
    where all rows are scored after each update.
    """
    return [parse_set(f"eval_steps={max(between // SCORINGS, 1)}")] if between > 1 else []


def as_long(settings: Settings, cost: float, updates: int) -> list[Row]:
    """Make the control that trains as long as a method whose step costs so much, in plain ones.

    There is none for a cheap method. It has more epochs, or more updates where the run is as long as so many, or where
    whole epochs miss the time.
    """
    epochs = round(cost * settings.epochs)
    fits = abs(epochs / settings.epochs - cost) <= MISSED * cost
    if settings.steps is None and fits:
        return [parse_set(f"epochs={epochs}")] if epochs > settings.epochs else []
    steps = round(cost * updates)
    return [parse_set(f"steps={steps}")] if steps > updates else []


def added(plan: Plan, controls: Sequence[Row]) -> Plan:
    """Add controls to a plan, behind its plain rows; those whose runs it has already are left out."""
    there = [row.apply(plan.settings) for row in plan.rows.values()]
    new = {row.name: row for row in controls if row.name not in plan.rows and row.apply(plan.settings) not in there}
    plain = {name: plan.rows[name] for name in controls_of(plan)}
    return replace(plan, rows={**plain, **new, **plan.rows})
