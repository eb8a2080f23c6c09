"""Repeated passes: the same numbers at rounded sizes, as graphs or not, whatever is asked of torch's graph of gradients.

Where no GPU is, an imitation of captured graphs stands in their place: it computes in memory that is used again, as they do.
"""

import copy
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from regkit.base.operations import EachOperation
from regkit.hooks import catalog
from regkit.model import Bert, BertConfig, tf32
from regkit.model.repeat import graphs, repeated
from regkit.model.repeat.graphs import Graphs
from regkit.model.repeat.repeated import Repeated
from regkit.model.repeat.sizes import Rounded, batch_of, rounded, sizes_of
from regkit.model.repeat.work import Pass, Work
from regkit.tasks.batch import Batch
from regkit.testing import resume_is_exact, tiny_tasks, tiny_trainer
from tests.helpers import PATIENT, slow_but

RAGGED = (3, 1, 9, 4)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def batch_with(lengths: Sequence[int]) -> Batch:
    random = torch.Generator().manual_seed(3)
    tokens = [torch.randint(50, (length,), generator=random).numpy() for length in lengths]
    return Batch.pack(tokens, [(each % 2) for each in tokens])


@pytest.fixture
def encoder() -> Bert:
    torch.manual_seed(0)
    config = BertConfig(
        50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, initializer_range=0.3, first_position=2,
    )  # fmt: skip
    return Bert(config).eval()


def results(encoder: Bert, batch: Batch, first: bool) -> list[Tensor]:
    """Hidden states, and the gradients of embeddings and weights."""
    embeddings = encoder.embed(batch).detach().requires_grad_()
    hidden = encoder.encode(embeddings, batch, batch.starts if first else None)
    goal = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    weights = [weight for name, weight in encoder.named_parameters() if not name.startswith(("word", "pooler"))]
    return [hidden, *torch.autograd.grad(hidden, [embeddings, *weights], goal)]


@PATIENT
@given(st.lists(st.integers(1, 512), min_size=1, max_size=200))
def test_a_batch_is_filled_up_to_its_sizes(lengths: list[int]) -> None:
    sizes, batch = sizes_of(lengths), batch_with(lengths)
    counts, segments = rounded(batch, sizes)
    fillers = counts[len(lengths) :]
    assert counts[: len(lengths)].tolist() == lengths
    assert len(counts) == sizes.sequences
    assert int(counts.sum()) == len(segments) == sizes.tokens
    assert fillers.min() >= 1, "a sequence without a token has no softmax"
    assert counts.max() <= sizes.longest
    assert sizes.tokens <= 1.125 * sum(lengths) + 64 + len(fillers)


def test_there_are_few_sizes() -> None:
    assert len({sizes_of([length] * 64) for length in range(5, 65)}) <= 32
    assert len({sizes_of([length] * 8) for length in range(5, 65)}) <= 16


def test_the_batch_of_the_sizes_is_packed_as_any_other() -> None:
    sizes, packed = sizes_of(RAGGED), batch_with(RAGGED)
    counts, segments = rounded(packed, sizes)
    made, wanted = batch_of(Rounded(counts, segments), sizes), batch_with(counts.tolist())
    for name in ("positions", "starts", "counts", "sequence_of", "slots"):
        if name != "slots":
            assert torch.equal(getattr(made, name), getattr(wanted, name)), name
    assert torch.equal(made.bounds, wanted.bounds)
    assert (made.longest, made.ragged, len(made)) == (sizes.longest, True, sizes.sequences)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("lengths", [RAGGED, (1,), (16, 16)], ids=str)
def test_a_pass_at_rounded_sizes_is_the_pass(encoder: Bert, lengths: Sequence[int], first: bool) -> None:
    batch = batch_with(lengths)
    wanted = results(encoder, batch, first)
    encoder.repeated = Repeated(["cpu"])
    torch.testing.assert_close(results(encoder, batch, first), wanted, rtol=1e-4, atol=1e-5)


