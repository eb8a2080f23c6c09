"""Padded: transformers' BertForSequenceClassification with regkit's weights, on regkit's batches, padded to the longest."""

from collections.abc import Callable

import torch
from torch import Tensor

from regkit.base.errors import ConfigError
from regkit.data.order import Feed
from regkit.model import Bert, save_encoder
from regkit.model.modes import autocast
from regkit.tasks.batch import Batch
from regkit.tasks.task import FINETUNE
from tests.benchmarks.by_hand import WHOLE, by_hand
from tests.benchmarks.options import Options
from tests.benchmarks.ours import trainer_of
from tests.benchmarks.turns import Way

Inputs = dict[str, Tensor]  # as transformers' models take them, [texts, longest] each; and `labels`


class Padded:
    """A model of transformers for the one task that is trained, and its batches."""

    def __init__(self, options: Options) -> None:
        from transformers import BertConfig, BertForSequenceClassification

        trainer = trainer_of(options, {})
        (self.task,), encoder, self.device = trainer.tasks, trainer.model.encoder, options.device
        self.feed = Feed(self.task, trainer.streams.seed, FINETUNE, bucketing=options.bucketing)
        self.precision = options.dtype
        if not (isinstance(encoder, Bert) and encoder.config.model_type == "bert"):
            raise ConfigError("this part compares with transformers' BERT; choose an --encoder of that family.")
        config = BertConfig.from_pretrained(options.encoder, num_labels=self.task.objective.width)
        self.model = BertForSequenceClassification(config).to(self.device).train()
        head = trainer.model.heads[self.task.name].linear.state_dict(prefix="classifier.")
        self.model.load_state_dict(save_encoder(encoder)[1] | head)

    def inputs(self, number: int) -> Inputs:
        """Pad batch n, and move it to the device."""
        (batch,) = self.feed.micro_batches(number, WHOLE)
        inputs = padded(batch, self.device)
        return inputs if batch.labels is None else inputs | {"labels": batch.labels.to(self.device)}

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute regkit's loss of logits, `[texts, outputs]`."""
        return self.task.objective.loss(logits.squeeze(1) if logits.shape[1] == 1 else logits, labels)

    def forward(self, number: int) -> tuple[Tensor, Tensor]:
        """Compute logits and loss of batch n."""
        inputs = self.inputs(number)
        labels = inputs.pop("labels")
        with autocast(self.device, self.precision):
            logits = self.model(**inputs).logits
            return logits, self.loss(logits, labels)

    def way(self, loss: Callable[[int], Tensor] | None = None) -> Way:
        """Make the update by hand; `loss` computes more than the plain loss of batch n."""
        known = {"classifier": f"heads.{self.task.name}.linear"}
        names = {
            ".".join([known.get(first, first), rest]): weight
            for name, weight in self.model.named_parameters()
            for first, _, rest in [name.partition(".")]
        }
        return by_hand(self.model, names, self.feed, self.forward, loss)


class PaddingFree(Padded):
    """The same model on batches without padding, by an attention of transformers that knows lengths."""

    def __init__(self, options: Options, attention: str) -> None:
        super().__init__(options)
        self.model.set_attn_implementation(attention)

    def forward(self, number: int) -> tuple[Tensor, Tensor]:
        """Compute logits and loss of batch n: the model's own head would read the first of all texts alone."""
        (batch,) = self.feed.micro_batches(number, WHOLE)
        batch, bert = batch.to(self.device), self.model.bert
        lengths = {"cu_seq_lens_q": batch.bounds, "cu_seq_lens_k": batch.bounds}
        most = {"max_length_q": batch.longest, "max_length_k": batch.longest}
        parts = {"input_ids": batch.tokens, "token_type_ids": batch.segments, "position_ids": batch.positions}
        with autocast(self.device, self.precision):
            found = bert(**{name: part[None] for name, part in parts.items()}, **lengths, **most)
            pooled = bert.pooler(found.last_hidden_state[0, batch.starts][:, None])
            logits = self.model.classifier(self.model.dropout(pooled))
            return logits, self.loss(logits, batch.labels)


def padded(batch: Batch, device: torch.device) -> Inputs:
    """Pad a packed batch to its longest sequence: `[sequences, longest]` each."""
    ids = torch.zeros(len(batch.lengths), batch.longest, dtype=torch.int64)
    kinds, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    ids[batch.sequence_of, batch.positions] = batch.tokens
    kinds[batch.sequence_of, batch.positions] = batch.segments
    mask[batch.sequence_of, batch.positions] = 1
    inputs = {"input_ids": ids, "token_type_ids": kinds, "attention_mask": mask}
    return {name: value.to(device) for name, value in inputs.items()}
