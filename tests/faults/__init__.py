"""Faults: what writers of plugins do wrong, with what a run and the kit say of each.

    python -m tests.faults [NAME ...]

prints the table: the fault, what `regkit train` says of it, and what `regkit plugins check` says.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from tests.faults import plugins as wrong
from tests.faults.plugins import doing, hook, weight


class Fault(NamedTuple):
    """A plugin that is wrong in one way."""

    plugin: type  # made without options
    run: str  # words of what a run says; nothing if it does not see the fault
    refused: bool  # by a run, which it ends
    check: str  # of the kit, that fails
    kit: str  # words of what the check says


def refused(plugin: type, says: str) -> Fault:
    """A fault that ends a run; so the kit's first check, which is a run, fails with the same words."""
    return Fault(plugin, says, refused=True, check="it_acts", kit=says)


def said(plugin: type, says: str, check: str, kit: str) -> Fault:
    """A fault that a run says, and goes on."""
    return Fault(plugin, says, refused=False, check=check, kit=kit)


def unseen(plugin: type, check: str, kit: str) -> Fault:
    """A fault that only the kit sees, which compares runs, or looks more closely."""
    return Fault(plugin, "", refused=False, check=check, kit=kit)


ANSWERS = {
    "float term": refused(wrong.FloatTerm, "extra_losses gives 'mine' as"),
    "vector term": refused(wrong.VectorTerm, "extra_losses gives 'mine' as a tensor of shape ["),
    "detached term": refused(wrong.DetachedTerm, "extra_losses gives 'mine' without a gradient"),
    "detached loss": refused(
        hook("task_loss", lambda self, output: output.detach().mean()), "task_loss returns a tensor without a gradient"
    ),
    "loss as a number": refused(hook("task_loss", lambda self: 1.5), "task_loss returns 1.5, of type float; it needs"),
    "reserved name": refused(
        hook("extra_losses", lambda self, loss: {"task": loss}),
        "extra_losses calls a term 'task', as the clean loss is called",
    ),
    "wrapper without return": refused(
        hook("task_loss", wrong.forget_return, wrapper=True),
        "the wrapper task_loss returns nothing; it needs a scalar tensor",
    ),
    "wrapper that computes and returns nothing": refused(wrong.WrapperWithoutReturn, "is a `return` missing?"),
    "wrapper that yields twice": refused(
        hook("task_loss", wrong.yield_twice, wrapper=True), "the wrapper task_loss yields twice"
    ),
    "decider without return": refused(
        hook("predict", lambda self: None),
        "predict returns nothing; it needs a tensor of real numbers, [examples, width] or [examples]; is a `return` miss",
    ),
    "scheduler without return": refused(
        wrong.DecidesNothing, "choose_tasks returns nothing; it needs a list of one or more tasks"
    ),
    "one task": refused(hook("choose_tasks", lambda self, tasks: tasks[0]), "choose_tasks returns the task '"),
    "negative learning rate": refused(hook("schedule", lambda self: -1.0), "schedule returns -1.0"),
    "combined into rows": refused(
        type("Rows", (), {
            "combine_gradients": hook("combine_gradients", lambda self, gradients: gradients).combine_gradients,
            "choose_tasks": hook("choose_tasks", lambda self, tasks: tasks).choose_tasks,
            "epoch_steps": hook("epoch_steps", lambda self: 4).epoch_steps,
        }),
        "combine_gradients returns a tensor of shape [",
    ),
}  # fmt: skip

FORM = {
    "method without its mark": refused(wrong.Unmarked, "has a method extra_losses without @hookimpl"),
    "misspelt hook": refused(wrong.Misspelt, "implements 'extra_loss', which is no hook. Did you mean 'extra_losses'"),
    "misspelt argument": refused(
        hook("extra_losses", lambda self, outputs: {}), "extra_losses has no argument 'outputs'. Did you mean 'output'"
    ),
    "yield without wrapper=True": refused(wrong.YieldUnmarked, "task_loss would never run"),
    "half a state": refused(wrong.HalfAState, "has state_dict alone"),
    "module put in too late": refused(
        wrong.ModuleTooLate, "prepare changes the model so that its state has projection"
    ),
    "other precision": refused(doing(lambda model: model.double(), "prepare"), "prepare changes the model so that"),
    "an error": refused(
        hook("extra_losses", lambda self, output: {"mine": output[10**9]}), "failed in extra_losses at"
    ),
}

