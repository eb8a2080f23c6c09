"""Print each fault, what `regkit train` says of it, and what `regkit plugins check` says."""

import argparse
import re
import tempfile
from pathlib import Path

import pytest
import torch

from regkit.testing import Kit
from regkit.testing.kit import checks
from tests.faults import FAULTS, Fault
from tests.helpers import regkit, with_stranger, write_encoder, write_tasks

MODULE = """\
from dataclasses import dataclass

from tests.faults import FAULTS


@dataclass
class Plugin(FAULTS[{name!r}].plugin):
    pass
"""


def installed(place: Path) -> dict[str, str]:
    """Install every fault as a plugin, beside those that are there. Returns the plugins' names."""
    names = {name: re.sub(r"\W+", "_", name) for name in FAULTS}
    with_stranger(pytest.MonkeyPatch(), place, **{plugin: MODULE.format(name=name) for name, plugin in names.items()})
    return names


def of_a_run(plugin: str, place: Path) -> list[str]:
    """What the command says: why it refuses the plugin, or its warnings of it."""
    words = (
        "--data",
        place / "data",
        "--encoder",
        place / "encoder",
        "--steps",
        4,
        "--output",
        place / "runs" / plugin,
    )
    ran = regkit("train", *words, "-p", plugin, cwd=place)
    lines = dict.fromkeys((ran.out + ran.err).splitlines())
    return [line for line in lines if line.startswith(("regkit: ", f"warning: plugin '{plugin}'"))]


def of_the_kit(fault: Fault) -> str:
    """What the kit's check of this fault comes to."""
    (found,) = Kit(lambda: {"mine": fault.plugin()}, {fault.check: checks()[fault.check]})
    return f"{found.check} {found.outcome}: {found.reason}"


def main() -> None:
    """Print the table, and how many faults each of the two names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults; all if none is given")
    chosen = parser.parse_args().names or list(FAULTS)
    named = {"run": 0, "kit": 0}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_encoder(place / "encoder")
        write_tasks(place / "data")
        names = installed(place / "plugins")
        for name in chosen:
            run = of_a_run(names[name], place)
            torch.set_default_dtype(torch.float32)  # one of the faults leaves another
            kit = of_the_kit(FAULTS[name])
            torch.set_default_dtype(torch.float32)
            named["run"] += bool(run)
            named["kit"] += " failed: " in kit
            print(f"{name}\n    run: {' | '.join(run) or 'nothing'}\n    kit: {kit}", flush=True)
    print(f"{len(chosen)} faults; the run names {named['run']}, the kit {named['kit']}")


if __name__ == "__main__":
    main()
