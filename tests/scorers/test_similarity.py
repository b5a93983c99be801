"""Similarity of embeddings to a target, row by row and source by source; several scores in one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from curate.errors import ConfigError, DataError
from curate.methods import read_method
from curate.numerics.combining import product, rank_average, weighted_z_scores
from curate.numerics.topsis import topsis
from curate.pool import Pool
from curate.registry import Registry
from curate.scorer import PoolScorer
from scorers.combine import Combine, Criterion
from scorers.source_similarity import SourceSimilarity
from scorers.target_similarity import TargetSimilarity

NAN = float("nan")
TARGET = np.array([[1, 0], [0, 1]], dtype=np.float32)
ROOT = float(np.sqrt(0.5))


def pool(directions: Mapping[str, bool | None] | None = None, **columns: pl.Series | Sequence[Any]) -> Pool:
    """A pool of the given columns; `embedding` as an Array of two float32."""
    frame = pl.DataFrame(
        {name.replace("_", ".", 1): values for name, values in columns.items()}, strict=False
    )
    if "embedding" in frame.columns:
        frame = frame.with_columns(pl.col("embedding").cast(pl.Array(pl.Float32, 2)))
    return Pool(frame, directions or {}, 0)


# target


def test_the_centroid_is_the_mean_of_the_targets_vectors() -> None:
    """The target's mean points along (1, 1)."""
    given = pool(embedding=[[1, 0], [ROOT, ROOT], [-1, 0]])
    np.testing.assert_allclose(TargetSimilarity().score(given, TARGET), [ROOT, 1, -ROOT], rtol=1e-6)


def test_the_centroid_is_of_unit_length_again() -> None:
    """Two target rows at a right angle have a mean of length 0.7; alike to it is still 1."""
    found = TargetSimilarity().score(pool(embedding=[[ROOT, ROOT]]), TARGET)
    assert found[0] == pytest.approx(1, abs=1e-6)


def test_the_nearest_target_row_counts() -> None:
    given = pool(embedding=[[1, 0], [ROOT, ROOT], [-1, 0], [0.6, 0.8]])
    found = TargetSimilarity(compare="nearest").score(given, TARGET)
    np.testing.assert_allclose(found, [1, ROOT, 0, 0.8], rtol=1e-6, atol=1e-7)


