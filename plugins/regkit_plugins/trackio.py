"""Trackio: record settings, losses and scores as a run of a trackio project on this machine.

A run that goes on goes on under the same name, which is told only what it does not have. Needs the extra `trackio`.
"""

import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit import Bookmark, check_library, hookimpl, numbers

SENT = {"TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"}  # variables by which numbers are sent elsewhere


@dataclass
class Trackio:
    project: str = "regkit"
    """Name of the project."""
    run: Any = field(init=False, repr=False)
    bookmark: Bookmark = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_library("trackio", "trackio", "regkit[trackio]")

    @hookimpl
    def begin_run(self, folder: Path, settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        import trackio

        if not SENT & os.environ.keys():
            _check_folder()
        self.bookmark = Bookmark.open(folder, "trackio")
        self.bookmark.id = (
            self.bookmark.id or f"{folder.name}-{secrets.token_hex(3)}"
        )  # trackio knows runs by name alone
        self.run = trackio.init(
            project=self.project,
            name=self.bookmark.id,
            group=settings.get("group"),
            config=dict(settings),
            resume="allow",
            embed=False,  # no dashboard inside a notebook
        )
        self.bookmark.move([])
        self.logged(records)

    @hookimpl
    def logged(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in self.bookmark.new(records):
            self.run.log(numbers(record), step=record["updates"])
        self.bookmark.move(records)

    @hookimpl
    def end_run(self) -> None:
        self.run.finish()


def _check_folder() -> None:
    """Raise OSError if trackio's folder cannot be written: trackio would warn, and drop what it is told."""
    from trackio.utils import TRACKIO_DIR

    TRACKIO_DIR.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=TRACKIO_DIR).close()
