"""Answers: what a hook returns is checked, and a wrong answer is named with plugin, hook and remedy."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from regkit.base.errors import ConfigError, PluginError
from regkit.hooks.answers import NAMED, VALUES
from regkit.hooks.spec import DECIDE, Hooks, Predict, hookimpl
from regkit.model import MultitaskModel
from regkit.model.merging import build
from regkit.runs import checkpoint
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import Binary
from regkit.tasks.task import Stage, Task
from regkit.testing import tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.tiny import tiny_run

NOTIFY = {
    "build",
    "prepare",
    "begin_run",
    "before_step",
    "clipped",
    "skipped",
    "after_step",
    "evaluated",
    "logged",
    "end_run",
}
HOOKS = {name for name in vars(Hooks) if not name.startswith("_")}


def plugin(**methods: Callable[..., Any]) -> object:
    """A plugin that answers these hooks."""
    return type("Plugin", (), {name: hookimpl(method) for name, method in methods.items()})()


def wrapped(hook: str, change: Callable[[Any], Any]) -> object:
    """A plugin that wraps a hook."""

    def method(self: object) -> Generator[None, Any, Any]:
        return change((yield))

    return type("Plugin", (), {hook: hookimpl(wrapper=True)(method)})()


def said(*plugins: object) -> str:
    """What a run with these plugins, called a, b and so on, is refused with, at the latest when it is saved."""
    with pytest.raises(PluginError) as caught:
        train_and_save(dict(zip("abc", plugins, strict=False)))
    return str(caught.value)


def train_and_save(plugins: Mapping[str, object]) -> None:
    trainer = tiny_trainer(plugins)
    trainer.train()
    checkpoint.moment(trainer.state)


def test_every_hook_that_answers_is_checked() -> None:
    assert VALUES.keys() | NAMED.keys() == HOOKS - NOTIFY


@pytest.mark.parametrize("hook", [hook for hook in DECIDE if hook != "epoch_steps"])
def test_a_decider_that_returns_nothing_is_an_error_and_not_the_default(hook: str) -> None:
    others = {"epoch_steps": lambda self: 4} if hook == "choose_tasks" else {}
    methods = {hook: lambda self: None} | others
    if hook == "combine_gradients":
        methods |= {"choose_tasks": choose_all, "epoch_steps": lambda self: 4}
    found = said(plugin(**methods))
    assert found.startswith(f"plugin 'a': {hook} returns nothing; it needs ")
    assert found.endswith("; is a `return` missing?")


def choose_all(self: object, tasks: Sequence[Task]) -> Sequence[Task]:
    return tasks


@pytest.mark.parametrize("hook", ["stages", "task_loss", "extra_losses", "embed", "choose_tasks", "make_optimizer"])
def test_a_wrapper_without_return_is_named(hook: str) -> None:
    found = said(wrapped(hook, lambda answer: None))
    assert found.startswith(f"plugin 'a': the wrapper {hook} returns nothing; it needs ")
    assert found.endswith("is a `return` missing?")


@pytest.mark.parametrize(
    ("hook", "answer", "says"),
    [
        ("epoch_steps", 0, "returns 0, of type int; it needs a whole number of updates, 1 or more."),
        ("epoch_steps", 2.5, "returns 2.5, of type float; it needs a whole number"),
        ("epoch_steps", None, "returns nothing; it needs a whole number"),
        ("choose_tasks", [], "returns a list of nothing; it needs a list of one or more tasks, each of them once."),
        ("choose_tasks", ["sst"], "returns a list of 1 str; it needs a list of one or more tasks"),
        ("choose_tasks", tiny_task("x", Binary()), "returns the task 'x'; it needs a list of one or more tasks"),
        (
            "choose_tasks",
            [tiny_task("x", Binary())] * 2,
            "returns a list of 2 Task; it needs a list of one or more tasks, each",
        ),
        ("choose_tasks", [tiny_task("x", Binary())], "choose_tasks gives task 'x' in stage 'finetune'. Available: "),
        ("task_loss", torch.ones(3), "returns a tensor of shape [3]; it needs a scalar tensor"),
        (
            "task_loss",
            torch.ones((), dtype=torch.complex64),
            "returns a complex64 tensor of shape []; it needs a scalar",
        ),
        (
            "task_loss",
            torch.ones((), dtype=torch.int64),
            "returns a int64 tensor of shape []; it needs a scalar tensor",
        ),
        ("extra_losses", {"x": torch.ones((), device="meta")}, "gives 'x' as a float32 tensor of shape [] on meta; it"),
        ("extra_losses", {"": torch.ones(())}, "returns a dictionary with '' as a name; a name is printable text."),
        ("extra_losses", {"a\nb": torch.ones(())}, "as a name; a name is printable text."),
        ("make_optimizer", torch.optim.LBFGS([nn.Parameter(torch.ones(1))]), "it needs a torch optimizer whose step"),
        ("task_loss", 1.5, "returns 1.5, of type float; it needs a scalar tensor"),
        ("schedule", -0.5, "returns -0.5, of type float; it needs a finite number, 0 or more."),
        ("schedule", float("nan"), "returns nan, of type float; it needs a finite number, 0 or more."),
        ("schedule", torch.ones(()), "returns a tensor of shape []; it needs a finite number, 0 or more."),
        ("augment", torch.ones(3), "returns a tensor of shape [3]; it needs a Batch of the same examples."),
        ("encode", torch.ones(3), "returns a tensor of shape [3]; it needs a tensor of real numbers, [texts, width]."),
        ("embed", torch.ones(3), "returns a tensor of shape [3]; it needs a tensor of real numbers, [tokens, width]."),
        ("stages", Stage("x", []), "returns the stage 'x'; it needs a list of stages."),
        ("tasks", [1], "returns a list of 1 int; it needs a list of tasks."),
        ("stages", None, "returns nothing; it needs a list of stages; is a `return` missing?"),
        ("tasks", None, "returns nothing; it needs a list of tasks; is a `return` missing?"),
        ("make_optimizer", 3, "returns 3, of type int; it needs a torch optimizer whose step needs no closure."),
        ("model_to_evaluate", nn.Linear(1, 1), "of type Linear; it needs a MultitaskModel."),
        ("extra_losses", None, "returns nothing; it needs {name: a scalar tensor"),
        ("extra_losses", torch.ones(()), "returns a tensor of shape []; it needs {name: a scalar tensor"),
        ("extra_losses", {"x": 1.5}, "gives 'x' as 1.5, of type float; it needs to be a scalar tensor, such as a mean"),
        ("extra_losses", {"x": torch.ones(2)}, "gives 'x' as a tensor of shape [2]; it needs to be a scalar tensor"),
        (
            "extra_losses",
            {"x": torch.ones(())},
            "gives 'x' without a gradient, so it trains nothing; compute it from output",
        ),
        ("extra_losses", {3: torch.ones(())}, "returns a dictionary with 3 as a name; a name is printable text."),
        ("extra_losses", {"task": torch.ones(())}, "calls a term 'task', as the clean loss is called; give it another"),
    ],
)
def test_a_wrong_answer_is_said_with_what_is_needed(hook: str, answer: object, says: str) -> None:
    methods: dict[str, Callable[..., Any]] = {hook: lambda self: answer}
    if hook == "choose_tasks":
        methods["epoch_steps"] = lambda self: 4
    found = said(plugin(**methods))
    assert says in found
    assert found.startswith((f"plugin 'a': {hook} ", "choose_tasks gives"))


@pytest.mark.parametrize(
    ("hook", "change", "says"),
    [
        (
            "predict",
            lambda output: torch.cat([output, output], 1),
            "a tensor of shape [4, 6]; task 'classes' needs [4, 3].",
        ),
        ("predict", lambda output: output[1:], "a tensor of shape [3, 3]; it needs 4 rows, one for each prediction."),
        ("augment", lambda batch: replace(batch, tokens=batch.tokens + 999), "; the encoder has those from 0 to "),
        ("augment", lambda batch: replace(batch, tokens=batch.tokens - 999), "returns the token id -"),
    ],
)
def test_an_answer_is_checked_by_arguments_that_the_hook_does_not_name(
    hook: str, change: Callable[[Any], Any], says: str
) -> None:
    found = said(wrapped(hook, change))
    assert found.startswith(f"plugin 'a': the wrapper {hook} returns ")
    assert says in found


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (
            "embed",
            "encode",
            "encode at stage finetune, step 0, task classes, micro-batch 0 fails on what plugin 'b' answers to embed: RuntimeError: ",
        ),
        (
            "encode",
            "predict",
            "predict at stage finetune, step 0, task classes, micro-batch 0 fails on what plugin 'b' answers to encode: RuntimeError: ",
        ),
    ],
)
def test_a_later_hook_that_fails_on_a_plugins_answer_names_the_plugin(first: str, second: str, says: str) -> None:
    """And not one whose hook would come after the one that fails."""
    later = {"encode": "predict", "predict": "task_loss"}[second]
    innocent = wrapped(later, lambda values: 1.0 * values)
    assert said(innocent, wrapped(first, lambda values: torch.cat([values, values], 1))).startswith(says)


def test_a_plugin_that_asks_for_a_pass_which_fails_is_named_itself() -> None:
    def extra_losses(self: object, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        return {"x": predict(embeddings[:, 1:]).mean()}

    asking, innocent = plugin(extra_losses=extra_losses), wrapped("embed", lambda embeddings: 1.0 * embeddings)
    assert said(asking, innocent).startswith("plugin 'a' failed in extra_losses at ")


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.heads.__delitem__("classes"),
        lambda model: setattr(model.encoder, "layers", model.encoder.layers[:0]),
    ],
)
def test_a_model_that_cannot_answer_any_more_names_who_built_it(change: Callable[[MultitaskModel], Any]) -> None:
    trainer, _ = tiny_run({}, tiny_tasks()[:1], steps=1)
    build(trainer.model, {"a": {}}, lambda: change(trainer.model))
    with pytest.raises(PluginError, match=r"^the model's answer for task 'classes' fails on what plugin 'a' builds "):
        trainer.train()


@pytest.mark.parametrize("answer", [None, {"x": torch.ones(2)}, {"x": "high"}])
def test_a_wrong_measure_is_named(answer: object) -> None:
    from regkit.testing.tiny import measured

    with pytest.raises(PluginError, match="plugin 'a': measure "):
        measured({"a": plugin(measure=lambda self: answer)})


def test_a_wrapper_of_collected_answers_is_checked_answer_by_answer() -> None:
    assert "the wrapper extra_losses returns {}, of type dict; it needs the list of all answers" in said(
        wrapped("extra_losses", lambda answers: {})
    )
    assert "the wrapper extra_losses gives 'x' as 1, of type int" in said(
        wrapped("extra_losses", lambda answers: [*answers, {"x": 1}])
    )


def term(name: str) -> object:
    return plugin(extra_losses=lambda self, output: {name: output.float().mean()})


def test_two_plugins_with_a_term_of_one_name_are_both_named() -> None:
    assert said(term("x"), term("x")) == "'a' and 'b' both give a loss named 'x'; each needs a name of its own."


def swapping(change: Callable[[MultitaskModel], object]) -> object:
    return plugin(prepare=lambda self, model: change(model) and None)


class Adapted(nn.Module):
    """A linear layer with a low-rank addition, as LoRA has it: its weight has another name."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base = layer
        self.down = nn.Parameter(torch.zeros(2, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, 2))

    def forward(self, values: Tensor) -> Tensor:
        return self.base(values) + values @ self.down.T @ self.up.T