DEEDS = {
    "backward inside a hook": refused(
        wrong.BackwardInside, "extra_losses changes the gradient of encoder.word.weight, as"
    ),
    "random": refused(
        wrong.PythonsRandom,
        "extra_losses draws from Python's random, which no seed of the run sets; draw with torch's default generators",
    ),
    "numpy": refused(wrong.NumpysRandom, "extra_losses draws from numpy's global generator, which no seed"),
    "seed": refused(wrong.SeedsItself, "extra_losses calls torch.manual_seed; leave that out"),
    "set in state": refused(
        wrong.SetInState, ", of type set at 'seen'; a checkpoint keeps tensors, numbers, text"
    )._replace(check="a_checkpoint_is_exact"),
    "weight in place": refused(
        wrong.WeightInPlace, "extra_losses changes the weight encoder.layers.0.up.weight in place; change weights"
    ),
    "weight by .data": refused(
        doing(lambda model: weight(model).data.mul_(0.9)),
        "extra_losses leaves the weight encoder.layers.0.up.weight changed",
    ),
    "weight moved and left": refused(
        doing(torch.no_grad()(lambda model: weight(model).mul_(0.9)), "before_step"),
        "before_step leaves the weight encoder.layers.0.up.weight chang",
    ),
    "step of its own": refused(hook("before_step", wrong.step_by_itself), "before_step leaves the weight"),
    "mode left in eval": refused(
        wrong.ModeLeftInEval, "extra_losses leaves the mode of the model changed; put it back, or"
    ),
    "mode of a part": refused(
        doing(lambda model: model.heads.eval(), "before_step"), "before_step leaves the mode of heads changed"
    ),
    "mode changed around a yield": refused(
        hook("encode", wrong.evaluating, wrapper=True),
        "the wrapper encode, before its yield, leaves the mode of the model changed; put it back, or ask predict(",
    ),
    "dropout switched off": refused(wrong.WithoutDropout, "extra_losses leaves the dropout rate of encoder."),
    "hook of torch's left": refused(wrong.Watchful, "extra_losses leaves a hook of torch's on encoder.layers.0"),
    "frozen in a step": refused(
        doing(lambda model: model.encoder.requires_grad_(False)),
        "extra_losses leaves requires_grad of encoder.word.weight changed; put it back.",
    ),
    "gradients off around a yield": refused(
        hook("predict", wrong.switch_off, wrapper=True),
        "the wrapper predict, before its yield, leaves the recording of gradients changed for all that follows; put it back.",
    ),
    "default dtype": refused(
        doing(lambda model: torch.set_default_dtype(torch.float64), "before_step"),
        "before_step leaves the default dtype changed for all that follows",
    ),
    "tasks in place": refused(
        hook("choose_tasks", wrong.pop), "choose_tasks changes `tasks` in place, which others are given too; cha"
    ),
    "embeddings in place": refused(wrong.EmbeddingsInPlace, "extra_losses changes `embeddings` in place"),
    "labels in place": refused(
        hook("extra_losses", lambda self, batch: batch.labels.zero_() is None or {}),
        "extra_losses changes `batch.labels` in place",
    ),
    "scores in place": refused(
        hook("evaluated", lambda self, scores: next(iter(scores.values())).update(accuracy=1.0)),
        "evaluated changes `scores` in place",
    ),
    "losses in place": refused(
        hook("after_step", lambda self, losses: next(iter(losses.values())).clear()),
        "after_step changes `losses` in place",
    ),
    "old graph": refused(wrong.Remembers, "calls backward(), or keeps a tensor of an earlier step without detach()"),
}

CUT = "micro_batches_do_not_show"
RESUMED = "resume_is_exact"

