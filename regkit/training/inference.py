"""Inference: compute the outputs of several tasks for the same texts in as few passes as possible."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import RunError
from regkit.data.encode import tokenized
from regkit.model import MultitaskModel
from regkit.model.modes import autocast, mode
from regkit.model.pooling import vectors_by_pooling
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.names import Pooling
from regkit.tasks.task import Examples, Task
from regkit.training.fit import Fit

Columns = Mapping[str, Sequence[str]]  # texts by the name of their column
View = tuple[tuple[str, ...], int]  # what one sequence holds: a column, or two read together, cut to so many tokens


@dataclass
class Inference:
    """A model that answers for texts as they come.

    What is computed does not depend on what else is in the batch.
    """

    model: MultitaskModel
    tokenizer: Tokenizer
    fit: Fit = field(default_factory=Fit)
    precision: torch.dtype = torch.float32

    def outputs(self, tasks: Sequence[Task], columns: Columns) -> tuple[dict[str, Tensor], int]:
        """Compute each task's output for every row, and count the truncated sequences.

        Outputs are `[rows, ...]`, on the CPU. Tasks that read the same columns alike share the encoder's pass. Raises
        RunError if an output is not finite.
        """
        needed: dict[View, set[Pooling]] = defaultdict(set)
        for task in tasks:
            for view in self._views(task):
                needed[view].add(self._pooling(task))
        vectors, truncated = {}, 0
        for view, poolings in needed.items():
            vectors[view], cut = self.vectors([columns[name] for name in view[0]], poolings, view[1])
            truncated += cut
        found = {}
        with self._mode():
            for task in tasks:
                sides = [vectors[view][self._pooling(task)] for view in self._views(task)]
                found[task.name] = self._head(task, torch.stack(sides, dim=1).flatten(0, 1))
        return found, truncated

    def vectors(
        self, texts: Sequence[Sequence[str]], poolings: Collection[Pooling], longest: int
    ) -> tuple[dict[Pooling, Tensor], int]:
        """Compute a vector of each row's text, or pair read together; count the truncated rows.

        The vectors are `[rows, width]`. `texts[side][row]` has one side, or two.
        """
        examples = tokenized(texts, self.tokenizer, longest)
        work = partial(self._encoded, examples, poolings)
        return self.fit.until_it_fits(work, "on the texts"), examples.truncated

    def _encoded(self, examples: Examples, poolings: Collection[Pooling]) -> dict[Pooling, Tensor]:
        # Texts of like length stand together: little padding in attention.
        rows = np.argsort(examples.lengths(), kind="stable").tolist()
        size = len(examples), self.model.encoder.width
        found = {pooling: torch.empty(size, device=self.model.device) for pooling in poolings}
        with self._mode():
            for part in self.fit.cut(rows, examples, self.fit.tokens):
                for pooling, vectors in self._pass(examples, part, poolings).items():
                    found[pooling][part] = vectors.float()
        return found

    def _pass(self, examples: Examples, rows: Sequence[int], poolings: Collection[Pooling]) -> dict[Pooling, Tensor]:
        batch = examples.batch(rows).to(self.model.device)
        return vectors_by_pooling(self.model.encoder, self.model.embed(batch), batch, poolings)

    def _head(self, task: Task, vectors: Tensor) -> Tensor:
        output: Tensor = self.model.heads[task.name](vectors).float().cpu()
        if not output.isfinite().all():
            raise RunError(f"task '{task.name}': the model's outputs are not finite.")
        return output

    def _views(self, task: Task) -> list[View]:
        apart = task.pair_mode == "bi_encoder"
        together: Iterable[tuple[str, ...]] = ((name,) for name in task.reading.text) if apart else [task.reading.text]
        return [(names, task.reading.max_length or self.model.encoder.longest) for names in together]

    def _pooling(self, task: Task) -> Pooling:
        return task.pooling or self.model.pooling

    @contextmanager
    def _mode(self) -> Iterator[None]:
        with torch.inference_mode(), mode(self.model, training=False), autocast(self.model.device, self.precision):
            yield
