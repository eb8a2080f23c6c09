"""Description: what a checkpoint says about a task, so that it answers without its data."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regkit.tasks.names import PairMode, Pooling
from regkit.tasks.reading import Layout, Reading

if TYPE_CHECKING:
    from regkit.tasks.task import Task

UNNAMED = {1: ("text",), 2: ("text1", "text2")}  # the columns of a task that no table gave, by its number of texts


class Description(BaseModel):
    """A task in plain values: its objective, and how texts become its examples."""

    model_config = ConfigDict(frozen=True)

    objective: dict[str, Any]
    pair_mode: PairMode | None
    pooling: Pooling
    text: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    label: str | tuple[str, ...] | None = None
    id: str | None = None
    max_length: Annotated[int, Field(ge=1)] | None = None
    layout: Layout = Layout()

    @model_validator(mode="after")
    def _complete(self) -> "Description":
        if self.text and len(self.text) != self.texts:
            raise ValueError(f"text names {len(self.text)} columns; the task reads {self.texts}")
        return self

    @property
    def texts(self) -> int:
        """The number of texts in an example: 1, or 2 for a pair."""
        return 1 if self.pair_mode is None else 2

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its texts, which have names of their own where no table gave them."""
        return self.text or UNNAMED[self.texts]

    @property
    def needed(self) -> set[str]:
        """The columns of a table that can be scored: its texts and its label."""
        label = self.label if isinstance(self.label, tuple) else (self.label,)
        return {*self.columns, *filter(None, label)}

    def task(self, name: str) -> "Task":
        """Build the task, without examples. Raises ValueError if the objective is not one of regkit's."""
        from regkit.tasks.objectives import from_description  # which imports torch
        from regkit.tasks.task import Task

        objective = from_description(self.objective)
        reading = Reading(self.columns, self.label, self.id, self.max_length, self.layout)
        return Task(name, objective, {}, self.pair_mode, pooling=self.pooling, reading=reading)


def describe(task: "Task", pooling: Pooling) -> Description | None:
    """Describe a task whose model reads texts by `pooling`; None if data cannot declare its objective."""
    from regkit.tasks.objectives import KINDS, MaskedWords, described

    objective = task.objective
    if KINDS.get(objective.kind) is not type(objective) or isinstance(objective, MaskedWords):
        return None
    pooling = task.pooling or pooling
    return Description(
        objective=described(objective), pair_mode=task.pair_mode, pooling=pooling, **asdict(task.reading)
    )
