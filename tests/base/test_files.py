"""Files: what cannot be written is named, and what was there before stays."""

import errno
import os
from pathlib import Path

import pytest

from regkit.base.files import replacing


def test_a_disk_that_is_read_only_is_said_of_the_file_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a disk refuses to remove the unfinished file, too, which never was there."""

    def refuse(path: Path, *_: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    (tmp_path / "kept.txt").write_text("before", encoding="utf8")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(OSError, match="Read-only") as caught, replacing(tmp_path / "kept.txt") as file:
            file.write("after")
    assert caught.value.filename == str(tmp_path / "kept.txt")
    assert (tmp_path / "kept.txt").read_text(encoding="utf8") == "before"
