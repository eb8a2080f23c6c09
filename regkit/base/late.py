"""Late: read a number from the GPU without waiting for the work that was queued after it."""

from torch import Tensor, cuda


class Late:
    """A scalar on its way to the CPU."""

    def __init__(self, value: Tensor) -> None:
        self._value = value.to(
            "cpu", non_blocking=value.is_cuda
        )  # into pinned memory; elsewhere it would come too late
        self._arrived = cuda.current_stream(value.device).record_event() if value.is_cuda else None

    def read(self) -> bool | int | float:
        """Wait until it is there, and no longer."""
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None
        return self._value.item()