def test_the_nearest_of_more_rows_than_a_block() -> None:
    vectors = np.random.default_rng(0).standard_normal((9_000, 2)).astype(np.float32)
    frame = pl.DataFrame({"embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2))})
    found = TargetSimilarity(compare="nearest").score(Pool(frame, {}, 0), TARGET)
    np.testing.assert_allclose(found, vectors.max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("compare", ["centroid", "nearest"])
def test_a_row_without_an_embedding_is_null(compare: Any) -> None:
    given = pool(embedding=[[1, 0], None, [0, 1]])
    found = TargetSimilarity(compare=compare).score(given, TARGET)
    assert np.isnan(found).tolist() == [False, True, False]


@pytest.mark.parametrize("compare", ["centroid", "nearest"])
def test_scores_are_float64(compare: Any) -> None:
    assert TargetSimilarity(compare=compare).score(pool(embedding=[[1, 0]]), TARGET).dtype == np.float64


# source


def test_a_source_has_the_cosine_of_its_mean_for_all_its_rows() -> None:
    """Source a: the mean of (1, 0) and (0, 1) is along the target's. Source b: (1, 0) alone."""
    given = pool(embedding=[[1, 0], [1, 0], [0, 1]], source=["a", "b", "a"])
    np.testing.assert_allclose(SourceSimilarity().score(given, TARGET), [1, ROOT, 1], rtol=1e-6)


def test_every_row_of_a_source_weighs_alike() -> None:
    """Two of (1, 0) and one of (0, 1): (2, 1) / sqrt 5 on (1, 1) / sqrt 2."""
    given = pool(embedding=[[1, 0], [1, 0], [0, 1]], source=["a"] * 3)
    np.testing.assert_allclose(SourceSimilarity().score(given, TARGET), [3 / np.sqrt(10)] * 3, rtol=1e-6)


def test_rows_without_an_embedding_do_not_count_and_have_the_score_of_their_source() -> None:
    given = pool(embedding=[[1, 0], None], source=["a", "a"])
    np.testing.assert_allclose(SourceSimilarity().score(given, TARGET), [ROOT, ROOT], rtol=1e-6)


def test_a_source_without_any_embedding_is_null() -> None:
    given = pool(embedding=[[1, 0], None, None], source=["a", "b", "b"])
    assert np.isnan(SourceSimilarity().score(given, TARGET)).tolist() == [False, True, True]


def test_any_column_takes_the_place_of_the_source() -> None:
    given = pool(embedding=[[1, 0], [0, 1], [1, 0]], cluster=[7, 7, 8])
    found = SourceSimilarity(by="cluster").score(given, TARGET)
    np.testing.assert_allclose(found, [1, 1, ROOT], rtol=1e-6)


def test_it_needs_the_column_that_it_ranks() -> None:
    assert SourceSimilarity(by="meta.task").needs() == {"embedding", "meta.task"}


@pytest.mark.parametrize("scorer", [TargetSimilarity(), SourceSimilarity()])
def test_similarity_reads_the_target_and_is_kept_high(scorer: PoolScorer) -> None:
    assert (scorer.reads_target, scorer.higher_is_better) == (True, True)


# combine


def combined(scorer: Combine, directions: Mapping[str, bool | None] | None = None) -> NDArray[np.float64]:
    given = pool(directions, score_loss=[1.0, 2.0, 4.0, None], score_fit=[3.0, 1.0, 2.0, 5.0])
    return scorer.score(given, None)


CRITERIA = np.array([[1, 3], [2, 1], [4, 2], [NAN, 5]], dtype=np.float64)


@pytest.mark.parametrize(
    ("rule", "function"),
    [("topsis", topsis), ("z_score", weighted_z_scores), ("rank", rank_average), ("product", product)],
)
def test_combine_is_its_rule_with_weights_and_directions(rule: Any, function: Any) -> None:
    by = {"loss": Criterion(order="lowest", weight=2), "fit": Criterion(order="highest")}
    expected = function(CRITERIA, [2.0, 1.0], [False, True])
    np.testing.assert_allclose(combined(Combine(by=by, rule=rule)), expected, rtol=1e-12)


def test_combine_takes_topsis_unless_told() -> None:
    assert Combine(by={"loss": Criterion()}).rule == "topsis"


def test_a_score_counts_in_its_own_direction() -> None:
    found = combined(Combine(by={"loss": Criterion()}, rule="rank"), {"score.loss": False})
    np.testing.assert_allclose(found, [1, 0.5, 0, NAN])


def test_an_order_is_above_the_scores_own_direction() -> None:
    by = {"loss": Criterion(order="highest")}
    np.testing.assert_allclose(combined(Combine(by=by, rule="rank"), {"score.loss": False}), [0, 0.5, 1, NAN])


def test_a_row_that_lacks_a_score_has_none() -> None:
    by = {"loss": Criterion(order="lowest"), "fit": Criterion(order="highest")}
    assert np.isnan(combined(Combine(by=by))).tolist() == [False, False, False, True]


def test_combine_reads_scores_by_name_and_columns_as_they_are() -> None:
    by = {"loss": Criterion(), "score.el2n": Criterion(), "tokens": Criterion(), "meta.level": Criterion()}
    assert Combine(by=by).needs() == {"score.loss", "score.el2n", "tokens", "meta.level"}


def test_combine_refuses_a_score_without_a_direction_before_any_work() -> None:
    scorer = Combine(by={"fit": Criterion(), "loss": Criterion()})
    with pytest.raises(ConfigError, match="`loss` does not state whether high or low is better"):
        scorer.check({"score.fit": True, "score.loss": None})


def test_combine_is_content_with_an_order_in_place_of_a_direction() -> None:
    Combine(by={"fit": Criterion(), "loss": Criterion(order="lowest")}).check({"score.fit": True})


def test_combine_says_which_scores_cannot_be_multiplied() -> None:
    given = pool(score_fit=[-1.0, -2.0])
    with pytest.raises(DataError, match=r"combine: fit by product: .*at or above 0. Got -2.0"):
        Combine(by={"fit": Criterion(order="highest")}, rule="product").score(given, None)


def test_combine_of_a_column_that_holds_no_numbers_is_refused() -> None:
    given = pool(meta_level=["1", "hard"])
    with pytest.raises(DataError, match=r"`meta.level` must hold numbers to rank by. Got 'hard'"):
        Combine(by={"meta.level": Criterion(order="highest")}).score(given, None)


@pytest.mark.parametrize(
    "written",
    [
        {"by": {}},
        {"by": {"loss": {"weight": 0}}},
        {"by": {"loss": {"weight": -1}}},
        {"by": {"loss": {"weight": float("inf")}}},
        {"by": {"loss": {"order": "up"}}},
        {"by": {"loss": {"wait": 1}}},
        {"by": {"loss": {}}, "rule": "sum"},
        {},
    ],
)
def test_combine_refuses_what_makes_no_sense(written: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, ValidationError)):
        read_method("scorers", {"combine": written}, Registry())


def test_combine_is_written_as_a_mapping() -> None:
    by = {"loss": {"order": "lowest"}, "fit": {"weight": 2}}
    found = read_method("scorers", {"combine": {"by": by}}, Registry())
    assert isinstance(found, Combine)
    assert found.by == {"loss": Criterion(order="lowest"), "fit": Criterion(weight=2)}
