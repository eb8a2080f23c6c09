"""The model: minBERT on packed tokens, a head for each task, and checkpoints in Hugging Face form."""

from regkit.model.bert import Bert, BertConfig, Encoder
from regkit.model.multitask import MultitaskModel
from regkit.model.weights import load_encoder, load_known_heads, save_encoder

__all__ = ["Bert", "BertConfig", "Encoder", "MultitaskModel", "load_encoder", "load_known_heads", "save_encoder"]
