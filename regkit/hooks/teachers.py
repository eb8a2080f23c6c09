"""Teachers: notice models and modules that plugins hold, and gradients that gather there for nothing."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from regkit.hooks.marks import parts
from regkit.hooks.spec import hookimpl
from regkit.hooks.stopwatch import Stopwatch
from regkit.hooks.watch import Watch

ASKED = "the model that it gives to predict"
GATHERS = (
    "plugin '{}': {} gathers gradients, which takes time and memory, and no optimizer has its weights; add them in a "
    "wrapper of make_optimizer if they shall be trained, or else call requires_grad_(False) on it."
)


@dataclass
class Teachers:
    """Looks, in the steps that are watched, for what plugins hold or ask beside the model in training."""

    watch: Watch
    stopwatch: Stopwatch  # knows which plugin is at work
    acts: Callable[
        [str], bool
    ]  # whether a plugin acts in this stage; else what it holds has gradients of an earlier one
    found: dict[tuple[str, str], bool] = field(default_factory=dict)  # by plugin and place: whether gradients gather
    asked: dict[str, nn.Module] = field(default_factory=dict)  # the last one that each plugin gave to `predict`

    @hookimpl(wrapper=True, tryfirst=True)
    def predict(self, model: nn.Module) -> Generator[None, Tensor, Tensor]:
        if (
            self.watch.on
            and model is not self.watch.model
            and (owner := self.stopwatch.owners[-1]) in self.watch.plugins
        ):
            self.asked[owner] = model
        return (yield)

    @hookimpl(tryfirst=True)
    def before_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Look for gradients, now that the backward pass is done."""
        if not self.watch.on:
            return
        trained = {id(each) for group in optimizer.param_groups for each in group["params"]}
        trained |= {id(each) for each in model.parameters()}
        for plugin in filter(self.acts, self.watch.plugins):
            for place, teacher in self._models(plugin):
                own = [each for each in teacher.parameters() if id(each) not in trained]
                if not own:
                    continue
                gathers = any(each.grad is not None for each in own)
                self.found[plugin, place] = gathers or self.found.get((plugin, place), False)
                if gathers:
                    self.watch.say(GATHERS.format(plugin, place))

    def _models(self, plugin: str) -> Iterator[tuple[str, nn.Module]]:
        """Find the models of a plugin, unless it has an optimizer, which trains what it holds."""
        held = parts(self.watch.plugins[plugin])
        if any(isinstance(part, torch.optim.Optimizer) for part in held.values()):
            return
        seen = set[int]()
        for name, part in held.items():
            for each in part if isinstance(part, list | tuple) else [part]:
                if isinstance(each, nn.Module):
                    seen.add(id(each))
                    yield f"`{name}`", each
        if (asked := self.asked.get(plugin)) is not None and id(asked) not in seen:
            yield ASKED, asked
