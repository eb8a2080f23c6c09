"""The command `regkit profile`: say where the time and the memory of an update go."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.profiler import profile as torch_profile
from torch.profiler import record_function

from regkit.base.errors import ConfigError, EncoderError
from regkit.base.files import read_begin, write
from regkit.cli.few_updates import Updates, train_until_enough
from regkit.cli.plan import code_run
from regkit.cli.terminal import Terminal, print_lines
from regkit.hooks.compose import Composition
from regkit.hooks.stopwatch import Stopwatch
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.training.estimate import Live
from regkit.training.stages import collect_stages, measure_length

TRACE = '"schemaVersion"'  # how what torch's profiler writes begins
WARM_UP = 3  # updates that are not counted: plugins are watched closely in the first three
REST = "the encoder's rest"
LOOP = "the loop"
INSIDE = {"embed": "embedding", "encode": REST, "predict": "heads", "task_loss": "loss"}  # work of regkit, by hook
AFTER = {"choose_tasks": "data", "extra_losses": "backward", "before_step": "clip", "clipped": "optimizer"}
PARTS = ("data", "embedding", "attention", "feed-forward", REST, "heads", "loss", "backward", "clip", "optimizer")
ENDS = ("after_step", "skipped")  # the hooks that end an update


def profile(settings: Settings, updates: int, trace: Path | None) -> None:
    """Train a few updates, and print what each part of them takes; write a trace. Nothing is saved."""
    if trace and not (trace.absolute().parent.is_dir() and (trace.is_file() or not trace.exists())):
        raise ConfigError(f"{trace} cannot be written: --trace takes a file in a folder that is there.")
    if trace and trace.exists() and TRACE not in read_begin(trace, 100):
        raise ConfigError(f"{trace} exists, and is no trace; name another --trace.")
    console = Terminal()
    print_lines(console, code_run())
    experiment = Experiment.build(settings)
    print_lines(console, profiled(experiment, updates, trace))
    if trace:
        print_lines(console, [f"trace of one update, for chrome://tracing or ui.perfetto.dev: {trace}"])


def profiled(experiment: Experiment, updates: int, trace: Path | None = None) -> list[str]:
    """Measure some updates of the first stage, and write a line for each part.

    Raises ConfigError if the stage is too short.
    """
    trainer, needed = experiment.trainer, WARM_UP + updates + 1 + bool(trace)
    stage, tasks = collect_stages(trainer.hook, trainer.tasks)[0]
    if (total := measure_length(trainer.hook, trainer.streams, stage, tasks).total) < needed:
        raise ConfigError(
            f"stage '{stage.name}' has {total} updates, and a profile of {updates} needs {needed}; raise its steps, or lower "
            "--updates."
        )
    parts = Parts(experiment.composition, trainer.streams.device, updates, trace)
    experiment.composition.observe(Updates(needed))
    with parts.watching(trainer.model.encoder):
        train_until_enough(trainer)
    return table(parts.seconds, parts.peaks, updates)


def table(seconds: Mapping[str, float], peaks: Mapping[str, int], updates: int) -> list[str]:
    """Write a line for each part: those of regkit in the order of an update, then those of plugins."""
    whole = sum(seconds.values())
    order = [*PARTS, *(name for name in seconds if name not in (*PARTS, "hooks", LOOP)), "hooks", LOOP]
    lines = [f"an update takes {1000 * whole / updates:.4g} ms, the mean of {updates}:"]
    lines.append(f"  {'part':24} {'ms':>9} {'share':>7}   {'tensors at most':>15}")
    for name in order:
        if name in seconds:
            share, most = seconds[name] / whole, f"{peaks.get(name, 0) / 1e6:.1f} MB"
            lines.append(f"  {name:24} {1000 * seconds[name] / updates:9.2f} {share:7.1%}   {most:>15}")
    return [
        *lines,
        "tensors are those made in an update that are alive at once: not weights, nor the optimizer's state",
    ]


class Parts(Stopwatch):
    """Seconds and memory of each part of an update, by the hooks between which it is.

    All that a plugin does is the plugin's, also where it runs the model. After the updates that are timed, memory is
    measured in one more, as that slows each operation; and if a trace is wanted, it is taken of another.
    """

    def __init__(self, composition: Composition, device: torch.device, updates: int, trace: Path | None) -> None:
        super().__init__(device)
        self.composition, self.timed, self.trace = composition, range(WARM_UP, WARM_UP + updates), trace
        self.owners = [LOOP]
        self.peaks: dict[str, int] = defaultdict(int)  # bytes, by part
        self.done = 0
        self.live: Live | None = None
        self.read = 0  # how much of the live tensors' history is charged to a part
        self.around = ExitStack()  # what measures the present update
        self.outer: list[str] = []  # the parts that the modules at work are inside of
        self.recorder: torch_profile | None = None  # of the trace
        self.label: ExitStack | None = None  # in a trace, that of the part that is at work

    @contextmanager
    def watching(self, encoder: Any) -> Iterator[None]:
        """Watch the updates that are made inside."""
        attached, before = self.composition.attached.values(), self.composition.stopwatch
        with ExitStack() as undo:
            undo.callback(self.composition.manager.add_hookcall_monitoring(self._before, self._after))
            undo.callback(lambda: self.around.close())
            for module, part in modules(encoder):
                self._follow(undo, module, part)
            for each in attached:
                each.stopwatch = self
            try:
                yield
            finally:
                for each in attached:
                    each.stopwatch = before

    def _follow(self, undo: ExitStack, module: nn.Module, part: str) -> None:
        """Charge the time in a module to a part. By functions: a plugin's copy of the module keeps them."""

        def enter(*_: object) -> None:
            self.outer.append(self.owners[0])
            self.enter(part)

        def leave(*_: object) -> None:
            self.enter(self.outer.pop())

        for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave)):
            undo.callback(handle.remove)

    def enter(self, part: str) -> None:
        """Charge the time from now on to a part, unless a plugin is at work."""
        if len(self.owners) == 1:
            self.lap()
            self.owners[0] = part
            if self.label:
                self.label.close()
                self.label.enter_context(record_function(part))

    def _before(self, hook_name: str, hook_impls: object, kwargs: object) -> None:
        if hook_name == "choose_tasks":
            self._begin()
        self.enter(INSIDE.get(hook_name, "hooks"))

    def _after(self, outcome: object, hook_name: str, hook_impls: object, kwargs: object) -> None:
        self.enter(AFTER.get(hook_name, LOOP))
        if hook_name in ENDS and len(self.owners) == 1:
            self._end()

    def _begin(self) -> None:
        """Begin an update: it is timed, or its memory is measured, or it is traced.

        One that has run out of memory is begun again.
        """
        self._leave()
        if self.done in self.timed:
            self.running, self.since = True, self.now()
        elif self.done == self.timed.stop:
            self.live, self.read = self.around.enter_context(Live(fragmented=1)), 0
        elif self.done > self.timed.stop:
            self.recorder = self.around.enter_context(torch_profile())
            self.label = self.around.enter_context(ExitStack())

    def _end(self) -> None:
        self.stop()
        recorder = self.recorder
        self._leave()
        self.done += 1
        if recorder and self.trace:
            export(recorder, self.trace)

    def _leave(self) -> None:
        """Take away what measures the present update."""
        self.around.close()
        self.live = self.label = self.recorder = None

    def lap(self) -> None:
        """Charge time and memory since the last lap to the present owner."""
        super().lap()
        if self.live:
            history = self.live.history[self.read :]
            self.read = len(self.live.history)
            self.peaks[self.owners[-1]] = max([self.peaks[self.owners[-1]], *history])

    @contextmanager
    def on(self, owner: str) -> Iterator[None]:
        """Charge the time inside to a plugin, also in the trace; it may be called like a part."""
        owner = f"plugin {owner}" if owner in (*PARTS, "hooks", LOOP) else owner
        with super().on(owner), record_function(owner) if self.label else nullcontext():
            yield


def export(profiler: Any, trace: Path) -> None:
    """Write what a profiler of torch has recorded. Raises RegkitError where there is no room for it.

    torch itself says nothing then, and leaves a part of the file.
    """
    with TemporaryDirectory() as folder:
        whole = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(whole))
        try:
            content = whole.read_bytes()
            json.loads(content)
        except (OSError, ValueError):
            raise ConfigError(f"the trace cannot be written: there is no room for it in {folder}.") from None
        write(trace, content)


def modules(encoder: Any) -> Iterator[tuple[nn.Module, str]]:
    """Find the modules whose work has a name: attention, and layers, whose rest is feed-forward."""
    with suppress(EncoderError):  # it has no list of layers
        for layer in encoder.layers:
            yield layer, "feed-forward"
            for name, module in layer.named_children():
                if name.endswith(("attention", "attn")):
                    yield module, "attention"
