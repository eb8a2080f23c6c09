"""Processes: the promise that two processes which share every batch train as one does.

`python -m regkit.testing.processes FILE` is what each of the two runs.
"""

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from regkit.base.errors import LostError, RegkitError
from regkit.base.failures import last_line
from regkit.distributed.launch import joined
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.files import loaded_files
from regkit.hooks.implementations import implementations, is_wrapper
from regkit.hooks.spec import hookimpl
from regkit.hooks.traits import needs_whole_batches
from regkit.model import MultitaskModel
from regkit.testing.observers import gradients_of
from regkit.testing.tiny import tiny_tasks, tiny_trainer
from regkit.testing.verdicts import Factory, NotApplicableError, SkippedError, Tasks

PATIENCE = 600  # seconds: starting takes most of the ten that two processes need on an idle machine
LOOSE, CLOSE = 1e-3, 1e-5  # shares of the largest weight; Adam's first steps may turn rounding into a sign


def two_processes_are_one(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that two processes (gloo, on the CPU) come to the gradients and weights of one, dropout off.

    Takes seconds, since two processes are started. Raises SkippedError where that cannot be done.
    """
    if whole := [name for name, plugin in factory().items() if needs_whole_batches(plugin)]:
        raise NotApplicableError(f"several processes would cut batches, which '{whole[0]}' refuses by whole_batches")
    try:
        sent = pickle.dumps((factory(), list(tasks())))
    except Exception as error:  # whatever a plugin holds
        raise SkippedError(f"the plugin cannot be sent to another process: {error}") from None
    with TemporaryDirectory() as place:
        file = Path(place) / "sent"
        file.write_bytes(pickle.dumps((loaded_files(), sent)))  # read by our own processes alone, a moment later
        said = [json.loads(line or "{}") for line in _outputs(file)]
    if failed := [each["failed"] for each in said if "failed" in each]:
        raise AssertionError(failed[0])
    if not all(each.get("done") for each in said):
        raise SkippedError(next((each["skipped"] for each in said if "skipped" in each), "a process did not start"))


def _outputs(file: Path) -> list[str]:
    """Start two processes as torchrun does. Returns the last line of each."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", __name__, str(file)]
    started = [
        subprocess.Popen(
            command,
            env=os.environ | place | paths | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    try:
        found = [each.communicate(timeout=PATIENCE)[0].decode().strip() for each in started]
    except subprocess.TimeoutExpired:
        raise SkippedError(
            f"two processes did not end within {PATIENCE} seconds: this machine is busy, or one waits for what a hook "
            "does in the other alone"
        ) from None
    finally:
        for each in started:
            each.kill()
            with each:  # which closes its pipe
                pass
    return [output.rpartition("\n")[2] for output in found]


def main(file: Path) -> dict[str, object]:
    """Compare, in one of several processes, what they come to with what one does.

    Returns what to tell the other side.
    """
    torch.set_num_threads(1)
    try:
        files, sent = pickle.loads(file.read_bytes())
        for each in files:
            each.load()  # the code that the user lets this check run
        pickle.loads(sent)
    except Exception as error:
        return {"skipped": f"the plugin cannot be read in another process: {last_line(error)}"}
    try:
        with joined(torch.device("cpu")) as processes:
            same_as_alone(lambda: pickle.loads(sent)[0], lambda: pickle.loads(sent)[1], processes)
    except LostError as error:
        return {"skipped": str(error)}
    except (AssertionError, RegkitError) as error:
        return {"failed": str(error)}
    except Exception as error:  # of torch: the processes found no way to each other
        return {"skipped": f"two processes could not be joined: {last_line(error)}"}
    return {"done": True}


def same_as_alone(factory: Factory, tasks: Tasks, processes: Processes, *, gradients: bool = True) -> None:
    """Compare what these processes come to with what this one comes to alone.

    Raises AssertionError where weights differ, or the `gradients` of a batch.
    """
    for task in tasks() if gradients else ():
        alone, shared = (
            gradients_of(tiny_trainer(factory(), tasks=tasks(), dropout=0.0, processes=each), task, 10_000)
            for each in (ALONE, processes)
        )
        _compare(f"the gradient of a batch of task '{task.name}'", alone, shared, CLOSE / 10)
    own = any(_decides(plugin, "make_optimizer") for plugin in factory().values())
    plugins = factory if own else lambda: {**factory(), "descent": Descent()}
    one, other = (tiny_trainer(plugins(), tasks=tasks(), dropout=0.0, processes=each) for each in (ALONE, processes))
    one.train()
    other.train()
    weights = [dict[str, Tensor](run.model.named_parameters()) for run in (one, other)]
    _compare("training", weights[0], weights[1], LOOSE if own else CLOSE)


def _decides(plugin: object, hook: str) -> bool:
    method = implementations(plugin).get(hook)
    return method is not None and not is_wrapper(method)


def _compare(what: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor], least: float) -> None:
    small = least * max(float(tensor.detach().abs().max()) for tensor in one.values())
    for name, tensor in one.items():
        if name not in other or not torch.allclose(other[name], tensor, rtol=1e-4, atol=small):
            raise AssertionError(
                f"two processes change {what} ({name}): each has a part of a batch's examples and sees no other; let a hook "
                "compute for each example by itself, and draw by batch.noise"
            )


class Descent:
    """Step by plain gradient descent.

    Adam's first steps depend on a gradient's sign alone, even that of a rounding error.
    """

    @hookimpl
    def make_optimizer(self, model: MultitaskModel) -> torch.optim.Optimizer:
        """Make it of all trained weights."""
        return torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.05)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
