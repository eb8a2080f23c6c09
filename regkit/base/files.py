"""Files: read TOML, JSON, text and tensors that others wrote, within limits; write files whole.

Everything but `absolute` raises OSError or ValueError, which say in a few words what is wrong with the file.
"""

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from regkit.base.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

TOML = 1 << 18  # bytes of a file
DOTS = 500  # in a line of TOML: tomllib takes a quarter of a minute for a key of 30000 parts
TEXT = 1 << 24  # bytes of a file; parsed as JSON, they take up to 25 times as much
HEADER = 1 << 22  # bytes of a safetensors header, 30 times BERT's: a tensor of no size takes 60, and 25 microseconds
POINTER = b"version https://git-lfs.github.com/spec/"  # how the pointer of Git LFS begins
DEEPEST = 100  # levels of nesting: whoever walks through them may call itself


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


def read_text(path: Path, most: int = TEXT) -> str:
    """Read a text file in UTF-8 of at most so many bytes, with the line endings of any system."""
    check_plain(path)
    return _read(path, most).decode().replace("\r\n", "\n").replace("\r", "\n")


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
    """Make a path absolute, with ~ and links followed. ConfigError where they lead nowhere."""
    try:
        return path.expanduser().resolve()
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
    """Make `link` point to `folder`; at no moment does it point to nothing."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)


def write(path: Path, text: str) -> None:
    """Write a file whole: after an error, what was there before is still there."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
