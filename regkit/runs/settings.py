"""Settings: every choice of a run, as `config.toml` and the command line give it."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from regkit.base.bounds import Count, LearningRate, NonNegative, Tuned, as_written
from regkit.base.described import Option, meanings
from regkit.base.errors import ConfigError, explain, typed
from regkit.base.files import TextPath, absolute, follow, read_toml
from regkit.data.bare import Given
from regkit.data.declare import DevSplit, PairModes, below
from regkit.data.label_noise import LabelNoise
from regkit.data.subsample import Subsample
from regkit.data.target import Kind
from regkit.runs.elsewhere import no_setting
from regkit.tasks.names import Pooling, Precision

Rate = Annotated[float, Field(ge=0, lt=1)]  # a share that may not be all

UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SWITCHED = ("on", "off", "true", "false", "yes", "no")  # a value for a switch, which is read as the name of a file


def size_in_bytes(value: object) -> int:
    """Read `2GB`, `1.5 GiB` or a number of bytes as bytes. ValueError says what is needed instead."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", str(value).strip())
    if isinstance(value, str | int) and found and found[2] in UNITS and ("." not in found[1] or found[2]):
        return int(float(found[1]) * UNITS[found[2]]) if "." in found[1] else int(found[1]) * UNITS[found[2]]
    *units, last = [unit for unit in UNITS if unit]
    raise ValueError(f"give bytes, or a number with {', '.join(units)} or {last}, such as 2GB")


def import_path(value: object) -> str:
    """Check that a text is of the form MODULE:FUNCTION. ValueError says what is needed instead."""
    module, _, function = str(value).partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ValueError("give MODULE:FUNCTION, such as my_encoder:build")
    return str(value)


def as_list(value: object) -> object:
    """Make a list of a single text."""
    return [value] if isinstance(value, str) else value


Factory = Annotated[str, BeforeValidator(import_path)]
Columns = Annotated[list[str], Field(min_length=1, max_length=2), BeforeValidator(as_list)]
Memory = Annotated[int, BeforeValidator(size_in_bytes), Field(ge=1)]


PER_TASK = ("pair_mode", "subsample", "label_noise")  # settings that have a value for each task
BY_TASK = (*PER_TASK, "labels")  # those whose keys are names of tasks

# Every setting but `labels` and `plugins`, in the order in which help, docs and `regkit settings` print them.
GROUPS = {
    "What to train on": [
       "data", "text", "label", "kind", "dev", "test", "tasks", "pair_mode", "subsample", "label_noise", "encoder",
       "encoder_factory", "fresh_heads", "finetune",
    ],
    "How long": ["epochs", "steps", "eval_steps", "score_first", "patience"],
    "How": [
        "batch_size", "learning_rate", "warmup", "weight_decay", "clip", "dropout", "pooling", "max_length",
        "length_bucketing", "max_skipped", "measure_every", "seed",
    ],
    "Where": ["device", "precision", "cuda_graphs", "micro_batch_tokens", "memory"],
    "Saving": ["save_steps", "save_minutes", "keep", "keep_state", "monitor", "group"],
}  # fmt: skip


