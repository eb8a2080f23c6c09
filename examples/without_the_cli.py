"""Use regkit as a library: train as `regkit train -p rrobin` does, with an observer of your own.

python examples/without_the_cli.py --steps 30
"""

import argparse
from collections.abc import Mapping

import regkit


class PrintScores:
    """Prints the dev scores. An observer attaches to hooks like a plugin, but has no name and no options."""

    @regkit.hookimpl(trylast=True)
    def evaluated(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        for task, values in scores.items():
            print(step, task, {name: round(value, 3) for name, value in values.items()})


def main() -> None:
    """Train the demo's three tasks for a few updates."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--encoder", help="a checkpoint folder; the demo's without it")
    chosen = parser.parse_args()
    settings = regkit.Settings(plugins={"rrobin": {}}, steps=chosen.steps, encoder=chosen.encoder)
    experiment = regkit.Experiment.build(settings)
    experiment.composition.observe(PrintScores())
    experiment.trainer.train()


if __name__ == "__main__":
    main()
