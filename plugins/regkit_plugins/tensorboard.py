"""TensorBoard: write losses, scores and settings as event files that TensorBoard shows.

A run that goes on asks TensorBoard to drop what it had written after its checkpoint. Needs the extra `tensorboard`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit import check_library, hookimpl, numbers


@dataclass
class TensorBoard:
    folder: str | None = None
    """Folder that gets a folder for each run. Without it, the run's own has the files."""
    writer: Any = field(init=False, repr=False)
    settings: Mapping[str, Any] = field(init=False, repr=False)
    scores: Mapping[str, float] = field(init=False, repr=False, default_factory=dict)  # the last

    def __post_init__(self) -> None:
        check_library("tensorboard", "tensorboard", "regkit[tensorboard]")

    @hookimpl
    def begin_run(self, folder: Path, settings: Mapping[str, Any], updates: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = Path(self.folder, folder.name) if self.folder else folder
        self.settings = settings
        self.writer = SummaryWriter(str(place), purge_step=updates + 1 if updates else 0)

    @hookimpl
    def logged(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            found = numbers(record)
            self.scores = found if "scores" in record else self.scores
            for name, value in found.items():
                self.writer.add_scalar(name, value, record["updates"], record["time"])
        self.writer.flush()  # or else a run that is killed loses two minutes

    @hookimpl
    def end_run(self) -> None:
        """Write the settings beside the last scores, for the tab HParams."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(self.settings), dict(self.scores)):  # type: ignore[no-untyped-call]
            self.writer.file_writer.add_summary(summary)
        self.writer.close()
