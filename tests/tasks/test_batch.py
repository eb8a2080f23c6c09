"""Batch: packing loses nothing, reductions are per example, and noise belongs to the example and not to the batch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from regkit.tasks.batch import Batch, copied_together
from regkit.tasks.objectives import Binary
from regkit.testing import tiny_task

REDUCTIONS = ["sum", "mean", "amax"]
# No deadline: the first call of a torch function is slow, and so is a busy machine.
untimed = settings(deadline=None, max_examples=30)


def pack(lengths: list[int], sides: int = 1, keys: list[int] | None = None) -> Batch:
    """Tokens count from 1 in each sequence; the segments of a sequence are 0, then 1 from its middle on."""
    return Batch.pack(
        [np.arange(1, length + 1) for length in lengths],
        [np.arange(length) * 2 >= length for length in lengths],
        sides=sides,
        keys=list(range(len(lengths) // sides)) if keys is None else keys,
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    sides = draw(st.sampled_from([1, 2]))
    examples = draw(st.integers(1, 6))
    return pack(draw(st.lists(st.integers(1, 7), min_size=sides * examples, max_size=sides * examples)), sides)


@st.composite
def batches_with_values(draw: st.DrawFn) -> tuple[Batch, Tensor]:
    """A batch with random `[tokens]` or `[tokens, width]`, repeated values among them."""
    batch = draw(batches())
    width = draw(st.sampled_from([(), (1,), (3,)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    values = torch.randn(len(batch.tokens), *width, generator=generator, dtype=torch.float64)
    return batch, values.round(decimals=draw(st.sampled_from([0, 9])))


def examples_of(batch: Batch, values: Tensor) -> list[Tensor]:
    """The slow, obvious way: walk over the sequences, `sides` of them an example."""
    found, start = [], 0
    for example in range(len(batch.lengths) // batch.sides):
        stop = start + sum(batch.lengths[example * batch.sides : (example + 1) * batch.sides])
        found.append(values[start:stop])
        start = stop
    return found


@untimed
@given(batches_with_values(), st.sampled_from(REDUCTIONS))
def test_per_example_reduces_all_numbers_of_each_example_and_no_other(
    case: tuple[Batch, Tensor], reduction: str
) -> None:
    batch, values = case
    wanted = torch.stack([getattr(part, reduction)() for part in examples_of(batch, values)])
    torch.testing.assert_close(batch.per_example(values, reduction), wanted)


@untimed
@given(batches_with_values(), st.sampled_from(REDUCTIONS))
def test_per_example_has_the_gradient_of_its_reduction(case: tuple[Batch, Tensor], reduction: str) -> None:
    batch, values = case
    one, other = values.clone().requires_grad_(), values.clone().requires_grad_()
    weights = torch.arange(1.0, len(batch) + 1, dtype=torch.float64)
    (batch.per_example(one, reduction) * weights).sum().backward()
    parts = [getattr(part, reduction)() for part in examples_of(batch, other)]
    (torch.stack(parts) * weights).sum().backward()
    if reduction != "amax":
        torch.testing.assert_close(one.grad, other.grad)
        return
    for part, gradient, weight in zip(
        examples_of(batch, values), examples_of(batch, one.grad), weights.tolist(), strict=True
    ):
        assert not gradient[part < part.max()].any()  # equal largest numbers may share it as torch likes
        torch.testing.assert_close(gradient.sum().item(), weight)


@untimed
@given(batches(), st.sampled_from([(), (2,), (2, 3)]))
def test_to_tokens_hands_each_token_its_examples_row(batch: Batch, shape: tuple[int, ...]) -> None:
    values = torch.arange(len(batch) * int(np.prod(shape)), dtype=torch.float32).view(len(batch), *shape)
    found = batch.to_tokens(values)
    assert found.shape == (len(batch.tokens), *shape)
    for example, part in enumerate(examples_of(batch, found)):
        assert (part == values[example]).all()


@untimed
@given(batches())
def test_tokens_know_their_place_sequence_and_example(batch: Batch) -> None:
    places = [(s, i) for s, length in enumerate(batch.lengths) for i in range(length)]
    assert batch.sequence_of.tolist() == [sequence for sequence, _ in places]
    assert batch.example_of.tolist() == [sequence // batch.sides for sequence, _ in places]
    assert batch.positions.tolist() == [position for _, position in places]
    assert batch.tokens.tolist() == [position + 1 for _, position in places]
    assert batch.segments.tolist() == [int(i * 2 >= batch.lengths[s]) for s, i in places]
    assert batch.starts.tolist() == [number for number, (_, position) in enumerate(places) if position == 0]
    assert len(batch) * batch.sides == len(batch.lengths)
    assert (batch.longest, batch.ragged) == (max(batch.lengths), len(set(batch.lengths)) > 1)
    for tensor in (batch.tokens, batch.segments, batch.positions, batch.starts, batch.sequence_of):
        assert tensor.dtype == torch.int64


@untimed
@given(st.lists(st.integers(0, 23), min_size=1, max_size=8), st.sampled_from([None, "cross_encoder", "bi_encoder"]))
def test_a_batch_of_rows_holds_those_rows_in_that_order(rows: list[int], pair_mode: str | None) -> None:
    examples = tiny_task("task", Binary(), pair_mode).splits["train"]
    batch = examples.batch(rows, keys=rows)
    cuts = [
        slice(*examples.offsets[[row * examples.sides, (row + 1) * examples.sides]]) for row in rows
    ]  # both sides lie together
    for name in ("tokens", "segments"):
        parts = [getattr(examples, name)[cut] for cut in cuts]
        assert getattr(batch, name).tolist() == np.concatenate(parts).tolist()
    assert batch.labels.tolist() == [examples.labels[row].item() for row in rows]
    assert batch.rows == batch.keys == tuple(rows)
    assert batch.sides == (2 if pair_mode == "bi_encoder" else 1)
    assert [int(part.numel()) for part in examples_of(batch, batch.tokens)] == examples.lengths()[rows].tolist()


@pytest.mark.parametrize("sides", [1, 2])
def test_noise_is_the_same_however_the_batch_is_cut(sides: int) -> None:
    lengths, keys, width = [3, 1, 4, 1, 5, 9, 2, 6], [11, 12, 13, 14, 15, 16, 17, 18], 5
    keys = keys[: len(lengths) // sides]
    whole = pack(lengths, sides, keys)
    found = examples_of(whole, whole.noise(torch.empty(sum(lengths), width), "start"))
    for cut in ([0, 1, 4], [0, 2, 3, 4]):
        for start, stop in pairwise(cut):
            part = pack(lengths[start * sides : stop * sides], sides, keys[start:stop])
            alone = examples_of(part, part.noise(torch.empty(len(part.tokens), width), "start"))
            assert all(torch.equal(one, other) for one, other in zip(alone, found[start:stop], strict=True))


def test_noise_depends_on_key_and_purpose_and_on_nothing_else() -> None:
    like = torch.empty(12, 3)
    first = pack([4, 4, 4], keys=[1, 2, 1]).noise(like, "start")
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = pack([4, 4, 4], keys=[1, 2, 1]).noise(torch.ones(12, 3), "start")
    assert torch.equal(again, first)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[:4], first[8:])
    assert not torch.isclose(first[:4], first[4:8]).any()
    assert not torch.isclose(first, pack([4, 4, 4], keys=[1, 2, 1]).noise(like, "other")).any()
    assert not torch.isclose(first, pack([4, 4, 4], keys=[3, 4, 5]).noise(like, "start")).any()


def test_noise_is_standard_normal_and_apart_between_keys_and_purposes() -> None:
    batch = pack([8] * 400, keys=list(range(400)))
    one, other = (batch.noise(torch.empty(3200, 64), purpose).view(400, -1) for purpose in ("one", "other"))
    assert kstest(one.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs((one * other).mean()) < 5 / one.numel() ** 0.5
    assert abs((one[1:] * one[:-1]).mean()) < 5 / one.numel() ** 0.5
    assert abs((one[:, 1:] * one[:, :-1]).mean()) < 5 / one.numel() ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_noise_has_the_shape_and_type_of_what_it_is_for(dtype: torch.dtype) -> None:
    like = torch.empty(5, 7, dtype=dtype)
    found = pack([2, 3]).noise(like, "start")
    assert (found.shape, found.dtype) == (like.shape, like.dtype)
    assert found.float().std() > 0.5


def test_noise_without_keys_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"keys|zip"):
        pack([2, 3], keys=[]).noise(torch.empty(5, 7), "start")


def test_a_moved_batch_is_the_same_batch() -> None:
    batch = tiny_task("task", Binary(), "bi_encoder").splits["train"].batch([1, 2], keys=[3, 4])
    moved = batch.to(torch.device("meta"))
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    assert tensors.keys() == {"tokens", "segments", "positions", "starts", "counts", "sequence_of", "labels"}
    for name, value in vars(batch).items():
        there = getattr(moved, name)
        assert (there.is_meta and there.shape == value.shape) if name in tensors else there == value


def test_tensors_that_are_copied_together_are_the_same_tensors() -> None:
    given = [
        torch.arange(5),
        torch.rand(3, 2)[:, 0],  # not contiguous
        torch.tensor([True, False, True]),
        torch.empty(0, dtype=torch.int64),
        torch.rand(2, 3, dtype=torch.float64),
    ]
    found = copied_together(given, torch.device("cpu"), pinned=False)
    for one, other in zip(found, given, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    found[0].zero_()  # the others are not changed, nor do they count a change
    assert all(torch.equal(one, other) and not one._version for one, other in list(zip(found, given, strict=True))[1:])


@pytest.mark.parametrize("sides", [1, 2])
def test_a_batch_goes_to_a_gpu_as_one_copy(sides: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, together, copies = pack([3, 1, 2, 5], sides), copied_together, []

    def noted(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
        copies.append(device.type)
        return together(tensors, torch.device("cpu"), pinned=False)

    monkeypatch.setattr("regkit.tasks.batch.copied_together", noted)
    moved = batch.to(torch.device("cuda"))
    assert copies == ["cuda"]
    for name, value in vars(batch).items():
        there = getattr(moved, name)
        assert torch.equal(there, value) if isinstance(value, Tensor) else there == value


def test_values_of_other_tokens_are_refused() -> None:
    """On a GPU torch does not check this: it would wait."""
    for reduce in (Batch.per_example, Batch.per_sequence):
        with pytest.raises(ValueError, match="there are 5 rows of values, and the batch has 6 tokens"):
            reduce(pack([3, 1, 2]), torch.ones(5, 2), "mean")
