"""Surroundings: what the numbers of a benchmark depend on, beside the code that is measured."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from regkit.base.files import read_object
from tests.benchmarks.options import Options

PACKAGES = ("torch", "transformers", "accelerate", "sentence-transformers", "smart-pytorch", "torchjd", "numpy")
PEAKS = {  # operations a second of dense matrix products by the makers' data sheets: bf16, and float32 without TF32
    "H200": (989e12, 67e12),
    "H100": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "L4": (121e12, 30.3e12),
    "A10": (125e12, 31.2e12),
    "T4": (float("nan"), 8.1e12),  # it has no bf16
    "V100": (float("nan"), 15.7e12),
}


def surroundings(options: Options) -> dict[str, object]:
    """Collect clock, threads, versions, device and load."""
    config = read_object(options.encoder / "config.json")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "clock": "events of the GPU" if options.device.type == "cuda" else "time of the processor",
        "device": device_name(options.device),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,  # Windows does not tell
        "precision": options.precision,
        "encoder": f"{options.encoder.name}: {config.get('num_hidden_layers')} layers of width {config.get('hidden_size')}",
        "rounds": options.rounds,
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def device_name(device: torch.device) -> str:
    """Name the card, or the processor and its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def peak_operations(device: torch.device, precision: str) -> float | None:
    """Look up the operations a second that a card can do at most; None for a CPU and for a card that is not listed."""
    if device.type != "cuda":
        return None
    words = device_name(device).replace("-", " ").split()
    found = next((peaks for name, peaks in PEAKS.items() if name in words), None)
    return found[precision != "bf16"] if found else None
