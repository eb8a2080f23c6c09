"""Hugging Face: regkit's plugins inside a Trainer of transformers. Needs the extra `transformers`."""

from typing import TYPE_CHECKING

from regkit.base.lazy import lazily

if TYPE_CHECKING:
    from regkit.hf.trainer import RegularizedTrainer
else:  # transformers is imported when the trainer is first used
    __getattr__ = lazily(__name__, {"regkit.hf.trainer": ["RegularizedTrainer"]})

__all__ = ["RegularizedTrainer"]