def adapt(model: MultitaskModel) -> None:
    attention = model.encoder.layers[0].attention
    attention.query = Adapted(attention.query)


def widen(model: MultitaskModel) -> None:
    head = next(iter(model.heads.values()))
    head.linear = nn.Linear(head.linear.in_features, 7)


class Remembers(nn.LayerNorm):
    """A module with state that is no tensor."""

    def get_extra_state(self) -> object:
        return {"calls": 3}

    def set_extra_state(self, state: object) -> None: ...


def remember(model: MultitaskModel) -> None:
    norm = Remembers(model.encoder.norm.normalized_shape)
    norm.load_state_dict(model.encoder.norm.state_dict(), strict=False)
    model.encoder.norm = norm


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (adapt, "its state lacks encoder.layers.0.attention.query.weight"),
        (lambda model: model.register_buffer("mine", torch.ones(2)), "its state has mine, which is new"),
        (widen, "linear.weight is [7, 16] float32 instead of [3, 16] float32"),
        (
            lambda model: model.to(torch.bfloat16),
            "encoder.word.weight is [97, 16] bfloat16 instead of [97, 16] float32",
        ),
        (remember, "its state has encoder.norm._extra_state, which is new"),
    ],
    ids=["lora", "buffer", "head", "type", "extra state"],
)
def test_modules_that_no_checkpoint_could_hold_are_refused_before_the_first_step(
    change: Callable[[MultitaskModel], object], says: str
) -> None:
    found = said(swapping(change))
    assert found.startswith("plugin 'a': prepare changes the model so that ")
    assert says in found
    assert "no checkpoint of it could be read back; change its modules in the hook `build`" in found


