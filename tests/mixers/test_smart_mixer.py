"""SMART as a mixer: draws in proportion to what each group adds."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from candidates import pool_of

from curate.errors import DataError
from curate.mixers.smart import Smart
from curate.numerics.smart import taylor_softmax
from curate.pool import Pool


def pool(*directions: tuple[float, float] | None) -> Pool:
    """Four rows of each source, all in its direction."""
    vectors = [None if some is None else list(some) for some in directions for _ in range(4)]
    sources = [f"source-{index}" for index in range(len(directions)) for _ in range(4)]
    return pool_of({"source": sources, "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2))})


def test_draws_follow_the_gains() -> None:
    """Two groups alike and one at a right angle: gains 1.6, 0.6 and, of the second of the two, 0.8."""
    schedule = Smart(draws=1000).mix(pool((0, 1), (1, 0), (0, 1)))
    shares = taylor_softmax(np.array([1.6, 0.6, 0.8]))
    assert [Counter(schedule.phases)[f"source-{i}"] for i in range(3)] == np.round(1000 * shares).tolist()
    assert list(schedule.notes["mixture"].values()) == pytest.approx(shares.tolist())


def test_groups_that_are_not_among_the_first_are_not_drawn() -> None:
    schedule = Smart(draws=10, tasks=2).mix(pool((0, 1), (1, 0), (0, 1)))
    assert set(schedule.phases) == {"source-0", "source-2"}


def test_a_group_without_an_embedding_is_an_error() -> None:
    with pytest.raises(DataError, match="None in source-1"):
        Smart().mix(pool((0, 1), None))
