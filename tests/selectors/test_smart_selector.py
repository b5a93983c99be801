"""SMART: the shares of tasks and what is kept of each."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, random_pool, unit

from curate.constraints import Constraints
from curate.errors import DataError
from curate.pool import Pool
from curate.selectors.smart import Smart


def pool(sizes: dict[str, int], **columns: Any) -> Pool:
    """Tasks of copies at right angles: gains of 0.6 each, hence equal shares."""
    names, rows = list(sizes), sum(sizes.values())
    points = np.zeros((rows, len(sizes)))
    tasks = [name for name, size in sizes.items() for _ in range(size)]
    points[np.arange(rows), [names.index(task) for task in tasks]] = 1
    vectors = pl.Series(unit(points), dtype=pl.Array(pl.Float32, len(sizes)))
    filled = {"id": [f"id-{row}" for row in range(rows)], "source": tasks, "embedding": vectors}
    return pool_of({**filled, "supervised_tokens": [5] * rows, **columns})


def kept_of(candidates: Pool, method: Smart) -> dict[str, int]:
    kept = candidates.frame["source"].gather(method.select(candidates).kept)
    return dict(kept.value_counts().iter_rows())


def test_equal_gains_share_equally_whatever_the_sizes() -> None:
    assert kept_of(pool({"a": 30, "b": 10}), Smart(budget=8)) == {"a": 4, "b": 4}


def test_an_excess_is_redistributed() -> None:
    assert kept_of(pool({"a": 30, "b": 2}), Smart(budget=8)) == {"a": 6, "b": 2}


def test_tokens_are_shared_in_tokens() -> None:
    """Rows of a cost 30 and of b 10: 60 tokens each."""
    candidates = pool({"a": 30, "b": 30}, supervised_tokens=[30] * 30 + [10] * 30)
    assert kept_of(candidates, Smart(budget="120 tokens")) == {"a": 2, "b": 6}


def test_a_smaller_task_that_runs_out_leaves_its_tokens_to_the_others() -> None:
    assert kept_of(pool({"a": 30, "b": 2}), Smart(budget="50 tokens")) == {"a": 8, "b": 2}


def test_only_the_first_tasks_give_rows() -> None:
    assert kept_of(pool({"a": 9, "b": 9, "c": 9}), Smart(budget=8, tasks=2)) == {"a": 4, "b": 4}


def test_the_rows_of_a_task_are_those_that_represent_it() -> None:
    """Three groups of copies in one task: one of each, the largest group first."""
    points = unit(np.repeat(np.eye(3), [5, 3, 2], axis=0))
    columns = {"embedding": pl.Series(points, dtype=pl.Array(pl.Float32, 3))}
    candidates = pool_of({"source": ["a"] * 10, **columns})
    assert Smart(budget=3).select(candidates).kept.tolist() == [0, 5, 8]


def test_the_pool_must_hold_the_budget() -> None:
    with pytest.raises(DataError, match="at most the 9 rows that can be chosen"):
        Smart(budget=10, tasks=1).select(pool({"a": 9, "b": 9}))


def test_constraints_reach_past_the_share_of_a_task() -> None:
    limits = Constraints.model_validate({"max_per": {"source": {"a": 1}}})
    candidates = pool({"a": 10, "b": 10})
    constrained = Pool(candidates.frame, {}, 0, constraints=limits)
    assert kept_of(constrained, Smart(budget=8)) == {"a": 1, "b": 7}


def test_reasons() -> None:
    candidates = random_pool(40, seed=1)
    chosen = Smart(budget=4, tasks=2).select(candidates)
    assert chosen.reasons[0].startswith("row 1 in the order of its task, gain ")
    assert " of the mixture by a gain of " in chosen.reasons[0]
    assert any("would have added at most" in reason for reason in chosen.dropped_reasons)
    assert any("(not among the first 2): 0 of" in reason for reason in chosen.dropped_reasons)
    assert sum(chosen.notes["mixture"].values()) == pytest.approx(1)


def test_a_row_without_an_embedding_is_never_chosen() -> None:
    candidates = pool({"a": 4, "b": 4})
    frame = candidates.frame.with_columns(
        pl.when(pl.col("position") != 2).then(pl.col("embedding")).alias("embedding")
    )
    chosen = Smart(budget="100%").select(Pool(frame, {}, 0))
    assert sorted(chosen.kept.tolist()) == [0, 1, 3, 4, 5, 6, 7]
    assert chosen.dropped_reasons[0].startswith("no embedding")
