"""Shared: keep what several runs of one process have in common, so that it is loaded once.

What a run changes is never handed out twice: each has a copy of the encoder as it was loaded.
"""

import copy
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from regkit.base.randomness import Streams
from regkit.data.declare import TaskSpec
from regkit.data.load import Whole, read_task
from regkit.model import encoders
from regkit.model.encoders import Loaded
from regkit.model.tokenizer import Tokenizer
from regkit.runs.settings import Settings

KEPT = 2  # encoders: rows with and without dropout alternate, and each encoder takes as much memory as a model


@dataclass
class Shared:
    """The tasks and encoders that the runs of this process have loaded."""

    keeps: bool = True  # False loads all anew
    tasks: dict[Hashable, Whole] = field(default_factory=dict)
    tokenizers: dict[Path, Tokenizer] = field(default_factory=dict)
    encoders: dict[Hashable, Loaded] = field(default_factory=dict)  # as they were loaded: never trained

    def task(self, name: str, spec: TaskSpec, tokenizer: Tokenizer, longest: int, batch_size: int) -> Whole:
        """Read and tokenize a task, or find it as it was read for another run. Raises DataError."""
        key = (name, spec.model_dump_json(), type(spec), id(tokenizer), longest, batch_size)
        if found := self.tasks.get(key):
            return found
        found = read_task(name, spec, tokenizer, longest, batch_size=batch_size)
        if self.keeps:
            self.tasks[key] = found
        return found

    def encoder(self, settings: Settings, streams: Streams, *, bare: bool = False) -> Loaded:
        """Load the encoder that a run begins with, or goes on with: then it is `bare` of plugins' modules.

        What its checkpoint lacks, a pooler or all of it, is drawn by the run's seed. One that the user's own code builds is
        loaded for each run: what that code keeps is not known. Raises EncoderError or ConfigError.
        """
        folder, factory = encoders.find_encoder(settings.encoder), settings.encoder_factory
        for key in ((folder, settings.dropout), (folder, settings.dropout, settings.seed)):
            if found := self.encoders.get(key):
                return replace(found, encoder=copy.deepcopy(found.encoder))
        with streams.seeded("encoder"):
            before = torch.get_rng_state()
            loaded = encoders.load(folder, factory, dropout=settings.dropout, bare=bare)
            drew = not torch.equal(torch.get_rng_state(), before)
        if not self.keeps:
            return loaded
        loaded = replace(loaded, tokenizer=self.tokenizers.setdefault(folder, loaded.tokenizer))
        if factory is not None:
            return loaded
        key = (folder, settings.dropout, settings.seed) if drew else (folder, settings.dropout)
        self.encoders = dict(list(self.encoders.items())[1 - KEPT :]) | {key: loaded}
        return replace(loaded, encoder=copy.deepcopy(loaded.encoder))
