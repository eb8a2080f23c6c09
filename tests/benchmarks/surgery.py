"""Surgery: time and memory of a step of all tasks - the plain sum, surgery, weighting, and torchjd's own engine."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from regkit.model.modes import mode
from regkit.training.loop import Trainer
from regkit.training.stages import Span
from tests.benchmarks.alike import Outcome
from tests.benchmarks.by_hand import WHOLE
from tests.benchmarks.options import Options
from tests.benchmarks.ours import Plugins, enter, gradients, regkit_way, tokens_of, trainer_of
from tests.benchmarks.table import Contender, Table, measure
from tests.benchmarks.turns import Way

PLUGINS = ("pcgrad", "gradvac", "cagrad", "gradnorm", "famo")


def tables(options: Options) -> Iterator[Table]:
    """Compare with the plain sum; then compare torchjd's engine with regkit's, for one aggregator."""
    names, together = PLUGINS[:1] if options.quick else PLUGINS, of_each_task(options)
    rows = [of_all_tasks(options, name, {**together, name: {}}, alike=False) for name in names]
    plain = of_all_tasks(options, "the plain sum", together)
    yield measure("A step of all tasks", [plain, *rows], options, memory=not options.quick)
    upgrad = of_all_tasks(
        options, "torchjd's UPGrad", {**together, "torchjd": {"aggregator": "UPGrad"}}, needs="torchjd"
    )
    theirs = Contender("the same by torchjd's own engine", partial(engine, options), "torchjd")
    yield measure("UPGrad of all tasks, by two engines", [upgrad, theirs], options)


def of_each_task(options: Options) -> Plugins:
    """Make the scheduler whose updates have a batch of every task."""
    return {"rrobin": {"per_step": len(trainer_of(options, {}, tasks=None).tasks)}}


def of_all_tasks(options: Options, name: str, plugins: Plugins, needs: str = "", alike: bool = True) -> Contender:
    return Contender(f"regkit, {name}", partial(regkit_way, options, plugins, tasks=None), needs, alike)


def engine(options: Options) -> Way:
    """Make the update of regkit's model by hand, with the gradients of torchjd's engine."""
    trainer = trainer_of(options, of_each_task(options), tasks=None)
    span = enter(trainer)
    parameters = list(trainer.model.parameters())

    def step(number: int) -> None:
        engine_gradient(trainer, span, number)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        span.optimizer.step()

    def outcome() -> Outcome:
        with mode(trainer.model, training=False):
            outputs = engine_gradient(trainer, span, 0)
        return Outcome(outputs, gradients(trainer))

    return Way(step, outcome, tokens_of(span.feeds))


def engine_gradient(trainer: Trainer, span: Span, number: int) -> torch.Tensor:
    """Compute the combined gradient of the tasks' batches n into `.grad`. Returns their outputs, `[outputs]`."""
    from torchjd.aggregation import UPGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    trainer.model.zero_grad()
    shared = list(trainer.model.shared_parameters())
    with trainer.streams.at(span.stage.name, number):
        cleans = [
            trainer.passes.clean(task, batch.to(trainer.streams.device))
            for task in span.tasks
            for batch in span.feed(task).micro_batches(number, WHOLE)
        ]
    mtl_backward(
        [clean.loss for clean in cleans],
        features=[clean.vectors for clean in cleans],
        shared_params=shared,
        tasks_params=[list(trainer.model.heads[task.name].parameters()) for task in span.tasks],
        parallel_chunk_size=1,  # one after the other: faster here than by vmap, which regkit's dropout does not know
    )
    jac_to_grad(shared, UPGrad())
    return torch.cat([clean.output.detach().flatten() for clean in cleans])
