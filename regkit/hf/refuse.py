"""Refuse: say at once which plugins, settings and models cannot work inside a Trainer."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import ConfigError, EncoderError, PluginError, RegkitError
from regkit.base.failures import last_line, ran_out
from regkit.base.randomness import unchanged
from regkit.hf.batch import PaddedBatch
from regkit.hf.loss import OwnLoss
from regkit.hf.model import MULTILABEL, TransformersModel, objective_of, output_of
from regkit.hooks.following import LOG
from regkit.hooks.implementations import implementations, is_wrapper
from regkit.model.modes import mode
from regkit.tasks.objectives import Classification
from regkit.tasks.task import Task

# What plugins do in hooks that a Trainer has no place for; the first of these that a plugin answers is named.
NO_PLACE = {
    "choose_tasks": "chooses among tasks",
    "epoch_steps": "decides how long an epoch is",
    "schedule": "chooses the learning rates",
    "combine_gradients": "looks at the gradients of several tasks",
    "tasks": "adds tasks",
    "stages": "adds or changes stages of training",
    "evaluated": "compares the scores of tasks",
}
CLOSE = 1e-4  # how far the logits of the two ways to run a model may be apart, in units of the largest


def check_plugins(plugins: Mapping[str, Any]) -> None:
    """Raise PluginError for a plugin that cannot act inside a Trainer."""
    for name, plugin in plugins.items():
        found = implementations(plugin)
        for hook, what in NO_PLACE.items():
            if hook in found and not (hook == "choose_tasks" and is_wrapper(found[hook])):
                raise PluginError(
                    f"'{name}' {what}, and a Trainer has one task, one stage and its own schedule; "
                    f"leave '{name}' out, or train with regkit."
                )
        if said := _needs_parts(found):
            raise PluginError(
                f"'{name}' {said}, and a Trainer's model is run as a whole; leave '{name}' out, or train with regkit."
            )
        if "build" in found:
            raise PluginError(
                f"'{name}' puts modules into the model, and a Trainer's checkpoints would be read without them; "
                f"leave '{name}' out, or train with regkit."
            )
        if found.keys() & set(LOG):
            raise PluginError(
                f"'{name}' follows regkit's own log, and a Trainer has another; leave '{name}' out, or see what "
                "the Trainer's report_to offers."
            )
        if found.keys() <= {"measure"}:
            raise PluginError(f"'{name}' only measures, and a Trainer does not ask for that; leave it out.")


def _needs_parts(found: Mapping[str, Any]) -> str:
    """Say what a plugin needs that only the passes of regkit's own model have; nothing if it fits."""
    if "augment" in found:
        return "changes the tokens of a batch"
    asks = "extra_losses" in found and "vectors" in inspect.signature(found["extra_losses"]).parameters
    if asks or "encode" in found or ("predict" in found and not is_wrapper(found["predict"])):
        return "works on the text vectors that heads read"
    return ""


def check_settings(trainer: Any, plugins: Mapping[str, Any]) -> None:
    """Raise ConfigError or PluginError for settings of a Trainer that plugins cannot work with."""
    for said in (*_settings(trainer), *_decided_twice(trainer, plugins)):
        raise said


def _settings(trainer: Any) -> Iterator[RegkitError]:
    args = trainer.args
    try:
        inspect.signature(trainer.compute_loss).bind(None, {}, return_outputs=True, num_items_in_batch=None)
    except TypeError as error:
        own = f"{type(trainer).__name__}.compute_loss"
        yield ConfigError(
            f"{own} has to take (model, inputs, return_outputs, num_items_in_batch), as a Trainer's does: {error}."
        )
    if args.n_gpu > 1:
        yield ConfigError(f"plugins run on one GPU, and this process sees {args.n_gpu}: set CUDA_VISIBLE_DEVICES=0.")
    if args.world_size > 1 or trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled or trainer.is_model_parallel:
        yield ConfigError(
            "plugins inside a Trainer run in one process on one device; for several, train with torchrun -m regkit train."
        )
    if trainer.accelerator.mixed_precision not in ("no", "bf16"):
        yield ConfigError(
            f"{trainer.accelerator.mixed_precision} scales the gradients that plugins look at; use bf16=True instead."
        )
    if args.torch_compile:
        yield ConfigError("plugins give the model word embeddings of their own, which torch_compile=True does not see.")
    if args.neftune_noise_alpha is not None:
        yield ConfigError("neftune_noise_alpha draws noise that cannot be replayed; use the plugin 'neftune' instead.")
    if any(part in str(args.optim).lower() for part in ("lomo", "layerwise")):
        yield ConfigError(f"optim='{args.optim}' steps within the backward pass, before a plugin sees the gradient.")


