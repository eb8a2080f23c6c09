"""The contract: the training loop in pseudocode, and the hooks that plugins attach to, in its order.

    tasks(given, tokenizer, encoder)                         # collect
    build(model, tasks)                                      # notify; wherever the model is made, also to evaluate it
    stages(tasks)                                            # collect
    for stage in stages:
        prepare(model, stage, tasks)                         # notify; the optimizer is not built yet
        optimizer = make_optimizer(model, stage)             # decide
        begin_run(folder, settings, updates, records)        # notify; once, when nothing can be refused any more
        for step in range(total_steps):                      # epochs x epoch_steps(tasks)     decide
            chosen = choose_tasks(tasks, step, total_steps)  # decide
            learning rate = peak x schedule(stage, step, total_steps)                        # decide
            for task in chosen:
                for batch in micro-batches of the task's next batch:
                    batch = augment(task, batch)             # decide
                    embeddings = embed(model, batch)         # decide
                    vectors = encode(model, task, batch, embeddings)                         # decide
                    output = predict(model, task, batch, vectors)                            # decide
                    loss = task_loss(task, batch, output)    # decide
                       + extra_losses(model, task, batch, embeddings, vectors, output, loss, predict, task_loss)  # collect
                    measure(model, task, batch, embeddings, output, predict)                 # collect; now and then
                    backward
            gradient = combine_gradients(tasks, gradients, losses)   # decide; one row per task, shared parameters only
            before_step(model, optimizer, recompute)         # notify
            if a loss or the gradient is not finite:
                skipped(model, step, recompute)              # notify; no update is done
            else:
                clip the gradient
                clipped(model, optimizer, norm)              # notify
                optimizer.step()
                after_step(model, step, total_steps, losses, reevaluate)                     # notify
        # after each epoch or so many steps, and at the end; before the first step too, where all dev examples are scored
        model_to_evaluate(model)                             # decide
        evaluated(stage, step, scores)                       # notify
        logged(records)                                      # notify; now and then: the new lines of the run's log
    end_run(state)                                           # notify

Three kinds of hook:

* collect: every plugin may answer, and all answers are used;
* decide: one plugin answers, or else the default does; two are an error before the run starts, and None is one;
* notify: every plugin is told, and answers are ignored.

A method attaches by its name and the decorator `regkit.hookimpl`, and names only the arguments it uses. With
`@hookimpl(wrapper=True)` it goes around the others: `answer = yield`, then `return` what the caller shall see. The plugin
named first on the command line is the outermost wrapper and is told first; one marked `tryfirst` or `trylast` is told
before or after all that are not. Every reduction is a mean over examples.

Random numbers drawn inside a hook with torch's default generators come from a stream of the plugin's own, derived from
the seed, the stage, the step, the task, the micro-batch and the hook: nothing to seed, nothing to save.

What a plugin learns from a step, it keeps in `after_step`: a step whose numbers are not finite, or that another plugin's
error breaks off, is then as if it had not been begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy
from torch import Tensor

if TYPE_CHECKING:
    import torch

    from regkit.model import Encoder, MultitaskModel
    from regkit.model.tokenizer import Tokenizer
    from regkit.tasks.batch import Batch
    from regkit.tasks.task import Stage, Task

hookimpl = pluggy.HookimplMarker("regkit")
collect = pluggy.HookspecMarker("regkit")
decide = pluggy.HookspecMarker("regkit")(firstresult=True)
notify = pluggy.HookspecMarker("regkit")


class Predict(Protocol):
    """Runs `encode` and `predict` again, for the same task and batch, from other embeddings."""

    def __call__(
        self,
        embeddings: Tensor,
        *,
        dropout: Literal["replay", "fresh", "off"] = "replay",
        model: MultitaskModel | None = None,
        radius: float | None = None,
    ) -> Tensor:
        """Compute the output for `embeddings`, `[tokens, width]`. Those of the clean pass cost no pass.

        dropout: `replay` uses the very masks of the clean pass, `fresh` draws new ones, `off` is evaluation mode.
        model: another model to ask, such as a teacher; None is the one in training.
        radius: how far `embeddings` may be from the clean ones, a coordinate, in units of their root mean square. Under
            bf16 autocast, a radius that the type cannot carry makes this pass run in TF32 or float32. Compare its output
            with that of `predict(clean embeddings, radius=radius)`, which then is made alike: at no cost where the plugin
            says its radius by an attribute of this name.
        """
        ...


class TaskLoss(Protocol):
    """Computes the task's loss of an output, for the same task and batch, as the loop does.

    Wrappers apply: the loss is weighted, smoothed, and so on.
    """

    def __call__(self, output: Tensor, targets: Tensor | None = None) -> Tensor:
        """Compute a scalar, the mean over the batch's examples.

        targets: labels in place of the batch's, such as mixed ones. Each is a number, or for kinds with classes a
            distribution, in the form of `objective.smoothed(labels, 0)`; None stands for the batch's own labels.
        """
        ...


Losses = Mapping[str, Mapping[str, Tensor]]  # by task and term
Ending = Literal["finished", "stopped", "failed"]


class Hooks:
    """The hooks, in the loop's order."""

    @collect
    def tasks(self, given: Sequence[Task], tokenizer: Tokenizer, encoder: Encoder) -> Sequence[Task]:
        """Add tasks to those `given` by the run's data, for stages that the plugin adds."""

    @notify
    def build(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        """Put modules into the model, or freeze weights of it. The result is what checkpoints hold.

        Called wherever a model is made: for training and, before its weights are read, for resuming, evaluating and all else.
        """

    @collect
    def stages(self, tasks: Sequence[Task]) -> Sequence[Stage]:
        """Add spans of training before fine-tuning, in order. A wrapper may change those it acts in."""

    @notify
    def prepare(self, model: MultitaskModel, stage: Stage, tasks: Sequence[Task]) -> None:
        """Begin a stage, before the optimizer is built: set up what the plugin keeps, or refuse a composition.

        The names and shapes of the model's state stay as they were: modules that hold others are put in by `build`.
        """

    @decide
    def make_optimizer(self, model: MultitaskModel, stage: Stage) -> torch.optim.Optimizer:
        """Make the stage's optimizer. A group's learning rate is its peak, which `schedule` scales."""

    @notify
    def begin_run(
        self,
        folder: Path,
        settings: Mapping[str, str | int | float | bool],
        updates: int,
        records: Sequence[Mapping[str, Any]],
    ) -> None:
        """Learn that training begins, or goes on after so many `updates`. The run's folder exists.

        `records` are the lines that its log has so far: what was told of them may have been lost with the process.

        `settings` are flat: `learning_rate`, `plugins.smart.weight`, and `group` if the user named one. Of several processes,
        the first alone calls this hook, `logged` and `end_run`.
        """

    @decide
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        """Say how many optimizer updates an epoch has. Who decides `choose_tasks` decides this too."""

    @decide
    def choose_tasks(self, tasks: Sequence[Task], step: int, total_steps: int) -> Sequence[Task]:
        """Choose the tasks of this update; each gives its next batch. `step` counts from 0 in the stage."""

    @decide
    def schedule(self, stage: Stage, step: int, total_steps: int) -> float:
        """Choose the factor on the peak learning rates of this step: a number, 0 or more.

        By default it rises in a straight line in the warm-up, then falls to 0 in another.
        """

    @decide
    def augment(self, task: Task, batch: Batch) -> Batch:
        """Change the tokens of a training batch: return the same examples in another form."""

    @decide
    def embed(self, model: MultitaskModel, batch: Batch) -> Tensor:
        """Compute the word embeddings of the batch, `[tokens, width]`. A wrapper may add to them."""

    @decide
    def encode(self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        """Compute the vectors that the task's head reads: `[texts, width]`.

        A pair read apart has two, side by side. Where words are predicted, there is one for each.
        """

    @decide
    def predict(self, model: MultitaskModel, task: Task, batch: Batch, vectors: Tensor) -> Tensor:
        """Compute the task's output, `[examples, width]`, or `[examples]` if the objective's width is 1."""

    @decide
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Tensor:
        """Compute the loss of an output: a scalar, the mean over examples. A wrapper may weigh it."""

    @collect
    def extra_losses(
        self,
        model: MultitaskModel,
        task: Task,
        batch: Batch,
        embeddings: Tensor,
        vectors: Tensor,
        output: Tensor,
        loss: Tensor,
        predict: Predict,
        task_loss: TaskLoss,
    ) -> Mapping[str, Tensor]:
        """Give terms to add to the loss: name to weighted scalar, each a mean over the batch's examples.

        `loss` is the clean loss, `task_loss(other_output)` what it would be for another output, and
        `task_loss(other_output, targets)` also for other labels.
        """

    @collect
    def measure(
        self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor, output: Tensor, predict: Predict
    ) -> Mapping[str, Tensor | float]:
        """Report numbers for the log and the run's last table, by name. Asked on one in many batches."""

    @decide
    def combine_gradients(self, tasks: Sequence[Task], gradients: Tensor, losses: Losses) -> Tensor:
        """Combine the tasks' gradients, `[tasks, parameters]`, into one, `[parameters]`.

        Of the shared parameters, if a step has several tasks; `tasks` are those of the rows, in the order of
        `choose_tasks`. A row holds the task's loss and the extra losses on its batch. The tensor may be changed in place.
        By default the rows are summed. `losses` are as in `after_step`.
        """

    @notify
    def before_step(
        self, model: MultitaskModel, optimizer: torch.optim.Optimizer, recompute: Callable[[], None]
    ) -> None:
        """Look at or change the gradient, not yet clipped. `recompute()` computes it at the present weights."""

    @notify
    def skipped(self, model: MultitaskModel, step: int, recompute: Callable[[], None]) -> None:
        """Learn that an update was skipped: a number was not finite. `recompute()` computes it again."""

    @notify
    def clipped(self, model: MultitaskModel, optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
        """Change the clipped gradient, before the optimizer's step. `norm` is that before clipping."""

    @notify
    def after_step(
        self,
        model: MultitaskModel,
        step: int,
        total_steps: int,
        losses: Losses,
        reevaluate: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        """Learn from an update. `losses[task][term]` are detached scalars; `task` is the clean loss.

        `reevaluate()` gives what the clean losses of the same batches are now, by task, for one forward pass each.
        """

    @decide
    def model_to_evaluate(self, model: MultitaskModel) -> MultitaskModel:
        """Choose the model that is scored and kept: the one in training, or one of the same form."""

    @notify
    def evaluated(self, stage: Stage, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Learn the dev scores after `step` updates of the stage: `scores[task][metric]`.

        Those of a sample, which may be all that is scored before the first update, are not told.
        """

    @notify
    def logged(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Learn the lines that the run's log has got since the last call.

        They hold plain numbers: nothing waits for the GPU. `regkit.numbers` names each number. A line's `updates` counts
        those of the run so far, in all stages.
        """

    @notify
    def end_run(self, state: Ending) -> None:
        """Learn how training ended. A run that was stopped or has failed may go on later."""


DECIDE = tuple(name for name in vars(Hooks) if getattr(getattr(Hooks, name), "regkit_spec", {}).get("firstresult"))
