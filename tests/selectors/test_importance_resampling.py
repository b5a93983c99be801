"""Importance resampling: log weights of hashed n-grams, and the draw."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from candidates import pool_of
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError
from curate.numerics.hashed_ngrams import ngram_hashes
from curate.pool import Pool, Target
from curate.selectors.importance_resampling import ImportanceResampling


def pool(responses: list[str | None], target: list[str], seed: int = 0) -> Pool:
    made = pool_of({"prompt": [""] * len(responses), "response": responses}, seed=seed)
    return replace(made, target=Target(rows=pl.DataFrame({"prompt": target, "response": [""] * len(target)})))


def bucket(word: str) -> int:
    return int(ngram_hashes([word], 1)[0][0][0] % np.uint64(2))


ZERO, ONE = (next(word for word in "abcdefgh" if bucket(word) == wanted) for wanted in (0, 1))


def log_weight(reason: str) -> float:
    return float(reason.removeprefix("log weight ").split(",")[0])


def test_two_buckets() -> None:
    """Target 3 : 1, pool 2 : 2: log w of a word is log 3/2 or log 1/2; of a row, their sum."""
    given = pool([f"{ZERO} {ZERO}", f"{ONE} {ONE}"], [f"{ZERO} {ZERO} {ZERO} {ONE}"])
    chosen = ImportanceResampling(budget=2, ngrams=1, buckets=2, draw="top").select(given)
    assert chosen.kept.tolist() == [0, 1]
    assert log_weight(chosen.reasons[0]) == pytest.approx(2 * np.log(1.5), abs=1e-3)
    assert log_weight(chosen.reasons[1]) == pytest.approx(2 * np.log(0.5), abs=1e-3)


def test_per_ngram_is_the_mean() -> None:
    given = pool([f"{ZERO} {ZERO}", f"{ONE} {ONE}"], [f"{ZERO} {ZERO} {ZERO} {ONE}"])
    chosen = ImportanceResampling(budget=2, ngrams=1, buckets=2, draw="top", per_ngram=True).select(given)
    assert log_weight(chosen.reasons[0]) == pytest.approx(np.log(1.5), abs=1e-3)


def test_add_one() -> None:
    """Target 1 : 0 becomes 2/3 : 1/3, pool 1 : 1 stays 1/2 : 1/2."""
    chosen = ImportanceResampling(budget=2, ngrams=1, buckets=2, draw="top", smoothing="add_one").select(
        pool([ZERO, ONE], [ZERO])
    )
    assert [log_weight(each) for each in chosen.reasons] == pytest.approx(
        [np.log(4 / 3), np.log(2 / 3)], abs=1e-3
    )


def test_floor_is_that_of_the_official_code() -> None:
    """Target 1 : 0 and pool 1 : 1: log 1e-8 − log 1/2."""
    chosen = ImportanceResampling(budget=2, ngrams=1, buckets=2, draw="top").select(pool([ZERO, ONE], [ZERO]))
    assert log_weight(chosen.reasons[1]) == pytest.approx(np.log(1e-8) - np.log(0.5), abs=5e-3)


@pytest.mark.parametrize("draw", ["sample", "top"])
def test_the_dialect_of_the_target_is_chosen(draw: str) -> None:
    rng = np.random.default_rng(0)
    dialects = {"west": ["howdy", "partner", "ranch", "horse"], "east": ["cheers", "mate", "pub", "tea"]}
    rows = ["west"] * 40 + ["east"] * 40
    texts = [" ".join(rng.choice(dialects[each], 12)) for each in rows]
    chosen = ImportanceResampling(budget=30, draw=draw).select(
        pool(texts, ["cheers mate", "tea in the pub mate"] * 3)
    )
    assert min(chosen.kept) >= 40
    assert chosen.notes["kl_of_kept"] < chosen.notes["kl_of_pool"]


def test_a_draw_is_in_proportion_to_the_weight() -> None:
    """Weights 1.5 and .5: the first is drawn in three of four."""
    first = [
        int(
            ImportanceResampling(budget=1, ngrams=1, buckets=2)
            .select(pool([ZERO, ONE], [f"{ZERO} {ZERO} {ZERO} {ONE}"], seed))
            .kept[0]
        )
        for seed in range(400)
    ]
    assert 260 < first.count(0) < 340


def test_rows_without_words_are_never_chosen() -> None:
    chosen = ImportanceResampling(budget="100%").select(pool(["a b", None, "  "], ["a"]))
    assert chosen.kept.tolist() == [0]
    assert chosen.dropped_reasons == ["no words", "no words"]


def test_reasons() -> None:
    chosen = ImportanceResampling(budget=1, ngrams=1, buckets=2).select(pool([ZERO, ONE], [ZERO]))
    assert chosen.reasons == ["log weight 0.6931, place 1 of 2"]
    assert chosen.dropped_reasons == ["log weight -17.73, place 2 of 2, not drawn"]


@pytest.mark.parametrize(("rows", "target", "which"), [(["a"], [" "], "target"), ([""], ["a"], "pool")])
def test_no_words_at_all(rows: list[str], target: list[str], which: str) -> None:
    with pytest.raises(DataError, match=f"the {which} must have words"):
        ImportanceResampling(budget=1).select(pool(rows, target))


def test_without_a_target() -> None:
    with pytest.raises(DataError, match="Add `target:`"):
        ImportanceResampling(budget=1).select(replace(pool(["a"], ["a"]), target=Target()))


@given(st.integers(1, 40))
def test_slices_do_not_change_the_draw(rows: int) -> None:
    words = np.random.default_rng(rows).choice(["a", "b", "c", "d"], (40, 3))
    given = pool([" ".join(each) for each in words], ["a a b"])
    expected = ImportanceResampling(budget=10).select(given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.selectors.importance_resampling._SLICE_ROWS", rows)
        found = ImportanceResampling(budget=10).select(given)
    assert found.kept.tolist() == expected.kept.tolist()
    assert found.reasons == expected.reasons
