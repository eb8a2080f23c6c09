"""Gains: print what the rows of studies gain, and what that costs, as the tables of docs/gains.md; and draw it.

    regkit ablate examples/gains/few-labels.toml --data FOLDER --encoder ENCODER --output STUDY
    python -m tests.benchmarks.gains STUDY [STUDY ...] [--split test] [--score 'dev sst accuracy'] [--metric macro_f1]
        [--together] [--picture FILE]

A study's own page (`regkit report STUDY`) has all scores; this has one for each study: the mean over tasks on dev or on
`--split`, or the deciding score of the only task, unless `--score` names another. `--metric` compares all runs by another
metric than the one that decided, without running them again. `--together` makes one table of all studies.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regkit.experiments.asked import read_plan
from regkit.experiments.place import find_place
from regkit.experiments.study.results import read_results
from regkit.experiments.study.study import Study
from regkit.experiments.tables.summarize import summarize
from regkit.tasks.scores import SCORES

HEAD = ["row", "score", "over the baseline", "over the hardest control", "p", "Holm", "time"]


Rows = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]  # of a study, each with its entry of a score


def chosen(row: Mapping[str, Any], score: str | None, split: str = "dev") -> Mapping[str, Any] | None:
    """Choose a row's entry of the score that is asked for, or of the one that decides on a split."""
    named = {" ".join((each["split"], each["task"], each["metric"])).strip(): each for each in row["entries"]}
    if score is not None:
        return named.get(score)
    found = {name: each for name, each in named.items() if each["split"] == split}
    return next(
        (each for name, each in found.items() if name.startswith(f"{split} mean")), next(iter(found.values()), None)
    )


def read(study: Path, metric: str | None = None) -> Mapping[str, Any]:
    """Read the table of a study; compared anew by a metric, for tasks that have it, if one is named."""
    if metric is None:
        return dict(json.loads((study / "table.json").read_text(encoding="utf8")))
    place = find_place(study, None)
    found = Study.open(place.name, place.folder, place.address)
    plan = read_plan(found)
    less = any(known[metric].lower_is_better for known in SCORES.values() if metric in known)
    results = [replace(each, mains=dict.fromkeys(each.mains, (metric, less))) for each in read_results(found, plan)]
    return summarize(
        place.name, {name: row.changes for name, row in plan.rows.items()}, results, plan.baseline
    ).as_json()


def together(studies: Mapping[str, Rows]) -> list[str]:
    """Write one table: what each row gains over the baseline in each study, marked where it beats every control.

    A row's cost is that of its step, in operations of a plain one, in the first study that has it.
    """
    rows = {row["name"]: row for found in studies.values() for row, _ in found}
    head = ["row", *studies, "operations"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, row in rows.items():
        entries = [next((entry for each, entry in found if each["name"] == name), None) for found in studies.values()]
        cost = row["cost"].get("operations")
        lines.append(f"| {' | '.join([name, *map(gained, entries), f'{cost:.2f}' if cost else ''])} |")
    return lines


def gained(entry: Mapping[str, Any] | None) -> str:
    """Write what a row gains, or of the baseline its score; a dagger stands where it beats every control."""
    if entry is None:
        return ""
    if not entry["difference"]:
        return scored(entry)
    rival = entry["rival"]
    return span(entry["difference"]) + ("†" if rival and rival["told"] and rival["mean"] > 0 else "")


def line(row: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Write a row of the table. p and Holm's p are those against all controls where there are several plain rows."""
    difference, rival = entry["difference"], entry["rival"]
    tested = (rival or difference) if difference else None
    cells = [
        row["name"],
        scored(entry),
        span(difference),
        f"{span(rival)} {rival['control']}" if rival else "",
        *(f"{tested[name]:.3f}" if tested and tested[name] is not None else "" for name in ("p", "adjusted")),
        f"{row['cost']['seconds_ratio'] or 1.0:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def scored(entry: Mapping[str, Any]) -> str:
    """Write a row's mean score and its deviation over seeds: nothing before a run is finished, and one seed has none."""
    known = [f"{entry[name]:.3f}" for name in ("mean", "deviation") if entry[name] is not None]
    return " ± ".join(known)


def span(difference: Mapping[str, Any] | None) -> str:
    """Write a difference with its interval, which one seed has not, bold where it can be told from nothing."""
    if not difference or difference["mean"] is None:
        return ""
    within = [f"{difference[name]:+.3f}" for name in ("low", "high") if difference[name] is not None]
    said = f"{difference['mean']:+.3f}" + (f" [{', '.join(within)}]" if within else "")
    return f"**{said}**" if difference["told"] else said


def draw(studies: Mapping[str, Rows], path: Path) -> None:
    """Draw each study's differences from its baseline, with intervals; beside the names stands the time that rows cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(studies), 4.8), layout="constrained")
    axes = figure.subplots(1, len(studies), squeeze=False)[0]
    for panel, (name, rows) in zip(axes, studies.items(), strict=True):
        panel.axvline(0, color="grey", linewidth=0.8)
        names = []
        for row, entry in reversed(rows):
            if (difference := entry["difference"]) and difference["low"] is not None:
                mean = difference["mean"]
                colour = "tab:blue" if row["settings"].get("plugins") else "tab:grey"
                face = colour if difference["told"] else "white"
                around = [[mean - difference["low"]], [difference["high"] - mean]]
                panel.errorbar([mean], [len(names)], xerr=around, fmt="o", color=colour, markerfacecolor=face)
                names.append(f"{row['name']} ({row['cost']['seconds_ratio']:.1f}x)")
        panel.set_yticks(range(len(names)), labels=names)
        panel.set(title=name, xlabel="difference from the baseline; filled: told from nothing")
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY")
    parser.add_argument("--split", default="dev", help="dev or test")
    parser.add_argument("--together", action="store_true", help="one table of all studies")
    parser.add_argument("--score", help="such as 'dev sst accuracy'")
    parser.add_argument("--metric", help="such as macro_f1, in place of the one that decided")
    parser.add_argument("--picture", type=Path, help="an SVG or PNG file; it needs matplotlib")
    given = parser.parse_args()
    drawn = {}
    for study in given.studies:
        found = read(study, given.metric)
        rows = [(row, entry) for row in found["rows"] if (entry := chosen(row, given.score, given.split))]
        if not given.together:
            print(f"\n{found['name']}\n\n| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
            print("\n".join(line(*each) for each in rows))
        drawn[found["name"]] = rows
    if given.together:
        print("\n".join(together(drawn)))
    if given.picture:
        draw(drawn, given.picture)
