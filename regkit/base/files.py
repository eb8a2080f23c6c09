"""Files: read TOML, JSON, text and tensors that others wrote, within limits; write files whole.

Everything but `absolute` and `read_object` raises OSError or ValueError, which say in a few words what is wrong.
"""

import errno
import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from regkit.base.errors import ConfigError
from regkit.base.hidden import hidden

if TYPE_CHECKING:
    from torch import Tensor

TOML = 1 << 18  # bytes of a file
DOTS = 500  # in a line of TOML: tomllib takes a quarter of a minute for a key of 30000 parts
TEXT = 1 << 24  # bytes of a file; parsed as JSON, they take up to 25 times as much
HEADER = 1 << 22  # bytes of a safetensors header, 30 times BERT's: a tensor of no size takes 60, and 25 microseconds
POINTER = b"version https://git-lfs.github.com/spec/"  # how the pointer of Git LFS begins
DEEPEST = 100  # levels of nesting: whoever walks through them may call itself
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what is said of a disk, or of a user's part of it, that is full
LEADS = b"leads to "  # how a file begins that stands for a link
LONGEST = 5000  # bytes of such a file


def read_toml(path: Path) -> dict[str, Any]:
    """Read the tables of a TOML file."""
    text = _read(path, TOML).decode("utf-8-sig").replace("\r\n", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS:
            raise ValueError(f"line {number} has more than {DOTS} dots")
    try:
        return dict(_shallow(tomllib.loads(text)))
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None


def read_json(path: Path, most: int = TEXT) -> Any:
    """Read the value in a JSON file of at most so many bytes."""
    text = read_text(path, most)
    try:
        return _shallow(json.loads(text))
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is missing or holds anything else is empty."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_text(path: Path, most: int = TEXT) -> str:
    """Read a text file in UTF-8 of at most so many bytes, with the line endings of any system."""
    check_plain(path)
    return _read(path, most).decode().replace("\r\n", "\n").replace("\r", "\n")


def read_begin(path: Path, most: int) -> str:
    """Read at most so many bytes of a file as text, as far as they are text: enough to tell what it is."""
    with path.open("rb") as file:
        return file.read(most).decode(errors="replace")


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """Write tensors to a safetensors file, each with memory of its own, for whoever may read the folder.

    The library lets the owner alone read what it writes.
    """
    from safetensors.torch import save_file

    save_file(dict(tensors), path, {"format": "pt"})
    path.chmod(path.parent.stat().st_mode & 0o666)


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """Read the tensors of a safetensors file. The library checks that their sizes add up to the file's."""
    check_plain(path)
    with path.open("rb") as file:
        begin = file.read(len(POINTER))
    size = int.from_bytes(begin[:8], "little")
    check_fetched(begin)
    if size > HEADER:
        raise ValueError(f"its header has {size} bytes; {HEADER} are the most")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def check_plain(path: Path) -> None:
    """Refuse a pipe or a device, which may never end, with ValueError. OSError where nothing is there."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder says that it is one
        raise ValueError("it is not a regular file")


def check_fetched(begin: bytes) -> None:
    """Refuse the pointer that Git leaves in place of a large file, by its first bytes, with ValueError."""
    if begin.startswith(POINTER):
        raise ValueError("it is a Git LFS pointer and not the file; fetch that with git lfs pull")


def absolute(path: Path) -> Path:
    """Make a path absolute, with ~, links and what stands for links followed.

    ConfigError where they lead nowhere.
    """
    try:
        return follow(path.expanduser()).resolve()
    except (RuntimeError, ValueError) as error:  # a circle of links, a user who is not here, a NUL character
        raise ConfigError(f"the path {path} cannot be followed: {error}.") from None


def _text(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path has no NUL character")
    str(path).encode()  # a name in another encoding could not be written into config.toml
    return path


TextPath = Annotated[Path, AfterValidator(_text)]  # one that every call of the system takes, and every file of text


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(most + 1)
    check_fetched(content)
    if len(content) > most:
        raise ValueError(f"it has more than {most >> 10} KiB")
    return content


def _shallow(value: Any) -> Any:
    level = [value]
    for _ in range(DEEPEST):
        nested = [each for each in level if isinstance(each, dict | list)]
        level = [child for each in nested for child in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def point(link: Path, folder: Path) -> None:
    """Make `link` lead to `folder`; at no moment does it lead to nothing.

    Where a disk has no symbolic links, a file with the path stands for one, and `follow` reads it. What else is there
    is left alone, with FileExistsError.
    """
    if link.exists() and not link.is_symlink() and _target(link) is None:
        raise FileExistsError(errno.EEXIST, "it is no link; move it away", str(link))
    fresh = hidden(link)
    target = os.path.relpath(folder.resolve(), link.parent.resolve())  # the system follows a link from where it is
    with naming(link):
        try:
            fresh.unlink(missing_ok=True)
            _link(fresh, target)
            fresh.replace(link)
        finally:
            fresh.unlink(missing_ok=True)


def _link(fresh: Path, target: str) -> None:
    try:
        fresh.symlink_to(target)
    except (OSError, NotImplementedError):  # whatever a disk without links says
        fresh.write_bytes(LEADS + os.fsencode(target) + b"\n")


def follow(path: Path) -> Path:
    """Follow the files that stand for links, anywhere in a path. The system follows the links."""
    here = Path()
    for part in path.parts:
        here = here / part
        if (target := _target(here)) is not None:
            here = here.parent / target
    return here


def _target(path: Path) -> str | None:
    """Read where a file that stands for a link leads; None for anything else."""
    content = b""
    if os.path.isfile(path):  # unlike Path's, it takes any text for a path
        with suppress(OSError), path.open("rb") as file:
            content = file.read(LONGEST)
    return os.fsdecode(content.removeprefix(LEADS).removesuffix(b"\n")) if content.startswith(LEADS) else None


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole: after an error, what was there before is still there."""
    with naming(path), _replacing(path, "w" if isinstance(content, str) else "wb") as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a text file to write, which takes its name at the end; an error leaves what was there."""
    with _replacing(path, "w") as file:
        yield file


@contextmanager
def _replacing(path: Path, mode: str) -> Iterator[IO[Any]]:
    unfinished = hidden(path)
    try:
        with naming(path):
            file = unfinished.open(mode, encoding=None if "b" in mode else "utf8")
        with naming_full(path), file:
            yield file
        with naming(path):
            unfinished.replace(path)
    finally:
        with suppress(OSError):  # a disk that is read only says so of a file that is not there, too
            unfinished.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError inside name this path: that of a full disk names none, and a hidden name says little."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


@contextmanager
def naming_full(target: object) -> Iterator[None]:
    """Let the error of a full disk say what was written to: it is raised far from where that was opened."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            error.filename = str(target)
        raise


def digest_of(path: Path) -> str:
    """Hash the content of a file by SHA-256, at some 500 MB a second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
