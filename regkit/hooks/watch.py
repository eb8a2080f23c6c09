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

from torch import Tensor, nn

from regkit.base.errors import MisuseError
from regkit.base.randomness import Streams, states_of
from regkit.hooks.draws import drew, own_draws
from regkit.hooks.following import LOG
from regkit.hooks.rules import BEGIN, RULES, Call, Rule, Sight, Values
from regkit.hooks.spec import hookimpl
from regkit.hooks.traits import needs_whole_batches
from regkit.tasks.batch import Batch

FIRST = 3  # steps of a stage that are watched
RARE = ("evaluated", *LOG)  # hooks of which each call is watched: between two of them, hundreds of steps may go by
CUT = ("augment", "embed", "encode", "predict", "task_loss", "extra_losses")  # hooks of a micro-batch


@dataclass
class Watch:
    """Looks at what the plugins of a run do in some of its steps."""

    streams: Streams
    plugins: Mapping[str, object]  # by name
    every: int = 100  # after the first steps, one in so many is watched; 0 watches none
    closely: bool = False  # watch every step, each bit of a tensor and each function that draws; several times slower
    said: list[str] = field(default_factory=list)  # what was noticed and not refused
    calls: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # by plugin and hook; a wrapper's halves count each
    model: nn.Module | None = None  # in training, once it is prepared
    suspected: Counter[tuple[str, str]] = field(default_factory=Counter)  # by owner, what it seems to have changed
    sight: Sight = field(default_factory=Sight)  # the model's parts
    seen_at: tuple[object, ...] = ()  # stage and step in which they were listed

    @hookimpl(tryfirst=True)
    def prepare(self, model: nn.Module) -> None:
        self.model = model

    @property
    def on(self) -> bool:
        """Whether this step is watched; what comes before the first one always is."""
        return self.closely or self._step < FIRST or (self.every > 0 and self._step % self.every == self.every // 2)

    @property
    def _step(self) -> int:
        place = self.streams.place
        return place[1] if len(place) > 1 and isinstance(place[1], int) else 0

    @contextmanager
    def over(self, call: Call) -> Iterator[None]:
        """Compare before and after a hook, unless this step is not watched.

        Raises MisuseError for a change that makes the numbers of the run wrong.
        """
        self.calls[call.name, call.hook] += 1
        if not (self.on or call.hook in RARE):
            yield
            return
        sight = self._sight()
        looked = [(rule, rule.look(call, sight)) for rule in RULES if call.hook in rule.hooks]
        with self._drawing(call):
            yield
        for rule, before in looked:
            if name := rule.broken(before, call, sight):
                rule.mend(before)
                self._judge(rule, call, name)

    @contextmanager
    def _drawing(self, call: Call) -> Iterator[None]:
        """Say that a hook draws for each micro-batch, unless its plugin gets whole batches alone."""
        if call.hook not in CUT or needs_whole_batches(call.plugin):
            yield
            return
        if self.closely:
            with own_draws() as functions:
                yield
            drawn, named = bool(functions), f" ({', '.join(functions)})"
        else:
            before = states_of(self.streams.device)
            yield
            drawn, named = drew(before, self.streams.device), ""
        if drawn:
            self.say(
                f"{call.owner} draws numbers by itself for each micro-batch{named}, so they depend on how memory and "
                "processes cut a batch; draw them by batch.noise, or set whole_batches."
            )

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

    def check_tokens(self, call: Call, batch: Batch) -> None:
        """Raise MisuseError for token ids that the encoder does not have.

        A GPU would not tell which hook made them.
        """
        words = getattr(getattr(self.model, "encoder", None), "word", None)
        if not self.on or not isinstance(words, nn.Embedding):
            return
        low, high = (int(each) for each in batch.tokens.aminmax())
        if low < 0 or high >= words.num_embeddings:
            raise MisuseError(
                f"{call.owner} returns the token id {low if low < 0 else high}; the encoder has those from 0 to "
                f"{words.num_embeddings - 1}."
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
            raise MisuseError(sentence)

    def _sight(self) -> Sight:
        """List the model's parts, once a step: plugins may put modules in."""
        place = self.streams.place[:2]
        if self.model is not None and self.seen_at != place:
            values: Values = "bits" if self.closely else "norms" if self._step < FIRST else "counts"
            self.sight = Sight(dict(self.model.named_parameters()), dict(self.model.named_modules()), values)
            self.seen_at = place
        return self.sight
