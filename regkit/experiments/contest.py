"""Contest: let the rows of a study race for a time.

It says which rows are plain controls, which run is next, and what came of it.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, replace
from math import isfinite
from statistics import fmean

from regkit.base.errors import ConfigError
from regkit.data.find import choose, find_tasks
from regkit.experiments import plan as plans
from regkit.experiments.controls import added, controls_of, methods_of, no_dropout
from regkit.experiments.draft import Draft
from regkit.experiments.plan import Cell, Plan
from regkit.experiments.statistics.race import Race, Scores, Verdict
from regkit.experiments.study.order import Cells, Order
from regkit.experiments.study.results import Result
from regkit.hooks import catalog, option_fields, traits
from regkit.runs.settings import Settings

SEEDS = 20  # that a row may have, unless a study says otherwise
SCHEDULES = {"choose_tasks", "epoch_steps"}  # hooks of a method for several tasks


def made(
    draft: Draft,
    shared: Settings,
    sets: Sequence[str],
    seeds: str | None,
    making: str | None,
    baseline: str | None,
    seconds: float,
) -> Plan:
    """Make the plan of a race, as `plan.made` does that of a table.

    Without any rows, it has those of the candidates. Raises ConfigError or PluginError.
    """
    if not (sets or draft.rows or draft.sets):
        sets = candidates(len(choose(find_tasks(shared.data, shared.given), shared.tasks)))
    seeds = seeds or (str(SEEDS) if draft.seeds is None else None)
    return replace(with_controls(plans.made(draft, shared, sets, seeds, making, baseline)), race=seconds)


def with_controls(plan: Plan) -> Plan:
    """Add a plain row without dropout, where the baseline is the only plain one.

    Raises ConfigError where nothing is to be compared with the plain rows, or where seeds are not counted up.
    """
    if len(plan.seeds) < 2:
        raise ConfigError("a race with one seed can tell nothing; leave --seeds out, or give at least 3.")
    if list(plan.seeds) != list(range(plan.seeds[0], plan.seeds[0] + len(plan.seeds))):
        raise ConfigError("a race takes seeds as they come; give a number of them, --seeds 20.")
    entered = {*methods_of(plan), *controls_of(plan)}
    if other := next((name for name in plan.rows if name not in entered), None):
        raise ConfigError(
            f"row '{other}' changes the data, and a race is on the same for all; leave it out, or change it for all rows."
        )
    found = plan if len(controls_of(plan)) > 1 else added(plan, [no_dropout()])
    if not rules(found).rows:
        raise ConfigError("every row is plain; a race needs a row with a plugin, -p smart.")
    return found


def rules(plan: Plan) -> Race:
    """Make the rules by which the rows of a plan race against its plain rows."""
    return Race(methods_of(plan), controls_of(plan), max_seeds=len(plan.seeds), first=plan.seeds[0])


def racing(race: Race, until: float) -> Order:
    """Choose the next run of a race; None where none would change the verdict, or would end in time.

    `until` is in seconds since the epoch.
    """

    def choose(cells: Cells) -> Cell | None:
        seconds = cells.mean_seconds
        found = race.next(cells.scores, seconds, cells.running, cells.failed)
        late = found is not None and time.time() + seconds.get(found[0], 0.0) > until
        return None if found is None or late else Cell(*found)

    return choose


def verdict(plan: Plan, results: Iterable[Result]) -> Verdict:
    """Say what a race came to, as far as it is."""
    every = list(results)
    seconds = {row: _average([each.seconds for each in every if each.row == row]) for row in plan.rows}
    failed = {Cell(each.row, each.seed) for each in every if each.state == "failed"}
    return rules(plan).verdict(scores_of(every), {row: value for row, value in seconds.items() if value}, failed)


def scores_of(results: Iterable[Result]) -> Scores:
    """Look up the mean of the deciding scores on dev, by row and seed."""
    found: dict[str, dict[int, float]] = {}
    for each in results:
        if each.state == "finished":
            found.setdefault(each.row, {})[each.seed] = each.value
    return found


def _average(values: Sequence[float]) -> float:
    known = [value for value in values if isfinite(value)]
    return fmean(known) if known else 0.0


def candidates(tasks: int) -> list[str]:
    """List the installed methods that have defaults for all of their options.

    They are those that say at which strength they do nothing, and, for several tasks, those that schedule them.
    """
    return [name for name in catalog.installed() if _is_method(name, tasks)]


def _is_method(name: str, tasks: int) -> bool:
    plugin = catalog.load_class(name)
    if any(option.default is MISSING for option in option_fields.options(plugin).values()):
        return False
    hooks = set(vars(plugin))
    schedules = hooks >= SCHEDULES
    return tasks > 1 if schedules else bool(traits.strengths(plugin)) and "combine_gradients" not in hooks
