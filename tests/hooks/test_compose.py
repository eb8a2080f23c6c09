"""Compose: plugins answer in the order they were named, draw from streams of their own, and are blamed by name."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from regkit.base.errors import ConfigError, PluginError
from regkit.base.randomness import Streams
from regkit.hooks.compose import Composition, compose
from regkit.hooks.spec import DECIDE, Hooks, hookimpl
from regkit.tasks.objectives import Binary
from regkit.tasks.task import Stage, Task
from regkit.testing import tiny_task

ARGUMENTS = ("model", "task", "batch", "embeddings", "vectors", "output", "loss", "predict", "task_loss")
CALL = dict.fromkeys(ARGUMENTS)


class Core:
    """Defaults of a run of nothing."""

    @hookimpl(trylast=True)
    def task_loss(self) -> torch.Tensor:
        return torch.tensor(1.0)

    @hookimpl(trylast=True)
    def epoch_steps(self) -> int:
        return 7


class Wrap:
    """Multiplies, then adds."""

    def __init__(self, factor: float, more: float) -> None:
        self.factor, self.more = factor, more

    @hookimpl(wrapper=True)
    def task_loss(self) -> Any:
        loss = yield
        return self.factor * loss + self.more


class Unready:
    """Has a property that cannot be asked before it trains."""

    @property
    def share(self) -> float:
        raise KeyError("share")

    @hookimpl
    def task_loss(self) -> torch.Tensor:
        return torch.tensor(5.0)


class Tell:
    """Notes its name when it is told."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    @hookimpl
    def after_step(self) -> None:
        self.notes.append(self.name)


class Draw:
    """Notes what it draws at every hook it answers."""

    def __init__(self) -> None:
        self.drawn: dict[str, float] = {}

    def note(self, place: str) -> None:
        self.drawn[place] = float(torch.rand(()))

    @hookimpl(wrapper=True)
    def task_loss(self) -> Any:
        self.note("before")
        loss = yield
        self.note("after")
        return loss

    @hookimpl
    def extra_losses(self) -> Mapping[str, Any]:
        self.note("extra")
        return {}


def composed(streams: Streams | None = None, **plugins: object) -> Composition:
    return compose(plugins, Core(), streams or Streams(0))


def task_loss(composition: Composition) -> Any:
    return composition.hook.task_loss(task=None, batch=None, output=None)


def refusal(**plugins: object) -> str:
    with pytest.raises(PluginError) as caught:
        composed(**plugins)
    return str(caught.value)


def plugin(hook: str, method: Callable[..., Any], **mark: bool) -> object:
    """An object with one hook implementation."""
    return type("Plugin", (), {hook: hookimpl(**mark)(method)})()


def test_without_plugins_the_defaults_answer() -> None:
    assert task_loss(composed()) == 1
    assert composed().hook.epoch_steps(tasks=[]) == 7


def test_the_first_named_plugin_is_the_outermost_wrapper() -> None:
    assert task_loss(composed(double=Wrap(2, 0), add=Wrap(1, 10))) == 2 * (1 + 10)
    assert task_loss(composed(add=Wrap(1, 10), double=Wrap(2, 0))) == 2 * 1 + 10


