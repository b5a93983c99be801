"""Threshold: bounds included."""

import pytest
from candidates import pool_of

from curate.errors import DataError
from curate.selectors.threshold import Threshold

POOL = pool_of({"score.length": [3.0, 8.0, None, 20.0, 21.0]})


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [({"min": 8}, [1, 3, 4]), ({"max": 20}, [0, 1, 3]), ({"min": 8, "max": 20}, [1, 3])],
)
def test_bounds_are_included(bounds: dict[str, float], kept: list[int]) -> None:
    assert Threshold(by="length", **bounds).select(POOL).kept.tolist() == kept


def test_reasons() -> None:
    chosen = Threshold(by="length", min=8, max=20).select(POOL)
    assert chosen.reasons[0] == "length 8, within 8 to 20"
    assert chosen.dropped_reasons == [
        "length 3, below the minimum of 8",
        "no score (score.length is null)",
        "length 21, above the maximum of 20",
    ]


def test_a_threshold_that_nothing_passes_says_what_there_is() -> None:
    with pytest.raises(DataError, match="no row has `length` at least 99. The 5 values are from 3 to 21"):
        Threshold(by="length", min=99).select(POOL)


def test_all_null_is_said() -> None:
    with pytest.raises(DataError, match="all null"):
        Threshold(by="a", min=0).select(pool_of({"score.a": [None, None]}))


def test_no_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="needs `min`, `max` or both"):
        Threshold(by="length")


def test_crossed_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="`min` must be at most `max`. Got 9 and 8"):
        Threshold(by="length", min=9, max=8)
