"""Environment: record what else a run's numbers depend on, and find what has changed."""

import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from regkit.base.files import read_json
from regkit.hooks import catalog
from regkit.runs.trackers import TRACKERS

COMPARED = ("python", "device", "threads", "packages", "plugins")  # what may show in the last digits


def present(device: torch.device, plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the versions, the device and the plugins of this process."""
    points = catalog.installed()
    trackers = [name for name in plugins if catalog.only_follows(name)]
    sources = {name: points[name].dist for name in plugins if name in points and name not in trackers}
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in ("regkit", "torch", "numpy", "tokenizers", "pluggy")},
        "plugins": {name: f"{dist.name} {dist.version}" for name, dist in sources.items() if dist},
        TRACKERS: trackers,
    }


def changed(file: Path, now: Mapping[str, Any]) -> list[str]:
    """List what is no longer as a file says; nothing if the file cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        before = read_json(file)
        return [name for name in COMPARED if before[name] != now[name]]
    return []
