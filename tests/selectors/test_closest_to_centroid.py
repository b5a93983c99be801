"""Closest to centroid: shares by size, the nearest rows."""

import pytest
from candidates import pool_of

from curate.errors import DataError
from curate.selectors.closest_to_centroid import ClosestToCentroid

POOL = pool_of(
    {
        "cluster": [0, 0, 0, 0, 1, 1, None],
        "cluster_distance": [0.4, 0.1, 0.3, 0.2, 0.9, 0.8, None],
        "supervised_tokens": [5, 5, 5, 5, 5, 5, 5],
    }
)


def test_the_nearest_of_each_cluster_by_size() -> None:
    assert ClosestToCentroid(budget=3).select(POOL).kept.tolist() == [1, 3, 5]


def test_equal_shares() -> None:
    assert ClosestToCentroid(budget=4, allocation="equal").select(POOL).kept.tolist() == [1, 3, 5, 4]


def test_tokens_are_spent_in_proportion() -> None:
    assert ClosestToCentroid(budget="16 tokens").select(POOL).kept.tolist() == [1, 3, 5]


def test_reasons() -> None:
    chosen = ClosestToCentroid(budget=3).select(POOL)
    assert (
        chosen.reasons[0] == "cluster_distance 0.1, rank 1 of 6 (lowest first); cluster 0: 2 of 4 rows kept"
    )
    assert chosen.dropped_reasons[0].endswith("cluster 0: 2 of 4 rows kept, beyond its cut at 0.2")
    assert chosen.dropped_reasons[-1] == "no score (cluster_distance is null)"


def test_a_row_without_a_cluster_is_never_chosen() -> None:
    with pytest.raises(DataError, match="at most the 6 rows"):
        ClosestToCentroid(budget=7).select(POOL)
