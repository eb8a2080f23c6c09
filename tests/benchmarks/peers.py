"""Peers: the update of a step by other libraries, from the same weights and on the same batches."""

from collections.abc import Iterator
from dataclasses import replace
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import IterableDataset

from regkit.model.modes import autocast
from tests.benchmarks.options import Options
from tests.benchmarks.paced import Paced
from tests.benchmarks.padded import Inputs, Padded, PaddingFree
from tests.benchmarks.turns import Way

if TYPE_CHECKING:
    from transformers import TrainerCallback


def hand_loop(options: Options) -> Way:
    """Write a loop around transformers' model, with nothing in it that a step does not need."""
    return Padded(options).way()


def hugging_face_trainer(options: Options) -> Way:
    """Run transformers' Trainer itself, one step at a time."""
    made = Padded(options)
    return replace(made.way(), work=Paced(lambda paced: _train(made, options, paced), options.threads).step)


def padding_free(options: Options, attention: str) -> Way:
    """Give the model the batches that transformers' padding-free collator makes, one long text with lengths."""
    return PaddingFree(options, attention).way()


class Batches(IterableDataset[Inputs]):
    """Batches of a task one after the other, each padded when it is asked for."""

    def __init__(self, made: Padded) -> None:
        self.made = made

    def __iter__(self) -> Iterator[Inputs]:
        number = 0
        while True:
            yield self.made.inputs(number)
            number += 1


def _train(made: Padded, options: Options, paced: Paced) -> None:
    """Train by the Trainer, which waits before each step."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        mkdtemp(),
        per_device_train_batch_size=1,  # of whole batches
        max_steps=10**6,
        learning_rate=5e-5,
        bf16=options.precision == "bf16",
        use_cpu=options.device.type == "cpu",
        dataloader_pin_memory=False,  # batches are on the device
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    Trainer(
        made.model,
        arguments,
        data_collator=lambda whole: whole[0],
        train_dataset=Batches(made),
        compute_loss_func=lambda outputs, labels, **_: made.loss(outputs.logits, labels),
        callbacks=[_waits(paced)],
    ).train()


def _waits(paced: Paced) -> "TrainerCallback":
    from transformers import TrainerCallback

    class Waits(TrainerCallback):  # type: ignore[misc]
        """Hold the Trainer before its first step and after each."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            paced.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            paced.wait()

    return Waits()


def smart_pytorch(options: Options) -> Way:
    """Add the term of smart-pytorch to the hand-written loop, as its own example does."""
    from smart_pytorch import SMARTLoss, kl_loss, sym_kl_loss

    made = Padded(options)
    words = made.model.bert.embeddings.word_embeddings

    def loss(number: int) -> Tensor:
        inputs = made.inputs(number)
        labels, ids = inputs.pop("labels"), inputs.pop("input_ids")
        with autocast(options.device, options.dtype):
            term = SMARTLoss(
                lambda embeddings: made.model(inputs_embeds=embeddings, **inputs).logits, kl_loss, sym_kl_loss
            )
            embeddings = words(ids)
            logits = term.eval_fn(embeddings)
            return made.loss(logits, labels) + 0.02 * term(embeddings, logits)

    return made.way(loss)
