"""regkit: multitask fine-tuning of BERT-sized encoders, with regularizers and schedulers as plugins."""

from regkit.base.errors import ConfigError, DataError, EncoderError, PluginError, RegkitError, RunError, nearest
from regkit.base.randomness import Streams, derive
from regkit.hooks.spec import Predict, TaskLoss, hookimpl
from regkit.model import Bert, BertConfig, Encoder, MultitaskModel, load_encoder
from regkit.model.dropout import Dropout, dropout
from regkit.model.tokenizer import Tokenizer
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import Binary, Classification, MaskedWords, Objective, Regression
from regkit.tasks.sampling import apportion, turn
from regkit.tasks.task import Dataset, Examples, Split, Stage, Task

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
    "load_encoder",
    "nearest",
    "turn",
]
