"""Build: put the parts of a page together."""

from collections.abc import Callable, Sequence
from pathlib import Path

from regkit.base.errors import RunError
from regkit.base.files import follow, read_object
from regkit.base.wording import in_time
from regkit.page.document import Document, Note, Section
from regkit.page.reading import studies
from regkit.page.reading.found import Found
from regkit.page.reading.groups import Shown, grouped, shown
from regkit.page.sections import ablation, overview, predictions, search
from regkit.page.sections import runs as of_runs
from regkit.runs.folders import ENVIRONMENT, RUNS, find_run
from regkit.runs.listing import Run

Say = Callable[[str], None]
UNREAD = "What cannot be read"  # the title of a section


def document(found: Found, say: Say = lambda line: None) -> Document:
    """Make the page of runs and studies.

    What cannot be read is said. Raises RunError if there is nothing else to show.
    """
    read = {folder: studies.read(folder) for folder in found.studies}
    troubles = [said for study in read.values() for said in study.troubles]
    several = len(found.studies) + bool(found.others) > 1
    sections, titles = list[Section](), list[str]()
    for folder, study in read.items():
        before = study.name if several else ""
        sections += ablation.sections(study.table, before) if study.table else []
        sections += search.sections(study.search, before) if study.search else []
        sections += _named(_of_runs(found.runs_of(folder), say), before)
        titles.append(study.name)
    sections += _named(_of_runs(found.others, say), "runs" if several else "")
    if troubles and not sections:
        raise RunError(troubles[0])
    sections = [Section(UNREAD, [Note(troubles, warning=True)]), *sections] if troubles else sections
    titles += [run.name for run in shown(found.others)] if len(found.others) <= 2 else [f"{len(found.others)} runs"]
    return Document(" and ".join(titles), _lead(found, list(read.values())), sections)


def _named(sections: Sequence[Section], before: str) -> list[Section]:
    return [
        Section(f"{before}: {each.title}" if before and each.level == 2 else each.title, each.blocks, each.level)
        for each in sections
    ]


def _of_runs(runs: Sequence[Run], say: Say) -> list[Section]:
    """Make the sections of runs; of one alone, also of its predictions."""
    if not runs:
        return []
    groups = grouped(shown(runs))
    return of_runs.sections(groups, _predicted(runs[0], say) if len(runs) == 1 else ())


def _predicted(run: Run, say: Say) -> list[Section]:
    """Show what a run predicts, or say why that cannot be shown."""
    if not run.settings:
        return []
    if not (follow(run.folder) / "evidence.json").is_file():
        try:
            find_run(run.folder)
        except RunError as error:
            return [Section("Predictions", [Note([f"The predictions are not shown: {error}"])])]
    say(f"reading what {run.folder} predicts")

    from regkit.page.reading import answers  # which imports torch

    return predictions.sections(answers.read(run))


def _lead(found: Found, read: Sequence[studies.Study]) -> list[str]:
    """Say in a line or two what the page is about."""
    if len(found.runs) == 1 and not found.studies:
        return _of_one(shown(found.runs)[0])
    lines = [_of_study(study, len(read) > 1) for study in read]
    if found.runs:
        kinds = len(grouped(shown(found.runs)))
        settings = f"{kinds} different settings" if kinds > 1 else "the same settings"
        lines.append(f"{len(found.runs)} run{'s' if len(found.runs) > 1 else ''} of {settings}")
    return lines


def _of_study(study: studies.Study, several: bool) -> str:
    parts = [f"{len(study.table.rows)} rows against {study.table.baseline}"] if study.table else []
    parts += [f"a search of {len(study.search.trials)} trials"] if study.search else []
    said = ", ".join(parts) or ("no tables that can be read" if study.troubles else "no tables yet")
    return f"{study.name}: {said}" if several else said


def _of_one(run: Shown) -> list[str]:
    device = read_object(run.folder / ENVIRONMENT).get("device", "")
    count, took = len(run.log.updates), run.run.seconds
    parts = [
        overview.state(run),
        ", ".join(run.run.plugins) or "no plugin",
        f"{count} task{'s' if count != 1 else ''}",
        f"{len(run.log.rates)} updates",
        "" if took is None else in_time(took),
        str(device),
    ]
    return [" \N{MIDDLE DOT} ".join(filter(None, parts)), str(run.run.folder)]


def where(paths: Sequence[Path], output: Path | None) -> Path:
    """Choose the file to write: `report.html` in the first folder, unless it is named."""
    return output or follow((paths or [RUNS])[0]) / "report.html"
