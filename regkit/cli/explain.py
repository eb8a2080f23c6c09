"""The command `regkit explain`: say what plugins do together, and trace the first steps of a run."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from regkit.cli.few_updates import Updates, train_until_enough
from regkit.cli.plan import code_run
from regkit.cli.terminal import Terminal, print_lines
from regkit.cli.trace import Call, Trace, answerers
from regkit.cli.trial import steps
from regkit.hooks.compose import Composition
from regkit.hooks.draws import Draws
from regkit.hooks.spec import Hooks
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.runs.trial import try_stages

AROUND = (
    "choose_tasks",
    "combine_gradients",
    "before_step",
    "clipped",
    "after_step",
)  # hooks of a step, not of a batch


def explain(settings: Settings, traced: int) -> None:
    """Print who answers which hook, the loss, what an update costs, what is kept and what is drawn.

    Or print each hook call of the first `traced` steps. Nothing is saved.
    """
    console = Terminal()
    print_lines(console, code_run())
    experiment = Experiment.build(settings)
    print_lines(console, trace(experiment, traced) if traced else explained(experiment))


def explained(experiment: Experiment) -> list[str]:
    """Explain a run. A step of each task is tried on a few examples; nothing may be trained afterwards."""
    composition = experiment.composition
    lines = ["who answers each hook, the outermost wrapper first; regkit itself answers all others:"]
    lines += [f"  {hook}: {answerers(composition, hook)}" for hook in answered(composition)] or [
        "  no plugin is attached"
    ]
    with Trace(composition, experiment.trainer.streams).watching() as watched, Draws(watched.note_draw):
        for tried in try_stages(experiment):
            lines += [f"stage {tried.stage.name}", *(f"  {line}" for line in steps(composition, tried))]
    lines += [f"kept in checkpoints: {'; '.join(_states(composition)) or 'nothing of the plugins'}"]
    drawn = [f"{name} in {' and '.join(hooks)}" for name, hooks in watched.draws.items()]
    streams = f"{'; '.join(drawn)}; each from a stream of its own" if drawn else "by no plugin"
    lines += [f"random numbers are drawn for a batch: {streams}"]
    if untried := [hook for hook in AROUND if hook in answered(composition)]:
        lines += [f"not tried, and may draw some: {', '.join(untried)}"]
    return lines


def answered(composition: Composition) -> list[str]:
    """List the hooks that a plugin answers, in the loop's order."""
    by_plugins = {hook for name in composition.plugins for hook in composition.hooks_of(name)}
    return [hook for hook in vars(Hooks) if hook in by_plugins]


def _states(composition: Composition) -> Iterator[str]:
    """Say what each plugin with a state keeps, by name."""
    for name, plugin in composition.plugins.items():
        if hasattr(plugin, "state_dict"):
            found = "what is known once it trains"
            with suppress(Exception, SystemExit):  # of a stranger's plugin that has not trained
                found = ", ".join(map(str, plugin.state_dict())) or "nothing yet"
            yield f"{name}: {found}"


class Steps(Updates):
    """An observer that gathers the calls of each step, and ends training after the last."""

    def __init__(self, watched: Trace, most: int) -> None:
        super().__init__(most)
        self.watched = watched
        self.done: list[Sequence[Call]] = []
        self.begun = 0  # calls before the present step

    def ended(self) -> None:
        """Keep the calls of a step. Raises EnoughError after the last."""
        now = self.watched.open[-1]
        now.seconds = self.watched.now() - now.began  # of the call that this is inside of
        self.done.append(self.watched.calls[self.begun :])
        self.begun = len(self.watched.calls)
        super().ended()


def trace(experiment: Experiment, most: int) -> list[str]:
    """Train the first steps, unscored, and write each hook call: who answered, and how long that took."""
    trainer = experiment.trainer
    watched = Trace(experiment.composition, trainer.streams)
    ran = Steps(watched, most)
    experiment.composition.observe(ran)
    with watched.watching():
        train_until_enough(trainer)
    lines = []
    for number, calls in enumerate(ran.done):
        lines += [f"step {number}" + (", and what comes before it" if number == 0 else "")]
        lines += [f"  {call}" for call in calls if call.who.inside]
    return lines
