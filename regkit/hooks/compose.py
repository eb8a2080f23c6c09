"""Compose: attach plugins to the hooks in order, and refuse contradictions before anything runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Any

import pluggy

from regkit.base.errors import PluginError, nearest
from regkit.base.randomness import Streams
from regkit.hooks import contract, option_values, traits
from regkit.hooks.attach import Attached
from regkit.hooks.blame import Blame
from regkit.hooks.spec import DECIDE, Hooks
from regkit.hooks.stopwatch import Stopwatch
from regkit.hooks.teachers import Teachers
from regkit.hooks.watch import Watch
from regkit.model import Encoder, MultitaskModel
from regkit.model.merging import build
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.task import FINETUNE, Task


@dataclass
class Composition:
    """The plugins of a run, attached."""

    manager: pluggy.PluginManager
    plugins: Mapping[str, Any]  # by name, in the order of the command line
    stopwatch: Stopwatch  # stands still until somebody starts it
    watch: Watch  # notices what plugins do beside their answers
    teachers: Teachers  # notices the models that they keep
    owners: dict[str, str] = field(default_factory=dict)  # of the terms of the loss given so far: the plugin's name
    attached: dict[str, Attached] = field(default_factory=dict)  # by name, in the same order
    automatic: Mapping[str, float] = field(default_factory=dict)  # the shares at which plugins' terms are held

    @property
    def hook(self) -> Any:
        """Calls every attached plugin: `hook.prepare(model=..., tasks=...)`."""
        return self.manager.hook

    def acts(self, name: str, stage: str) -> bool:
        """Whether a plugin acts in a stage."""
        return self.attached[name].acts(stage)

    def tasks(self, given: Sequence[Task], tokenizer: Tokenizer, encoder: Encoder) -> list[Task]:
        """Collect the tasks of the run's data and of plugins. Raises PluginError if two have one name."""
        answers = self.hook.tasks(given=given, tokenizer=tokenizer, encoder=encoder)
        tasks = [task for answer in answers for task in answer]
        for name in {task.name for task in tasks}:
            if [task.name for task in tasks].count(name) > 1:
                raise PluginError(f"two tasks are called '{name}'; choose another name for one of them.")
        return tasks

    def build(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        """Let plugins put modules into a model that was just made; the model notes which of them did."""
        builders = [name for name in self.attached if "build" in self.hooks_of(name)]
        if builders:
            options = {name: option_values.held(name, self.plugins[name]) for name in builders}
            build(model, options, lambda: self.hook.build(model=model, tasks=tasks))

    def check_stages(self, stages: Sequence[str]) -> None:
        """Check the plugins against the run's stages, now that plugins have added theirs.

        Raises PluginError where a plugin shall act in a stage that the run has not, acts in none of those that it has, or
        two decide a hook in one of them.
        """
        for name, each in self.attached.items():
            for stage in each.named or ():
                if stage not in stages:
                    raise PluginError(f"'{name}' shall act in stage '{stage}'. {nearest(stage, stages)}")
            if each.named is None and not (each.only_of_the_run or any(map(each.acts, stages))):
                raise PluginError(
                    f"'{name}' acts in no stage of this run, which is '{stages[0]}'; {name}:stages={stages[0]} lets it."
                )
        self.check_deciders(stages)

    def check_deciders(self, stages: Iterable[str]) -> None:
        """Raise PluginError if two plugins decide one hook in one stage; it names all hooks that they share."""
        shared: dict[str, dict[str, None]] = {}  # hooks by their deciders
        for hook, stage in product(DECIDE, stages):
            owners = [f"'{name}'" for name in self.deciders(hook) if self.acts(name, stage)]
            if len(owners) > 1:
                shared.setdefault(" and ".join(owners), {})[hook] = None
        for both, hooks in shared.items():
            raise PluginError(f"{both} both decide {' and '.join(hooks)}; keep one of them.")

    def hooks_of(self, name: str) -> list[str]:
        """List the hooks that a plugin answers, in the loop's order."""
        return self.attached[name].hooks

    def radii(self) -> list[float]:
        """List how small the perturbations are of the plugins that act now; see `traits.radius`."""
        acting = [each.plugin for each in self.attached.values() if each.acts_now("extra_losses")]
        return [found for found in map(traits.radius, acting) if found is not None]

    def in_steps(self) -> list[str]:
        """List the plugins that take part in a step, and do not only follow the run's log."""
        return [name for name, each in self.attached.items() if not each.only_follows]

    def wraps(self, name: str, hook: str) -> bool:
        """Whether a plugin wraps the others' answers to a hook."""
        return self.attached[name].wraps(hook)

    def deciders(self, hook: str) -> list[str]:
        """List the plugins that answer a hook without wrapping others; of a deciding hook, at most one."""
        return [name for name, each in self.attached.items() if hook in each.hooks and not each.wraps(hook)]

    def tell(self, hook: str, *, goes_on: bool, **given: Any) -> list[str]:
        """Tell those that follow the run.

        Returns a sentence for each plugin that failed, and will be told no more. A run that `goes_on` does so without those
        that fail; one that has not begun is refused: nothing is lost yet.
        """
        before = {name for name, each in self.attached.items() if each.lost}
        for each in self.attached.values():
            each.tolerated = goes_on and (each.only_follows or hook != "begin_run")
        getattr(self.hook, hook)(**given)
        return [each.lost for name, each in self.attached.items() if each.lost and name not in before]

    def observe(self, observer: object) -> None:
        """Attach one of the core's own observers, such as the log; its hooks are marked `trylast`."""
        self.manager.register(observer)

    def ignore(self, observer: object) -> None:
        """Detach an observer."""
        self.manager.unregister(observer)


def compose(
    plugins: Mapping[str, Any],
    defaults: object,
    streams: Streams,
    stages: Mapping[str, Sequence[str]] | None = None,
) -> Composition:
    """Attach plugins above the defaults; the first named is the outermost wrapper.

    `stages` says in which stages some of them act. Raises PluginError for a hook or an argument that does not exist, and
    for two deciders of one hook.
    """
    named = stages or {}
    manager = pluggy.PluginManager("regkit")
    manager.add_hookspecs(Hooks)
    manager.register(defaults, "defaults")
    stopwatch, watch = Stopwatch(streams.device), Watch(streams, plugins)
    teachers = Teachers(watch, stopwatch, lambda name: found.attached[name].acts_now("before_step"))
    found = Composition(manager, plugins, stopwatch, watch, teachers)
    found.observe(found.watch)
    found.observe(found.teachers)
    found.observe(Blame(found.attached, streams, stopwatch))
    for name, plugin in plugins.items():
        contract.check(name, getattr(plugin, contract.ATTRIBUTE, None))
        found.attached[name] = Attached(
            name, plugin, streams, found.stopwatch, found.watch, found.owners, named.get(name)
        )
    for name in reversed(list(plugins)):  # pluggy calls the last registered first
        manager.register(found.attached[name].methods(), name)
    manager.check_pending()
    found.check_deciders({FINETUNE, *chain.from_iterable(named.values())})
    return found
