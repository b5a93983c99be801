"""Length-matched random: the lengths of another selector's choice."""

import numpy as np
import pytest
from candidates import pool_of

from curate.errors import ConfigError
from curate.methods import read_method, write_method
from curate.registry import Registry
from curate.selectors.length_matched_random import LengthMatchedRandom
from curate.selectors.top import Top

RNG = np.random.default_rng(0)
POOL = pool_of(
    {"score.a": RNG.random(400), "supervised_tokens": RNG.integers(5, 300, 400).astype(np.int32)},
    {"score.a": True},
)
TOP = Top(by="a", budget=60)


def matched(**fields: object) -> LengthMatchedRandom:
    return LengthMatchedRandom(like=TOP, **fields)


def test_as_many_rows_as_the_reference() -> None:
    assert len(matched().select(POOL).kept) == 60


def test_total_tokens_within_one_row() -> None:
    tokens = POOL.counts("supervised_tokens")
    ours, reference = matched().select(POOL).kept, TOP.select(POOL).kept
    assert abs(tokens[ours].sum() - tokens[reference].sum()) <= tokens[ours].max()


def test_it_does_not_look_at_the_score() -> None:
    share = np.isin(matched().select(POOL).kept, TOP.select(POOL).kept).mean()
    assert share < 0.35


def test_reasons_tell_the_bin() -> None:
    chosen = matched(bins=1).select(POOL)
    assert "rows drawn at random, as many as `top` chose" in chosen.reasons[0]
    assert ": 60 of " in chosen.reasons[0]


def test_bins_are_as_many_as_asked() -> None:
    """With a bin per length, the lengths are the reference's one by one; with one bin, hardly ever."""
    lengths = [10, 20, 30, 40] * 10
    columns = {"score.a": list(range(40)), "supervised_tokens": lengths}
    for seed in range(5):
        pool = pool_of(columns, {"score.a": True}, seed)
        chosen = LengthMatchedRandom(like=Top(by="a", budget=20), bins=4).select(pool)
        assert sorted(lengths[row] for row in chosen.kept) == sorted([10, 20, 30, 40] * 5)


def test_rows_outside_the_reference_say_so() -> None:
    pool = pool_of({"score.a": [3.0, 2.0, 1.0], "supervised_tokens": [10, 10, 99]}, {"score.a": True})
    chosen = LengthMatchedRandom(like=Top(by="a", budget=1)).select(pool)
    assert chosen.dropped_reasons[-1] == "99 supervised tokens, outside the 10 to 10 that `top` chose"


def test_like_is_read_as_a_user_writes_it() -> None:
    written = {"length_matched_random": {"like": {"top": {"by": "a", "budget": 60}}}}
    assert read_method("selectors", written, Registry()) == matched()


def test_like_is_written_as_a_user_writes_it() -> None:
    assert read_method("selectors", write_method(matched()), Registry()) == matched()


def test_identity_names_the_method_inside() -> None:
    assert matched().identity()["like"]["method"] == "top"


def test_needs_are_those_of_the_method_inside() -> None:
    assert matched().needs() == {"score.a", "supervised_tokens"}


def test_check_is_that_of_the_method_inside() -> None:
    with pytest.raises(ConfigError, match="`order: highest`"):
        matched().check({"score.a": None})
