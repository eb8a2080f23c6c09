"""The contract: what its docstring draws is what the loop does."""

import inspect
from itertools import pairwise

from torch import Tensor

from regkit.hooks import spec
from regkit.hooks.spec import Hooks, hookimpl
from regkit.testing import tiny_run
from tests.helpers import Both

NAMES = [name for name in vars(Hooks) if not name.startswith("_")]
ELSEWHERE = {
    "build",
    "tasks",
    "measure",
    "skipped",
    "begin_run",
    "logged",
    "end_run",
}  # asked when the run is made, by the meter, where a number is not finite, and by what writes the run's folder


class Sum:
    """A plugin that combines gradients, so that somebody is asked."""

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        return gradients.sum(0)


def calls() -> list[str]:
    """The names of the hooks that a run of two steps calls, of several tasks each, in order."""
    called: list[str] = []
    trainer, composition = tiny_run({"both": Both(), "sum": Sum()}, None, steps=2)
    composition.manager.add_hookcall_monitoring(lambda name, *_: called.append(name), lambda *_: None)
    trainer.train()
    return called


def test_the_pseudocode_has_the_hooks_in_their_order() -> None:
    text = inspect.getdoc(spec) or ""
    loop = text[: text.index("Three kinds of hook")]
    places = {name: loop.index(f"{name}(") for name in NAMES}
    assert sorted(NAMES, key=places.__getitem__) == NAMES


def test_a_stage_begins_and_a_step_goes_as_the_pseudocode_draws_them() -> None:
    called = calls()
    assert set(called) == set(NAMES) - ELSEWHERE
    starts = [place for place, name in enumerate(called) if name == "choose_tasks"]
    before, step = called[: starts[0]], called[starts[0] : starts[1]]
    assert before == ["stages", "prepare", "make_optimizer", "epoch_steps", "model_to_evaluate", "evaluated"]
    once = list(dict.fromkeys(step))
    assert once == [name for name in NAMES[NAMES.index("choose_tasks") :] if name in once]
    assert once[-1] == "after_step"
    assert all(NAMES.index(one) <= NAMES.index(other) for one, other in pairwise(once))