def test_a_module_with_the_same_parameters_may_be_put_in() -> None:
    class Scaled(nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            return 2 * super().forward(values)

    def scale(model: MultitaskModel) -> None:
        head = next(iter(model.heads.values()))
        scaled = Scaled(head.linear.in_features, head.linear.out_features)
        scaled.weight, scaled.bias = head.linear.weight, head.linear.bias
        head.linear = scaled

    tiny_trainer({"a": swapping(scale)}).train()


def test_an_evaluated_model_of_another_form_is_refused() -> None:
    other = tiny_trainer({}, tasks=tiny_tasks()[:1]).model
    found = said(plugin(model_to_evaluate=lambda self: other))
    assert found.startswith("model_to_evaluate gives a model of another form than the one in training: its state lacks")


@dataclass
class Adds:
    """Adds a stage before fine-tuning."""

    @hookimpl
    def stages(self, tasks: Sequence[Task]) -> Sequence[Stage]:
        return [Stage("warm", [task.name for task in tasks], steps=1)]


@dataclass
class Slows:
    """Sets the learning rate of the stages that it is shown."""

    @hookimpl(wrapper=True)
    def stages(self) -> Generator[None, list[Sequence[Stage]], list[Sequence[Stage]]]:
        answers = yield
        return [[replace(stage, learning_rate=7.0) for stage in stages] for stages in answers]


@dataclass
class Drops:
    """Leaves out the stages that it is shown, and adds one of its own."""

    name: ClassVar[str] = "own"

    @hookimpl(wrapper=True)
    def stages(self) -> Generator[None, list[Sequence[Stage]], list[Sequence[Stage]]]:
        yield
        return [[Stage("own", [], steps=1)]]


@pytest.mark.parametrize(
    ("wrapper", "named", "found"),
    [
        (Slows(), None, {"warm": False, "finetune": True}),
        (Slows(), ["warm"], {"warm": True, "finetune": False}),
        (Slows(), ["warm", "finetune"], {"warm": True, "finetune": True}),
        (Slows(), [], {"warm": False, "finetune": False}),
        (Drops(), None, {"warm": False, "own": False}),
        (Drops(), [], {"warm": False, "own": False, "finetune": False}),
    ],
)
@pytest.mark.parametrize("order", ["wrapper first", "wrapper last"])
def test_a_wrapper_of_stages_changes_those_in_which_its_plugin_acts(
    wrapper: object, named: list[str] | None, found: Mapping[str, bool], order: str
) -> None:
    from regkit.testing.tiny import tiny_run

    plugins = {"a": wrapper, "adds": Adds()}
    if order == "wrapper last":
        plugins = dict(reversed(plugins.items()))
    trainer, composition = tiny_run(plugins, None, stages={} if named is None else {"a": named})
    stages = [stage for answer in trainer.hook.stages(tasks=trainer.tasks) for stage in answer]
    assert {stage.name: stage.learning_rate == 7 for stage in stages} == found
    assert composition.acts("a", "own") == ("own" in found and named is None)


@pytest.mark.parametrize("hook", ["make_optimizer", "embed", "before_step"])
def test_modules_that_are_swapped_later_are_found_when_the_run_is_first_saved(hook: str) -> None:
    """In one step, before which the model is as it was."""

    def change(self: object, model: MultitaskModel) -> Generator[None, Any, Any]:
        if not isinstance(model.encoder.layers[0].attention.query, Adapted):
            adapt(model)
        return (yield)

    found = said(type("Plugin", (), {hook: hookimpl(wrapper=True)(change)})())
    assert (
        "its state lacks encoder.layers.0.attention.query.weight, and no checkpoint of it could be read back" in found
    )


def test_the_encoder_is_not_swapped_where_tasks_are_collected() -> None:
    found = said(plugin(tasks=lambda self, encoder: adapt(SimpleNamespace(encoder=encoder)) or []))
    assert found.startswith(
        "plugin 'a': tasks changes the model so that its state lacks layers.0.attention.query.weight"
    )


def test_a_wrapper_that_gives_another_plugins_term_once_more_is_refused() -> None:
    more = wrapped("extra_losses", lambda answers: [*answers, {"x": torch.zeros(())}])
    assert said(more, term("x")) == "'b' and 'a' both give a loss named 'x'; each needs a name of its own."
    changed = wrapped(
        "extra_losses", lambda answers: [{name: 2 * value for name, value in each.items()} for each in answers]
    )
    tiny_trainer({"a": changed, "b": term("x")}).train()


@pytest.mark.parametrize("have", ["state_dict", "load_state_dict"])
def test_state_that_could_be_saved_or_loaded_only_is_refused(have: str) -> None:
    half = type("Plugin", (), {"prepare": hookimpl(lambda self: None), have: lambda self, *state: {}})()
    assert f"plugin 'a' has {have} alone" in said(half)


def old(self: object) -> Generator[None, Any, None]:
    yield


async def never(self: object) -> None: ...


@pytest.mark.parametrize(
    ("method", "mark", "says"),
    [
        (old, {"hookwrapper": True}, "prepare is a wrapper of an old kind; mark it by @hookimpl(wrapper=True)."),
        (old, {}, "prepare would never run; a hook with a yield is marked @hookimpl(wrapper=True)."),
        (never, {}, "prepare is `async def`, and a hook is called, not awaited; write `def`."),
    ],
)
def test_a_hook_that_would_not_run_is_refused(method: Callable[..., Any], mark: Mapping[str, bool], says: str) -> None:
    assert says in said(type("Plugin", (), {"prepare": hookimpl(**mark)(method)})())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": None}, "stage 'None': its name is letters, digits, _ and -."),
        ({"name": "finetune"}, "two stages are called 'finetune'; choose another name for one of them."),
        ({"tasks": ["clases"]}, "stage 'warm': there is no task 'clases'. Did you mean 'classes'?"),
        ({"tasks": []}, "stage 'warm': its tasks are a list of names, at least one."),
        ({"tasks": "classes"}, "stage 'warm': its tasks are a list of names, at least one."),
        ({"steps": -1}, "stage 'warm': steps is -1; it needs a number from 1 to below inf."),
        ({"epochs": 0, "steps": None}, "stage 'warm': epochs is 0; it needs a number from 1 to below inf."),
        (
            {"learning_rate": float("nan")},
            "stage 'warm': learning_rate is nan; it needs a number from 1e-30 to below inf.",
        ),
        ({"warmup": None}, "stage 'warm': warmup is None; it needs a number from 0 to below 1."),
        ({"trainable": "none"}, "stage 'warm': trainable is 'none', and neither 'all' nor 'heads'."),
    ],
)
def test_a_stage_that_cannot_be_trained_is_refused(change: Mapping[str, Any], says: str) -> None:
    values = {"name": "warm", "tasks": ["classes"], "steps": 1} | change
    with pytest.raises(ConfigError) as caught:
        tiny_trainer({"a": plugin(stages=lambda self: [Stage(**values)])}).train()
    assert str(caught.value).startswith(says)


