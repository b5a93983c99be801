"""Distributions: what is counted is what is in the table, whatever the values."""

import charted
import numpy as np
import polars as pl
import pytest

from curate.charts.distributions import Binned, binned, correlation, lengths, scores


def table(values: list[float | None], kept: list[bool]) -> pl.DataFrame:
    return pl.DataFrame({"score.a": values, "kept": kept}, schema={"score.a": pl.Float64, "kept": pl.Boolean})


def drawn(frame: pl.DataFrame) -> list[dict]:
    return charted.rows(scores(frame, {"score.a": frame.height}), "bin")


def told(frame: pl.DataFrame, asked: int | None = None) -> str:
    chart = scores(frame, {"score.a": frame.height if asked is None else asked})
    return charted.spec(chart)["title"]["subtitle"]


def test_each_row_is_in_one_bin_of_its_group() -> None:
    frame = table([0.0, 0.1, 0.2, 0.9, 1.0], [True, True, False, False, False])
    bars = drawn(frame)
    for group, rows in (("kept", 2), ("dropped", 3)):
        assert sum(bar["rows"] for bar in bars if bar["group"] == group) == rows
        assert sum(bar["share"] for bar in bars if bar["group"] == group) == pytest.approx(1, rel=1e-4)


def test_a_bin_has_the_values_between_its_ends() -> None:
    values = np.sqrt(np.arange(101.0))
    frame = table(values.tolist(), [True] * 101)
    for bar in (bar for bar in drawn(frame) if bar["group"] == "kept" and bar["high"] < 10):
        assert bar["rows"] == ((values >= bar["low"]) & (values < bar["high"])).sum()


def test_outliers_are_counted_in_the_last_bin() -> None:
    found = binned({"kept": np.append(np.linspace(0, 1, 1000), 1e6)}, 10)
    assert found is not None
    assert found.edges[-1] < 2
    assert found.counts["kept"].sum() == 1001
    assert found.text(9).endswith("and more")
    assert not found.text(0).startswith("up to")


def test_without_outliers_the_axis_has_all() -> None:
    found = binned({"kept": np.array([-3.0, 0.0, 5.0])}, 8)
    assert found is not None
    assert (found.edges[0], found.edges[-1]) == (-3.0, 5.0)
    assert not found.open_low
    assert not found.open_high


@pytest.mark.parametrize("value", [0.0, -7.5, 1e300, 1e-300])
def test_a_constant_score_is_one_bin(value: float) -> None:
    bars = [bar for bar in drawn(table([value] * 3, [True] * 3)) if bar["group"] == "kept"]
    assert [(bar["rows"], bar["share"]) for bar in bars] == [(3, 1.0)]


def test_values_at_both_ends_of_what_floats_hold() -> None:
    bars = drawn(table([-1.7e308, 1.7e308], [True, True]))
    assert sum(bar["rows"] for bar in bars) == 2


def test_a_score_that_is_null_for_all_is_an_empty_chart_that_says_so() -> None:
    frame = table([None, None], [True, False])
    assert drawn(frame) == []
    assert told(frame) == "0 kept, 0 dropped, 2 null"


def test_infinite_values_are_counted_and_not_drawn() -> None:
    frame = table([1.0, float("inf"), float("-inf"), float("nan"), 2.0], [True, True, True, False, False])
    assert sum(bar["rows"] for bar in drawn(frame)) == 2
    assert told(frame) == "1 kept, 1 dropped, 1 null, 2 infinite"


def test_rows_that_were_never_asked_are_no_nulls() -> None:
    assert told(table([1.0, None, None], [True, False, False]), asked=2) == "1 kept, 0 dropped, 1 null"


def test_several_scores_each_have_a_chart() -> None:
    frame = table([1.0, 2.0], [True, False]).with_columns(pl.col("score.a").alias("score.b"))
    found = charted.spec(scores(frame, {"score.a": 2, "score.b": 2}))
    assert [chart["title"]["text"] for chart in found["concat"]] == ["a", "b"]


def test_the_size_does_not_grow_with_the_rows() -> None:
    draws = np.random.default_rng(0).normal(size=(100_000, 4))
    frame = pl.DataFrame(draws, [f"score.s{n}" for n in range(4)]).with_columns(
        kept=pl.Series(draws[:, 0] > 1)
    )
    chart = scores(frame, dict.fromkeys(frame.columns[:-1], 100_000))
    assert charted.size(chart) < 40_000


def length_rows(values: list[int | None], selected: list[bool]) -> list[dict]:
    frame = pl.DataFrame(
        {"length": values, "selected": selected}, schema={"length": pl.Int32, "selected": pl.Boolean}
    )
    return charted.rows(lengths(frame, "tokens"), "bin")


def test_lengths_of_the_pool_and_of_the_selection() -> None:
    bars = length_rows([1, 10, 10, 100, 5000], [True, False, True, False, False])
    assert sum(bar["rows"] for bar in bars if bar["group"] == "pool") == 5
    assert sum(bar["rows"] for bar in bars if bar["group"] == "selected") == 2
    tens = [bar for bar in bars if bar["low"] <= 10 < bar["high"]]
    assert {bar["group"]: bar["rows"] for bar in tens} == {"pool": 2, "selected": 1}


def test_a_length_of_zero_has_a_bin() -> None:
    bars = length_rows([0, 0, 3], [True, False, False])
    assert [bar["rows"] for bar in bars if bar["low"] == 0] == [2, 1]


@pytest.mark.parametrize("values", [[7], [None], []])
def test_lengths_of_one_row_or_none(values: list[int | None]) -> None:
    bars = length_rows(values, [True] * len(values))
    assert sum(bar["rows"] for bar in bars if bar["group"] == "selected") == sum(
        value is not None for value in values
    )


def test_correlation_has_each_pair_and_the_length() -> None:
    rho = {"score.a": {"score.a": 1.0, "score.b": -0.004}, "score.b": {"score.a": -0.004, "score.b": None}}
    cells = charted.rows(correlation(rho, {"score.a": 0.5, "score.b": None}, "supervised_tokens"), "rho")
    found = {(cell["first"], cell["second"]): (cell["rho"], cell["text"]) for cell in cells}
    length = "length in supervised tokens"
    assert found["a", "b"] == found["b", "a"] == (-0.004, "0.00")
    assert found["b", "b"] == (None, "-")
    assert found["a", length] == found[length, "a"] == (0.5, "0.50")
    assert len(found) == 9


def test_the_name_of_a_bin() -> None:
    found = Binned(np.array([0.0, 1.0, 2.0]), {}, True, True)
    assert [found.text(0), found.text(1)] == ["up to 1", "1 and more"]
