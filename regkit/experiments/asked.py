"""Asked: what a study is to do - an ablation, a race or a search - and which of its runs is next."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from regkit.base.errors import RunError
from regkit.experiments.contest import racing, rules
from regkit.experiments.plan import Choice, Plan
from regkit.experiments.search.progress import Progress
from regkit.experiments.search.search import SEARCH, Search
from regkit.experiments.study.order import Cells, Order, in_order
from regkit.experiments.study.study import PLAN, ROUND, UNTIL, Study


def read_asked(study: Study) -> Plan | Search:
    """Read what a study is asked to do. Raises RunError for one that is neither an ablation nor a search."""
    values = study.attributes().get(PLAN)
    return Search.from_values(values) if isinstance(values, dict) and SEARCH in values else read_plan(study)


def read_plan(study: Study) -> Plan:
    """Read the plan of a study. Raises RunError for one that is no ablation."""
    values = study.attributes().get(PLAN)
    if not isinstance(values, dict) or "rows" not in values:
        raise RunError(f"study '{study.name}' in {study.shown} is no ablation.")
    return Plan.from_values(values)


def order_of(plan: Plan, until: float) -> Order:
    """Choose the order of an ablation's runs: that of a race ends at a time, in seconds since the epoch."""
    return in_order(plan.cells()) if plan.race is None else racing(rules(plan), until)


def choose(
    asked: Plan | Search,
    study: Study,
    trials: Sequence[Any],
    attributes: Mapping[str, Any],
    order: Callable[[Plan, float], Order] = order_of,
) -> Choice:
    """Choose the next run of an ablation or a search, by its trials and the study's attributes."""
    round_ = int(attributes.get(ROUND, 0))
    if isinstance(asked, Search):
        return Progress.of(asked, study, trials, round_).choice()
    cells = Cells.of(study, trials, round_)
    unknown = any(study.verdict(trial) == "unknown" for trial in cells.running.values())
    found = order(asked, attributes.get(UNTIL, 0.0))(cells)
    return Choice(asked, found, later=unknown)  # it is known soon whether its worker lives


def has_failed(asked: Plan | Search, study: Study) -> bool:
    """Whether all that is left has failed: no worker takes it, and the next command would try it again."""
    round_ = int(study.attributes().get(ROUND, 0))
    now, then = (choose(asked, study, study.trials(), {ROUND: round_ + more, UNTIL: inf}) for more in (0, 1))
    return now.cell is None and not now.later and then.cell is not None


def is_done(asked: Plan | Search, study: Study) -> bool:
    """Whether the next command has nothing to run.

    A race counts as if its time were endless, and what has failed would be tried again.
    """
    round_ = int(study.attributes().get(ROUND, 0)) + 1
    choice = choose(asked, study, study.trials(), {ROUND: round_, UNTIL: inf})
    return choice.cell is None and not choice.later