def test_gradients_arrive_where_backward_puts_them(encoder: Bert) -> None:
    """Also of two passes, of weights without gradients, and of the word embeddings, which are looked up outside."""
    batch = batch_with(RAGGED)

    def gradients() -> dict[str, Tensor]:
        encoder.zero_grad()
        encoder.layers[0].up.requires_grad_(False)
        one = encoder.encode(encoder.embed(batch), batch, batch.starts)
        other = encoder.encode(encoder.embed(batch) * 1.5, batch)
        (one.square().sum() + other[2].square().sum()).backward()
        return {name: each.grad for name, each in encoder.named_parameters() if each.grad is not None}

    wanted = gradients()
    encoder.repeated = Repeated(["cpu"])
    found = gradients()
    assert found.keys() == wanted.keys()
    assert not any("layers.0.up" in name for name in found)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def tied(encoder: Bert) -> list[Tensor]:
    encoder.layers[1].up.weight = encoder.layers[0].up.weight
    return [encoder.layers[0].up.weight]


def computed(encoder: Bert) -> list[Tensor]:
    """A weight is moved for a pass, in the place of a parameter."""
    weight, moved = encoder.layers[0].up.weight, torch.zeros(24, 16, requires_grad=True)
    encoder.layers[0].up._parameters["weight"] = weight + moved  # type: ignore[assignment]
    return [weight, moved]


def in_place_of_a_parameter(encoder: Bert) -> list[Tensor]:
    weight, moved = encoder.layers[0].up.weight, torch.zeros(24, 16, requires_grad=True)
    del encoder.layers[0].up.weight
    encoder.layers[0].up.weight = weight + moved
    return [weight, moved]


