"""Order: an epoch is every example once, batches hold texts of like length, and micro-batches are whole examples."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regkit.data.order import POOL, Feed, cut, epoch_order, size
from regkit.tasks.objectives import Binary
from regkit.tasks.task import Task
from regkit.testing import tiny_task
from tests.helpers import PATIENT

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)
SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**63 - 1)


def as_lists(batches: list[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


def padding(batches: list[np.ndarray], lengths: np.ndarray) -> int:
    """Tokens that a padded layout would add."""
    return sum(int(lengths[batch].max() * len(batch) - lengths[batch].sum()) for batch in batches)


@PATIENT
@given(LENGTHS, SIZES, SEEDS)
def test_an_epoch_has_every_example_once_and_one_smaller_batch_at_most(
    lengths: np.ndarray, size: int, seed: int
) -> None:
    batches = epoch_order(lengths, size, seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    full, rest = divmod(len(lengths), size)
    assert sorted((len(batch) for batch in batches), reverse=True) == [size] * full + [rest] * (rest > 0)


@settings(PATIENT, max_examples=15)
@given(st.integers(1, 4), st.integers(0, 7), SEEDS)
def test_an_epoch_of_several_pools_is_an_epoch_too(pools: int, more: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 50, pools * POOL * 4 + more)
    batches = epoch_order(lengths, 4, seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert sum(len(batch) < 4 for batch in batches) == (more % 4 > 0)


def listed_order(lengths: np.ndarray, batch_size: int, seed: int) -> list[list[int]]:
    """The order of runs that began before an epoch was one array: a list of batches."""
    random = np.random.default_rng(seed)
    rows = random.permutation(len(lengths))
    batches: list[list[int]] = []
    for pool in np.split(rows, range(POOL * batch_size, len(rows), POOL * batch_size)):
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += as_lists(np.split(pool, range(batch_size, len(pool), batch_size)))
    return [batches[number] for number in random.permutation(len(batches))]


@settings(PATIENT, max_examples=15)
@given(st.integers(1, 3 * POOL * 4), st.sampled_from([1, 3, 4]), SEEDS)
def test_an_epoch_in_one_array_is_the_order_that_runs_began_with(count: int, size: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 50, count)
    for key in (lengths, np.broadcast_to(np.int8(0), count)):
        assert as_lists(epoch_order(key, size, seed)) == listed_order(key, size, seed)


def test_another_seed_is_another_order() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 640)
    one, other = (as_lists(epoch_order(lengths, 32, seed)) for seed in (0, 1))
    assert one != other
    assert {tuple(sorted(batch)) for batch in one} != {tuple(sorted(batch)) for batch in other}


def test_texts_of_like_length_come_together() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 3200)
    bucketed, mixed = epoch_order(lengths, 32, 0), epoch_order(np.zeros_like(lengths), 32, 0)
    assert padding(bucketed, lengths) < 0.1 * padding(mixed, lengths)


def test_short_texts_do_not_come_before_long_ones() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 3200)
    means = [lengths[batch].mean() for batch in epoch_order(lengths, 32, 0)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3


def test_the_smaller_batch_is_not_always_the_last() -> None:
    places = {[len(batch) for batch in epoch_order(np.ones(50), 8, seed)].index(2) for seed in range(30)}
    assert len(places) > 3


def test_which_examples_share_a_batch_changes_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 640)
    one, other = ({frozenset(batch.tolist()) for batch in epoch_order(lengths, 8, seed)} for seed in (0, 1))
    assert len(one & other) < 5


@PATIENT
@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 200), st.randoms())
def test_a_cut_keeps_order_and_whole_examples_and_its_bound(lengths: list[int], tokens: int, random) -> None:
    rows = list(range(len(lengths)))
    random.shuffle(rows)
    parts = cut(rows, np.array(lengths), tokens)
    assert [row for part in parts for row in part] == rows
    assert all(len(part) > 0 for part in parts)
    for part in parts:
        assert len(part) == 1 or size([lengths[row] for row in part]) <= tokens


@PATIENT
@given(st.lists(st.integers(1, 60), min_size=2, max_size=80), st.integers(1, 200))
def test_a_cut_is_made_only_where_the_next_example_would_not_fit(lengths: list[int], tokens: int) -> None:
    parts = cut(range(len(lengths)), np.array(lengths), tokens)
    for part, following in pairwise(parts):
        assert size([lengths[row] for row in [*part, following[0]]]) > tokens


def feed(seed: int = 0, stage: str = "finetune", name: str = "t", size: int = 22, *, bucketing: bool = True) -> Feed:
    return Feed(tiny_task(name, Binary(), size=size, batch_size=4), seed, stage, bucketing=bucketing)


def epoch(of: Feed, number: int) -> list[list[int]]:
    count = of.task.batches
    return [of.rows(number * count + place) for place in range(count)]


@pytest.mark.parametrize("bucketing", [True, False])
def test_batches_go_on_from_epoch_to_epoch_each_with_every_example_once(bucketing: bool) -> None:
    source = feed(bucketing=bucketing)
    epochs = [epoch(source, number) for number in range(4)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(22))
        assert sorted(map(len, batches)) == [2, 4, 4, 4, 4, 4]
    assert len({str(batches) for batches in epochs}) == 4


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    forward, backward = feed(), feed()
    numbers = list(range(18))
    one = {number: forward.rows(number) for number in numbers}
    other = {number: backward.rows(number) for number in reversed(numbers)}
    assert one == other
    assert [forward.rows(7), forward.rows(7)] == [one[7], one[7]]


def test_seed_stage_and_task_each_have_an_order_of_their_own() -> None:
    orders = [feed(), feed(seed=1), feed(stage="pretrain"), feed(name="u")]
    assert len({str(epoch(each, 0)) for each in orders}) == 4


def test_without_bucketing_lengths_do_not_matter() -> None:
    source = feed(size=200, bucketing=False)
    batches = [np.array(batch) for batch in epoch(source, 0)]
    assert padding(batches, source.lengths) > 2 * padding(
        [np.array(batch) for batch in epoch(feed(size=200), 0)], source.lengths
    )


@pytest.mark.parametrize("sides", ["cross_encoder", "bi_encoder"])
def test_micro_batches_hold_the_batch_in_its_order_with_keys_that_no_cut_changes(sides: str) -> None:
    task: Task = tiny_task("t", Binary(), sides, size=24, batch_size=8)
    source = Feed(task, 0, "finetune")
    whole = source.micro_batches(3, 10_000)
    parts = source.micro_batches(3, 40)
    assert len(whole) == 1
    assert len(parts) > 1
    assert [row for part in parts for row in part.rows] == source.rows(3) == list(whole[0].rows)
    assert [key for part in parts for key in part.keys] == list(whole[0].keys)
    assert [token for part in parts for token in part.tokens.tolist()] == whole[0].tokens.tolist()
    assert all(sum(part.lengths) <= 40 or len(part) == 1 for part in parts)


def test_an_example_has_another_key_in_every_update() -> None:
    source = feed()
    keys = [key for number in range(12) for part in source.micro_batches(number, 10_000) for key in part.keys]
    assert len(set(keys)) == len(keys) == 44
