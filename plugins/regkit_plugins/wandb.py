"""Weights & Biases: record settings, losses and scores as a run of a wandb project.

Without an account, or where the server cannot be reached, it records offline, and never asks for one. A run that goes on
goes on under the same id, which is told only what it does not have: wandb writes late, so a process that was killed has told
it nothing. Needs the extra `wandb`.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit import Bookmark, check_library, check_server, hookimpl, numbers

UNFINISHED = ".unfinished"  # in the folder of an offline part: its process has not ended it
SENDING = 120  # seconds for what is left to send at the end; wandb itself would wait for a server for ever


@dataclass
class WandB:
    project: str | None = None
    """Name of the project. Without it, $WANDB_PROJECT, or else regkit."""
    entity: str | None = None
    """User or team that the project belongs to. Without it, the one that wandb knows."""
    run: Any = field(init=False, repr=False)
    bookmark: Bookmark = field(init=False, repr=False)
    part: Path = field(init=False, repr=False)  # the folder of what this process tells
    told: Sequence[Mapping[str, Any]] = field(init=False, repr=False, default=())  # the last line

    def __post_init__(self) -> None:
        check_library("wandb", "wandb", "regkit[wandb]")

    @hookimpl
    def begin_run(self, folder: Path, settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        import wandb

        self.bookmark = Bookmark.open(folder, "wandb")
        place = Path(os.environ.get("WANDB_DIR", folder))
        _remove_unfinished(place, self.bookmark.id)
        self.run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT", "regkit"),
            entity=self.entity,
            dir=str(place),
            id=self.bookmark.id or None,
            name=folder.name,
            group=settings.get("group"),
            config=dict(settings),
            allow_val_change=True,  # a run may go on on another device
            resume="allow",
            reinit="create_new",  # or else a run that the user's program has open would get these numbers
            mode=_mode(),
            settings=wandb.Settings(
                console="off",  # not each redrawn line of the progress
                finish_timeout=wandb.setup().settings.finish_timeout or SENDING,
                finish_timeout_raises=True,
            ),
        )
        self.bookmark.id = self.run.id
        self.bookmark.move([])
        self.part = Path(self.run.dir).parent
        if self.run.offline:
            (self.part / UNFINISHED).touch()
        self.logged(records)

    @hookimpl
    def logged(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in self.bookmark.new(records):
            if (
                record["updates"] >= self.run.starting_step
            ):  # or else the server has it, sent before a process was killed
                self.run.log(numbers(record), step=record["updates"])
            self.told = [record]

    @hookimpl
    def end_run(self, state: str) -> None:
        self.run.finish(exit_code=0 if state == "finished" else 1)
        self.bookmark.move(self.told)  # now, and not before, all of it is written
        (self.part / UNFINISHED).unlink(missing_ok=True)


def _remove_unfinished(place: Path, run: str) -> None:
    """Remove offline parts of a run whose process was killed: all that they were told is told again."""
    for mark in place.glob(f"wandb/offline-run-*-{run}/{UNFINISHED}") if run else ():
        shutil.rmtree(mark.parent)


def _mode() -> Any:
    """Choose `offline` where wandb would ask for an account, or wait for a server.

    What the user has chosen stays. Raises OSError if the user has chosen `online` by $WANDB_MODE, and the server cannot be
    reached.
    """
    import wandb

    settings = wandb.setup().settings
    if settings.mode != "online":
        return None
    chosen = "WANDB_MODE" in os.environ
    if not (chosen or wandb.login(prompt=False, verify=False)):
        return "offline"
    try:
        check_server(settings.base_url)  # wandb itself would try for almost two minutes, and give up then
    except OSError as error:
        if chosen:
            raise
        wandb.termwarn(f"{error}; the run is recorded offline.")
        return "offline"
    return None
