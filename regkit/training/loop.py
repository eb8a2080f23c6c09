"""Loop: train a model through the stages of a run, in the words of the contract, `regkit.hooks.spec`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from regkit.base.errors import RunError
from regkit.base.memory import Memory
from regkit.data.order import Feed
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.spec import Losses
from regkit.model.modes import mode
from regkit.tasks.task import Stage, Task
from regkit.training.evaluation import Evaluator, Scores
from regkit.training.fit import Fit, explained
from regkit.training.gate import Gate
from regkit.training.passes import Passes
from regkit.training.sample import Rows, choose_sample
from regkit.training.stages import (
    Span,
    check_surgery,
    collect_stages,
    make_optimizer,
    measure_length,
    prepare,
    set_rates,
)
from regkit.training.state import State
from regkit.training.update import Update, parameters_of


@dataclass
class Trainer:
    """Trains the model of `passes` as the plugins behind its `hook` say, from the state's position on."""

    passes: Passes  # forward passes and losses
    state: State  # model, optimizer, plugins and position: what a checkpoint holds
    tasks: Sequence[Task]  # of all stages
    fit: Fit = field(default_factory=Fit)  # how large micro-batches may be
    processes: Processes = ALONE
    clip: float = 1.0  # largest norm of an update's gradient; 0 does not clip
    bucketing: bool = True  # texts of like length in one batch
    max_skipped: int = 5  # updates in a row that may be skipped, for numbers that are not finite, before training stops
    eval_steps: int | None = None  # updates between two evaluations; None: an epoch's
    score_first: bool = (
        True  # score all of dev before the first update; False, as in `Settings`: a sample, if all cost much
    )
    sampled: Callable[[Stage, Scores, Mapping[str, int]], None] = lambda stage, scores, examples: None  # see `evaluate`
    memory: Memory = field(default_factory=Memory)  # of the tasks' gradients, where a plugin combines them
    gradient_norm: Tensor | None = None  # of the last update, before it was clipped: a scalar

    def __post_init__(self) -> None:
        self.model, self.hook, self.streams = self.passes.model, self.passes.hook, self.passes.streams
        self.evaluator = Evaluator(self.fit, self.passes.precision, self.processes)

    def train(self) -> None:
        """Run the stages. Raises RunError if training cannot go on: losses not finite, or out of memory."""
        with explained(lambda: f"after {self.state.position.step} steps"):
            for number, (stage, tasks) in enumerate(collect_stages(self.hook, self.tasks)):
                self.state.enter(number, stage.name)
                if number < self.state.position.stage:  # done before the run was stopped
                    with self.streams.at(stage.name):
                        prepare(self.hook, self.model, stage, tasks)  # plugins may have swapped modules
                else:
                    self.train_stage(stage, tasks)

    def train_stage(self, stage: Stage, tasks: Sequence[Task]) -> None:
        """Run one stage: score at its start and after each epoch or `eval_steps`, and update in between."""
        with self.streams.at(stage.name), self.state.changing():
            prepare(self.hook, self.model, stage, tasks)
            check_surgery(self.state, stage)
            optimizer = self.state.optimizer = make_optimizer(self.hook, self.model, stage)
            self.state.restore()  # nothing to do in a new run
            length = measure_length(self.hook, self.streams, stage, tasks)
            self.fit.begin(self.state, self.passes, tasks, self.processes)  # nothing to do without a bound on memory
        how = partial(Feed, seed=self.streams.seed, stage=stage.name, bucketing=self.bucketing, square=self.fit.square)
        feeds = {task.name: how(task) for task in tasks}
        span = Span(stage, tasks, feeds, length, optimizer)
        while True:
            if self.state.position.needs_scores(length, self.eval_steps):
                self.evaluate(span)
            elif self.state.position.is_at_the_end(length):
                return
            else:
                self.step(span)

    def step(self, span: Span) -> None:
        """Make one optimizer update, or skip it where a loss or the gradient is not finite."""
        position, step, total = self.state.position, self.state.position.step, span.length.total
        with self.streams.at(span.stage.name, step), mode(self.model, training=True):
            update = self.fit.until_it_fits(partial(self.gradient, span, step), f"after {step} steps")
            with self.state.changing():  # an error in here: this moment is not saved
                losses = self.apply(update)
                position.count(update.tasks, skipped=not losses)
                if losses:
                    again = update.reevaluate
                    self.hook.after_step(
                        model=self.model, step=step, total_steps=total, losses=losses, reevaluate=again
                    )
            if not losses:
                self.skip(update)

    def gradient(self, span: Span, step: int) -> Update:
        """Compute the gradient of one update. All of it can be done again: nothing is kept of a first try."""
        chosen = self.hook.choose_tasks(tasks=span.tasks, step=step, total_steps=span.length.total)
        batches = [self.fit.batches(span.feed(task), self.processes.count) for task in chosen]
        set_rates(self.hook, span.optimizer, span.stage, step, span.length.total)
        parts = list(zip(chosen, batches, strict=True))
        update = Update(self.passes, span.optimizer, parts, self.processes, self.memory)
        update.compute()
        self.hook.before_step(model=self.model, optimizer=span.optimizer, recompute=update.compute)
        return update

    def apply(self, update: Update) -> Losses:
        """Clip the gradient and step the optimizer, unless a number is not finite: then return no losses."""
        parameters = [weight for weight in self.model.parameters() if weight.grad is not None]
        norm = get_total_norm(weight.grad for weight in parameters if weight.grad is not None)
        self.gradient_norm = norm
        gate = Gate(update, norm, early=bool(self.hook.clipped.get_hookimpls()))
        if gate.shut:
            return {}
        if self.clip:
            clip_grads_with_norm_(parameters, self.clip, norm)
        self.hook.clipped(model=self.model, optimizer=update.optimizer, norm=norm)
        gate.step()
        return update.losses if gate.opens() else {}

    def skip(self, update: Update) -> None:
        """Tell plugins and observers that an update was skipped. Raises RunError after too many in a row."""
        position = self.state.position
        self.hook.skipped(model=self.model, step=position.step - 1, recompute=update.compute)
        if position.skipped >= self.max_skipped:
            names = " and ".join(f"'{task.name}'" for task in update.tasks)
            raise RunError(
                f"no finite loss and gradient in {position.skipped} steps in a row, the last of them step {position.step} "
                f"with task {names}; the lines before name what was not finite: leave out a plugin whose term it is, or try "
                "a lower learning rate."
            )

    def evaluate(self, span: Span) -> None:
        """Score the dev splits, and tell plugins and observers.

        Scores of a sample are told to `sampled` alone: a plugin could take them for those of the whole.
        """
        position, step = self.state.position, self.state.position.step
        rows = self.sample(span)
        with self.streams.at(span.stage.name, step, "evaluated"):
            self.processes.check_alike(parameters_of(self.model, span.optimizer))
            work = partial(self.evaluator.scores, self.state.evaluated_model(), span.tasks, "dev", rows)
            scores = self.fit.until_it_fits(work, f"after {step} steps")
            with self.state.changing():
                position.evaluated = step
                if rows is None:
                    self.hook.evaluated(stage=span.stage, step=step, scores=scores)
                else:
                    self.sampled(span.stage, scores, {name: len(each) for name, each in rows.items()})
                position.ended = self.processes.any(position.ended)  # which one of them may have decided

    def sample(self, span: Span) -> Rows | None:
        """Choose the dev examples that are scored before the first update; None for all, and later."""
        if self.score_first or self.state.position.step:
            return None
        return choose_sample(span.tasks, span.length.total, frozen=not list(self.model.shared_parameters()))
