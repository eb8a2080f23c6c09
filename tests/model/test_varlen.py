"""Varlen: attention that knows lengths computes what padded attention does, and a kernel that does not is found out.

The kernels are those of GPUs. A slow stand-in takes their place among torch's operations, with their arguments.
"""

import inspect
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor

from regkit.base.failures import ran_out
from regkit.base.randomness import unchanged
from regkit.model import tf32, varlen_trial
from regkit.model.adapter import attend_packed
from regkit.model.attention import SelfAttention, attend_within
from regkit.model.dropout import dropout
from regkit.model.kernels import FLASH, KERNELS, Form, deterministic
from regkit.model.varlen import attend_plainly, attend_varlen, lifting
from regkit.model.varlen_trial import runs_varlen, works
from regkit.tasks.batch import Batch
from regkit.testing import resume_is_exact, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from tests.helpers import slow_but
from tests.model.test_model import RAGGED, random_batch

CPU = torch.device("cpu")


class StandIn:
    """Attention as torch's operations of GPUs compute it. `fault` is what it does wrong."""

    def __init__(self, fault: str = "") -> None:
        self.fault, self.calls, self.gradients = fault, 0, 0

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, ends: Tensor, others: Tensor, most: int, most_keys: int,
        rate: float, causal: bool, debug: bool, *, scale: float | None, window_size_left: int | None,
        window_size_right: int | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        if self.fault in ("unknown", "memory"):
            raise RuntimeError("no such kernel" if self.fault == "unknown" else "CUDA out of memory")
        assert (most, most_keys) == (int(ends.diff().max()), int(others.diff().max()))
        assert (ends.dtype, others.dtype, causal, debug) == (torch.int32, torch.int32, False, False)
        self.calls += 1
        seed = torch.randint(2**40, ())
        given = (ends, others, rate, scale, window_size_left, window_size_right)
        return (
            self._attend(query, key, value, seed, *given),
            query.new_zeros(1),
            seed,
            query.new_zeros(0),
            query.new_zeros(0),
        )

    def backward(
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, sums: Tensor,
        ends: Tensor, others: Tensor, most: int, most_keys: int, rate: float, causal: bool, seed: Tensor, unused: Tensor,
        *, scale: float | None, window_size_left: int | None, window_size_right: int | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        assert torch.get_deterministic_debug_mode() == 2, "the gradient is to be the same each time"
        with torch.enable_grad():
            inputs = [each.detach().requires_grad_() for each in (query, key, value)]
            seed = seed + (self.fault == "mask")
            given = (ends, others, rate, scale, window_size_left, window_size_right)
            found = torch.autograd.grad(self._attend(*inputs, seed, *given), inputs, gradient)
        if self.fault == "chance":
            self.gradients += 1
            return tuple(each * (1 + 1e-2 * (self.gradients % 2)) for each in found)
        return found

    def efficient(
        self, query: Tensor, key: Tensor, value: Tensor, bias: None, ends: Tensor, others: Tensor, most: int,
        most_keys: int, rate: float, mask: int, sums: bool, *, scale: float | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        assert (mask, sums) == (0, True)
        spans, options = (ends, others, most, most_keys), {"window_size_left": None, "window_size_right": None}
        found = self.forward(query[0], key[0], value[0], *spans, rate, False, False, scale=scale, **options)
        return (found[0][None], *found[1:4], most, most_keys)

    def efficient_backward(
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: None, attended: Tensor, ends: Tensor,
        others: Tensor, most: int, most_keys: int, sums: Tensor, rate: float, seed: Tensor, unused: Tensor, mask: int,
        biased: bool, *, scale: float | None, num_splits_key: int,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        assert (mask, biased, num_splits_key) == (0, False, 1), "the gradient is to be the same each time"
        inputs, spans = (each[0] for each in (query, key, value)), (ends, others, most, most_keys)
        options = {"window_size_left": None, "window_size_right": None}
        with deterministic():
            found = self.backward(
                gradient[0], *inputs, attended[0], sums, *spans, rate, False, seed, unused, scale=scale, **options
            )
        return (*(each[None] for each in found), None)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, seed: Tensor, ends: Tensor, others: Tensor, rate: float,
        scale: float | None, left: int | None, right: int | None,
    ) -> Tensor:  # fmt: skip
        random = torch.Generator().manual_seed(int(seed))
        scale = query.shape[-1] ** -0.5 if scale is None or self.fault == "scale" else scale
        found = []
        for (start, stop), (first, last) in zip(pairwise(ends.tolist()), pairwise(others.tolist()), strict=True):
            if self.fault == "across":
                first, last = 0, len(key)
            one, keys, values = (
                part.float().transpose(0, 1) for part in (query[start:stop], key[first:last], value[first:last])
            )
            scores = scale * one @ keys.transpose(1, 2)
            if left is not None and right is not None and self.fault != "window":
                apart = torch.arange(last - first) - torch.arange(stop - start)[:, None]
                scores = scores.masked_fill((apart < -left) | (apart > right), -torch.inf)
            weights = scores.softmax(-1)
            if rate and self.fault != "dropout":
                weights = weights * (torch.rand(weights.shape, generator=random) >= rate) / (1 - rate)
            found.append((weights @ values).transpose(0, 1))
        return torch.cat(found).to(query.dtype)


def use(monkeypatch: pytest.MonkeyPatch, kernel: StandIn) -> None:
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", kernel.forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", kernel.backward)
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", kernel.efficient)
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_backward", kernel.efficient_backward)


@pytest.fixture(autouse=True)
def untried() -> Iterator[None]:
    works.cache_clear()
    yield
    works.cache_clear()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, which is used wherever attention is asked for."""
    kernel = StandIn()
    use(monkeypatch, kernel)
    monkeypatch.setattr("regkit.model.attention.runs_varlen", lambda *given: True)
    return kernel


def leaves(batch: Batch, heads: int = 2, width: int = 8, single: bool = False) -> list[Tensor]:
    random = torch.Generator().manual_seed(5)
    sizes = [len(batch.lengths) if single else len(batch.tokens), len(batch.tokens), len(batch.tokens)]
    return [torch.randn(size, heads, width, generator=random).requires_grad_() for size in sizes]


def with_gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    goal = torch.randn(output.shape, generator=torch.Generator().manual_seed(7))
    return [output, *torch.autograd.grad(output, inputs, goal)]


ONE_TOKEN = (1, 1, 1)
CASES = [(RAGGED, None), (ONE_TOKEN, None), ((7,), 0.3), *product([RAGGED, (4, 4), ONE_TOKEN], [0.3])]


@pytest.mark.parametrize("case", slow_but(CASES, CASES[:3]), ids=str)
@pytest.mark.parametrize(("single", "window"), [(False, None), (False, 3), (True, None)])
def test_attention_that_knows_lengths_is_padded_attention(
    case: tuple[Sequence[int], float | None], single: bool, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients; and so is the attention of plain operations, which it is tried against."""
    lengths, scale = case
    batch, form = random_batch(lengths), Form(0.0, scale, window)
    inputs = leaves(batch, single=single)
    padded = with_gradients(attend_within(*inputs, batch, form), inputs)
    use(monkeypatch, StandIn())
    monkeypatch.setitem(KERNELS, torch.float32, FLASH if window else KERNELS[torch.float32])
    for attend in (attend_varlen, attend_plainly):
        torch.testing.assert_close(with_gradients(attend(*inputs, batch, form), inputs), padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", ["all", "first", "some"])
def test_a_layer_with_it_is_the_layer_with_padding(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, batch = SelfAttention(16, 2, 0.3).eval(), random_batch(RAGGED)
    layer.key.register_forward_hook(lambda *given: None)  # so that its weights are not used past it
    hidden = torch.randn(len(batch.tokens), 16, requires_grad=True)
    asked = {"all": None, "first": batch.starts, "some": torch.tensor([4, 0])}[rows]
    weights = [hidden, *layer.parameters()]
    padded = with_gradients(layer(hidden, batch, asked), weights)
    kernel = StandIn()
    use(monkeypatch, kernel)
    monkeypatch.setattr("regkit.model.attention.runs_varlen", lambda *given: True)
    monkeypatch.setattr("regkit.model.attention.has_shortcut", lambda *given: False)  # that way is the CPU's
    torch.testing.assert_close(with_gradients(layer(hidden, batch, asked), weights), padded, rtol=1e-4, atol=1e-5)
    assert kernel.calls == 1


@pytest.mark.parametrize("window", [None, 3])
def test_an_encoder_of_transformers_attends_by_it_alike(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two heads of keys serve four of queries."""
    batch = random_batch(RAGGED)
    inputs = [torch.randn(1, heads, len(batch.tokens), 8, requires_grad=True) for heads in (4, 2, 2)]
    options = {"batch": batch, "scaling": 0.7, "sliding_window": window}

    def found() -> list[Tensor]:
        return with_gradients(attend_packed(torch.nn.Identity(), *inputs, None, **options)[0], inputs)

    padded = found()
    use(monkeypatch, StandIn())
    monkeypatch.setitem(KERNELS, torch.float32, FLASH)  # the kernel that knows windows
    monkeypatch.setattr("regkit.model.attention.runs_varlen", lambda *given: True)
    torch.testing.assert_close(found(), padded, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_run_with_it_resumes_exactly_and_replays_its_dropout(kernel: StandIn) -> None:
    resume_is_exact(dict, tasks=lambda: tiny_tasks()[:1])
    assert kernel.calls


@pytest.mark.slow
def test_a_run_with_it_is_nearly_the_run_with_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    def norms() -> list[float]:
        trainer = tiny_trainer({}, tasks=unscored(tiny_tasks()), steps=4, dropout=0.0)
        trainer.train()
        return [float(weight.detach().norm()) for weight in trainer.model.parameters()]

    padded, kernel = norms(), StandIn()
    use(monkeypatch, kernel)
    monkeypatch.setattr("regkit.model.attention.runs_varlen", lambda *given: True)
    assert norms() == pytest.approx(
        padded, rel=1e-3, abs=3e-3
    )  # keys' biases have no gradient but rounding, which AdamW scales up
    assert kernel.calls


@pytest.mark.parametrize("trained", [(0, 1, 2), (1,)], ids=str)
def test_the_gradient_of_a_gradient_is_that_of_plain_operations(trained: tuple[int, ...], kernel: StandIn) -> None:
    batch = random_batch(RAGGED)
    inputs = [each.detach().requires_grad_(number in trained) for number, each in enumerate(leaves(batch))]
    needed = [inputs[number] for number in trained]

    def found(attend: Any) -> list[Tensor]:
        first = torch.autograd.grad(attend(*inputs, batch, Form()).square().sum(), needed, create_graph=True)
        return [*first, *torch.autograd.grad(sum(each.square().sum() for each in first), needed)]

    torch.testing.assert_close(found(attend_varlen), found(attend_plainly), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1.0, 1e-9, 1e9])
def test_where_products_are_in_tf32_the_kernel_computes_in_fp16_and_loses_no_small_gradient(
    size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where they are not, in float32."""
    batch = random_batch(RAGGED)
    inputs, seen = leaves(batch), []
    use(monkeypatch, kernel := StandIn())
    monkeypatch.setattr(
        torch.ops.aten,
        "_flash_attention_forward",
        lambda *given, **more: (seen.append(given[0].dtype), kernel.forward(*given, **more))[1],
    )

    def scaled() -> list[Tensor]:
        output = attend_varlen(*inputs, batch, Form())
        return list(torch.autograd.grad(output, inputs, size * torch.ones_like(output).cumsum(0).cos()))

    wanted = scaled()
    assert seen == []
    with tf32.switched(tf32.ON):
        halved = scaled()
    assert seen == [torch.float16]
    for one, other in zip(halved, wanted, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= 2e-3 * other.norm()


def test_a_gradient_of_zeros_or_that_is_not_finite_stays_that() -> None:
    assert lifting(torch.zeros(3)).isfinite()
    assert (torch.tensor([torch.inf, 1.0]) * lifting(torch.tensor([torch.inf, 1.0]))).isnan().any()


Kind = tuple[torch.dtype, int, bool, bool]  # the arguments of `works` behind the device
KINDS = [
    *product([torch.bfloat16, torch.float16], [8, 64], [False, True], [False, True]),
    *product([torch.float32], [8, 64], [False, True], [False]),
]


@pytest.mark.parametrize("kind", slow_but(KINDS, [KINDS[6], KINDS[-2]]), ids=str)
def test_a_kernel_that_is_right_passes_the_trial(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """And random numbers are drawn afterwards as if there had been none."""
    kernel = StandIn()
    use(monkeypatch, kernel)
    with unchanged(CPU):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        with torch.no_grad():
            assert works(CPU, *kind)
        assert torch.equal(torch.rand(2), expected)
    tried = kernel.calls
    assert works(CPU, *kind)
    assert kernel.calls == tried, "it is tried once"


FAULTS = [
    ("across", False, "has other results than plain operations"),
    ("scale", False, "has other results than plain operations"),
    ("window", False, "counts other keys than it should"),
    ("mask", True, "has other results than plain operations"),
    ("chance", True, "has other results each time"),
    ("dropout", True, "counts other keys than it should"),
    ("unknown", True, "fails: no such kernel"),
]


@pytest.mark.parametrize("case", slow_but(FAULTS, [FAULTS[3], FAULTS[-1]]), ids=str)
def test_a_kernel_that_is_wrong_is_not_used_and_that_is_said(
    case: tuple[str, bool, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fault, drops, said = case
    use(monkeypatch, StandIn(fault))
    with caplog.at_level(logging.WARNING):
        assert not works(CPU, torch.bfloat16, 64, drops, True)
        assert not works(CPU, torch.bfloat16, 64, drops, True)
    kind = f"bfloat16, heads of 64, {'dropout, ' * drops}windows"
    assert caplog.messages == [f"attention pads, which takes longer: its kernel ({kind}) {said}"]
    assert torch.get_deterministic_debug_mode() == 0


def test_a_trial_without_enough_memory_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, StandIn("memory"))
    with pytest.raises(RuntimeError) as caught:
        works(CPU, torch.bfloat16, 64, False, False)
    assert ran_out(caught.value)
    use(monkeypatch, StandIn())
    assert works(CPU, torch.bfloat16, 64, False, False)


@pytest.mark.parametrize(
    ("dtype", "heads", "width", "single", "window", "serving"),
    [
        (torch.bfloat16, 2, 64, False, None, True),
        (torch.bfloat16, 2, 64, True, None, True),
        (torch.float16, 2, 256, False, 3, True),
        (torch.float32, 2, 64, False, None, True),
        (torch.float32, 2, 64, False, 3, False),
        (torch.float64, 2, 64, False, None, False),
        (torch.bfloat16, 2, 60, False, None, False),
        (torch.bfloat16, 2, 264, False, None, False),
        (torch.bfloat16, 1, 64, False, None, False),
        (torch.bfloat16, 2, 64, True, 3, False),
    ],
)
def test_it_serves_what_the_kernel_can_compute(
    dtype: torch.dtype, heads: int, width: int, single: bool, window: int | None, serving: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    query, key = torch.zeros(2 if single else 6, 2, width, dtype=dtype), torch.zeros(6, heads, width, dtype=dtype)
    monkeypatch.setattr(varlen_trial, "works", lambda *given: True)
    assert not runs_varlen(query, key, key, Form(0.1, None, window)), "on a CPU nothing is gained"
    monkeypatch.setattr(Tensor, "is_cuda", True)
    assert runs_varlen(query, key, key, Form(0.1, None, window)) is serving


@pytest.mark.parametrize(
    ("operation", "stand_in"),
    [
        ("_flash_attention_forward", StandIn.forward),
        ("_flash_attention_backward", StandIn.backward),
        ("_efficient_attention_forward", StandIn.efficient),
        ("_efficient_attention_backward", StandIn.efficient_backward),
    ],
)
def test_the_stand_in_takes_the_arguments_of_torchs_own_operation(operation: str, stand_in: Any) -> None:
    _, *ours = inspect.signature(stand_in).parameters.values()
    theirs = getattr(torch.ops.aten, operation).default._schema.arguments
    assert sum(each.kind is not each.KEYWORD_ONLY for each in ours) == sum(not each.kwarg_only for each in theirs)
    assert {each.name for each in ours if each.kind is each.KEYWORD_ONLY} <= {
        each.name for each in theirs if each.kwarg_only
    }


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("window", [None, 3])
def test_torchs_own_flash_attention_takes_these_shapes(single: bool, window: int | None) -> None:
    """Which torch checks without a GPU."""
    batch = random_batch(RAGGED)
    inputs = [each.detach().to("meta", torch.bfloat16).requires_grad_() for each in leaves(batch, single=single)]
    output = attend_varlen(*inputs, batch.to(torch.device("meta")), Form(0.1, 0.5, window))
    gradients = torch.autograd.grad(output.sum(), inputs)
    assert [each.shape for each in (output, *gradients)] == [each.shape for each in (inputs[0], *inputs)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_kernel_of_this_gpu_passes_the_trial(kind: Kind) -> None:
    """Flash attention needs a card from 2020 or later; the other kernel has other dropout backward than forward in torch 2.11."""
    if kind[0] != torch.float32 and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs a card of compute capability 8.0")
    if kind[0] == torch.float32 and kind[2]:
        pytest.xfail("the gradient of memory-efficient attention with dropout was wrong on an H200")
    assert works(torch.device("cuda", 0), *kind)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dropout_keeps_the_same_in_every_number_format_of_a_gpu() -> None:
    """A pass in TF32 replays the masks of one in bf16."""
    batch, kept = random_batch(RAGGED).to(torch.device("cuda")), []
    for dtype in (torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        query, key, value = (each.detach().to("cuda", dtype) for each in leaves(batch))
        kept.append(attend_varlen(0 * query, 0 * key, torch.ones_like(value), batch, Form(0.3)).float())
    assert torch.allclose(*kept, rtol=0.02), "of attention: each query sums the keys that it keeps"
    hidden = []
    for dtype in (torch.bfloat16, torch.float32):
        torch.manual_seed(0)
        hidden.append(dropout(torch.ones(77, 64, dtype=dtype, device="cuda"), 0.3) != 0)
    assert torch.equal(*hidden)
