"""Adversary: compare SMART's term at the point it finds with its value at random corners of the box.

    python -m tests.benchmarks.adversary ENCODER DATA [--steps 1]

The encoder is first fine-tuned for a few updates, so that its heads say something.
"""

import argparse
from pathlib import Path

import torch
from regkit_plugins.smart import Smart

from regkit import Experiment, Settings
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task

DRAWS = 8  # random corners to average over


def ratio(encoder: Path, data: Path, *, examples: int = 256, updates: int = 30, smart: Smart | None = None) -> float:
    """R_s at the found point over R_s at a random corner of the box, on SST dev texts, dropout off."""
    smart = smart or Smart()
    settings = Settings(data=data, encoder=str(encoder), tasks=["sst"], steps=updates, device="cpu")
    experiment = Experiment.build(settings)
    experiment.trainer.train()
    task = experiment.tasks[0]
    found, random = 0.0, 0.0
    experiment.model.eval()
    for first in range(0, examples, 32):
        rows = list(range(first, first + 32))
        at_found, at_random = compare(experiment, task, task.splits["dev"].batch(rows, rows), smart)
        found, random = found + at_found, random + at_random
    return found / random


def compare(experiment: Experiment, task: Task, batch: Batch, smart: Smart) -> tuple[float, float]:
    """R_s of a batch at the found point, and at random corners of the box."""
    embeddings = experiment.model.embed(batch).detach()
    output = experiment.model.predict(task, batch, embeddings).detach()
    predict = experiment.trainer.passes.predict_again(task, batch, embeddings, output)
    nudge = smart.adversary(task, batch, embeddings, output, predict).detach()
    radius = batch.to_tokens(batch.per_example(nudge.abs(), "amax"))[:, None]
    with torch.no_grad():
        found = float(task.objective.divergence(predict(embeddings + nudge), output))
        corners = [torch.randn_like(embeddings).sign() * radius for _ in range(DRAWS)]
        random = [float(task.objective.divergence(predict(embeddings + corner), output)) for corner in corners]
    return found, sum(random) / DRAWS


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The adversary's ratio to random perturbation.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=1)
    chosen = parser.parse_args()
    for radius in (0.01, 0.03, 0.1, 0.3, 1.0):
        smart = Smart(epsilon=radius, steps=chosen.steps)
        print(f"epsilon {radius} RMS: ratio {ratio(chosen.encoder, chosen.data, smart=smart):.1f}", flush=True)
