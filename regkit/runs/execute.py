"""Execute: train an experiment in its folder - record it, save it, stop where a signal asks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from regkit.runs.experiment import Experiment
from regkit.runs.interrupts import Interrupts
from regkit.runs.recorder import Recorder
from regkit.runs.resumable import Resumable
from regkit.runs.sinks import FolderSink, Sink
from regkit.training.effects import Meter


@contextmanager
def executed(
    experiment: Experiment,
    output: Path | None,
    resumable: Resumable | None = None,
    *,
    interrupts: Interrupts | None = None,
    observers: Sequence[Any] = (),
    latest: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Recorder]:
    """Train to the end; inside the block, the run is finished, and its folder still this process's own.

    It begins in `output`, in a new folder for None, or goes on with `resumable`. Each of the `observers` is a context
    manager that is open while the model is trained. `latest` lets runs/latest lead to the run; `say` prints what the user
    must know. Raises RegkitError: the run is saved then, if it can be, and the error says how to go on.
    """
    processes = experiment.trainer.processes
    sink = FolderSink(experiment, output, resumable, say, latest=latest) if processes.first else Sink()
    meter = Meter(experiment.trainer.state, experiment.composition, experiment.settings.measure_every)
    recorder = Recorder(experiment, meter, sink, interrupts or Interrupts(), resumable, say)
    for observer in (recorder, *observers, meter):
        experiment.composition.observe(observer)
    processes.wait()  # before the first one writes: all have seen the folder as it was
    with recorder, recorder.interrupts:
        with recorder.rescuing(), ExitStack() as opened:
            for observer in observers:
                opened.enter_context(observer)
            experiment.trainer.train()
        recorder.finish()
        yield recorder
