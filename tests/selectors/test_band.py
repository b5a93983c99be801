"""Band: between quantiles, all or a random part."""

import numpy as np
import polars as pl
import pytest
from candidates import pool_of
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import DataError
from curate.selectors.band import Band, quantile

POOL = pool_of({"score.el2n": [*np.arange(11.0).tolist(), None]})


def test_quantiles_are_of_the_scored_rows_and_included() -> None:
    assert Band(by="el2n", low=0.3, high=0.9).select(POOL).kept.tolist() == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("rows", [101, 1001, 100_001])
def test_the_ends_are_included_where_the_share_has_no_exact_float(rows: int) -> None:
    """100 * 0.29 = 28.999999999999996, and so on: every share of two digits keeps the row at its place."""
    pool = pool_of({"score.a": np.arange(float(rows))})
    for percent in range(1, 100) if rows == 101 else (7, 14, 28, 29, 55, 56, 57, 58):
        share = percent / 100
        place = (rows - 1) * percent // 100
        assert Band(by="a", high=share).select(pool).kept.tolist()[-1] == place
        assert Band(by="a", low=share).select(pool).kept.tolist()[0] == place


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values: list[float], share: float) -> None:
    found = pl.DataFrame({"value": values}).select(quantile(pl.col("value"), share)).item()
    assert found == pytest.approx(np.quantile(values, share), abs=1e-5 * (1 + np.ptp(values)))


def test_the_hardest_few_are_dropped_with_their_reason() -> None:
    chosen = Band(by="el2n", high=0.9).select(POOL)
    assert chosen.dropped_reasons == ["el2n 10, above the quantile 0.9 (9)", "no score (score.el2n is null)"]


def test_reason_of_the_kept() -> None:
    chosen = Band(by="el2n", low=0.3, high=0.9).select(POOL)
    assert chosen.reasons[0] == "el2n 3, between the quantiles 0.3 (3) and 0.9 (9)"


def test_a_budget_is_drawn_inside_the_band() -> None:
    chosen = Band(by="el2n", low=0.3, high=0.9, budget=3).select(POOL)
    assert len(chosen.kept) == 3
    assert set(chosen.kept.tolist()) <= set(range(3, 10))


def test_the_draw_is_uniform() -> None:
    """Over 400 seeds, 2 of 4 rows: each about 200 times, standard deviation 10."""
    times = np.zeros(4)
    for seed in range(400):
        pool = pool_of({"score.a": [1.0, 2.0, 3.0, 4.0]}, seed=seed)
        times[Band(by="a", budget=2).select(pool).kept] += 1
    assert np.abs(times - 200).max() < 40


def test_reasons_of_a_draw() -> None:
    chosen = Band(by="el2n", low=0.3, high=0.9, budget=3).select(POOL)
    assert chosen.reasons[0].endswith("; one of the 3 drawn at random of 7 in the band")
    in_band = [reason for reason in chosen.dropped_reasons if "between" in reason]
    assert len(in_band) == 4
    assert all("not among the 3 drawn" in reason for reason in in_band)


def test_a_budget_beyond_the_band_is_an_error() -> None:
    with pytest.raises(DataError, match="at most the 7 rows"):
        Band(by="el2n", low=0.3, high=0.9, budget=8).select(POOL)


def test_no_scores_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="All 2 rows have `score.a` null"):
        Band(by="a").select(pool_of({"score.a": [None, None]}))


def test_a_band_between_two_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="no row's `a` lies between the quantiles 0.2 and 0.9: 2 values"):
        Band(by="a", low=0.2, high=0.9).select(pool_of({"score.a": [1.0, 2.0, None]}))


def test_an_empty_band_is_refused() -> None:
    with pytest.raises(ValueError, match="`low` must be below `high`. Got 0.5 and 0.5"):
        Band(by="el2n", low=0.5, high=0.5)


def test_quantiles_within_groups_keep_the_same_share_of_each() -> None:
    """Losses of chat lie above all of code's; the upper half of each goes, and so does a row without a score."""
    pool = pool_of({"score.loss": [5.0, 7.0, 6.0, 1.0, 3.0, 2.0, None], "source": [*"aaabbba"]})
    chosen = Band(by="loss", high=0.5, per="source").select(pool)
    assert chosen.kept.tolist() == [0, 2, 3, 5]
    assert chosen.dropped_reasons[0] == "loss 7, above the quantile 0.5 (6) of source a"


def test_a_group_without_scores_gives_nothing() -> None:
    pool = pool_of({"score.loss": [None, 1.0, 2.0], "source": [*"abb"]})
    assert Band(by="loss", per="source").select(pool).kept.tolist() == [1, 2]
