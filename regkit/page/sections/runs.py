"""Runs: the sections of a page that show runs."""

from collections.abc import Sequence

from regkit.page.document import Section
from regkit.page.reading.groups import Group, several
from regkit.page.sections import chosen, methods, overview, progress, sharing


def sections(groups: Sequence[Group], answers: Sequence[Section] = ()) -> list[Section]:
    """Make the sections of runs; `answers` are those of what one run predicts."""
    made = [
        Section("Runs", overview.runs(groups) if several(groups) else []),
        Section("Warnings", overview.warnings(groups)),
        Section("Scores", progress.scores(groups)),
        Section("Losses", progress.losses(groups)),
        Section("What the plugins did", methods.effects(groups)),
        Section("Tasks", sharing.tasks(groups)),
        *answers,
        Section("Settings", chosen.settings(groups)),
    ]
    return [section for section in made if section.blocks]
