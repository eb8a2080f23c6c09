"""Freeing: plan what `regkit clean` removes of a run, and remove it."""

from dataclasses import dataclass, replace
from typing import Any

from regkit.base.errors import RegkitError
from regkit.base.files import follow
from regkit.runs.disk import Superfluous, superfluous
from regkit.runs.listing import Run
from regkit.runs.lock import claim


@dataclass(frozen=True)
class Plan:
    """What of a run can go, or why nothing does."""

    run: Run
    what: Superfluous
    reason: str  # why it goes or stays
    size: int = 0  # bytes
    freed: bool = False

    def as_json(self) -> dict[str, Any]:
        """Put it into plain values."""
        return {"run": str(self.run.folder), "bytes": self.size, "reason": self.reason, "freed": self.freed}


def plan(run: Run) -> Plan:
    """Find what of a run can go. One that runs or was stopped keeps all, as does one that is damaged."""
    if run.state != "finished":
        return Plan(run, Superfluous(), f"{run.state}, so all of it stays")
    try:
        what = superfluous(follow(run.folder))
        return Plan(run, what, str(what) or "nothing to free", what.size)
    except RegkitError as error:
        return Plan(run, Superfluous(), str(error))
    except FileNotFoundError:
        return Plan(run, Superfluous(), "another process removes files of it at this moment")


def free(planned: Plan) -> Plan:
    """Remove what was planned under the run's lock; what the system refuses is said in the reason."""
    if not planned.size:
        return planned
    try:
        with claim(folder := follow(planned.run.folder), lambda line: None):
            what = superfluous(folder)  # again: another process may have removed it before the lock was free
            size = what.size
            what.free()
    except (RegkitError, OSError) as error:
        return replace(planned, reason=f"not all of it could be removed: {error}")
    return replace(planned, size=size, freed=True)
