"""Settings: what a run is made of, as `config.toml` and the command line say it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from regkit.base.errors import ConfigError, explain
from regkit.base.files import TextPath, absolute, read_toml

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_in_bytes(value: object) -> int:
    """`2GB`, `1.5 GiB` or a number of bytes as bytes; ValueError says what is needed instead."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", str(value).strip())
    if isinstance(value, str | int) and found and found[2] in UNITS and ("." not in found[1] or found[2]):
        return int(float(found[1]) * UNITS[found[2]]) if "." in found[1] else int(found[1]) * UNITS[found[2]]
    *units, last = [unit for unit in UNITS if unit]
    raise ValueError(f"give bytes, or a number with {', '.join(units)} or {last}, such as 2GB")


Memory = Annotated[int, BeforeValidator(size_in_bytes), Field(ge=1)]


class Settings(BaseModel):
    """Every choice of a run. A TOML file has the same names at its top, and a table `[plugins.NAME]` a plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data: TextPath | None = None  # a folder or a TOML file that declares tasks; None generates the demo's
    tasks: list[str] | None = None  # those of the data's tasks to train; None takes all that are not optional
    encoder: str | None = None  # a checkpoint folder or a name on the Hub; None takes the demo's
    finetune: bool = True  # train on the data's tasks, after the stages that plugins add; or those stages alone
    epochs: Count = 3
    steps: Count | None = None  # optimizer updates, instead of epochs
    batch_size: Count = 32  # examples an update, where the task does not say otherwise
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5  # at its peak
    warmup: Share = 0.1  # share of the updates in which the learning rate rises
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(ge=0)] = 1.0  # largest norm of a gradient; 0 does not clip
    dropout: Share | None = None  # None: the rates of the encoder's config.json, and 0.1 before the heads
    max_length: Annotated[int, Field(ge=8)] | None = None  # tokens; None: what the encoder reads
    length_bucketing: bool = True  # texts of like length in one batch
    micro_batch_tokens: Count = 16384  # most tokens in memory at once; does not change the result
    memory: Memory | None = None  # most that the process shall take, such as "2GB"; it finds a size of micro-batches
    save_steps: Count | None = None  # updates between two checkpoints; None: only after each epoch, and by the clock
    save_minutes: Annotated[float, Field(ge=0)] = 10.0  # minutes between two checkpoints; 0: not by the clock
    keep: Annotated[int, Field(ge=2)] = 2  # newest checkpoints on the disk, beside the best: one may turn out damaged
    monitor: str = "mean"  # the score that decides which is best: "mean" over tasks, or one, such as "sst.accuracy"
    patience: Count | None = None  # evaluations in a row without a better score, after which a stage ends
    max_skipped: Count = 5  # updates in a row that may be skipped because a loss or gradient is not finite
    measure_every: Annotated[int, Field(ge=0)] = 16  # batches of a task, one of which tells what plugins do; 0 never
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 on CUDA, fp32 elsewhere
    device: str = "auto"  # auto: cuda, or else mps, or else cpu
    seed: int = 0
    plugins: dict[str, dict[str, Any]] = {}  # options by plugin, in order: the first is the outermost wrapper

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Settings from a TOML file; relative paths in it start at its folder."""
        try:
            values = read_toml(path)
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist.") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
        except ValueError as error:  # not TOML, not text, or too much of it
            raise ConfigError(f"{path} cannot be read: {error}.") from None
        settings = cls.checked(values, str(path))
        folder = absolute(path).parent
        found = {"data": settings.data and folder / settings.data}
        if settings.encoder and (folder / settings.encoder).is_dir():
            found["encoder"] = str(absolute(folder / settings.encoder))  # type: ignore[assignment]
        return settings.model_copy(update=found)

    @classmethod
    def checked(cls, values: dict[str, Any], owner: str) -> "Settings":
        """Settings from plain values; ConfigError in `owner`'s name."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(error, owner, cls.model_fields)) from None

    def toml(self) -> str:
        """A TOML file that gives these settings again."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
