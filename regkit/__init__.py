"""regkit: multitask fine-tuning of BERT-sized encoders, with regularizers and schedulers as plugins."""

from regkit.batch import Batch
from regkit.errors import ConfigError, DataError, EncoderError, PluginError, RegkitError, RunError, nearest
from regkit.experiment import Experiment
from regkit.hookspecs import Predict, TaskLoss, hookimpl
from regkit.model import Bert, BertConfig, Encoder, MultitaskModel, load_encoder
from regkit.model.dropout import Dropout, dropout
from regkit.objectives import Binary, Classification, MaskedWords, Objective, Regression
from regkit.randomness import Streams, derive
from regkit.sampling import apportion, turn
from regkit.settings import Settings
from regkit.sharding import in_parts, total_norm
from regkit.tasks import Dataset, Examples, Split, Stage, Task
from regkit.tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Bert",
    "BertConfig",
    "Binary",
    "Classification",
    "ConfigError",
    "DataError",
    "Dataset",
    "Dropout",
    "Encoder",
    "EncoderError",
    "Examples",
    "Experiment",
    "MaskedWords",
    "MultitaskModel",
    "Objective",
    "PluginError",
    "Predict",
    "RegkitError",
    "Regression",
    "RunError",
    "Settings",
    "Split",
    "Stage",
    "Streams",
    "Task",
    "TaskLoss",
    "Tokenizer",
    "apportion",
    "derive",
    "dropout",
    "hookimpl",
    "in_parts",
    "load_encoder",
    "nearest",
    "total_norm",
    "turn",
]
