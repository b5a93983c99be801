"""Hold out: how much of each source, whole groups only, and what is refused."""

import logging
from typing import Any

import polars as pl
import pytest
from memory import Memory

from curate.errors import DataError
from curate.settings import Resources
from curate.stage import DROP, PoolResult
from curate.stages.hold_out import HoldOut


def hold_out(
    groups: dict[str, list[int]],
    fraction: float,
    reserved: tuple[str, ...] = (),
    target: str | None = None,
    seed: int = 0,
    starts: Any = None,
) -> tuple[pl.DataFrame, PoolResult]:
    """groups: for each source the sizes of its groups, none shared; or names of groups, one per row."""
    rows: list[dict[str, Any]] = []
    for source, sizes in groups.items():
        for number, size in enumerate(sizes):
            names = [size] if isinstance(size, str) else [f"{source}-{number}"] * size
            rows += [{"source": source, "group": name} for name in names]
    frame = (
        pl.DataFrame(rows)
        .with_row_index("position")
        .with_columns(start=pl.col("group") if starts is None else starts)
    )
    stage = HoldOut("hold_out", None, Resources(), fraction, reserved, target, seed)
    reader: Any = Memory(frame)
    result = stage.apply(reader, {})
    return pl.concat([frame, result.frame], how="horizontal"), result


def share_of(found: pl.DataFrame, source: str) -> int:
    return found.filter(source=source)["held_out"].sum()


@pytest.mark.parametrize("seed", range(20))
def test_a_large_group_does_not_pass_the_share(seed: int) -> None:
    """Wherever the group of 600 stands in the order of the draw."""
    found, result = hold_out({"a": [600, *[1] * 400]}, 0.05, seed=seed)
    assert share_of(found, "a") == 50 == result.notes["held_out"]


@pytest.mark.parametrize("seed", range(20))
def test_every_source_gives_its_share_and_no_group_is_split(seed: int) -> None:
    found, _ = hold_out({"a": [7] * 100, "b": [1] * 200, "c": [3, 4] * 40}, 0.1, seed=seed)
    assert share_of(found, "a") == 70
    assert share_of(found, "b") == 20
    assert 26 <= share_of(found, "c") <= 28
    assert found.group_by("group").agg(pl.col("held_out").n_unique())["held_out"].max() == 1
    assert (found[DROP].is_not_null() == found["held_out"]).all()


def test_a_group_of_two_sources_counts_in_both() -> None:
    """`b` wants 3 rows, but has three prompts of 10; each is that of one row of `a`, too."""
    both = ["x"] * 10 + ["y"] * 10 + ["z"] * 10
    found, _ = hold_out({"a": [*"xyz", *(f"a-{n}" for n in range(57))], "b": both}, 0.1)
    assert share_of(found, "b") == 10
    assert share_of(found, "a") <= 7


def test_where_no_group_fits_the_smallest_is_held_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found, _ = hold_out({"a": [40, 30, 20, 60], "b": [1] * 100}, 0.1)
    assert found.filter("held_out", source="a")["group"].to_list() == ["a-2"] * 20
    assert share_of(found, "b") == 10
    assert "source `a`: 15 of its 150 rows are to be held out, but its smallest group has 20" in caplog.text


def test_a_group_of_more_than_half_of_its_source_stops_the_run() -> None:
    with pytest.raises(DataError, match="source `a`: 5 of its 100 rows .* its smallest group .* has 100"):
        hold_out({"a": [100], "b": [1] * 100}, 0.05)


def test_the_draw_follows_the_seed_and_no_other_source() -> None:
    def groups(**more: Any) -> list[str]:
        found, _ = hold_out({"a": [1] * 100, **more.pop("others", {})}, 0.1, **more)
        return found.filter("held_out", source="a")["group"].to_list()

    assert groups() == groups(others={"b": [2] * 50})
    assert groups() != groups(seed=1)


def test_what_is_reserved_is_held_out_and_its_groups_leave_the_pool() -> None:
    found, result = hold_out({"a": [*"xyz"], "dev": ["x"]}, 0.0, reserved=("dev",))
    assert found[DROP].to_list()[1:] == [None, None, "held out"]
    assert found[DROP][0].startswith("shares its group")
    assert result.notes == {"held_out": 1, "kept_away": 1}


@pytest.mark.parametrize("others", [{}, {"target": [2]}])
def test_a_share_of_less_than_a_row_is_refused(others: dict[str, list[int]]) -> None:
    """Target rows are reported apart: they are no evaluation."""
    with pytest.raises(DataError, match=r"no row is held out.*Raise `evaluate.held_out`"):
        hold_out({"a": [1] * 5, **others}, 0.05, tuple(others), "target" if others else None)


def test_a_target_alone_needs_no_evaluation() -> None:
    found, _ = hold_out({"a": [1] * 5, "target": [2]}, 0.0, ("target",), "target")
    assert found["held_out"].sum() == 2


def test_a_pool_that_shares_all_its_groups_is_refused() -> None:
    with pytest.raises(DataError, match="none is left to select"):
        hold_out({"a": [*"xy"], "dev": [*"xy"]}, 0.0, ("dev",))


def test_a_row_that_starts_as_a_held_out_one_is_kept_away_whatever_its_group() -> None:
    """The pool's file names documents, the evaluation's does not: the same row is in two groups."""
    groups: Any = {"a": ["d1", "d2"], "test": ["s1"]}
    found, result = hold_out(groups, 0.0, reserved=("test",), starts=pl.Series(["s1", "s2", "s1"]))
    assert found["held_out"].to_list() == [False, False, True]
    assert found[DROP].is_null().to_list() == [False, True, False]
    assert result.notes == {"held_out": 1, "kept_away": 1}
