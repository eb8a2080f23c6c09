"""Launch: find this process's device, join the processes that torchrun started, choose who speaks."""

import hashlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from regkit.base.errors import ConfigError, nearest
from regkit.base.failures import in_one_line
from regkit.distributed.processes import Processes, lost


def find_device(name: str) -> torch.device:
    """Find the device of this name. `auto` takes CUDA, else Apple's MPS, else the CPU.

    Raises ConfigError for a device that is not here or cannot be used.
    """
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    kind, _, number = (present[0] if name == "auto" else name).partition(":")
    if kind not in present or (kind != "cuda" and number not in ("", "0")):  # torch takes any number of a CPU
        raise ConfigError(f"there is no device '{name}' here. {nearest(name, [*present, 'auto'])}")
    try:
        device = own_card(torch.device(kind if name == "auto" else name))
        torch.empty(1, device=device)
    except RuntimeError as error:
        raise ConfigError(f"device '{name}' cannot be used: {str(error).splitlines()[0]}.") from None
    return device


WAIT = 3.0  # seconds
JOIN = 300.0  # seconds in which all processes start
PATIENCE = timedelta(minutes=60)  # how long one process may be ahead: while the first writes, or reads a corpus


def started() -> int:
    """Count the processes that torchrun started for this run; 1 without it."""
    count = os.environ.get("WORLD_SIZE", "1")
    return int(count) if count.isdecimal() and os.environ.get("RANK", "").isdecimal() else 1


def own_card(device: torch.device) -> torch.device:
    """Choose this process's own card of this machine, if the device is CUDA and no card was named."""
    if device.type != "cuda" or device.index is not None or started() == 1:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes of this run until the block ends; without torchrun there is this one alone.

    Raises ConfigError if the others do not come: what torchrun had in the environment may be left over.
    """
    count = started()
    if count == 1:
        yield Processes(device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank = _met(count), int(os.environ["RANK"])
    with lost():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    yield Processes(rank, count, device)
    with lost():  # not after an error: the others may no longer be there
        dist.barrier()  # gloo may abort a process whose peer has hung up while it still reads
        dist.destroy_process_group()


def _met(count: int) -> Any:
    """Wait until all processes have come to the store by which they find each other, and return that."""
    try:
        if not (_keeps_the_store() or _reached(JOIN)):
            raise ValueError("no other answers")
        store, *_ = next(rendezvous("env://", timeout=timedelta(seconds=JOIN)))
    except (ValueError, RuntimeError) as error:  # of the first, what is not in the environment
        raise ConfigError(
            f"RANK and WORLD_SIZE say that this is one of {count} processes, and the others are not there: "
            f"{in_one_line(error).rstrip('.')}; unset both, or start all by torchrun."
        ) from None
    store.set_timeout(PATIENCE)
    return store


def _keeps_the_store() -> bool:
    return os.environ["RANK"] == "0" and not _by_torchrun()


def _by_torchrun() -> bool:
    """Whether torchrun itself keeps the store, which then is there before any process."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _reached(seconds: float) -> bool:
    """Wait until the store can be reached. torch's own waiting prints a stack trace at each try."""
    until = time.monotonic() + (0 if _by_torchrun() else seconds)
    while True:
        try:
            socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), WAIT).close()
            return True
        except (KeyError, ValueError):
            return False
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)


def speaks(message: str, *, waits: bool) -> bool:
    """Decide whether this process prints why its run ends: of several, only one says a thing.

    The first process speaks if it can, because it knows most. One that `waits` speaks only if no other does.
    """
    if started() == 1 or (os.environ["RANK"] == "0" and waits):
        return True
    if not _reached(0 if _keeps_the_store() else WAIT):  # nobody to agree with
        return True
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store: Any = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=WAIT))  # type: ignore[attr-defined]
        key = f"regkit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        if waits:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends all when one has ended
            if _appears(store, key):
                return False
        this = f"{key}/{hashlib.blake2b(message.encode()).hexdigest()}"
        if os.environ["RANK"] != "0" and _appears(store, this):
            return False
        store.set(key, "said")
        return bool(store.add(this, 1) == 1)
    except RuntimeError:  # the others are gone
        return True


def _appears(store: Any, key: str) -> bool:
    """Wait for a key for a while. torch's own waiting prints a stack trace when the key does not come."""
    until = time.monotonic() + WAIT
    while not store.check([key]):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