class Log:
    """An observer, as the core attaches them."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        self.notes.append("log")


def test_the_first_named_plugin_is_told_first_and_observers_last() -> None:
    for order in ("abc", "cab"):
        notes: list[str] = []
        composition = composed(**{name: Tell(name, notes) for name in order})
        composition.observe(Log(notes))
        composition.hook.after_step(model=None, step=0, total_steps=1, losses={}, reevaluate=None)
        assert notes == [*order, "log"]


def test_all_answers_are_collected_in_the_order_of_the_command_line() -> None:
    plugins = {name: plugin("extra_losses", answer_with(name)) for name in "xyz"}
    answers = composed(**plugins).hook.extra_losses(**CALL)
    assert [list(answer) for answer in answers] == [["x"], ["y"], ["z"]]


def answer_with(name: str) -> Callable[..., Any]:
    def extra_losses(self: object) -> Mapping[str, torch.Tensor]:
        return {name: torch.tensor(1.0, requires_grad=True)}

    return extra_losses


def test_a_plugin_decides_in_place_of_the_defaults_and_may_be_wrapped() -> None:
    decider = plugin("task_loss", lambda self: torch.tensor(5.0))
    assert task_loss(composed(decider=decider)) == 5
    assert task_loss(composed(wrap=Wrap(2, 1), decider=decider)) == 11
    assert task_loss(composed(decider=decider, wrap=Wrap(2, 1))) == 11


def test_a_plugin_is_handed_the_arguments_it_names() -> None:
    found: list[object] = []
    echo = plugin("evaluated", lambda self, scores, stage: found.extend([stage, scores]))
    composed(echo=echo).hook.evaluated(stage="a stage", step="a step", scores="scores")
    assert found == ["a stage", "scores"]


def test_the_hooks_of_a_plugin_are_listed_in_the_order_of_the_loop() -> None:
    assert composed(draw=Draw()).hooks_of("draw") == ["task_loss", "extra_losses"]


@pytest.mark.parametrize("hook", DECIDE)
def test_two_plugins_that_decide_the_same_do_not_start(hook: str) -> None:
    one, other = (plugin(hook, lambda self: 1) for _ in range(2))
    assert refusal(one=one, other=other) == f"'one' and 'other' both decide {hook}; keep one of them."


def test_the_decide_hooks_are_those_that_the_contract_calls_so() -> None:
    wanted = {"make_optimizer", "epoch_steps", "choose_tasks", "schedule", "augment", "embed", "encode", "predict"}
    assert set(DECIDE) == wanted | {"task_loss", "combine_gradients", "model_to_evaluate"} < set(vars(Hooks))


def test_a_decider_that_the_default_would_answer_before_does_not_start() -> None:
    class Late:
        @hookimpl(trylast=True)
        def epoch_steps(self) -> int:
            return 1

    assert refusal(p=Late()) == "plugin 'p': epoch_steps is marked trylast, so the default would answer before it."


def test_a_misspelt_hook_does_not_start() -> None:
    message = refusal(p=plugin("task_lost", lambda self: 1))
    assert message.startswith("plugin 'p' implements 'task_lost', which is no hook. Did you mean 'task_loss'? ")
    assert "extra_losses" in message


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda self, outputs: 1, "task_loss has no argument 'outputs'. Did you mean 'output'? "),
        (lambda self, *args: 1, "task_loss has no argument 'args'."),
        (lambda self, **kwargs: 1, "task_loss has no argument 'kwargs'."),
        (lambda self, task=None: 1, "task_loss: 'task' must be plain, without * or a default."),
        (lambda self, *, task: 1, "task_loss: 'task' must be plain, without * or a default."),
    ],
)
def test_an_argument_that_would_not_be_passed_does_not_start(method: Callable[..., Any], message: str) -> None:
    assert refusal(p=plugin("task_loss", method)).startswith(f"plugin 'p': {message}")


def test_a_plugin_that_answers_no_hook_does_not_start() -> None:
    assert refusal(p=object()) == "plugin 'p' attaches to no hook; mark its methods with @hookimpl."


def test_a_wrapper_that_is_no_generator_does_not_start() -> None:
    assert refusal(p=plugin("task_loss", lambda self: 1, wrapper=True)) == (
        "plugin 'p': the wrapper task_loss has no yield."
    )


def draws(streams: Streams, **more: object) -> dict[str, float]:
    draw = Draw()
    with streams.at("finetune", 3, "t", 0):
        composition = composed(streams, **more, draw=draw)
        task_loss(composition)
        composition.hook.extra_losses(**CALL)
    return draw.drawn


def test_a_plugin_draws_the_same_numbers_whoever_else_draws() -> None:
    alone = draws(Streams(0))
    torch.manual_seed(123)
    assert draws(Streams(0), first=Draw(), second=Draw()) == alone
    greedy = plugin("task_loss", lambda self: torch.rand(1000).sum())
    assert draws(Streams(0), greedy=greedy) == alone
    assert len(set(alone.values())) == 3


def test_two_plugins_two_seeds_and_two_places_draw_other_numbers() -> None:
    drawn = []
    for seed, place in ((0, ()), (1, ()), (0, ("finetune", 1))):
        one, other, streams = Draw(), Draw(), Streams(seed)
        composition = composed(streams, one=one, other=other)
        with streams.at(*place):
            task_loss(composition)
            composition.hook.extra_losses(**CALL)
        drawn += [*one.drawn.values(), *other.drawn.values()]
    assert len(set(drawn)) == len(drawn) == 18


def test_what_a_plugin_draws_leaves_the_generator_as_it_was() -> None:
    composition = composed(draw=Draw())
    state = torch.get_rng_state()
    task_loss(composition)
    composition.hook.extra_losses(**CALL)
    assert torch.equal(torch.get_rng_state(), state)


def test_numbers_drawn_between_the_two_halves_of_a_wrapper_are_the_inner_ones() -> None:
    """The wrapper's stream is not in force while others answer."""
    inner: list[float] = []
    decider = plugin("task_loss", lambda self: inner.append(float(torch.rand(()))) or torch.tensor(1.0))
    task_loss(composed(decider=decider))
    task_loss(composed(wrap=Draw(), decider=decider))
    assert inner[0] == inner[1]


