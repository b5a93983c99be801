"""Transport: optimal transport gradients between pool and target."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, random_pool, unit

from curate.constraints import Constraints
from curate.errors import DataError
from curate.numerics import sinkhorn
from curate.pool import Pool, Target
from curate.selectors.transport import Transport


def pool(points: Any, target: Any, **columns: Any) -> Pool:
    """A pool of embeddings (None: a row without one) and a target of them."""
    width = len(target[0])
    embedding = pl.Series("embedding", list(points), dtype=pl.Array(pl.Float32, width))
    return replace(
        pool_of({"embedding": embedding, **columns}), target=Target(np.array(target, dtype=np.float32))
    )


def cats_and_dogs() -> Pool:
    """297 cats, then 3 dogs; the target has twenty of each."""
    rng = np.random.default_rng(0)
    cat, dog = np.eye(8)[:2]
    points = [animal + 0.2 * rng.normal(size=8) for animal in [cat] * 297 + [dog] * 3]
    target = [animal + 0.2 * rng.normal(size=8) for animal in [cat] * 20 + [dog] * 20]
    return pool(unit(np.array(points)).tolist(), unit(np.array(target)).tolist())


SQUARE = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]


def test_of_one_target_row_the_nearest_comes_first() -> None:
    assert Transport(budget=3).select(pool(SQUARE, [[1, 0]])).kept.tolist() == [0, 1, 2]


def test_a_pool_of_cats_wants_dogs() -> None:
    assert sorted(Transport(budget=3).select(cats_and_dogs()).kept.tolist()) == [297, 298, 299]


def test_it_is_not_the_nearest_row() -> None:
    """The nearest rows to the target are cats, of which the pool has enough."""
    animals = cats_and_dogs()
    points = animals.vectors("embedding")
    assert animals.target.vectors is not None
    assert (points @ animals.target.vectors.T).max(axis=1).argmax() < 297


def test_the_potential_is_calibrated_in_the_unit_of_the_cost() -> None:
    """One target row: f_i = c_i − constant; c = 0, 2, 4, so f̂ = 0 − 3, 2 − 2, 4 − 1."""
    selection = Transport(budget=3).select(pool(SQUARE, [[1, 0]]))
    assert [reason.split(",")[0] for reason in selection.reasons] == [
        "potential -3", "potential 0", "potential 3",
    ]  # fmt: skip


def test_embeddings_are_taken_at_unit_length() -> None:
    longer = [[5.0, 0.0], [0.0, 0.1], [-7.0, 0.0]]
    here, there = (Transport(budget=3).select(pool(points, [[2, 1]])) for points in (SQUARE, longer))
    assert here.reasons == there.reasons


def test_reasons_of_kept_and_dropped() -> None:
    selection = Transport(budget=1).select(pool(SQUARE, [[1, 0]]))
    assert selection.reasons == ["potential -3, rank 1 of 3 (lowest first)"]
    assert selection.dropped_reasons[0] == "potential 0, rank 2 of 3 (lowest first), above the cut at -3"


def test_rows_without_an_embedding_are_never_chosen() -> None:
    selection = Transport(budget="100%").select(pool([None, *SQUARE], [[1, 0]]))
    assert selection.kept.tolist() == [1, 2, 3]
    assert selection.dropped_reasons == ["no embedding (embedding is null)"]


def test_rows_without_an_embedding_have_no_mass() -> None:
    whole, holed = (Transport(budget=3).select(pool(p, [[1, 0]])) for p in (SQUARE, [None, *SQUARE]))
    assert whole.reasons == holed.reasons


def test_target_rows_without_an_embedding_have_no_mass() -> None:
    holed = Transport(budget=3).select(pool(SQUARE, [[1, 0], [np.nan, np.nan]]))
    assert holed.reasons == Transport(budget=3).select(pool(SQUARE, [[1, 0]])).reasons
    assert holed.notes["target_rows"] == 1


@pytest.mark.parametrize(
    ("points", "target", "of"),
    [([None, None], [[1, 0]], "the pool. None of its 2 rows"), (SQUARE, [[np.nan, 0]], "the target")],
)
def test_without_any_embedding_it_is_an_error(points: Any, target: Any, of: str) -> None:
    with pytest.raises(DataError, match=of):
        Transport(budget=1).select(pool(points, target))


def test_without_a_target_it_is_an_error() -> None:
    with pytest.raises(DataError, match="embeddings of the target"):
        Transport(budget=1).select(replace(random_pool(9), target=Target()))


def test_equal_rows_are_ranked_by_position() -> None:
    rng = np.random.default_rng(0)
    points = unit(rng.normal(size=(40, 8)))
    twice = np.concatenate([points, points]).tolist()
    kept = Transport(budget="100%").select(pool(twice, unit(rng.normal(size=(9, 8))).tolist())).kept
    assert (kept.reshape(-1, 2)[:, 1] == kept.reshape(-1, 2)[:, 0] + 40).all()


def test_rows_that_differ_by_rounding_are_ranked_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.array([3, 2, 1, 0]) * 1e-15
    monkeypatch.setattr(sinkhorn, "calibrated", lambda potentials: potentials + noise)
    same = pool([[0.0, 1.0]] * 4, [[1, 0], [-1, 0]])
    assert Transport(budget="100%").select(same).kept.tolist() == [0, 1, 2, 3]


def test_rows_in_one_place_are_ranked_by_position() -> None:
    selection = Transport(budget=2).select(pool([[1.0, 0.0]] * 3, [[1, 0]]))
    assert selection.kept.tolist() == [0, 1]


def test_notes() -> None:
    notes = Transport(budget=3).select(pool(SQUARE, [[1, 0]])).notes
    assert notes == {
        "converged": True, "iterations": 2, "marginal_error": pytest.approx(0), "epsilon": pytest.approx(0.2),
        "mean_cost": pytest.approx(2), "held_rows": 3, "target_rows": 1, "device": notes["device"],
    }  # fmt: skip


def test_not_converged_is_a_warning_and_a_note(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        selection = Transport(budget=3, max_iterations=1, tolerance=1e-9).select(random_pool(60, seed=3))
    assert "transport: not converged after 1 iterations: the marginal error is" in caplog.text
    assert selection.notes["converged"] is False


def test_converged_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    Transport(budget=3).select(random_pool(60, seed=3))
    assert not caplog.records


def test_a_row_that_a_constraint_passes_over_is_not_above_the_cut() -> None:
    capped = replace(
        pool(SQUARE, [[1, 0]], source=["a", "a", "b"]), constraints=Constraints(max_per={"source": 1})
    )
    selection = Transport(budget=2).select(capped)
    assert selection.kept.tolist() == [0, 2]
    assert "above" not in selection.dropped_reasons[0]


def test_an_included_row_needs_no_embedding() -> None:
    points = pool([None, *SQUARE], [[1, 0]], id=["none", "x", "y", "z"])
    selection = Transport(budget=1).select(replace(points, constraints=Constraints(include=["none"])))
    assert selection.kept.tolist() == [0]
    assert selection.dropped_reasons[0].endswith("above the cut")


def test_the_fields_reach_the_solver() -> None:
    wide = random_pool(60, seed=3)
    less = Transport(budget=3, epsilon=0.02).select(wide).notes
    more = Transport(budget=3, epsilon=0.2, tolerance=0.5).select(wide).notes
    assert more["epsilon"] == pytest.approx(10 * less["epsilon"])
    assert less["marginal_error"] < 1e-5 < more["marginal_error"]
    with pytest.raises(DataError, match="max_memory_gib"):
        Transport(budget=3, max_memory_gib=1e-6).select(wide)


def test_memory_for_a_plan_is_the_limit_and_the_unit_vectors() -> None:
    assert Transport(budget=3, max_memory_gib=2).expected_memory_bytes(100, 8) == 2 * 2**30 + 6400


def test_memory_is_no_part_of_the_identity() -> None:
    assert Transport(budget=3, max_memory_gib=2).identity() == Transport(budget=3).identity()


def test_needs() -> None:
    needs = Transport(budget="9 tokens").needs()
    assert needs == {"embedding", "artifact:target_embedding", "supervised_tokens"}
