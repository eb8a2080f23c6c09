"""Manifest: tell whether a checkpoint is whole, and where in its run it was written.

manifest.json has the size and the SHA-256 of every other file of the folder. None of it needs torch.
"""

import json
import shutil
from pathlib import Path

from regkit.base.files import digest_of, flush, read_json, write
from regkit.base.hidden import meant

MANIFEST = "manifest.json"
STATE = ("training.json", "training.safetensors")  # what training needs to go on, and nothing else does
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")  # of every checkpoint


def seal(folder: Path, position: object) -> None:
    """Write the manifest of a folder whose files are all there, and flush everything to the disk."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": digest_of(path)} for path in folder.iterdir()}
    (folder / MANIFEST).write_text(json.dumps({"position": position, "files": files}, indent=2), encoding="utf8")
    for file in folder.iterdir():
        flush(file)
    flush(folder)


def damage(folder: Path) -> str:
    """Say in a few words how a checkpoint is damaged; nothing if every file is as it was written."""
    present = {path.name: path for path in folder.iterdir() if path.is_file() and not path.is_symlink()}
    try:
        files = read_json(folder / MANIFEST)["files"]
        wanted = {name: (file["bytes"], file["sha256"]) for name, file in files.items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    for name, (size, expected) in wanted.items():
        if name not in present:
            return f"{name} is missing"
        if present[name].stat().st_size != size:
            return f"{name} has {present[name].stat().st_size} bytes instead of {size}"
        if digest_of(present[name]) != expected:
            return f"{name} is not what was written"
    return next((f"{MANIFEST} does not have {name}" for name in NEEDED if name not in wanted), "")


def drop_state(folder: Path) -> None:
    """Remove from a checkpoint what training needs to go on.

    The manifest forgets these files first, so that the checkpoint is whole at every moment. One whose manifest cannot be
    read stays as it is. Raises OSError.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        kept = {name: file for name, file in manifest["files"].items() if name not in STATE}
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return
    write(folder / MANIFEST, json.dumps({**manifest, "files": kept}, indent=2))
    flush(folder)
    for name in STATE:
        (folder / name).unlink(missing_ok=True)


def settle(folder: Path) -> Path:
    """Give a whole checkpoint its own name, if the process that wrote it was killed just before it could."""
    name = meant(folder)
    if name is None or "." in name:  # a hidden one that was being removed
        return folder
    own = folder.with_name(name)
    shutil.rmtree(own, ignore_errors=True)  # of the same moment: this one was written in its place
    return folder.rename(own)


def order(folder: Path) -> tuple[int, int, int]:
    """Read where in a run a checkpoint was written, to sort several; an unreadable one comes last."""
    try:
        position = read_json(folder / MANIFEST)["position"]
        return int(position["stage"]), int(position["step"]), int(position["evaluated"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 2**63, 0, 0