LATER = {
    "forgotten state": said(
        wrong.ForgottenState,
        "after_step changes `average`, which no checkpoint keeps, so a resumed run begins without it",
        RESUMED,
        "forgets `average`",
    ),
    "frozen in between": said(
        doing(lambda model: weight(model).requires_grad_(False), "after_step"),
        "after_step changes requires_grad of encoder",
        RESUMED,
        "a resumed run has other weights than one that never stopped",
    ),
    "option that changes": said(
        wrong.ChangesItsOption, "after_step changes `weight`, which no checkpoint keeps", RESUMED, "forgets `weight`"
    ),
    "own generator": said(
        wrong.Draws, "extra_losses draws from `random`, whose state no checkpoint keeps", RESUMED, "forgets `random`"
    ),
    "own generator of numpy": said(
        wrong.DrawsByNumpy, "extra_losses draws from `random`, whose state no", RESUMED, "forgets `random`"
    ),
    "torch.rand": said(
        wrong.TorchRand,
        "extra_losses draws numbers by itself for each micro-batch, so they depend on how memory and processes cut a batch",
        CUT,
        "extra_losses draws numbers by itself for each micro-batch (torch.randn_like), so",
    ),
    "teacher with gradients": said(
        wrong.TeacherWithGradients,
        "`teacher` gathers gradients, which takes time and memory, and no optimizer has its weights",
        "a_teacher_gets_no_gradient",
        "`teacher` gathers gradients",
    ),
    "module in no optimizer": said(
        wrong.ProjectionUntrained,
        "`projection` gathers gradients, which takes time and memory, and no optimizer has its weights; add them in a wrap",
        "a_teacher_gets_no_gradient",
        "`projection` gathers gradients",
    ),
    "teacher in a dictionary": said(
        wrong.TeacherInADictionary,
        "the model that it gives to predict gathers gradients",
        "a_teacher_gets_no_gradient",
        "the model that it gives to predict gathers gradients",
    ),
    "gradient taken away": said(
        wrong.GradientTakenAway,
        "before_step takes away the gradients of all weights, so this step trains nothing",
        "it_acts",
        "no weight has changed",
    ),
    "summed loss": said(
        hook("task_loss", wrong.sum_up),
        "task_loss returns as many times the usual loss as a batch has examples: if it is",
        CUT,
        "task_loss returns as many times the usual loss",
    ),
    "summed loss around": said(
        hook("task_loss", wrong.sum_up_around, wrapper=True),
        "the wrapper task_loss returns as many times the usual loss",
        CUT,
        "the wrapper task_loss returns as many times the usual loss",
    ),
}

UNSEEN = {
    "summed term": unseen(wrong.SummedLoss, CUT, "the term 'mine' is a sum over the examples"),
    "compared examples": unseen(wrong.Contrast, CUT, "whole_batches = True"),
    "statistic of a batch": unseen(wrong.BatchStatistic, CUT, "the loss of the task of a batch is not the mean"),
    "name of another plugin's term": unseen(
        wrong.AnothersName, "terms_have_names_of_their_own", "calls a term 'smart', as plugin 'smart' does"
    ),
    "clock in the loss": unseen(wrong.ClockInTheLoss, RESUMED, "two runs with one seed differ already"),
    "numbers of the system": unseen(wrong.FromTheSystem, RESUMED, "two runs with one seed differ already"),
    "state of the class": unseen(wrong.SharedByAll, RESUMED, "two runs with one seed differ already"),
    "state that is not loaded": unseen(wrong.LoadsNothing, RESUMED, "forgets `average`"),
    "weight turned": unseen(
        wrong.WeightTurned, "hooks_keep_to_their_part", "extra_losses leaves the weight encoder.layers.0.up.weight"
    ),
    "embeddings by .data": unseen(
        wrong.EmbeddingsByData, "hooks_keep_to_their_part", "extra_losses changes `embeddings` in place"
    ),
    "random after the first steps": unseen(
        hook("schedule", wrong.draw_late), "hooks_keep_to_their_part", "schedule draws from Python's random"
    ),
    "one kind of task": unseen(
        wrong.OneKindOnly,
        "every_kind_is_taken_or_refused",
        "the task 'binary' (Binary, cross_encoder) cannot be trained",
    ),
    "learns before the step": unseen(
        wrong.LearnsTooEarly, "a_skipped_step_leaves_no_trace", "keep in after_step what is learned"
    ),
    "zero that is not zero": unseen(wrong.ZeroIsNotZero, "strength_zero_is_no_plugin", "weight=0"),
    "lost in bf16": unseen(wrong.LostInBf16, "bf16_is_no_trouble", "measures rounding"),
    "wrong cost": unseen(wrong.WrongCost, "cost_is_as_declared", "2.0"),
}

FAULTS: Mapping[str, Fault] = {**ANSWERS, **FORM, **DEEDS, **LATER, **UNSEEN}
