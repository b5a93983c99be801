import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.numerics import jaccard as module
from curate.numerics.jaccard import Sets, jaccard

LISTS = st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=9), min_size=1, max_size=8)


def sets_of(lists: list[list[int]]) -> Sets:
    flat = np.array([value for values in lists for value in values], dtype=np.uint64)
    return Sets.of(flat, np.cumsum([0, *map(len, lists)]))


def all_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.indices((count, count))
    return left.ravel(), right.ravel()


@given(lists=LISTS)
def test_similarity_equals_that_of_python_sets(lists: list[list[int]]) -> None:
    left, right = all_pairs(len(lists))
    found = jaccard(sets_of(lists), left, right)
    for a, b, value in zip(left, right, found, strict=True):
        union = len(set(lists[a]) | set(lists[b]))
        expected = len(set(lists[a]) & set(lists[b])) / union if union else np.nan
        assert value == expected or (np.isnan(value) and np.isnan(expected))


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = sets_of([[1, 2, 3], [2, 3, 4], [], [9], [1, 2, 3]])
    left, right = all_pairs(5)
    whole = jaccard(sets, left, right)
    monkeypatch.setattr(module, "_BLOCK_MEMBERS", 4)
    assert np.array_equal(whole, jaccard(sets, left, right), equal_nan=True)


def test_sets_have_ascending_members_without_repeats() -> None:
    sets = sets_of([[2**63, 7, 7, 2**63], [7]])
    assert sets.members.tolist() == [0, 1, 0]
    assert sets.sizes.tolist() == [2, 1]
