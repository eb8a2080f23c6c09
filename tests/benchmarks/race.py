"""Race: simulate races whose truth is known, and print how often they are right and in how many runs.

    python -m tests.benchmarks.race [--races 300]

Scores are normal, and those of one seed alike in part. Effects are in standard deviations of a paired difference.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regkit.experiments.statistics.race import Race, Verdict

SECONDS = {"plain": 1.0, "dropout=0": 1.0}  # of a run; those of the rows are longer


@dataclass(frozen=True)
class Outcome:
    """One simulated race."""

    verdict: Verdict
    runs: int


def race(rules: Race, effects: Mapping[str, float], seed: int, workers: int = 1) -> Outcome:
    """Run a race to its end; with several workers, each takes its next run before the others' have ended."""
    random = np.random.default_rng(seed)
    names = [*rules.controls, *rules.rows]
    noise = random.normal(size=(len(names), rules.max_seeds)) / np.sqrt(2) + random.normal(size=rules.max_seeds)
    seconds = {name: SECONDS.get(name, 1.5 + 0.1 * place) for place, name in enumerate(names)}
    scores: dict[str, dict[int, float]] = {name: {} for name in names}
    running: list[tuple[str, int]] = []
    while True:
        while len(running) < workers and (cell := rules.next(scores, seconds, running)):
            running.append(cell)
        if not running:
            return Outcome(rules.verdict(scores, seconds), sum(map(len, scores.values())))
        name, number = running.pop(random.integers(len(running)))
        scores[name][number] = effects.get(name, 0.0) + noise[names.index(name), number]


def races(rules: Race, effects: Mapping[str, float], number: int, workers: int = 1) -> list[Outcome]:
    """Run many races of the same truth."""
    return [race(rules, effects, seed, workers) for seed in range(number)]


def share(outcomes: list[Outcome], kind: str, row: str = "") -> float:
    """Compute how many races ended with a verdict."""
    return float(np.mean([each.verdict.kind == kind and (not row or each.verdict.row == row) for each in outcomes]))


def main() -> None:
    """Print the figures of docs/comparing.md."""
    parser = argparse.ArgumentParser(description="How often a race is right, and in how many runs.")
    parser.add_argument("--races", type=int, default=300)
    number = parser.parse_args().races
    print(
        f"{'rows':>4} {'controls':>8} {'seeds':>5} {'workers':>7} {'effect':>6}   winner  nothing  undecided  runs  of the full table"
    )
    for rows, controls, seeds, workers, effect in CASES:
        rules = Race([f"row {place}" for place in range(rows)], list(SECONDS)[:controls], seeds)
        outcomes = races(rules, {f"row {rows // 2}": effect}, number, workers)
        runs, full = np.mean([each.runs for each in outcomes]), (rows + controls) * seeds
        used = share(outcomes, "use", f"row {rows // 2}" if effect > 0 else "")
        rest = f"{share(outcomes, 'nothing'):7.3f} {share(outcomes, 'undecided'):10.3f} {runs:6.1f} {runs / full:12.2f}"
        print(f"{rows:4} {controls:8} {seeds:5} {workers:7} {effect:6.1f}  {used:7.3f}  {rest}", flush=True)


CASES = [
    *((5, 1, 20, 1, effect) for effect in (0.0, 1.0, 1.5, 2.0)),
    *((5, 2, 20, 1, effect) for effect in (0.0, 1.5, 2.0)),
    *((5, 1, 30, 1, effect) for effect in (0.0, 1.0, 1.5)),
    *((10, 1, 20, 1, effect) for effect in (0.0, 1.5, 2.0)),
    *((5, 1, 20, 4, effect) for effect in (0.0, 1.5, 2.0)),
    (1, 1, 20, 1, 0.0),
    (5, 1, 20, 1, -1.5),
]

if __name__ == "__main__":
    main()