def read_values(path: Path) -> dict[str, Any]:
    """Read what a TOML file of settings holds.

    Raises ConfigError, which names the file, and says how to hand over what is no file of settings.
    """
    as_data = typed("--data", path)
    try:
        values = read_toml(follow(path))
    except FileNotFoundError:
        switch = "; a switch has no value, and --no-NAME turns it off" if str(path).lower() in SWITCHED else ""
        raise ConfigError(f"{path} does not exist{switch}.") from None
    except IsADirectoryError:
        known = (path / name for name in ("config.toml", "study.toml"))  # of a run, of a study
        own = next((str(file) for file in known if file.is_file()), "")
        raise ConfigError(
            f"{path} is a folder; its settings are {own}." if own else f"{path} is a folder; for data, give {as_data}."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # not TOML, not text, or too much of it
        otherwise = "" if path.suffix == ".toml" else f"; for a table, give {as_data}"
        raise ConfigError(f"{path} cannot be read: {error}{otherwise}.") from None
    if isinstance(values.get("tasks"), dict):
        raise ConfigError(f"{path} declares tasks, and is no file of settings; give {as_data}.")
    return values


class Settings(BaseModel):
    """Hold every choice of a run.

    A TOML file has the same names at its top, and a table `[plugins.NAME]` for each plugin. The string below a field is its
    meaning, which help, docs and `regkit settings` print.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data: TextPath | None = None
    """Table, folder, hub:NAME, or TOML file that declares tasks. Without it, a small demo is generated."""
    text: Columns | None = None
    """Column of the text in a table; given twice, those of a pair. Without it, guessed by usual names."""
    label: str | None = None
    """Column of the label in a table. Without it, guessed by usual names."""
    kind: Kind | None = None
    """What the labels of a table are. Without it, read off them."""
    dev: DevSplit | None = None
    """Dev split of a table: a file, or the share of its rows that is held out. Without it, 0.1."""
    test: TextPath | None = None
    """Test split of a table: a file, with or without labels."""
    tasks: list[str] | None = None
    """Names of the tasks to train. Without it, all but those that the data marks as optional."""
    pair_mode: PairModes = {}
    """How a task reads its pairs: sts=bi_encoder, or cross_encoder. Without it, as the data declares it."""
    subsample: Subsample = {}
    """Training examples of a task to draw by the seed: a number, sst=500, or a share, sst=0.1."""
    label_noise: LabelNoise = {}
    """Share of a task's training labels to replace by wrong ones, drawn by the seed: sst=0.2."""
    encoder: str | None = None
    """Checkpoint folder, or a name on the Hugging Face Hub. Without it, the demo's MiniLM."""
    encoder_factory: Factory | None = None
    """A function of yours that builds the encoder; the folder has its tokenizer, and its weights if saved."""
    fresh_heads: bool = False
    """Begin with new heads, also where the encoder's folder has heads of the run's tasks."""
    finetune: bool = True
    """Train on the data's tasks. Turned off, only the stages that plugins add are trained."""
    epochs: Annotated[Count, Tuned(1, 10)] = 3
    """Passes over the training data of all tasks."""
    steps: Count | None = None
    """Optimizer updates to train for, instead of epochs."""
    eval_steps: Count | None = None
    """Updates between two evaluations, each with a checkpoint. Without it, one after each epoch."""
    score_first: bool = False
    """Score all dev examples before the first update, not a sample that costs at most 2 % of training."""
    patience: Count | None = None
    """Stop a stage after so many evaluations in a row without a better score. Without it, never."""
    batch_size: Annotated[Count, Tuned(8, 64, log=True)] = 32
    """Examples in an update, unless the task sets its own number."""
    learning_rate: Annotated[LearningRate, Tuned(1e-5, 5e-4, log=True)] = 5e-5
    """Learning rate at its peak. The demo, without data and encoder of your own, takes 1e-4."""
    warmup: Annotated[Rate, Tuned(0, 0.3)] = 0.1
    """Share of the updates in which the learning rate rises: from 0, and less than 1."""
    weight_decay: Annotated[NonNegative, Tuned(1e-3, 0.3, log=True)] = 0.01
    """Weight decay of AdamW. Biases and layer norms have none."""
    clip: Annotated[NonNegative, Tuned(0.1, 10, log=True)] = 1.0
    """Largest norm of the gradient; a larger one is scaled down to it. 0 turns this off."""
    dropout: Annotated[Rate | None, Tuned(0, 0.3)] = None
    """Dropout rate. Without it, the encoder's own rates, and 0.1 before the heads."""
    pooling: Pooling | None = None
    """A text's vector: cls, mean or max of its hidden states, or pooler. Without it, the encoder's own."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Longest text, in tokens; the rest is cut off. Without it, as long as the encoder reads."""
    length_bucketing: bool = True
    """Put texts of similar length into the same batch, which is faster."""
    max_skipped: Count = 5
    """Updates in a row that may be skipped because a loss or gradient is not finite."""
    measure_every: Annotated[int, Field(ge=0)] = 100
    """Measure plugins on one in so many batches of a task, and watch hooks. 0: watch the first 3 steps."""
    seed: int = 0
    """Seed from which all random numbers are derived."""
    device: str = "auto"
    """cuda, mps or cpu. auto takes the first of them that this machine has."""
    precision: Precision = "auto"
    """Number format of the forward pass. auto takes bf16 on CUDA and where a CPU is faster with it."""
    cuda_graphs: bool | None = None
    """Repeat minBERT's layers as CUDA graphs, for few sizes of batches; not with memory. Without it, true."""
    micro_batch_tokens: Count | None = None
    """Most tokens in memory at once. Without it 1024 on a CPU, 2048 if not length_bucketing, else 16384."""
    memory: Memory | None = None
    """Most memory to take, such as 2GB: batches are cut into parts that fit into it."""
    save_steps: Count | None = None
    """Updates between two checkpoints. Without it, one at each evaluation and by the clock."""
    save_minutes: NonNegative = 10.0
    """Minutes between two checkpoints. 0 saves none by the clock."""
    keep: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints that stay on the disk, beside the best. At least 2: one may be damaged."""
    keep_state: bool = False
    """Keep the training state of every checkpoint when the run is finished, not only that of the last."""
    monitor: str = "mean"
    """Score that decides which checkpoint is best: mean, or one such as sst.accuracy."""
    group: str | None = None
    """Name that trackers file the run under. Groups of rows are declared in `tasks.toml`."""
    labels: dict[str, dict[str, Any]] = {}
    """What was read off the labels of each task that leaves it open: its kind, classes or range."""
    plugins: dict[str, dict[str, Any]] = {}
    """Options of each plugin, by its name. The first plugin is the outermost wrapper."""

    _written = field_validator("*", mode="wrap")(as_written)

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Read settings from a TOML file; relative paths in it start at its folder."""
        values = read_values(path)
        return cls.checked(values, str(path)).below(absolute(path).parent)

    @classmethod
    def checked(cls, values: dict[str, Any], owner: str, called: Mapping[str, str] | None = None) -> "Settings":
        """Check plain values. ConfigError names the `owner`, or what the user called the setting: `--warmup`."""
        known = cls.model_fields
        if unknown := next((name for name in values if name not in known), None):
            raise ConfigError(f"{owner} has no option '{unknown}'. {no_setting(unknown, known)}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(error, owner, cls.model_fields, called=called)) from None

    def below(self, folder: Path) -> "Settings":
        """Let relative paths start at a folder; an encoder's name that is no folder there stays as it is."""
        found: dict[str, Any] = {name: below(folder, getattr(self, name)) for name in ("data", "dev", "test")}
        if self.encoder and follow(folder / self.encoder).is_dir():
            found["encoder"] = str(absolute(folder / self.encoder))
        return self.model_copy(update=found)

    @property
    def given(self) -> Given:
        """What these settings say of a table that nothing else declares.

        One task that is named is the table's.
        """
        name = self.tasks[0] if self.tasks and len(self.tasks) == 1 else None
        return Given(self.text, self.label, self.kind, self.dev, self.test, name)

    def allowance(self) -> list[str]:
        """List the words of a command by which the user lets regkit import what builds the encoder."""
        return ["--encoder-factory", self.encoder_factory] if self.encoder_factory else []

    def toml(self) -> str:
        """Write a TOML file that gives these settings again."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def check_one_length(given: Collection[str], owner: str) -> None:
    """Raise ConfigError where a user gives both epochs and steps, of which a run can have one."""
    if {"epochs", "steps"} <= set(given):
        raise ConfigError(f"{owner}: epochs and steps both say how long a run is; leave one of them out.")


def options() -> dict[str, Option]:
    """List the settings in the order of their fields, each with its type, default and meaning."""
    hints, said = get_type_hints(Settings, include_extras=True), meanings(Settings)
    return {
        name: Option(name, hints[name], field.get_default(call_default_factory=True), said.get(name, ""))
        for name, field in Settings.model_fields.items()
    }