def _decided_twice(trainer: Any, plugins: Mapping[str, Any]) -> Iterator[RegkitError]:
    """Find plugins that decide what an argument of the Trainer decides too."""
    given = {
        "label_smoothing_factor": bool(trainer.label_smoother),
        "compute_loss_func": trainer.compute_loss_func is not None,
    }
    for name, plugin in plugins.items():
        if decides_loss(plugin):
            for argument in (argument for argument, is_given in given.items() if is_given):
                yield PluginError(f"'{name}' and {argument} both decide the loss; keep one of them.")
        if change_optimizer({name: plugin}) and trainer.optimizer is not None:
            yield PluginError(
                f"'{name}' changes the optimizer, and the Trainer was given one (optimizers); keep one of them."
            )


def decides_loss(plugin: Any) -> bool:
    """Whether a plugin computes the loss itself, from the labels."""
    found = implementations(plugin)
    return "task_loss" in found and not is_wrapper(found["task_loss"])


def change_optimizer(plugins: Mapping[str, Any]) -> bool:
    """Whether a plugin makes or changes the optimizer."""
    return any("make_optimizer" in implementations(plugin) for plugin in plugins.values())


def check_model(model: Any) -> None:
    """Raise ConfigError for a model that plugins cannot work with, as far as can be said without a batch."""
    from transformers import PreTrainedModel

    kind = type(model).__name__
    if not isinstance(model, PreTrainedModel) or model.base_model is model:
        raise ConfigError(
            f"{kind} is no model of transformers with an encoder and a head, such as BertForSequenceClassification."
        )
    try:
        words = model.get_input_embeddings()
    except Exception:  # of a model that has none
        words = None
    if not isinstance(words, nn.Module):
        raise ConfigError(f"{kind} has no word embeddings (get_input_embeddings), which plugins act on.")
    objective_of(model.config)
    for name, weight in model.named_parameters():
        if weight.requires_grad and weight.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"{kind} is trained in {weight.dtype} ('{name}'), where small steps are lost: load it with "
                "dtype=torch.float32, and compute in bf16 by bf16=True."
            )


def check_batch(
    model: TransformersModel, task: Task, batch: PaddedBatch, own: OwnLoss, plugins: Mapping[str, Any]
) -> None:
    """Try the model on the first batch, without dropout.

    From ids and from their embeddings it must give the same. Learns, on the way, how the Trainer scales its loss.
    Raises ConfigError, which names the model, and PluginError for a plugin that reads labels which are not there.
    """
    if readers := [name for name, each in plugins.items() if decides_loss(each)]:
        _check_read(readers[0], task, batch)
    try:
        with torch.no_grad(), mode(model, training=False), unchanged(batch.tokens.device):
            _check_labels(task, batch)
            _check_embeddings(model, task, batch)
            own.learn(batch)
    except Exception as error:  # a model of another kind leads to errors of any kind
        if ran_out(error):
            raise
        if isinstance(error, ConfigError):
            raise
        reason = str(error) if isinstance(error, EncoderError) else f"{last_line(error)}."
        raise ConfigError(f"{type(model.model).__name__} cannot be used with plugins: {reason}") from error


def _check_read(name: str, task: Task, batch: PaddedBatch) -> None:
    """Raise PluginError where a plugin would read labels that are not there, or stand for none."""
    if batch.labels is None:
        raise PluginError(
            f"'{name}' computes the loss from the labels, and the batches have none under the name 'labels'."
        )
    if isinstance(task.objective, Classification) and (batch.labels < 0).any():
        raise PluginError(
            f"'{name}' computes the loss from the labels, and one is {int(batch.labels.min())}, which is no class; leave "
            "such examples out of the data."
        )


def _check_labels(task: Task, batch: PaddedBatch) -> None:
    labels = batch.labels
    if labels is None or not isinstance(task.objective, Classification):
        return
    if labels.is_floating_point() or labels.dim() != 1:
        kind, shape = str(labels.dtype).removeprefix("torch."), list(labels.shape)
        raise EncoderError(
            f"its labels are {kind} of shape {shape}, and not a whole number for each example; for several labels at once, "
            f"set problem_type='{MULTILABEL}' in its config."
        )


def _check_embeddings(model: TransformersModel, task: Task, batch: PaddedBatch) -> None:
    looked_up: list[None] = []
    counted = model.encoder.word.register_forward_hook(lambda *_: looked_up.append(None))
    try:
        with model.own_forward():
            wanted = output_of(model.model(**without_labels(batch.inputs)), task)
    finally:
        counted.remove()
    if len(looked_up) != 1:
        raise EncoderError(f"it looks up word embeddings {len(looked_up)} times in a pass, and not once.")
    embeddings = model.embed(batch)
    if not _close(model.predict(task, batch, embeddings), wanted):
        raise EncoderError("from word embeddings it does not give what it gives from their ids.")
    if torch.equal(model.predict(task, batch, embeddings.flip(1)), wanted):
        raise EncoderError("its output does not depend on its word embeddings.")


def without_labels(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the labels out of a model's inputs."""
    return {name: value for name, value in inputs.items() if name != "labels"}


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())
