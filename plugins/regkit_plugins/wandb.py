"""Weights & Biases: record settings, losses and scores as a run of a wandb project.

Without an account it records offline, and never asks for one. A run that goes on goes on under the same id, which is told
only what it does not have. Needs the extra `wandb`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit import Bookmark, check_library, hookimpl, numbers


@dataclass
class WandB:
    project: str | None = None
    """Name of the project. Without it, $WANDB_PROJECT, or else regkit."""
    entity: str | None = None
    """User or team that the project belongs to. Without it, the one that wandb knows."""
    run: Any = field(init=False, repr=False)
    bookmark: Bookmark = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_library("wandb", "wandb", "regkit[wandb]")

    @hookimpl
    def begin_run(self, folder: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self.bookmark = Bookmark.open(folder, "wandb")
        self.run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT", "regkit"),
            entity=self.entity,
            dir=os.environ.get("WANDB_DIR", str(folder)),
            id=self.bookmark.id or None,
            name=folder.name,
            group=settings.get("group"),
            config=dict(settings),
            allow_val_change=True,  # a run may go on on another device
            resume="allow",
            reinit="create_new",  # or else a run that the user's program has open would get these numbers
            mode=_mode(),
            settings=wandb.Settings(console="off"),  # not each redrawn line of the progress
        )
        self.bookmark.id = self.run.id
        self.bookmark.move([])

    @hookimpl
    def logged(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in self.bookmark.new(records):
            self.run.log(numbers(record), step=record["updates"])
        self.bookmark.move(records)

    @hookimpl
    def end_run(self, state: str) -> None:
        self.run.finish(exit_code=0 if state == "finished" else 1)


def _mode() -> Any:
    """Choose `offline` where wandb would ask for an account; what the user has chosen stays."""
    import wandb

    chosen = "WANDB_MODE" in os.environ or wandb.setup().settings.mode != "online"
    return None if chosen or wandb.login(prompt=False, verify=False) else "offline"
