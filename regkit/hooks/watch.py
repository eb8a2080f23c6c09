"""Watch: notice what a plugin's hook does beside its answer, on the first steps and then now and then.

What makes the numbers of a run wrong, or others than the seed says, is refused. What shows only where a run is resumed or its
batches are cut, or costs time for nothing, is said once. Looking changes nothing: the step is the one that would have been
made without.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from regkit.base.errors import PluginError
from regkit.base.randomness import Streams, states_of
from regkit.hooks.catalog import needs_whole_batches
from regkit.hooks.following import LOG
from regkit.hooks.marks import copies_in, parts
from regkit.hooks.rules import BEGIN, RULES, Call, Rule, Sight
from regkit.hooks.spec import hookimpl

FIRST = 3  # steps of a stage that are watched
FRESH = 8  # passes with fresh dropout in one hook; each takes a number from the plugin's stream
CUT = ("augment", "embed", "encode", "predict", "task_loss", "extra_losses")  # hooks of a micro-batch


@dataclass
class Watch:
    """Looks at what the plugins of a run do in some of its steps."""

    streams: Streams
    plugins: Mapping[str, object]  # by name
    every: int = 16  # after the first steps, one in so many is watched; 0 watches none
    said: list[str] = field(default_factory=list)  # what was noticed and not refused
    model: nn.Module | None = None  # in training, once it is prepared
    suspected: Counter[tuple[str, str]] = field(default_factory=Counter)  # by owner, what it seems to have changed
    sight: Sight = field(default_factory=Sight)  # the model's parts
    seen_at: tuple[object, ...] = ()  # stage and step in which they were listed

    @hookimpl(tryfirst=True)
    def prepare(self, model: nn.Module) -> None:
        self.model = model

    @hookimpl(tryfirst=True)
    def before_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Look for copies of the model that took part in the backward pass."""
        if not self.on:
            return
        trained = {id(each) for group in optimizer.param_groups for each in group["params"]}
        trained |= {id(each) for each in model.parameters()}
        for name, plugin in self.plugins.items():
            if any(isinstance(part, torch.optim.Optimizer) for part in parts(plugin).values()):
                continue  # it trains what it holds
            held = [each for copy in copies_in(plugin, model) for each in copy.parameters() if id(each) not in trained]
            if any(each.grad is not None for each in held):
                self.say(
                    f"plugin '{name}': its copy of the model gathers gradients, which takes time and memory, and nothing "
                    "uses them; call requires_grad_(False) on the copy, or ask it under torch.no_grad()."
                )

    @property
    def on(self) -> bool:
        """Whether this step is watched; what comes before the first one always is."""
        return self._step < FIRST or (self.every > 0 and self._step % self.every == self.every // 2)

    @property
    def _step(self) -> int:
        place = self.streams.place
        return place[1] if len(place) > 1 and isinstance(place[1], int) else 0

    @contextmanager
    def over(self, call: Call) -> Iterator[None]:
        """Compare before and after a hook, unless this step is not watched, or the hook only follows the run.

        Raises PluginError for a change that makes the numbers of the run wrong.
        """
        if call.hook in LOG or not self.on:
            yield
            return
        sight = self._sight()
        looked = [(rule, rule.look(call, sight)) for rule in RULES if call.hook in rule.hooks]
        drawn = states_of(self.streams.device)
        yield
        if call.hook in CUT and not needs_whole_batches(call.plugin) and self._drew(drawn):
            self.say(
                f"{call.owner} draws numbers by itself for each micro-batch, so they depend on how memory and processes cut "
                "a batch; draw them by batch.noise, or set whole_batches."
            )
        for rule, before in looked:
            if name := rule.broken(before, call, sight):
                self._judge(rule, call, name)

    def check_mean(self, call: Call, loss: Tensor, wrapped: Tensor | None = None) -> None:
        """Say that a task's loss seems to be a sum: so many times the usual one as its batch has predictions.

        The usual one is what is `wrapped`, or else the objective's.
        """
        given = call.given
        if not self.on or not given.keys() >= ({"batch"} if wrapped is not None else {"task", "batch", "output"}):
            return
        usual = wrapped if wrapped is not None else given["task"].objective.loss(given["output"], given["batch"].labels)
        count, ratio = given["batch"].predictions, float(loss.detach() / usual.detach())
        if count > 1 and math.isclose(ratio, count, rel_tol=1e-4):
            self.say(
                f"{call.owner} returns as many times the usual loss as a batch has examples: if it is a sum over them, "
                "return their mean, or the loss depends on how batches are cut."
            )

    def say(self, sentence: str) -> None:
        """Note what the user should know, once."""
        if sentence not in self.said:
            self.said.append(sentence)

    def _judge(self, rule: Rule, call: Call, name: str) -> None:
        sentence = f"{call.owner} {rule.says.format(name)}."
        if not rule.refused:
            self.say(sentence)
            return
        self.suspected[call.owner, name] += 1
        if rule.certain or self.suspected[call.owner, name] > 1 or call.hook in BEGIN:
            raise PluginError(sentence)

    def _sight(self) -> Sight:
        """List the model's parts, once a step: plugins may put modules in."""
        place = self.streams.place[:2]
        if self.model is not None and self.seen_at != place:
            first = self._step < FIRST
            self.sight = Sight(dict(self.model.named_parameters()), dict(self.model.named_modules()), first)
            self.seen_at = place
        return self.sight

    def _drew(self, before: list[Tensor]) -> bool:
        """Whether more was drawn than the numbers that `predict` takes for fresh dropout."""
        (cpu, *own), (now, *others) = before, states_of(self.streams.device)
        if not all(map(torch.equal, own, others)):
            return True
        generator = torch.Generator()
        generator.set_state(cpu)
        for _ in range(FRESH + 1):
            if torch.equal(generator.get_state(), now):
                return False
            torch.randint(2**62, (), generator=generator)
        return True