def test_an_optimizer_without_weights_of_the_model_is_refused() -> None:
    other = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    found = said(plugin(make_optimizer=lambda self: other))
    assert found == "the optimizer of stage 'finetune' has none of the model's weights; make_optimizer gives them."


@pytest.mark.parametrize("hook", ["embed", "task_loss", "predict", "encode"])
def test_a_wrapper_that_detaches_the_loss_is_named(hook: str) -> None:
    found = said(wrapped(hook, lambda value: value.detach()))
    assert found.startswith(f"plugin 'a': the wrapper {hook} returns a tensor without a gradient, so nothing before it")


def test_a_decider_that_detaches_the_loss_is_named() -> None:
    found = said(plugin(task_loss=lambda self, output: output.detach().float().mean()))
    assert found.startswith(
        "plugin 'a': task_loss returns a tensor without a gradient, so nothing before it is trained"
    )


def test_a_loss_without_gradient_names_the_task_where_it_cannot_name_a_plugin() -> None:
    found = said(plugin(task_loss=lambda self: torch.ones(())))
    assert re.match(
        r"the loss of task '\w+' has no gradient: a hook that answers or wraps embed, encode, predict", found
    )


def test_a_term_that_has_nothing_to_say_of_a_batch_may_be_a_plain_zero() -> None:
    tiny_trainer({"a": plugin(extra_losses=lambda self: {"x": torch.zeros(())})}, steps=1).train()


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        (hookimpl(staticmethod(lambda output: {})), "staticmethod"),
        (staticmethod(hookimpl(lambda output: {})), "staticmethod"),
        (hookimpl(classmethod(lambda cls, output: {})), "classmethod"),
        (classmethod(hookimpl(lambda cls, output: {})), "classmethod"),
        (hookimpl(cached_property(lambda self: {})), "cached_property"),
    ],
)
def test_a_hook_that_is_no_ordinary_method_is_told_so(member: object, kind: str) -> None:
    plugin = type("Plugin", (), {"prepare": hookimpl(lambda self: None), "extra_losses": member})()
    wanted = "a hook is an ordinary method: @hookimpl and `def extra_losses(self, ...)`."
    assert said(plugin) == f"plugin 'a': extra_losses is a {kind}; {wanted}"


