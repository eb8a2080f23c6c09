"""Blame: name the plugins whose answers or modules a pass of the model fails on."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from regkit.base.errors import EncoderError, PluginError, RegkitError
from regkit.base.failures import gone, last_line, ran_out
from regkit.base.randomness import Streams
from regkit.hooks.attach import Attached
from regkit.hooks.spec import hookimpl
from regkit.hooks.stopwatch import Stopwatch

HANDED_ON = ("build", "augment", "embed", "encode", "predict")  # in order: hooks on whose results later ones work


@contextmanager
def blamed(what: Callable[[], str], owners: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Turn an error into a PluginError that names its owners.

    They are such as `plugin 'a' answers to embed`, and `what` fails on that. Both are asked for after an error alone. Where
    there are no owners, it is regkit's own, and stays as it is. Running out of memory is nobody's fault. An encoder of the
    user's own may have failed on what it was given, or by itself: both are named.
    """
    try:
        yield
    except EncoderError as error:
        if not (found := owners()):
            raise
        raise EncoderError(f"{str(error).rstrip('.')}; it works on what {' or '.join(found)}.") from error
    except Exception as error:
        if isinstance(error, RegkitError) or ran_out(error) or gone(error) or not (found := owners()):
            raise
        raise PluginError(f"{what()} fails on what {' or '.join(found)}: {last_line(error)}.") from error


@dataclass
class Blame:
    """Surrounds the hooks of the forward pass.

    What a plugin answers may make a later hook fail, which is not its own.
    """

    attached: Mapping[str, Attached]
    streams: Streams
    stopwatch: Stopwatch

    @hookimpl(wrapper=True, tryfirst=True)
    def embed(self) -> Generator[None, Any, Any]:
        return (yield from self._around("embed"))

    @hookimpl(wrapper=True, tryfirst=True)
    def encode(self) -> Generator[None, Any, Any]:
        return (yield from self._around("encode"))

    @hookimpl(wrapper=True, tryfirst=True)
    def predict(self) -> Generator[None, Any, Any]:
        return (yield from self._around("predict"))

    @hookimpl(wrapper=True, tryfirst=True)
    def task_loss(self) -> Generator[None, Any, Any]:
        return (yield from self._around("task_loss"))

    def _around(self, hook: str) -> Generator[None, Any, Any]:
        asking = self.stopwatch.owners[-1]
        with blamed(lambda: f"{hook} at {self.streams.told}", lambda: self._owners(hook, asking)):
            return (yield)

    def _owners(self, failed: str, asking: str) -> list[str]:
        """Name the plugins that act now and answer a hook whose result the one that failed was handed.

        There are none if the plugin that is `asking` for the pass is named anyway.
        """
        if asking in self.attached:
            return []
        before = HANDED_ON[: HANDED_ON.index(failed)] if failed in HANDED_ON else HANDED_ON
        found = {}
        for name, each in self.attached.items():
            found[name] = [hook for hook in each.hooks if hook in before and each.acts_now(hook)]
        return [f"plugin '{name}' answers to {' and '.join(hooks)}" for name, hooks in found.items() if hooks]
