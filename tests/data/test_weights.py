"""Weights: an example counts its tokens and the squares of its sequences, as attention pads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.data.order import Feed, cut, size
from regkit.data.weights import lengths_in, lengths_of, weigh
from regkit.tasks.objectives import Binary
from regkit.testing import tiny_task
from tests.helpers import PATIENT

SQUARE = 1 / 640


def by_hand(sides: list[int]) -> float:
    return sum(sides) + sum(SQUARE * max(sides) ** 2 for _ in sides)


@PATIENT
@given(st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), min_size=1, max_size=20), st.booleans())
def test_an_example_counts_its_tokens_and_the_squares_of_its_padded_sequences(
    pairs: list[tuple[int, int]], apart: bool
) -> None:
    lengths = [list(pair) if apart else [sum(pair)] for pair in pairs]
    found = weigh(np.array(lengths), SQUARE)
    assert [by_hand(each) for each in lengths] == pytest.approx(found.tolist(), abs=1)
    assert weigh(np.array(lengths)).tolist() == [sum(pair) for pair in pairs]


def test_of_texts_twice_as_long_a_micro_batch_holds_less_than_half() -> None:
    short, long = (weigh(np.full((100, 1), length), SQUARE) for length in (320, 640))
    one, other = (len(cut(range(100), weights, 8000)[0]) for weights in (short, long))
    assert (one, other) == (8000 // 480, 8000 // 1280)


@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder"])
def test_a_feed_cuts_by_what_its_examples_count_as(kind: str) -> None:
    task = tiny_task("t", Binary(), kind, size=40, batch_size=20)
    feed, strict = Feed(task, 0, "finetune"), Feed(task, 0, "finetune", square=0.2)
    assert feed.rows(1) == strict.rows(1)
    parts = strict.micro_batches(1, 120)
    assert [row for part in parts for row in part.rows] == feed.rows(1)
    assert all(len(part) == 1 or size(weigh(lengths_in(part), 0.2)) <= 120 for part in parts)
    assert len(parts) > len(feed.micro_batches(1, 120))


@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder"])
def test_a_split_tells_the_lengths_that_its_batches_have(kind: str) -> None:
    examples = tiny_task("t", Binary(), kind).splits["train"]
    rows = list(range(len(examples)))
    assert lengths_of(examples).tolist() == lengths_in(examples.batch(rows)).tolist()
    assert lengths_of(examples).sum(1).tolist() == examples.lengths().tolist()