def wrapper_that_fails(before: bool) -> Callable[..., Any]:
    def task_loss(self: object) -> Any:
        if before:
            raise KeyError("weights")
        loss = yield
        raise KeyError("weights") if loss else AssertionError

    return task_loss


def failing(self: object) -> Any:
    raise KeyError("weights")


@pytest.mark.parametrize(
    "bad",
    [
        plugin("task_loss", failing),
        plugin("task_loss", wrapper_that_fails(before=True), wrapper=True),
        plugin("task_loss", wrapper_that_fails(before=False), wrapper=True),
    ],
    ids=["plain", "before the yield", "after the yield"],
)
def test_a_plugin_that_fails_is_blamed_with_hook_and_place(bad: object) -> None:
    streams = Streams(0)
    composition = composed(streams, good=Wrap(1, 0), bad=bad)
    state = torch.get_rng_state()
    with streams.at("finetune", 12, "sst", 0), pytest.raises(PluginError) as caught:
        task_loss(composition)
    message = str(caught.value)
    assert message.startswith(
        "plugin 'bad' failed in task_loss at stage finetune, step 12, task sst, micro-batch 0: KeyError: 'weights' ("
    )
    assert f"{__file__}, line " in message
    assert isinstance(caught.value.__cause__, KeyError)
    assert torch.equal(torch.get_rng_state(), state)


def test_before_the_first_stage_the_place_is_the_start() -> None:
    with pytest.raises(PluginError, match=r"^plugin 'bad' failed in task_loss at the start: "):
        task_loss(composed(bad=plugin("task_loss", failing)))


def test_what_a_plugin_says_to_the_user_is_said_as_it_is() -> None:
    def refuse(self: object) -> Any:
        raise ConfigError("no regression here.")

    with pytest.raises(ConfigError, match=r"^no regression here\.$"):
        task_loss(composed(p=plugin("task_loss", refuse)))


def twice(self: object) -> Any:
    yield
    yield


def never(self: object) -> Any:
    if self is None:
        yield
    return 3


def test_a_wrapper_yields_once() -> None:
    with pytest.raises(PluginError, match=r"^plugin 'p': the wrapper task_loss yields twice\.$"):
        task_loss(composed(p=plugin("task_loss", twice, wrapper=True)))
    with pytest.raises(PluginError, match=r"^plugin 'p': the wrapper task_loss does not yield\.$"):
        task_loss(composed(p=plugin("task_loss", never, wrapper=True)))


def test_a_wrapper_is_closed_when_another_plugin_fails() -> None:
    notes: list[str] = []

    def careful(self: object) -> Any:
        try:
            yield
        finally:
            notes.append("closed")

    composition = composed(careful=plugin("task_loss", careful, wrapper=True), bad=plugin("task_loss", failing))
    with pytest.raises(PluginError, match="plugin 'bad' failed"):
        task_loss(composition)
    assert notes == ["closed"]


class Everywhere:
    """Answers a hook of every sort, and adds a stage."""

    def __init__(self, *adds: str) -> None:
        self.adds = adds
        self.told = 0

    @hookimpl
    def stages(self) -> list[Stage]:
        return [Stage(name, []) for name in self.adds]

    @hookimpl(wrapper=True)
    def task_loss(self) -> Any:
        return 2 * (yield)

    @hookimpl
    def epoch_steps(self) -> int:
        return 9

    @hookimpl
    def extra_losses(self) -> Mapping[str, Any]:
        return {"everywhere": torch.zeros(())}

    @hookimpl
    def measure(self) -> Mapping[str, Any]:
        return {"seen": 1.0}

    @hookimpl
    def after_step(self) -> None:
        self.told += 1


STAGES = ["warm", "other", "finetune"]


