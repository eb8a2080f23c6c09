"""Scaffold: how long a new plugin of each kind takes to write, install, test, check and train.

    python -m tests.benchmarks.scaffold FOLDER [KIND...]

Each kind has an environment of its own in the folder, which sees the packages of this one, and installs the project there.
"""

import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from regkit.cli.scaffold import KindName, render
from tests.helpers import write_encoder, write_tasks

NAME = "my_own"
ROOT = Path(__file__).parents[2]
TRAIN = ("--data", "data", "--encoder", "encoder", "--steps", "6", "--output", "run")


def write_project(folder: Path, kind: KindName, name: str = NAME) -> Path:
    """Write the project of a new plugin, as `regkit plugins new` does."""
    for path, text in render(name, kind).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf8")
    return folder


def run(*words: object, cwd: Path) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def new_environment(folder: Path) -> Path:
    """Make an environment that sees this one's packages, and return its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    seen = [sysconfig.get_path("purelib"), ROOT, ROOT / "plugins"]
    (site / "base.pth").write_text("\n".join(map(str, seen)), encoding="utf8")
    return folder / "bin" / "python"


def steps(kind: KindName) -> dict[str, Sequence[str]]:
    """List what is done with a new plugin, in its order: the arguments of Python."""
    more = ("-p", "rrobin:per_step=3") if kind is KindName.SURGERY else ()
    tests = ("-q", "-p", "no:cacheprovider", "--rootdir", "project", "-c", "project/pyproject.toml", "project")
    return {
        "new": ("regkit", "plugins", "new", NAME, "--kind", kind.value, "--output", "project"),
        "install": ("pip", "install", "--quiet", "--no-deps", "./project"),
        "tests": ("pytest", *tests),
        "style": ("ruff", "check", "--no-cache", "project"),
        "types": ("mypy", "--strict", "--cache-dir", "types", "project/regkit_my_own.py"),
        "check": ("regkit", "plugins", "check", NAME),
        "train": ("regkit", "train", "-p", NAME, *more, *TRAIN),
    }


def try_kind(folder: Path, kind: KindName, chosen: Sequence[str]) -> dict[str, float]:
    """Take a new plugin of a kind through the chosen steps. Returns the seconds of each."""
    folder.mkdir(parents=True)
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    python, found = new_environment(folder / "venv"), {}
    for name, words in steps(kind).items():
        if name in chosen:
            began = time.perf_counter()
            run(python, "-m", *words, cwd=folder)
            found[name] = time.perf_counter() - began
    return found


if __name__ == "__main__":
    place, *kinds = sys.argv[1:]
    for each in map(KindName, kinds or list(KindName)):
        took = try_kind(Path(place).absolute() / each.value, each, list(steps(each)))
        print(f"{each.value}: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in took.items())}", flush=True)