@pytest.mark.parametrize(
    ("method", "written"),
    [
        (lambda output: {}, "self, output"),
        (lambda batch, output: {}, "self, batch, output"),
        (lambda: {"x": 0}, "self"),
    ],
)
def test_a_method_without_self_is_told_so(method: Callable[..., object], written: str) -> None:
    assert said(plugin(extra_losses=method)) == (
        f"plugin 'a': extra_losses lacks self, as a method has; write `def extra_losses({written})`."
    )


def test_a_method_with_a_hooks_name_and_no_mark_is_refused() -> None:
    unmarked = type("Plugin", (), {"prepare": hookimpl(lambda self: None), "extra_losses": lambda self: {}})()
    assert said(unmarked) == (
        "plugin 'a' has a method extra_losses without @hookimpl, so it would never be called as a hook; mark it, or give "
        "it another name."
    )


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("embed", r"returns a tensor of shape \[\d+, 16\]; it needs \d+ rows, one for each token."),
        ("augment", r"returns a Batch of 2 examples; it needs \d+ rows, one for each example."),
        ("encode", r"returns a tensor of shape \[\d+, 16\]; it needs \d+ rows, one for each text."),
        ("predict", r"returns a tensor of shape \[\d+(, 3)?\]; it needs \d+ rows, one for each prediction."),
        ("combine_gradients", r"returns a tensor of shape \[\d+\]; it needs \d+ rows, one for each parameter."),
    ],
)
@pytest.mark.parametrize("around", [True, False])
def test_an_answer_of_another_length_is_said_with_the_length_that_is_needed(hook: str, says: str, around: bool) -> None:
    def shorter(self: object, gradients: Tensor) -> Tensor:
        return gradients.sum(0)[1:]

    def embed(self: object, model: MultitaskModel, batch: Batch) -> Tensor:
        return model.embed(batch)[1:]

    def augment(self: object, task: Task, batch: Batch) -> Batch:
        return task.splits["train"].batch([0, 1])

    def encode(self: object, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor) -> Tensor:
        return model.encode(task, batch, embeddings)[1:]

    def predict(self: object, model: MultitaskModel, task: Task, batch: Batch, vectors: Tensor) -> Tensor:
        return model.heads[task.name](vectors)[1:]

    def anew(self: object, task: Task, batch: Batch) -> Generator[None, Any, Any]:
        yield
        return task.splits["train"].batch([0, 1])

    def batchwise(self: object, batch: Batch) -> Generator[None, Any, Any]:
        return (yield)[1:]

    def rowwise(self: object, gradients: Tensor) -> Generator[None, Any, Any]:
        return (yield)[1:]

    plain = {"augment": augment, "embed": embed, "encode": encode, "predict": predict, "combine_gradients": shorter}[
        hook
    ]
    wrapping = {"combine_gradients": rowwise, "augment": anew}.get(hook, batchwise)
    method = hookimpl(wrapper=True)(wrapping) if around else hookimpl(plain)
    together = plugin(choose_tasks=choose_all, epoch_steps=lambda self: 4)
    found = said(type("Plugin", (), {hook: method})(), together, *([Plain()] if around else []))
    assert re.fullmatch(rf"plugin 'a': (the wrapper )?{hook} {says}", found), found


class Plain:
    """Combines gradients as the default does, so that there is something to wrap."""

    @hookimpl
    def combine_gradients(self, gradients: Tensor) -> Tensor:
        return gradients.sum(0)