@pytest.mark.parametrize(
    ("named", "adds", "acts"),
    [
        (None, (), ["finetune"]),
        (None, ("warm",), ["warm", "finetune"]),
        (["other"], (), ["other"]),
        (["other"], ("warm",), ["other"]),
        (["warm", "finetune"], (), ["warm", "finetune"]),
        ([], (), []),
    ],
)
def test_a_plugin_acts_in_fine_tuning_and_the_stages_it_adds_or_else_in_those_that_are_named(
    named: list[str] | None, adds: tuple[str, ...], acts: list[str]
) -> None:
    everywhere, streams = Everywhere(*adds), Streams(0)
    composition = compose({"one": everywhere}, Core(), streams, {} if named is None else {"one": named})
    hook = composition.hook
    assert hook.stages(tasks=[]) == [[Stage(name, []) for name in adds]]
    assert [stage for stage in STAGES if composition.acts("one", stage)] == acts
    for stage in STAGES:
        with streams.at(stage, 3):
            told = everywhere.told
            hook.after_step(model=None, step=0, total_steps=1, losses={}, reevaluate=None)
            assert everywhere.told - told == (stage in acts)
            assert task_loss(composition) == (2 if stage in acts else 1)
            assert hook.epoch_steps(tasks=[]) == (9 if stage in acts else 7)
            (extra,) = hook.extra_losses(**CALL)
            assert list(extra) == (["everywhere"] if stage in acts else [])
            assert hook.stages(tasks=[]) == [[Stage(name, []) for name in adds]]  # the run's, and not the stage's


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (None, None, True),
        (["warm"], None, False),
        (["warm"], ["finetune"], False),
        (["warm", "finetune"], None, True),
        (["warm", "other"], ["other"], True),
        (["warm"], ["other"], False),
        ([], None, False),
    ],
)
def test_two_plugins_may_decide_the_same_in_different_stages(
    one: list[str] | None, other: list[str] | None, clash: bool
) -> None:
    plugins = {name: plugin("choose_tasks", lambda self: []) for name in ("one", "other")}
    stages = {name: named for name, named in {"one": one, "other": other}.items() if named is not None}
    if not clash:
        compose(plugins, Core(), Streams(0), stages)
        return
    with pytest.raises(PluginError, match=r"'one' and 'other' both decide choose_tasks; keep one of them\."):
        compose(plugins, Core(), Streams(0), stages)


def test_a_stage_that_the_run_has_not_is_refused_with_the_nearest() -> None:
    composition = compose({"wrap": Wrap(2, 0)}, Core(), Streams(0), {"wrap": ["finetune", "domian"]})
    with pytest.raises(PluginError) as caught:
        composition.check_stages(["domain", "finetune"])
    said = "'wrap' shall act in stage 'domian'. Did you mean 'domain'? Available: domain, finetune."
    assert str(caught.value) == said
    composition.check_stages(["domian", "finetune"])


def test_a_plugin_that_would_act_in_no_stage_is_refused_unless_it_is_one_of_the_run() -> None:
    for name, hook, refused in (("acts", "before_step", True), ("builds", "build", False), ("tells", "logged", False)):
        composition = compose({name: plugin(hook, lambda self: None)}, Core(), Streams(0))
        if refused:
            with pytest.raises(PluginError, match=f"'{name}' acts in no stage of this run, which is 'domain'"):
                composition.check_stages(["domain"])
        else:
            composition.check_stages(["domain"])
        composition.check_stages(["domain", "finetune"])
        compose({name: plugin(hook, lambda self: None)}, Core(), Streams(0), {name: []}).check_stages(
            ["domain"]
        )  # as asked


class Tasks:
    """Adds tasks of these names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    @hookimpl
    def tasks(self) -> list[Task]:
        return [tiny_task(name, Binary()) for name in self.names]


def test_two_tasks_of_one_name_are_refused() -> None:
    assert [task.name for task in composed(one=Tasks("a"), other=Tasks("b")).tasks([], None, None)] == ["a", "b"]
    for plugins in ({"one": Tasks("a"), "other": Tasks("a")}, {"one": Tasks("a", "a")}):
        with pytest.raises(PluginError, match=r"two tasks are called 'a'; choose another name for one of them\."):
            composed(**plugins).tasks([], None, None)


def test_who_adds_a_stage_and_decides_a_hook_there_is_alone_in_it() -> None:
    """Which stages a plugin adds is known only once it is asked."""

    class Adding:
        @hookimpl
        def stages(self) -> list[Stage]:
            return [Stage("warm", [])]

        @hookimpl
        def choose_tasks(self) -> list[Task]:
            return []

    plugins = {"adding": Adding(), "other": plugin("choose_tasks", lambda self: [])}
    composition = compose(plugins, Core(), Streams(0), {"other": ["warm"]})
    names = [stage.name for answer in composition.hook.stages(tasks=[]) for stage in answer]
    with pytest.raises(PluginError, match=r"^'adding' and 'other' both decide choose_tasks; keep one of them\.$"):
        composition.check_stages(names)


def test_a_property_is_not_asked_to_find_hooks() -> None:
    assert composed(unready=Unready()).hooks_of("unready") == ["task_loss"]
