"""Dataset decomposition: tokens in are tokens out and what is dropped; every step has as many tokens."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from candidates import pool_of
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import DataError
from curate.mixer import Schedule
from curate.mixers.length_buckets import LengthBuckets
from curate.pool import Pool

FIELDS: dict[str, Any] = {"min_tokens": 4, "max_tokens": 16, "batch_tokens": 32, "cycles": 2}


def rows(lengths: list[int], prompts: list[int] | None = None) -> Pool:
    """Rows of so many tokens, the first of which (1 by default) are the prompt."""
    before = prompts or [1] * len(lengths)
    masks = [[False] * few + [True] * (n - few) for n, few in zip(lengths, before, strict=True)]
    return pool_of({"tokens": lengths, "supervised": masks})


def per_step(schedule: Schedule) -> list[int]:
    """The tokens of each optimizer step."""
    assert schedule.steps is not None
    assert schedule.lengths is not None
    return np.bincount(schedule.steps, weights=schedule.lengths).astype(int).tolist()


MANY = rows(np.random.default_rng(0).integers(3, 60, 300).tolist())


def test_every_step_has_the_same_number_of_tokens() -> None:
    assert set(per_step(LengthBuckets(**FIELDS).mix(MANY))) == {32}


def test_every_step_has_pieces_of_one_length() -> None:
    schedule = LengthBuckets(**FIELDS).mix(MANY)
    lengths = {step: set() for step in schedule.steps.tolist()}
    for step, length in zip(schedule.steps.tolist(), schedule.lengths.tolist(), strict=True):
        lengths[step].add(length)
    assert all(len(each) == 1 for each in lengths.values())


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 70), st.integers(1, 70)), min_size=1, max_size=40),
    st.sampled_from(["drop", "keep"]),
    st.sampled_from(["drop", "keep"]),
)
def test_tokens_in_are_tokens_out_and_dropped(
    given_rows: list[tuple[int, int]], remainder: str, short_steps: str
) -> None:
    pool = rows([n for n, _ in given_rows], [min(few, n - 1) for n, few in given_rows])
    mixer = LengthBuckets(**FIELDS, remainder=remainder, short_steps=short_steps)
    try:
        schedule = mixer.mix(pool)
    except DataError:
        return
    notes = schedule.notes
    assert notes["tokens"] == sum(n for n, _ in given_rows)
    assert notes["tokens_scheduled"] == int(schedule.lengths.sum())
    assert notes["tokens"] == notes["tokens_scheduled"] + sum(notes["tokens_dropped"].values())
    assert notes["steps"] == schedule.steps[-1] + 1
    spans = Counter(zip(schedule.draws.tolist(), schedule.starts.tolist(), strict=True))
    assert max(spans.values()) == 1


def test_a_remainder_is_dropped_and_counted() -> None:
    notes = LengthBuckets(**FIELDS).mix(rows([32 + 3, 32 + 1])).notes
    assert notes["tokens_dropped"] == {"remainder": 4, "unsupervised": 0, "short_steps": 0}


def test_remainders_can_be_kept_as_a_bucket_of_their_own() -> None:
    """64 tokens fill two steps, 22 remainders of 3 tokens three more: 10, 10 and 2 of them."""
    schedule = LengthBuckets(**FIELDS, remainder="keep").mix(rows([32, 32] + [3] * 22))
    assert sorted(per_step(schedule)) == [6, 30, 30, 32, 32]
    assert schedule.notes["pieces"] == {"below 4 tokens": 22, "16 tokens": 4}


@pytest.mark.parametrize(("longest", "pieces"), [("last", [(3, 4), (7, 16)]), ("first", [(0, 16), (16, 4)])])
def test_the_longest_pieces_are_cut_from_one_end(longest: str, pieces: list[tuple[int, int]]) -> None:
    schedule = LengthBuckets(**FIELDS, longest=longest, short_steps="keep").mix(rows([23]))
    assert sorted(zip(schedule.starts.tolist(), schedule.lengths.tolist(), strict=True)) == pieces


def test_a_long_prompt_is_dropped_and_counted() -> None:
    """Of the second row the first piece, of 4 tokens, and the next, of 16, are of the prompt."""
    notes = LengthBuckets(**FIELDS).mix(rows([32, 4 + 16 + 16 + 16], [1, 20])).notes
    assert notes["tokens_dropped"] == {"remainder": 0, "unsupervised": 20, "short_steps": 0}


def test_a_step_that_is_not_filled_is_dropped_and_counted() -> None:
    notes = LengthBuckets(**FIELDS).mix(rows([16, 16, 16, 8])).notes
    assert notes["tokens_dropped"] == {"remainder": 0, "unsupervised": 0, "short_steps": 24}
    assert notes["steps"] == 1


def test_a_step_that_is_not_filled_can_be_kept() -> None:
    schedule = LengthBuckets(**FIELDS, short_steps="keep").mix(rows([16, 16, 16, 8]))
    assert sorted(per_step(schedule)) == [8, 16, 32]


def first_half(curriculum: str) -> dict[str, int]:
    """How often each length is drawn in the first half of the only cycle, in steps of 64 pieces each."""
    pool = rows([8 + 4] * 1600 + [16] * 400)
    fields = FIELDS | {"cycles": 1, "curriculum": curriculum}
    schedule = LengthBuckets(**fields).mix(pool)
    steps = dict(zip(schedule.steps.tolist(), schedule.phases, strict=True))
    return Counter(steps[step] for step in range(len(steps) // 2))


def test_grow_draws_short_pieces_first_and_shrink_long_ones() -> None:
    """200 steps of 4, 400 of 8 and 200 of 16 tokens."""
    grow, uniform, shrink = (first_half(name) for name in ("grow_p2", "uniform", "shrink_p2"))
    assert grow["4 tokens"] > uniform["4 tokens"] > shrink["4 tokens"]
    assert grow["16 tokens"] < uniform["16 tokens"] < shrink["16 tokens"]
    assert grow["4 tokens"] == 200


def test_each_cycle_begins_anew() -> None:
    schedule = LengthBuckets(**FIELDS | {"cycles": 4}).mix(rows([8 + 4] * 1600 + [16] * 400))
    lengths = np.array([schedule.lengths[schedule.steps == step][0] for step in range(800)])
    for cycle in np.split(lengths, 4):
        assert np.mean(cycle[:50]) < np.mean(cycle[-50:])


def test_pieces_of_a_bucket_are_shuffled() -> None:
    schedule = LengthBuckets(**FIELDS).mix(rows([16] * 100))
    assert sorted(schedule.draws.tolist()) == list(range(100))
    assert schedule.draws.tolist() != list(range(100))


def test_a_pool_too_small_for_a_step_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="no step of 32 tokens can be filled from the 16 tokens of 1 rows"):
        LengthBuckets(**FIELDS).mix(rows([16]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_tokens": 3}, "must be a power of two. Got 3"),
        ({"min_tokens": 32}, "must be at most max_tokens, 16"),
        ({"batch_tokens": 40}, "must be a multiple of max_tokens, 16. Got 40"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LengthBuckets(**FIELDS | fields)


def test_the_defaults_are_the_papers_lengths() -> None:
    mixer = LengthBuckets()
    assert (mixer.min_tokens, mixer.max_tokens, mixer.curriculum) == (2**8, 2**13, "grow_p2")
