"""Suspects: find where a number that is not finite came from - task, term or hook, and rows."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from regkit.base.failures import ran_out
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.compose import Composition
from regkit.hooks.spec import hookimpl
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.training.passes import terms

SHOWN = 8  # row numbers in a sentence; the log has all

Answers = list[Mapping[str, Tensor]]


@dataclass
class Suspect:
    """A loss or gradient that is not finite."""

    what: str  # `loss` or `gradient`
    tasks: list[str]
    rows: list[int]  # of the training splits, from 0
    term: str | None = None  # of the loss; None where all were fine, and what came after them was not
    plugins: list[str] = field(default_factory=list)  # whose term it is, or who had a hand in the gradient

    def __str__(self) -> str:
        """`the loss of 'x' in task 'mood' (plugin 'x') is not finite; rows 1, 5`."""
        what = f"the {self.what} of '{self.term}'" if self.term else f"the {self.what}"
        tasks, owners = (" and ".join(f"'{name}'" for name in names) for names in (self.tasks, self.plugins))
        by = f" (plugin {owners})" if owners else ""
        rows = ", ".join(map(str, self.rows[:SHOWN]))
        more = f" and {len(self.rows) - SHOWN} more" if len(self.rows) > SHOWN else ""
        return f"{what} in task {tasks}{by} is not finite; rows {rows}{more}"


@dataclass
class Search:
    """An observer of a step that is computed again: it checks each term of each micro-batch alone."""

    composition: Composition
    processes: Processes = ALONE
    found: list[Suspect] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)  # of the step, by task

    @hookimpl(wrapper=True)
    def extra_losses(
        self, model: MultitaskModel, task: Task, batch: Batch, loss: Tensor
    ) -> Generator[None, Answers, Answers]:
        """Check the terms of the loss: all are at hand, and no backward pass was made."""
        answers = yield
        self.rows.setdefault(task.name, []).extend(batch.rows)
        for name, term in terms(loss, answers).items():
            if what := _trouble(term, model):
                self._note(Suspect(what, [task.name], list(batch.rows), name, self._owner(name)))
        return answers

    def joined(self) -> "Search":
        """Collect what all processes have found."""
        everyone = Search(self.composition)
        for found, rows in self.processes.gather([[asdict(suspect) for suspect in self.found], self.rows]):
            for suspect in found:
                everyone._note(Suspect(**suspect))
            for task, numbers in rows.items():
                everyone.rows.setdefault(task, []).extend(numbers)
        return everyone

    def _owner(self, term: str) -> list[str]:
        return [self.composition.owners[term]] if term in self.composition.owners else []

    def _note(self, new: Suspect) -> None:
        """Record one suspect a term, however many micro-batches it spoils."""
        for suspect in self.found:
            if (suspect.tasks, suspect.term) == (new.tasks, new.term):
                suspect.rows += new.rows
                return
        self.found.append(new)


def find_suspects(
    composition: Composition, model: MultitaskModel, recompute: Callable[[], object], processes: Processes = ALONE
) -> list[Suspect]:
    """Compute a step's gradient again and check each term, in all of the processes; never empty.

    If every term is finite, the plugins that combine the gradients or change them before the step are named.
    """
    search = Search(composition, processes)
    composition.observe(search)
    try:
        recompute()
    except Exception as error:
        if not ran_out(error):  # the search holds on to more than a step does; what was found is told all the same
            raise
        return search.found or [Suspect("gradient", list(search.rows), _all(search.rows))]
    finally:
        composition.ignore(search)
    search = search.joined()
    if search.found:
        return search.found
    hook = "before_step" if _all_finite([each.grad for each in model.parameters()]) else "combine_gradients"
    plugins = [name for name in composition.plugins if hook in composition.hooks_of(name)]
    return [Suspect("gradient", list(search.rows), _all(search.rows), None, plugins)]


def _all(rows: Mapping[str, Sequence[int]]) -> list[int]:
    return [row for numbers in rows.values() for row in numbers]


def _trouble(term: Tensor, model: MultitaskModel) -> str:
    """Return "loss", "gradient" or "": the part of this term that is not finite."""
    gradients: Sequence[Tensor | None] = []
    if term.requires_grad:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(term, trained, retain_graph=True, allow_unused=True)
    if not term.isfinite():
        return "loss"
    return "" if _all_finite(gradients) else "gradient"


def _all_finite(gradients: Sequence[Tensor | None]) -> bool:
    return all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)
