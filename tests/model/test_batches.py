"""Length batches, padding, and going on after memory ran out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError
from curate.model.batches import cheapest_batches, length_batches, pad, run_with_backoff

LENGTHS = st.lists(st.integers(0, 50), max_size=60)


@given(LENGTHS, st.integers(1, 120))
def test_every_row_is_in_exactly_one_batch(lengths, budget):
    batches = length_batches(lengths, budget)
    assert sorted(place for batch in batches for place in batch.tolist()) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 120))
def test_a_batch_of_several_rows_keeps_to_the_budget(lengths, budget):
    for batch in length_batches(lengths, budget):
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= budget


@given(LENGTHS, st.integers(1, 120))
def test_no_batch_has_room_for_the_next_row(lengths, budget):
    batches = length_batches(lengths, budget)
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(1, lengths[batch[0]]) > budget


def test_the_longest_come_first_and_equal_lengths_in_order():
    assert [batch.tolist() for batch in length_batches([3, 9, 3, 5, 3], 9)] == [[1], [3], [0, 2, 4]]
    assert length_batches([2, 1] * 100, 300)[0].tolist()[:100] == list(range(0, 200, 2))


def test_a_budget_below_one_is_refused():
    for make in (length_batches, lambda lengths, budget: cheapest_batches(lengths, budget, 1)):
        with pytest.raises(ValueError, match="batch_tokens must be at least 1. Got 0."):
            make([1], 0)


def cost(batches, lengths, forward_tokens):
    return sum(
        forward_tokens + len(batch) * max(1, *(lengths[place] for place in batch), 0) for batch in batches
    )


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 40))
def test_no_cut_into_batches_is_cheaper(lengths, budget, forward_tokens):
    found = cheapest_batches(lengths, budget, forward_tokens)
    ordered = [place for batch in found for place in batch.tolist()]
    assert ordered == sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    possible = []
    for cuts in range(2 ** (len(ordered) - 1)):
        batches = [[ordered[0]]]
        for bit, place in enumerate(ordered[1:]):
            if cuts >> bit & 1:
                batches.append([])
            batches[-1].append(place)
        if all(len(batch) == 1 or len(batch) * max(1, lengths[batch[0]]) <= budget for batch in batches):
            possible.append(cost(batches, lengths, forward_tokens))
    assert cost(found, lengths, forward_tokens) == min(possible)


def test_a_long_row_is_not_padding_for_short_ones():
    lengths = [100, 10, 10, 10]
    assert [batch.tolist() for batch in cheapest_batches(lengths, 400, 20)] == [[0], [1, 2, 3]]
    assert [batch.tolist() for batch in cheapest_batches(lengths, 400, 300)] == [[0, 1, 2, 3]]
    assert cheapest_batches([], 400, 20) == []


def test_padding_is_on_the_right_and_masked():
    ids, mask = pad([[5, 6], np.array([7], dtype=np.int32)], pad_id=9)
    assert ids.tolist() == [[5, 6], [7, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    assert ids.dtype == torch.int64


def limited(rows, error):
    """A function of places that memory holds up to `rows` of; records what it was called with."""

    def run(places):
        run.calls.append(places.tolist())
        if len(places) > rows:
            raise error
        return places.tolist()

    run.calls = []
    return run


MEMORY_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 12"),
    MemoryError(),
]


@pytest.mark.parametrize("error", MEMORY_ERRORS)
def test_a_batch_that_does_not_fit_is_halved_and_said(error):
    notices = []
    batches = [np.arange(5), np.arange(5, 7)]
    results = [
        (places.tolist(), result)
        for places, result in run_with_backoff(limited(2, error), batches, notices.append)
    ]
    assert results == [([0, 1], [0, 1]), ([2], [2]), ([3, 4], [3, 4]), ([5, 6], [5, 6])]
    assert [(notice.rows, notice.next_rows) for notice in notices] == [(5, 3), (3, 2)]


def test_a_row_that_does_not_fit_alone_is_named():
    batches = [np.array([4, 8])]
    with pytest.raises(CurateError, match=r"^uid-4 does not fit in memory by itself \(CUDA out of memory\)"):
        list(run_with_backoff(limited(0, MEMORY_ERRORS[0]), batches, lambda notice: None, "uid-{}".format))


def test_another_error_is_not_taken_for_memory():
    run = limited(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(run_with_backoff(run, [np.arange(4)], lambda notice: None))
    assert len(run.calls) == 1


def test_the_cpu_allocator_s_own_error_is_recognised():
    def run(places):
        return torch.empty(2**62 if len(places) > 1 else 1, dtype=torch.uint8).numel()

    assert [result for _, result in run_with_backoff(run, [np.arange(2)], lambda notice: None)] == [1, 1]
