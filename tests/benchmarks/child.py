"""Child: run a program of Python, and measure the time and the memory that it takes itself."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from regkit.base.errors import RunError

KIB = 1024  # in which Linux counts

# A program's peak begins with that of the process that starts it: so a small one does, and it tells what was used.
LAUNCHER = """
import json, os, sys, time
began = time.perf_counter()
aside = [(os.POSIX_SPAWN_DUP2, 2, 1)]  # what the program prints is not to be mixed with the answer
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ, file_actions=aside)
_, status, used = os.wait4(child, 0)
taken = {"wall": time.perf_counter() - began, "processor": used.ru_utime + used.ru_stime, "most": used.ru_maxrss}
print(json.dumps({"status": status} | taken))
"""


@dataclass(frozen=True)
class Used:
    """What a program has taken."""

    wall: float  # seconds
    processor: float  # seconds of all threads
    most: int  # bytes of memory


def run(words: Sequence[object]) -> Used:
    """Run Python with these words. Raises RunError with the program's last line if it fails."""
    command = [sys.executable, "-S", "-c", LAUNCHER, *map(str, words)]
    done = subprocess.run(command, capture_output=True, encoding="utf8", errors="replace", check=True)
    found = json.loads(done.stdout)
    if found["status"]:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RunError(f"'{' '.join(map(str, words[:3]))}' failed: {lines[-1]}")
    return Used(found["wall"], found["processor"], found["most"] * KIB)
