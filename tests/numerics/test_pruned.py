"""Facility location on pruned similarities: what is kept is all that can still be gained; few rows choose as dense."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import Rules

from curate.errors import DataError
from curate.numerics import pairs, pruned
from curate.numerics.greedy import greedy
from curate.numerics.kernels import dense_kernel
from curate.numerics.kmeans import unit_rows
from curate.numerics.pruned import EstimatedFacilityLocation, first_and_sample, pruned_greedy, pruned_kernel
from curate.numerics.submodular import FacilityLocation, SparseFacilityLocation

LIMIT = 2.0**30
STEP = 2.0**-16


def points(rows: int, width: int = 6, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32))


def corners(rows: int, seed: int = 0) -> np.ndarray:
    """Corners of a cube of 16 dimensions: their products are exact, whoever computes them in whatever order."""
    return np.random.default_rng(seed).choice([-0.25, 0.25], (rows, 16)).astype(np.float32)


def similarities(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = dense_kernel(vectors, LIMIT).values.numpy()
    return found


def value(vectors: np.ndarray, rows: np.ndarray) -> float:
    return float(similarities(vectors)[rows].max(0).astype(np.float64).sum())


def on_a_sample_of(monkeypatch: pytest.MonkeyPatch, sample: int, begun: int, rows: int) -> None:
    monkeypatch.setattr(pruned, "SAMPLE_ROWS", sample)
    monkeypatch.setattr(pruned, "BEGUN_SHARE", begun / rows)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 60), seed=st.integers(0, 1000), least=st.floats(0, 1))
def test_every_similarity_above_the_service_of_either_row_is_held(rows: int, seed: int, least: float) -> None:
    vectors = points(rows, seed=seed)
    random = np.random.default_rng(seed)
    service = (np.round(random.uniform(0, least, rows) / STEP) * STEP).astype(np.float32)
    whole = similarities(vectors)
    above = (whole > np.minimum(service, service[:, None])) | np.eye(rows, dtype=np.bool_)
    found = pruned_kernel(vectors, service, LIMIT).dense().values.numpy()
    # Two products of one pair may round to neighbouring points of the grid.
    near = np.abs(whole - np.minimum(service, service[:, None])) <= 2 * STEP
    np.testing.assert_allclose(np.where(near, 0, found), np.where(above & ~near, whole, 0), rtol=0, atol=STEP)
    assert np.array_equal(found, found.T)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 50), seed=st.integers(0, 1000), share=st.floats(0.02, 1))
def test_up_to_a_sample_of_rows_it_is_greedy_on_all_similarities(rows: int, seed: int, share: float) -> None:
    vectors, budget = corners(rows, seed), max(1, round(share * rows))
    expected = greedy(FacilityLocation(dense_kernel(vectors, LIMIT)), Rules(budget))
    found = pruned_greedy(vectors, Rules(budget), LIMIT)
    assert found.begun == 1
    assert found.chosen.rows.tolist() == expected.rows.tolist()
    assert found.chosen.gains.tolist() == expected.gains.tolist()
    assert found.chosen.gains.sum() == value(vectors, found.chosen.rows)


def test_products_in_blocks_keep_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, service = points(150), np.full(150, 0.25, dtype=np.float32)
    whole = pruned_kernel(vectors, service, LIMIT)
    monkeypatch.setattr(pairs, "PRODUCT_ROWS", 7)
    monkeypatch.setattr(pairs, "PRODUCT_COLUMNS", 13)
    blocks = pruned_kernel(vectors, service, LIMIT)
    assert np.array_equal(whole.starts, blocks.starts)
    rows = np.repeat(np.arange(150), np.diff(blocks.starts))
    assert len(np.unique(rows * 150 + blocks.columns)) == len(blocks.columns)
    np.testing.assert_allclose(whole.dense().values, blocks.dense().values, rtol=0, atol=STEP)


def test_copies_are_alike_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(pairs, "PRODUCT_ROWS", 77)
    vectors = np.repeat(points(300, 384), 2, axis=0)
    service = np.full(600, 0.0625, dtype=np.float32)
    kernel = pruned_kernel(vectors, service, LIMIT)
    gains = SparseFacilityLocation(kernel, service).gains()
    assert kernel.mean_neighbours > 20
    assert np.array_equal(gains[::2], gains[1::2])


def test_the_first_rows_are_chosen_on_a_sample_and_the_others_by_exact_gains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = points(600, 12)
    on_a_sample_of(monkeypatch, 100, 20, 600)
    found = pruned_greedy(vectors, Rules(120), LIMIT)
    chosen, whole = found.chosen, similarities(vectors)
    assert found.begun == 20
    assert found.kernel is not None and found.kernel.mean_neighbours < 100
    service = np.maximum.accumulate(whole[chosen.rows], axis=0)
    gains = np.diff(service.astype(np.float64).sum(1), prepend=0)
    assert chosen.gains == pytest.approx(gains, abs=600 * STEP)
    later = np.maximum(whole - service[19], 0).astype(np.float64).sum(1)
    assert chosen.gains[20] == pytest.approx(later.max(), abs=600 * STEP)
    left = np.maximum(whole - service[-1], 0).astype(np.float64).sum(1)
    others = np.setdiff1d(np.arange(600), chosen.rows)
    assert chosen.bounds[others] == pytest.approx(left[others], abs=600 * STEP)
    exact = greedy(FacilityLocation(dense_kernel(vectors, LIMIT)), Rules(120))
    assert chosen.rows.tolist() != exact.rows.tolist()
    assert chosen.gains.sum() > 0.99 * exact.gains.sum()


def test_where_the_sample_chooses_all_gains_and_bounds_are_exact_too(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = points(400, 12)
    on_a_sample_of(monkeypatch, 80, 30, 400)
    found = pruned_greedy(vectors, Rules(10), LIMIT)
    assert found.kernel is None and found.begun == len(found.chosen.rows) == 10
    assert found.chosen.gains.sum() == pytest.approx(value(vectors, found.chosen.rows), abs=400 * STEP)
    service = similarities(vectors)[found.chosen.rows].max(0)
    left = np.maximum(similarities(vectors) - service, 0).astype(np.float64).sum(1)
    others = np.setdiff1d(np.arange(400), found.chosen.rows)
    assert found.chosen.bounds[others] == pytest.approx(left[others], abs=400 * STEP)


def test_estimates_are_those_of_the_sample_at_the_size_of_the_pool() -> None:
    vectors, sample = points(50), np.arange(0, 50, 5)
    estimated = EstimatedFacilityLocation(vectors, sample)
    whole = similarities(vectors)[sample].astype(np.float64)
    others = np.where(np.arange(50) == sample[:, None], 0, whole)
    assert estimated.gains() == pytest.approx(5 * others.sum(0), abs=50 * STEP)
    estimated.add(10)
    left = np.maximum(others - whole[:, [10]], 0).sum(0)
    assert estimated.gains() == pytest.approx(5 * left, abs=50 * STEP)


def test_rules_hold_over_both_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = points(300, 12)
    on_a_sample_of(monkeypatch, 60, 6, 300)
    free = pruned_greedy(vectors, Rules(40), LIMIT).chosen.rows.tolist()
    barred, first = frozenset(free[:9]), frozenset(range(290, 300)) - set(free[:9])
    rules = Rules(40, include=np.array([5, 11]), barred=barred - {5, 11}, first=first)
    found = pruned_greedy(vectors, rules, LIMIT).chosen.rows.tolist()
    assert found[:2] == [5, 11] and set(found[2 : 2 + len(first)]) == first
    assert not (barred - {5, 11}) & set(found)
    assert len(found) == len(set(found)) == 40


def test_more_included_rows_than_are_chosen_on_a_sample() -> None:
    vectors = points(40)
    found = pruned_greedy(vectors, Rules(6, include=np.array([3, 1, 2])), LIMIT)
    assert found.chosen.rows.tolist()[:3] == [3, 1, 2] and found.begun == 4
    assert len(found.chosen.rows) == 6


def test_copies_and_rows_without_direction() -> None:
    vectors = np.repeat(points(3), 4, axis=0)
    vectors[-1] = 0
    found = pruned_greedy(vectors, Rules(12), LIMIT).chosen
    assert set((found.rows[:3] // 4).tolist()) == {0, 1, 2}
    assert found.gains[:3].sum() == pytest.approx(11, abs=12 * STEP)
    assert found.gains[3:] == pytest.approx(0, abs=STEP)


def test_more_pairs_than_fit_say_what_to_do() -> None:
    with pytest.raises(
        DataError, match="200 rows have more similar pairs than `max_memory_gib` .* `kernel: sparse`"
    ):
        pruned_kernel(points(200), np.zeros(200, dtype=np.float32), 9_600)


def test_less_memory_begins_with_more_rows_on_a_larger_sample() -> None:
    assert first_and_sample(8_000, 4 * 2**30) == (50, 1000)
    first, sample = first_and_sample(200_000, 4 * 2**30)
    assert first > 2 * 200_000 / 1000 * 0.8 and sample >= 4 * first
    assert pruned.pruned_bytes(200_000, 4 * 2**30) < 4 * 2**30


@pytest.mark.parametrize("rows", [1, 3, 900, 30_000, 10**6])
def test_the_first_rows_are_never_more_than_a_quarter_of_the_sample(rows: int) -> None:
    for limit in (2.0**20, 2.0**28, 2.0**32):
        first, sample = first_and_sample(rows, limit)
        assert 1 <= first <= max(1, sample // 4)
        assert sample <= rows and (sample <= 4 or 4 * rows * sample <= limit / 2)


def test_where_the_sample_is_served_wholly_choices_go_on_by_exact_gains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = np.concatenate([np.repeat(points(5), 40, axis=0), points(200, seed=1)])
    monkeypatch.setattr(pruned, "SAMPLE_ROWS", 20)
    monkeypatch.setattr(pruned, "first_and_sample", lambda rows, limit: (100, 8))
    found = pruned_greedy(vectors, Rules(120), LIMIT)
    assert 5 <= found.begun < 100
    assert np.all(np.diff(found.chosen.gains[found.begun :]) <= 400 * STEP)
    assert found.chosen.gains[found.begun] > 0


def test_included_and_forced_rows_are_not_counted_as_first(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = points(300, 12)
    on_a_sample_of(monkeypatch, 60, 6, 300)
    included = pruned_greedy(vectors, Rules(60, include=np.arange(20)), LIMIT)
    assert included.begun == 26
    forced = pruned_greedy(vectors, Rules(60, first=frozenset(range(20))), LIMIT)
    assert 24 <= forced.begun <= 26
    assert set(forced.chosen.rows[:20].tolist()) == set(range(20))


def test_copies_that_are_served_wholly_are_not_kept() -> None:
    vectors = np.repeat(points(6, 64), 50, axis=0)
    found = pruned_kernel(vectors, np.ones(300, dtype=np.float32), LIMIT)
    assert len(found.values) == 300  # each with itself


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_as_on_the_cpu() -> None:
    choose = partial(pruned_greedy, points(1100, 64), max_bytes=LIMIT)
    here, there = (choose(admission=Rules(200), device=device).chosen for device in ("cpu", "cuda"))
    assert there.gains.sum() == pytest.approx(here.gains.sum(), rel=1e-3)
