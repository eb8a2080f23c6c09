"""The model: minBERT on packed tokens, a head for each task, and checkpoints in Hugging Face form."""

from typing import TYPE_CHECKING

from regkit.base.lazy import lazily

if TYPE_CHECKING:
    from regkit.model.bert import Bert, BertConfig, Encoder
    from regkit.model.multitask import MultitaskModel
    from regkit.model.weights import load_encoder, load_known_heads, save_encoder
else:  # imported when they are first used: an encoder's folder is looked for without torch
    __getattr__ = lazily(
        __name__,
        {
            "regkit.model.bert": ["Bert", "BertConfig", "Encoder"],
            "regkit.model.multitask": ["MultitaskModel"],
            "regkit.model.weights": ["load_encoder", "load_known_heads", "save_encoder"],
        },
    )

__all__ = ["Bert", "BertConfig", "Encoder", "MultitaskModel", "load_encoder", "load_known_heads", "save_encoder"]
