"""Step: time regkit and a padded transformers loop in turn, on the same batches of real text.

    python -m tests.benchmarks.step ENCODER DATA [--task sst] [--batch-size 32] [--rounds 20] [--threads 1] [--random-batches] [--bf16]

Prints the median of each, and the median of the ratios round by round: machines are noisy, ratios less so.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from regkit import Experiment, Settings
from regkit.data.order import Feed
from regkit.model.modes import autocast
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.training.loop import Trainer
from regkit.training.stages import Span, make_optimizer, prepare
from regkit.training.state import Length
from tests.helpers import stages_of

Step = Callable[[int], None]


def regkit_step(
    encoder: Path,
    data: Path,
    task: str,
    plugins: dict[str, dict[str, object]],
    chosen: argparse.Namespace,
    **more: object,
) -> Step:
    """A whole update of regkit's loop on batch n."""
    precision = "bf16" if chosen.bf16 else "fp32"
    values = {"data": data, "encoder": str(encoder), "tasks": [task], "batch_size": chosen.batch_size}
    settings = Settings(**values, plugins=plugins, precision=precision, **more)
    trainer = Experiment.build(settings).trainer
    trainer.bucketing = not chosen.random_batches
    return step_of(trainer)


def step_of(trainer: Trainer) -> Step:
    """What makes the update of the trainer's one stage on batch n."""
    ((stage, tasks),) = stages_of(trainer)
    trainer.state.enter(0, stage.name)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
        optimizer = trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
        trainer.fit.begin(trainer.state, trainer.passes, tasks, trainer.processes)
    feeds = {task.name: Feed(task, 0, stage.name, bucketing=trainer.bucketing) for task in tasks}
    span, position = Span(stage, tasks, feeds, Length(10**6, 10**6), optimizer), trainer.state.position

    def step(number: int) -> None:
        position.step, position.seen = number, dict.fromkeys(feeds, number)
        trainer.step(span)

    return step


def padded_step(encoder: Path, data: Path, task: str, chosen: argparse.Namespace) -> Step:
    """Make the same update by hand around transformers' BertModel, padded to the longest text."""
    from transformers import BertModel

    experiment = Experiment.build(Settings(data=data, encoder=str(encoder), tasks=[task], batch_size=chosen.batch_size))
    device, of = experiment.trainer.streams.device, experiment.tasks[0]
    bert = BertModel.from_pretrained(encoder).to(device).train()
    head = nn.Sequential(nn.Dropout(0.1), nn.Linear(bert.config.hidden_size, of.objective.width)).to(device)
    parameters = [*bert.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, fused=True)
    feed = Feed(of, 0, "finetune", bucketing=not chosen.random_batches)

    def step(number: int) -> None:
        (batch,) = feed.micro_batches(number, 10**9)
        with autocast(device, torch.bfloat16 if chosen.bf16 else torch.float32):
            output = head(bert(**{name: value.to(device) for name, value in padded(batch).items()}).pooler_output)
            loss = of.objective.loss(
                output.squeeze(1) if of.objective.width == 1 else output, labels(of, batch, device)
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def padded(batch: Batch) -> dict[str, torch.Tensor]:
    """The batch as transformers takes it."""
    ids = torch.zeros(len(batch.lengths), batch.longest, dtype=torch.int64)
    kinds, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    ids[batch.sequence_of, batch.positions] = batch.tokens
    kinds[batch.sequence_of, batch.positions] = batch.segments
    mask[batch.sequence_of, batch.positions] = 1
    return {"input_ids": ids, "token_type_ids": kinds, "attention_mask": mask}


def labels(task: Task, batch: Batch, device: torch.device) -> torch.Tensor:
    assert batch.labels is not None
    return batch.labels.to(device)


def seconds(step: Step, number: int) -> float:
    """Time a step: by the clock on a GPU, by the processor on a CPU, where others may be at work."""
    if not torch.cuda.is_available():
        began = time.process_time()
        step(number)
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    step(number)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of a training step.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="sst")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--random-batches", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    steps = {
        "transformers, padded": padded_step(chosen.encoder, chosen.data, chosen.task, chosen),
        "regkit": regkit_step(chosen.encoder, chosen.data, chosen.task, {}, chosen),
        "regkit, smart": regkit_step(chosen.encoder, chosen.data, chosen.task, {"smart": {}}, chosen),
    }
    in_turn(steps, chosen.rounds)


def in_turn(steps: dict[str, Step], rounds: int) -> None:
    """Time the steps in turn, and print each against the first; two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            times[name].append(seconds(step, number))
    base, *_ = [taken[2:] for taken in times.values()]
    for name, taken in times.items():
        ratio = statistics.median(one / other for one, other in zip(taken[2:], base, strict=True))
        print(f"{name}: {statistics.median(taken[2:]) * 1000:.0f} ms, {ratio:.2f} of transformers")


if __name__ == "__main__":
    main()
