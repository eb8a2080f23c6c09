"""regkit: multitask fine-tuning of BERT-sized encoders, with regularizers and schedulers as plugins."""

from typing import TYPE_CHECKING

from regkit.base.lazy import lazily

if TYPE_CHECKING:
    from regkit.base.bounds import Count, NonNegative, Positive, Share, Tuned
    from regkit.base.combine import inner_products, weighted_sum
    from regkit.base.errors import ConfigError, DataError, EncoderError, PluginError, RegkitError, RunError, nearest
    from regkit.base.files import digest_of
    from regkit.base.kept import build_once, cache_root
    from regkit.base.randomness import Streams, derive
    from regkit.hooks.following import Bookmark, check_library, check_server, numbers
    from regkit.hooks.selection import check_tasks
    from regkit.hooks.spec import Losses, Predict, TaskLoss, hookimpl
    from regkit.model import Bert, BertConfig, Encoder, MultitaskModel, load_encoder
    from regkit.model.dropout import Dropout, dropout
    from regkit.model.tokenizer import Tokenizer
    from regkit.notebook.train import train
    from regkit.runs.experiment import Experiment
    from regkit.runs.settings import Settings
    from regkit.runs.trained import Trained, load
    from regkit.tasks.batch import Batch
    from regkit.tasks.objectives import (
        Binary,
        Classification,
        Distributional,
        MaskedWords,
        Metric,
        Multilabel,
        Objective,
        Ordinal,
        Regression,
        Smoothable,
        SoftLabels,
        balanced,
    )
    from regkit.tasks.sampling import apportion, turn
    from regkit.tasks.task import Dataset, Examples, Split, Stage, Task
else:  # the same names, each imported when it is first used: a test compares
    __getattr__ = lazily(
        __name__,
        {
            "regkit.base.bounds": ["Count", "NonNegative", "Positive", "Share", "Tuned"],
            "regkit.base.combine": ["inner_products", "weighted_sum"],
            "regkit.base.errors": [
                "ConfigError", "DataError", "EncoderError", "PluginError", "RegkitError", "RunError", "nearest",
            ],
            "regkit.base.files": ["digest_of"],
            "regkit.base.kept": ["build_once", "cache_root"],
            "regkit.base.randomness": ["Streams", "derive"],
            "regkit.hooks.following": ["Bookmark", "check_library", "check_server", "numbers"],
            "regkit.hooks.selection": ["check_tasks"],
            "regkit.hooks.spec": ["Losses", "Predict", "TaskLoss", "hookimpl"],
            "regkit.model": ["Bert", "BertConfig", "Encoder", "MultitaskModel", "load_encoder"],
            "regkit.model.dropout": ["Dropout", "dropout"],
            "regkit.model.tokenizer": ["Tokenizer"],
            "regkit.notebook.train": ["train"],
            "regkit.runs.experiment": ["Experiment"],
            "regkit.runs.settings": ["Settings"],
            "regkit.runs.trained": ["Trained", "load"],
            "regkit.tasks.batch": ["Batch"],
            "regkit.tasks.objectives": [
                "Binary", "Classification", "Distributional", "MaskedWords", "Metric", "Multilabel", "Objective",
                "Ordinal", "Regression", "Smoothable", "SoftLabels", "balanced",
            ],
            "regkit.tasks.sampling": ["apportion", "turn"],
            "regkit.tasks.task": ["Dataset", "Examples", "Split", "Stage", "Task"],
        },
    )  # fmt: skip

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Bert",
    "BertConfig",
    "Binary",
    "Bookmark",
    "Classification",
    "ConfigError",
    "Count",
    "DataError",
    "Dataset",
    "Distributional",
    "Dropout",
    "Encoder",
    "EncoderError",
    "Examples",
    "Experiment",
    "Losses",
    "MaskedWords",
    "Metric",
    "Multilabel",
    "MultitaskModel",
    "NonNegative",
    "Objective",
    "Ordinal",
    "PluginError",
    "Positive",
    "Predict",
    "RegkitError",
    "Regression",
    "RunError",
    "Settings",
    "Share",
    "Smoothable",
    "SoftLabels",
    "Split",
    "Stage",
    "Streams",
    "Task",
    "TaskLoss",
    "Tokenizer",
    "Trained",
    "Tuned",
    "apportion",
    "balanced",
    "build_once",
    "cache_root",
    "check_library",
    "check_server",
    "check_tasks",
    "derive",
    "digest_of",
    "dropout",
    "hookimpl",
    "inner_products",
    "load",
    "load_encoder",
    "nearest",
    "numbers",
    "train",
    "turn",
    "weighted_sum",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