@pytest.mark.parametrize("change", [tied, computed, in_place_of_a_parameter])
def test_weights_that_are_shared_or_computed_have_the_gradients_that_torch_gives_them(
    encoder: Bert, change: Callable[[Bert], list[Tensor]]
) -> None:
    batch, sought = batch_with(RAGGED), change(encoder)

    def found() -> list[Tensor]:
        hidden = encoder.encode(encoder.embed(batch), batch, batch.starts)
        for each in sought:
            each.grad = None
        (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward(retain_graph=True)
        return [each.grad for each in sought if each.grad is not None]

    wanted = found()
    encoder.repeated = Repeated(["cpu"])
    for _ in "ab":
        torch.testing.assert_close(found(), wanted, rtol=1e-4, atol=1e-4)


def test_a_weight_that_is_computed_anew_for_each_pass_has_its_own_gradient(encoder: Bert) -> None:
    """Such a weight may be where an earlier one was in memory, by its address and by its number in Python."""
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    up = encoder.layers[0].up
    weight = up.weight
    for _ in range(4):
        moved = torch.zeros(24, 16, requires_grad=True)
        up._parameters["weight"] = None
        up._parameters["weight"] = weight + moved  # type: ignore[assignment]
        encoder.encode(encoder.embed(batch), batch, batch.starts)[:, 0].sum().backward()
        assert moved.grad is not None
        assert moved.grad.any()


def test_the_gradient_of_the_embeddings_alone_computes_no_others(
    encoder: Bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    backward = Pass.backward
    monkeypatch.setattr(
        Pass, "backward", lambda it, gradient, whole: (asked.append(whole), backward(it, gradient, whole))[1]
    )
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    embeddings = encoder.embed(batch)
    loss = encoder.encode(embeddings, batch, batch.starts).sum()
    torch.autograd.grad(loss, embeddings, retain_graph=True)
    torch.autograd.grad(loss, encoder.layers[0].up.weight, retain_graph=True)
    assert asked == [False, True]


@pytest.mark.parametrize("halved", [False, True])
def test_a_pass_can_be_gone_back_through_again_with_the_masks_and_numbers_it_had(encoder: Bert, halved: bool) -> None:
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    torch.manual_seed(4)
    with torch.autocast("cpu", torch.bfloat16, enabled=halved):
        hidden = encoder.train().encode(encoder.embed(batch), batch, batch.starts)
    torch.rand(3)  # what is drawn in between changes nothing, and is not drawn again
    state = torch.get_rng_state()
    weights = list(encoder.layers.parameters())
    one, two = (torch.autograd.grad(hidden.square().sum(), weights, retain_graph=True) for _ in "ab")
    assert all(map(torch.equal, one, two))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_gradient_has_a_gradient(encoder: Bert) -> None:
    batch = batch_with(RAGGED)

    def found() -> list[Tensor]:
        embeddings = encoder.embed(batch).detach().requires_grad_()
        hidden = encoder.encode(embeddings, batch, batch.starts)
        weights = [encoder.layers[0].up.weight, encoder.layers[1].norm.bias]
        gradient, *others = torch.autograd.grad(hidden.square().sum(), [embeddings, *weights], create_graph=True)
        size = gradient.square().sum() + sum(other.square().sum() for other in others)
        return list(torch.autograd.grad(size, [embeddings, *weights]))

    with sdpa_kernel(SDPBackend.MATH):  # torch's kernel for the CPU has no second derivative
        wanted = found()
        encoder.repeated = Repeated(["cpu"])
        torch.testing.assert_close(found(), wanted, rtol=1e-3, atol=1e-3)


def test_several_gradients_at_once_are_those_one_by_one(encoder: Bert) -> None:
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    weight = encoder.layers[1].down.weight
    hidden = encoder.encode(encoder.embed(batch), batch, batch.starts)
    goals = torch.randn(3, *hidden.shape)
    together = torch.autograd.grad(hidden, weight, goals, is_grads_batched=True, retain_graph=True)[0]
    single = [torch.autograd.grad(hidden, weight, goal, retain_graph=True)[0] for goal in goals]
    torch.testing.assert_close(together, torch.stack(single), rtol=1e-4, atol=1e-5)


def test_a_weight_that_was_changed_before_the_gradient_is_an_error_as_torchs(
    encoder: Bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a graph, which would compute with the weights as they are now."""
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    zeros = SimpleNamespace(forward=lambda: torch.zeros(sizes_of(RAGGED).sequences, 16), backward=pytest.fail)
    monkeypatch.setattr(Repeated, "begin", lambda *given: zeros)
    hidden = encoder.encode(encoder.embed(batch), batch, batch.starts)
    with torch.no_grad():
        encoder.layers[0].up.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hidden.sum().backward()


class Doubled(torch.autograd.Function):
    """An operation that notes where torch's switch of TF32 is, forward and backward."""

    seen: ClassVar[list[object]] = []

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        Doubled.seen.append(tf32.switch())
        return values * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        Doubled.seen.append(tf32.switch())
        return gradient * 2


def test_a_pass_in_tf32_is_gone_back_through_in_tf32(encoder: Bert, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each of its backward passes, and nothing after them is."""
    compute, usual = Bert.compute, tf32.switch()
    monkeypatch.setattr(Bert, "compute", lambda *given: Doubled.apply(compute(*given)))
    monkeypatch.setattr(Doubled, "seen", [])
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    embeddings = encoder.embed(batch)
    with tf32.switched(tf32.ON):
        loss = encoder.encode(embeddings, batch, batch.starts).sum()
    torch.autograd.grad(loss, embeddings, retain_graph=True)
    for _ in "ab":  # the second computes the pass once more
        torch.autograd.grad(loss, encoder.norm.weight, retain_graph=True)
    assert Doubled.seen == [tf32.ON] * 5
    assert tf32.switch() == usual


def test_a_capture_has_leaves_of_its_own_in_the_memory_of_the_weights(encoder: Bert) -> None:
    """torch's leaves belong to the stream of their first use, and a capture has another."""
    encoder.layers[0].up.weight.requires_grad_(False)
    tied(encoder)
    modules, before = list(encoder.layers.modules()), list(encoder.layers.parameters())
    manner = repeated.manner_of(modules, before, torch.zeros(1))
    work = Work(encoder, modules, before, sizes_of(RAGGED), True, manner)
    with work.aliased() as own:
        inside = list(encoder.layers.parameters())
        assert list(map(id, inside)) == list(map(id, own.weights))
        assert not any(one is other for one, other in zip(inside, before, strict=True))
        for one, other in zip(inside, before, strict=True):
            assert (one.data_ptr(), one.requires_grad) == (other.data_ptr(), other.requires_grad)
    assert list(map(id, encoder.layers.parameters())) == list(map(id, before))


def test_a_copy_of_a_model_repeats_its_own_passes(encoder: Bert) -> None:
    encoder.repeated = Repeated(["cpu"])
    other = copy.deepcopy(encoder)
    assert other.repeated is not encoder.repeated
    assert other.repeated is not None
    assert other.repeated.devices == ["cpu"]


def watched(encoder: Bert, seen: list[Tensor]) -> None:
    encoder.layers[0].register_forward_hook(lambda module, given, output: seen.append(output))


def replaced(encoder: Bert, seen: list[Tensor]) -> None:
    encoder.layers[0].up = torch.nn.Sequential(encoder.layers[0].up)


@pytest.mark.parametrize("change", [watched, replaced])
def test_what_a_plugin_watches_or_replaces_is_computed_by_torch(
    encoder: Bert, change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a loss of what a hook saw has gradients."""
    monkeypatch.setattr(Pass, "__init__", lambda *given: pytest.fail("it was repeated"))
    seen: list[Tensor] = []
    change(encoder, seen)
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    embeddings = encoder.embed(batch)
    hidden = encoder.encode(embeddings, batch, batch.starts)
    (gradient,) = torch.autograd.grad((seen or [hidden])[0].square().sum(), embeddings)
    assert gradient.any()


def test_a_pass_that_is_watched_has_the_masks_of_one_that_is_not(encoder: Bert) -> None:
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    found = []
    for change in (lambda *given: None, watched):
        change(encoder.train(), [])
        torch.manual_seed(4)
        found.append(encoder.encode(encoder.embed(batch), batch, batch.starts))
    assert torch.equal(*found)


class Imitated:
    """Stands in for what is captured: its results are in memory that each replay fills again."""

    def __init__(self, work: Work, memory: Any, embeddings: Tensor, given: Rounded, room: Tensor | None) -> None:
        self.work, self.memory, self.room, self.moved = work, memory, room, None
        self.embeddings, self.given = embeddings.detach().clone(), Rounded(*(each.clone() for each in given))
        self.passed = Pass(work, self.embeddings, self.given)
        self.output = self.passed.forward().clone()
        self.gradient = torch.zeros_like(self.output)
        self.ahead = SimpleNamespace(replay=self._ahead)
        ways = [False] * work.manner.moved + [True] * bool(work.trained)
        self.back = {whole: SimpleNamespace(replay=lambda whole=whole: self._back(whole)) for whole in ways}

    def _ahead(self) -> None:
        self.passed = Pass(self.work, self.embeddings, self.given)
        self.output.copy_(self.passed.forward())

    def _back(self, whole: bool) -> None:
        moved, rest = self.passed.backward(self.gradient, whole)
        self.moved = moved if self.moved is None or moved is None else self.moved.copy_(moved)
        if rest is not None and self.room is not None:
            self.room.copy_(rest)


@pytest.fixture
def imitated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Passes are captured at once, by an imitation on the CPU."""
    generator = SimpleNamespace(clone_state=lambda: None, graphsafe_set_state=lambda state: None)
    monkeypatch.setattr(graphs, "Captured", Imitated)
    monkeypatch.setattr(graphs, "Memory", lambda number: SimpleNamespace(number=number, used=False))
    monkeypatch.setattr(graphs, "generator_of", lambda device: generator)
    monkeypatch.setattr(repeated, "TIMES", 0)
    begin = Graphs.begin
    monkeypatch.setattr(Repeated, "begin", lambda it, *given: begin(it.graphs, *given) or Pass(*given))
    yield
    Graphs.wrong = ""


def counted(encoder: Bert) -> tuple[int, int]:
    """How many graphs there are, and how many pieces of memory are in use."""
    assert encoder.repeated is not None
    it = encoder.repeated.graphs
    return len(it.captured), sum(memory.used for memory in it.memory)


@pytest.mark.usefixtures("imitated")
def test_passes_under_way_have_memory_apart_and_give_it_back(encoder: Bert) -> None:
    encoder.repeated = Repeated(["cpu"])
    one, other = batch_with(RAGGED), batch_with(RAGGED[::-1])
    wanted = [results(encoder, batch, first=True) for batch in (one, other)]
    assert counted(encoder) == (1, 0)
    embeddings = [encoder.embed(batch).detach().requires_grad_() for batch in (one, other)]
    hidden = [encoder.encode(each, batch, batch.starts) for each, batch in zip(embeddings, (one, other), strict=True)]
    assert counted(encoder) == (2, 2)
    assert [torch.equal(each, result[0]) for each, result in zip(hidden, wanted, strict=True)] == [True, True]
    for number in (0, 1):
        goal = torch.randn(hidden[number].shape, generator=torch.Generator().manual_seed(1))
        (found,) = torch.autograd.grad(hidden[number], embeddings[number], goal, retain_graph=True)
        assert torch.equal(found, wanted[number][1])
        torch.autograd.grad(hidden[number], encoder.norm.weight, goal)
        assert counted(encoder) == (2, 1 - number)


@pytest.mark.usefixtures("imitated")
def test_a_pass_without_gradients_or_whose_loss_is_dropped_gives_its_memory_back(encoder: Bert) -> None:
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    with torch.no_grad():
        encoder.encode(encoder.embed(batch), batch, batch.starts)
    assert counted(encoder) == (1, 0)
    hidden = encoder.encode(encoder.embed(batch), batch, batch.starts)
    assert counted(encoder) == (2, 1)
    del hidden
    assert counted(encoder) == (2, 0)


@pytest.mark.usefixtures("imitated")
def test_more_passes_than_there_is_memory_for_are_computed_by_torch(encoder: Bert) -> None:
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    under_way = [encoder.encode(encoder.embed(batch), batch, batch.starts) for _ in range(graphs.PASSES + 2)]
    assert counted(encoder) == (graphs.PASSES, graphs.PASSES)
    assert all(torch.equal(each, under_way[0]) for each in under_way)


CHANGES: dict[str, Callable[[Bert], object]] = {
    "a mode": lambda encoder: encoder.layers[0].dropout.train(),
    "a rate": lambda encoder: setattr(encoder.layers[1].attention, "rate", 0.7),
    "another weight": lambda encoder: setattr(encoder.norm, "weight", torch.nn.Parameter(torch.ones(16))),
    "other memory": lambda encoder: setattr(encoder.norm.weight, "data", torch.ones(16)),
    "a frozen weight": lambda encoder: encoder.norm.weight.requires_grad_(False),
}


@pytest.mark.usefixtures("imitated")
@pytest.mark.parametrize("change", CHANGES)
def test_another_manner_of_computing_is_captured_anew(encoder: Bert, change: str) -> None:
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    encoder.encode(encoder.embed(batch), batch, batch.starts)
    CHANGES[change](encoder)
    encoder.encode(encoder.embed(batch), batch, batch.starts)
    assert counted(encoder)[0] == 2
    with torch.autocast("cpu", torch.bfloat16):
        encoder.encode(encoder.embed(batch), batch, batch.starts)
    assert counted(encoder)[0] == 3


def fails(*given: Any) -> Any:
    raise RuntimeError("an operation\nthat cannot be captured")


def differs(*given: Any) -> Any:
    found = Imitated(*given)
    ahead = found.ahead.replay
    found.ahead.replay = lambda: (ahead(), found.output.add_(1e-6))
    return found


@pytest.mark.usefixtures("imitated")
@pytest.mark.parametrize(("captured", "said"), [(fails, "cannot be captured"), (differs, "gives other results")])
def test_a_graph_that_fails_or_differs_is_not_used_and_that_is_said_once(
    encoder: Bert, captured: Any, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch = batch_with(RAGGED)
    wanted = results(encoder, batch, first=True)
    monkeypatch.setattr(graphs, "Captured", captured)
    encoder.repeated = Repeated(["cpu"])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            torch.testing.assert_close(results(encoder, batch, first=True), wanted, rtol=1e-4, atol=1e-5)
    assert counted(encoder) == (0, 0)
    (record,) = caplog.records
    assert said in record.getMessage()


def test_scores_are_computed_as_where_a_trained_model_is_scored_again(
    encoder: Bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer({}, tasks=tiny_tasks()[:1])
    trainer.model.encoder.repeated = Repeated(["cpu"])  # type: ignore[attr-defined]
    monkeypatch.setattr(Repeated, "encode", lambda *given: pytest.fail("it was repeated"))
    trainer.evaluator.scores(trainer.model, trainer.tasks, "dev")


class Counts(EachOperation):
    """Sees each operation, as what counts them or draws a trace does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_where_operations_are_counted_each_is_there(encoder: Bert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "TIMES", 0)
    monkeypatch.setattr(Graphs, "begin", lambda *given: pytest.fail("a graph was asked for"))
    encoder.repeated, batch = Repeated(["cpu"]), batch_with(RAGGED)
    embeddings = encoder.embed(batch)
    monkeypatch.setattr(Tensor, "is_cuda", True)
    with Counts():
        encoder.repeated.begin(
            SimpleNamespace(
                key=(), manner=SimpleNamespace(moved=False, gradients=False), compute=lambda *given: embeddings
            ),
            embeddings,
            None,
        )  # type: ignore[arg-type]


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_a_graph_is_captured(enabled: bool) -> None:
    """Of another run's graphs: to free one is refused by CUDA, and spoils what is captured."""
    (gc.enable if enabled else gc.disable)()
    try:
        with graphs.uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


EVERYTHING = ["rrobin", "smart", "bregman"]
RUNS = [[], EVERYTHING, ["freelb"], ["rdrop", "l2sp"], ["pcgrad"], ["sam"]]


def trained(names: Sequence[str]) -> list[Tensor]:
    trainer = tiny_trainer({name: catalog.make(name, {}) for name in names}, tasks=tiny_tasks())
    trainer.train()
    return [weight.detach().clone() for weight in trainer.model.parameters()]


@pytest.mark.parametrize("names", slow_but(RUNS, [EVERYTHING]), ids=lambda names: "+".join(names) or "plain")
def test_a_run_is_the_same_to_the_last_bit_with_graphs_and_without(
    names: list[str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Repeated(["cpu"])
    monkeypatch.setattr(Bert, "repeated", shared)
    plain = trained(names)
    request.getfixturevalue("imitated")
    found = trained(names)
    assert shared.graphs.captured
    assert all(map(torch.equal, found, plain))


@pytest.mark.slow
def test_a_run_whose_passes_are_repeated_resumes_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bert, "repeated", Repeated(["cpu"]))
    resume_is_exact(lambda: {name: catalog.make(name, {}) for name in EVERYTHING})


@CUDA
@pytest.mark.parametrize(
    "names", [[], EVERYTHING, ["freelb"], ["pcgrad"]], ids=lambda names: "+".join(names) or "plain"
)
def test_on_a_gpu_a_run_is_the_same_to_the_last_bit_with_graphs_and_without(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for times in (10**9, 0):
        monkeypatch.setattr(repeated, "TIMES", times)
        trainer = tiny_trainer({name: catalog.make(name, {}) for name in names}, tasks=tiny_tasks(), steps=12)
        trainer.model.to("cuda")
        trainer.streams.device = torch.device("cuda")
        trainer.model.encoder.repeated = it = Repeated()
        trainer.train()
        found.append([weight.detach().clone() for weight in trainer.model.parameters()])
        assert bool(it.graphs.captured) is not bool(times)
    assert all(map(torch.equal, *found))


@CUDA
def test_on_a_gpu_an_operation_that_cannot_be_captured_ends_no_run(
    encoder: Bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, batch, compute = encoder.cuda(), batch_with(RAGGED).to(torch.device("cuda")), Bert.compute
    monkeypatch.setattr(
        Bert, "compute", lambda *given: (lambda found: found * float(found.detach().sum() != 0.123))(compute(*given))
    )
    encoder.repeated = Repeated()
    try:
        found = [encoder.encode(encoder.embed(batch), batch, batch.starts) for _ in range(5)]
        assert Graphs.wrong
        torch.rand(3, device="cuda")  # the generator can be drawn from
        assert all(torch.equal(each, found[0]) for each in found)
    finally:
        Graphs.wrong = ""
