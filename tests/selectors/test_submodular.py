"""Facility location, graph cut, log-determinant: on pools, with reasons, notes, budgets and constraints."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from candidates import pool_of, random_pool
from pydantic import ValidationError

from curate.constraints import Constraints
from curate.errors import ConfigError, DataError
from curate.methods import read_method
from curate.pool import Pool
from curate.registry import Registry
from curate.selector import Selector

NAMES = ["facility_location", "graph_cut", "log_determinant"]
every = pytest.mark.parametrize("name", NAMES)
on_kernel = pytest.mark.parametrize("name", NAMES[:2])


def made(name: str, **fields: Any) -> Selector:
    selector = read_method("selectors", {name: fields}, Registry())
    assert isinstance(selector, Selector)
    return selector


def embedded(*vectors: list[float] | None, **columns: Any) -> Pool:
    column = pl.Series(list(vectors), dtype=pl.Array(pl.Float32, 2))
    return pool_of({"id": [f"id-{row}" for row in range(len(vectors))], "embedding": column, **columns})


ODD_ONE = ([1.0, 0.0], [1.0, 0.0], [0.0, 1.0])


def test_graph_cut_keeps_the_odd_one_for_last() -> None:
    found = made("graph_cut", budget=3, redundancy=0.4).select(embedded(*ODD_ONE))
    assert found.kept.tolist() == [0, 1, 2]
    assert list(found.reasons) == [
        "gain 1.6, chosen 1 of 3", "gain 0.8, chosen 2 of 3", "gain 0.6, chosen 3 of 3",
    ]  # fmt: skip


def test_facility_location_takes_the_odd_one_second() -> None:
    found = made("facility_location", budget=2).select(embedded(*ODD_ONE))
    assert found.kept.tolist() == [0, 2]
    assert list(found.reasons) == ["gain 2, chosen 1 of 2", "gain 1, chosen 2 of 2"]
    assert list(found.dropped_reasons) == ["gain 0 when the budget was met"]


def test_log_determinant_takes_the_odd_one_second() -> None:
    found = made("log_determinant", budget=2, noise=0.1).select(embedded(*ODD_ONE))
    assert found.kept.tolist() == [0, 2]
    assert found.dropped_reasons[0].startswith("gain at most ")


@every
def test_lengths_of_vectors_do_not_matter(name: str) -> None:
    pool = random_pool(40, seed=2)
    longer = pool.vectors("embedding") * np.linspace(0.1, 9, 40, dtype=np.float32)[:, None]
    other = replace(
        pool, frame=pool.frame.with_columns(embedding=pl.Series(longer, dtype=pl.Array(pl.Float32, 8)))
    )
    assert (
        made(name, budget=10).select(other).kept.tolist() == made(name, budget=10).select(pool).kept.tolist()
    )


@every
def test_rows_without_an_embedding_are_dropped_and_say_so(name: str) -> None:
    found = made(name, budget="100%").select(embedded([1.0, 0.0], None, [0.0, 1.0]))
    assert sorted(found.kept.tolist()) == [0, 2]
    assert list(found.dropped_reasons) == ["no embedding (embedding is null)"]


@every
def test_no_embedding_at_all_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="`embed` stage"):
        made(name, budget=1).select(embedded(None, None))


@every
def test_a_budget_of_more_than_has_an_embedding_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="budget of 2"):
        made(name, budget=2).select(embedded([1.0, 0.0], None))


@every
def test_a_budget_below_the_first_row_is_an_error(name: str) -> None:
    pool = embedded(*ODD_ONE, supervised_tokens=[10, 10, 10])
    with pytest.raises(DataError, match="first row"):
        made(name, budget="9 tokens").select(pool)


@every
def test_constraints_are_kept(name: str) -> None:
    limits = Constraints.model_validate(
        {"max_per": {"source": 6}, "min_per": {"cluster": {"3": 4}}, "include": ["id-7"]}
    )
    pool = replace(random_pool(60, seed=4), constraints=limits)
    kept = made(name, budget=15).select(pool).kept
    assert kept[0] == 7 and len(kept) == 15
    rows = pool.frame[kept.tolist()]
    assert rows["source"].value_counts()["count"].max() <= 6
    assert (rows["cluster"] == 3).sum() >= 4


def test_an_included_row_without_an_embedding_is_kept_first() -> None:
    limits = Constraints.model_validate({"include": ["id-1"]})
    pool = replace(embedded([1.0, 0.0], None, [0.0, 1.0]), constraints=limits)
    found = made("facility_location", budget=2).select(pool)
    assert found.kept.tolist() == [1, 0]
    assert found.reasons[0] == "no embedding, so no gain; chosen 1 of 2"


@on_kernel
def test_auto_is_dense_while_it_fits_and_says_which(name: str) -> None:
    pool = random_pool(60, seed=1)
    dense = made(name, budget=5, max_memory_gib=60**2 * 4 / 2**30).select(pool)
    assert dense.notes["kernel"] == "dense" and dense.notes["kernel_bytes"] == 14_400
    sparse = made(name, budget=5, neighbours=2, max_memory_gib=(60**2 * 4 - 1) / 2**30).select(pool)
    assert sparse.notes["kernel"] == "sparse" and sparse.notes["neighbours"] == 2


@on_kernel
def test_dense_above_the_limit_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="kernel: sparse"):
        made(name, budget=5, kernel="dense", max_memory_gib=1e-9).select(random_pool(60))


@on_kernel
def test_a_sparse_kernel_of_all_neighbours_chooses_as_a_dense_one(name: str) -> None:
    pool = random_pool(50, seed=5)
    dense, sparse = (
        made(name, budget=20, kernel=form, neighbours=50).select(pool) for form in ("dense", "sparse")
    )
    assert dense.kept.tolist() == sparse.kept.tolist()


@on_kernel
def test_the_plan_knows_which_kernel(name: str) -> None:
    selector = made(name, budget=5, neighbours=10)
    assert selector.expected_memory_bytes(1000, 8) == 4_000_000 + 64_000
    assert selector.expected_memory_bytes(100_000, 8) < 4 * 2**30


@every
def test_the_objective_is_the_sum_of_the_gains(name: str) -> None:
    found = made(name, budget=10).select(random_pool(50, seed=6))
    gains = [float(reason.split(",")[0].removeprefix("gain ")) for reason in found.reasons]
    assert found.notes["objective"] == pytest.approx(sum(gains), rel=1e-3)
    assert found.notes["gain_evaluations"] >= 50


@pytest.mark.parametrize("name", ["facility_location", "log_determinant"])
def test_stochastic_looks_at_fewer_rows_and_is_nearly_as_good(name: str) -> None:
    pool = random_pool(200, seed=7)
    exact = made(name, budget=50).select(pool)
    some = made(name, budget=50, greedy="stochastic", epsilon=0.1).select(pool)
    assert some.notes["sample_rows"] == 10
    assert some.notes["gain_evaluations"] == 500
    assert 0.9 * exact.notes["objective"] < some.notes["objective"] < exact.notes["objective"]


def test_a_sample_of_a_token_budget_is_as_of_its_share_of_rows() -> None:
    pool = random_pool(200, seed=7)
    found = made("facility_location", budget="25% tokens", greedy="stochastic").select(pool)
    assert 9 <= found.notes["sample_rows"] <= 11


def test_a_row_in_no_sample_says_so() -> None:
    found = made("facility_location", budget=1, greedy="stochastic", epsilon=0.9).select(random_pool(100))
    assert "in no random sample of the candidates" in found.dropped_reasons


@every
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="device: cpu"):
        made(name, budget=1, device="cuda").select(embedded(*ODD_ONE))


@every
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_chooses_as_the_cpu(name: str) -> None:
    pool = random_pool(300, seed=8)
    here, there = (
        made(name, budget=40, device=device).select(pool).kept.tolist() for device in ("cpu", "cuda")
    )
    assert here == there


def test_pruned_says_what_was_chosen_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.numerics.pruned.SAMPLE_ROWS", 100)
    monkeypatch.setattr("curate.numerics.pruned.BEGUN_SHARE", 0.02)
    pool = random_pool(400, seed=3)
    dense, pruned = (
        made("facility_location", budget=40, kernel=form).select(pool) for form in ("dense", "pruned")
    )
    assert pruned.notes["kernel"] == "pruned" and pruned.notes["chosen_on_a_sample"] == 8
    assert 1 < pruned.notes["mean_neighbours"] < 100
    assert pruned.notes["objective"] == pytest.approx(dense.notes["objective"], rel=0.02)
    assert pruned.reasons[0].endswith(", chosen 1 of 40")
    assert pruned.dropped_reasons[0].endswith(" when the budget was met")


@pytest.mark.parametrize(
    ("budget", "limits"),
    [
        (30, None),
        ("100%", None),
        ("20% tokens", None),
        (40, {"include": ["id-7", "id-9"], "exclude": ["id-1"], "max_per": {"source": {"chat": 9}}}),
        (40, {"min_per": {"source": {"code": 12}}}),
    ],
)
def test_pruned_on_few_rows_chooses_as_dense(budget: int | str, limits: dict[str, Any] | None) -> None:
    pool = random_pool(300, seed=4)
    corners = np.random.default_rng(4).choice([-0.25, 0.25], (300, 16))  # products are exact in any order
    vectors = [None if row in (5, 250) else corner for row, corner in enumerate(corners.tolist())]
    frame = pool.frame.with_columns(embedding=pl.Series(vectors, dtype=pl.Array(pl.Float32, 16)))
    pool = replace(pool, frame=frame, constraints=limits and Constraints.model_validate(limits))
    dense, pruned = (
        made("facility_location", budget=budget, kernel=form).select(pool) for form in ("dense", "pruned")
    )
    assert pruned.kept.tolist() == dense.kept.tolist()
    assert list(pruned.reasons) == list(dense.reasons)
    assert list(pruned.dropped_reasons) == list(dense.dropped_reasons)


def test_pruned_with_a_random_sample_of_candidates_is_refused() -> None:
    with pytest.raises(ValidationError, match="`greedy: stochastic` reads a `dense` or `sparse` kernel"):
        made("facility_location", budget=3, kernel="pruned", greedy="stochastic")


def test_the_plan_knows_what_pruned_takes() -> None:
    selector = made("facility_location", budget=5, kernel="pruned")
    assert selector.expected_memory_bytes(8_000, 384) < 4 * 8_000**2
    assert selector.expected_memory_bytes(200_000, 256) < 5 * 2**30
    assert selector.expected_memory_bytes(1_000_000, 256) > 100 * 2**30
