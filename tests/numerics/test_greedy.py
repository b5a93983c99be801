"""Greedy, lazily, held or sampled, on three submodular functions: against the function itself, row by row."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import Rules

from curate.numerics import submodular
from curate.numerics.greedy import Chosen, greedy, lazy_greedy, stochastic_greedy
from curate.numerics.kernels import DenseKernel, SparseKernel, dense_kernel, sparse_kernel
from curate.numerics.kmeans import unit_rows
from curate.numerics.submodular import (
    FacilityLocation,
    FacilityLocationOnDemand,
    GraphCut,
    LogDeterminant,
    Objective,
    SparseFacilityLocation,
    sample_rows,
)

LIMIT = 2.0**30
NOISE = 0.1
REDUNDANCY = 0.4


def points(rows: int, width: int = 5, seed: int = 0, copies: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.normal(size=(rows, width)).astype(np.float32))
    return vectors[rng.integers(0, rows, rows)] if copies else vectors


def whole(kernel: DenseKernel | SparseKernel) -> np.ndarray:
    """The kernel in float64, zeros and all."""
    dense = kernel.dense() if isinstance(kernel, SparseKernel) else kernel
    return dense.values.numpy().astype(np.float64)


def facility_value(kernel: np.ndarray, chosen: list[int]) -> float:
    return float(kernel[:, chosen].max(axis=1).sum()) if chosen else 0.0


def cut_value(kernel: np.ndarray, chosen: list[int]) -> float:
    return float(kernel[:, chosen].sum() - REDUNDANCY * kernel[np.ix_(chosen, chosen)].sum())


def determinant_value(vectors: np.ndarray, chosen: list[int]) -> float:
    some = vectors[chosen].astype(np.float64)
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    return float(np.linalg.slogdet(np.eye(len(chosen)) + some @ some.T / NOISE)[1])


def naive(value: Callable[[list[int]], float], rows: int, budget: int) -> tuple[list[int], list[float]]:
    """Greedy by the definition: f of every set with one row more."""
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(budget):
        before = value(chosen)
        found = {row: value([*chosen, row]) - before for row in range(rows) if row not in chosen}
        best = max(found, key=lambda row: (round(found[row], 9), -row))
        chosen.append(best)
        gains.append(found[best])
    return chosen, gains


@dataclass(frozen=True)
class Case:
    """One way to hold one function: made of vectors, with the function itself beside it."""

    make: Callable[[np.ndarray], Objective]
    function: Callable[[np.ndarray], Callable[[list[int]], float]]


def on_dense(value: Callable[[np.ndarray, list[int]], float]) -> Callable[[np.ndarray], Any]:
    return lambda vectors: partial(value, whole(dense_kernel(vectors, LIMIT)))


def on_sparse(value: Callable[[np.ndarray, list[int]], float]) -> Callable[[np.ndarray], Any]:
    return lambda vectors: partial(value, whole(sparse_kernel(vectors, 4, LIMIT)))


CASES = {
    "facility location": Case(lambda x: FacilityLocation(dense_kernel(x, LIMIT)), on_dense(facility_value)),
    "facility location, on demand": Case(
        lambda x: FacilityLocationOnDemand(dense_kernel(x, LIMIT)), on_dense(facility_value)
    ),
    "facility location, sparse": Case(
        lambda x: SparseFacilityLocation(sparse_kernel(x, 4, LIMIT)), on_sparse(facility_value)
    ),
    "graph cut": Case(lambda x: GraphCut(dense_kernel(x, LIMIT), REDUNDANCY), on_dense(cut_value)),
    "graph cut, sparse": Case(
        lambda x: GraphCut(sparse_kernel(x, 4, LIMIT), REDUNDANCY), on_sparse(cut_value)
    ),
    "log-determinant": Case(lambda x: LogDeterminant(x, NOISE), lambda x: partial(determinant_value, x)),
}
every_case = pytest.mark.parametrize("name", sorted(CASES))
both = pytest.mark.parametrize("maximise", [greedy, lazy_greedy])


@every_case
@settings(max_examples=12, deadline=None)
@given(rows=st.integers(2, 12), seed=st.integers(0, 10**6), copies=st.booleans(), share=st.floats(0.1, 1))
def test_lazy_is_naive_gain_by_gain(name: str, rows: int, seed: int, copies: bool, share: float) -> None:
    vectors, case = points(rows, seed=seed, copies=copies), CASES[name]
    budget = max(1, round(rows * share))
    _, gains = naive(case.function(vectors), rows, budget)
    found = lazy_greedy(case.make(vectors), Rules(budget), few=2)
    assert found.gains == pytest.approx(gains, abs=1e-9)


@every_case
@settings(max_examples=12, deadline=None)
@given(rows=st.integers(2, 30), seed=st.integers(0, 10**6), copies=st.booleans(), few=st.integers(1, 35))
def test_lazy_in_any_blocks_chooses_as_greedy_does(
    name: str, rows: int, seed: int, copies: bool, few: int
) -> None:
    vectors, case = points(rows, seed=seed, copies=copies), CASES[name]
    eager = greedy(case.make(vectors), Rules(rows))
    lazy = lazy_greedy(case.make(vectors), Rules(rows), few=few, many=max(few, 16))
    assert lazy.rows.tolist() == eager.rows.tolist()
    assert lazy.gains == pytest.approx(eager.gains, abs=1e-11)


@pytest.mark.parametrize("threads", [1, 3])
def test_facility_location_held_on_demand_and_sparse_agree_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(submodular, "BLOCK_ELEMENTS", 700)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    sparse = sparse_kernel(points(300, 8, copies=True), 6, LIMIT)
    found = [
        greedy(SparseFacilityLocation(sparse), Rules(250)),
        greedy(FacilityLocation(sparse.dense()), Rules(250)),
        lazy_greedy(FacilityLocationOnDemand(sparse.dense()), Rules(250)),
    ]
    for other in found[1:]:
        assert other.rows.tolist() == found[0].rows.tolist()
        assert other.gains.tolist() == found[0].gains.tolist()


@every_case
def test_gains_of_some_rows_are_those_among_all(name: str) -> None:
    objective = CASES[name].make(points(30))
    objective.add(4)
    some = np.array([9, 2, 17])
    assert objective.gains(some) == pytest.approx(objective.gains()[some], abs=1e-12)


@every_case
def test_reading_gains_changes_nothing(name: str) -> None:
    objective = CASES[name].make(points(30))
    objective.gains()[:] = 0
    assert objective.gains().max() > 0


@every_case
def test_a_bound_is_no_less_than_the_gain_at_the_end(name: str) -> None:
    objective = CASES[name].make(points(60))
    found = lazy_greedy(objective, Rules(20))
    assert (found.bounds >= objective.gains() - 1e-12)[np.setdiff1d(np.arange(60), found.rows)].all()
    assert found.bounds[found.rows].tolist() == found.gains.tolist()


def test_lazy_looks_at_few_rows_again() -> None:
    found = lazy_greedy(FacilityLocationOnDemand(dense_kernel(points(400, 16), LIMIT)), Rules(40))
    assert 400 < found.evaluations < 400 * 12


def test_a_bound_is_the_gain_when_the_row_was_last_looked_at() -> None:
    objective = CASES["facility location, on demand"].make(points(60))
    before = objective.gains()
    found = lazy_greedy(objective, Rules(20))
    left = np.setdiff1d(np.arange(60), found.rows)
    assert (found.bounds[left] < before[left]).sum() > 10


DUPLICATES_AND_ONE = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)


def test_graph_cut_of_two_duplicates_and_one_at_a_right_angle() -> None:
    found = greedy(GraphCut(dense_kernel(DUPLICATES_AND_ONE, LIMIT), 0.4), Rules(3))
    assert found.rows.tolist() == [0, 1, 2]
    assert found.gains == pytest.approx([1.6, 0.8, 0.6])


def test_facility_location_takes_the_one_at_a_right_angle_second() -> None:
    found = greedy(FacilityLocation(dense_kernel(DUPLICATES_AND_ONE, LIMIT)), Rules(3))
    assert found.rows.tolist() == [0, 2, 1]
    assert found.gains.tolist() == [2, 1, 0]


def test_graph_cut_gains_may_be_negative_and_the_budget_is_met() -> None:
    found = greedy(GraphCut(dense_kernel(DUPLICATES_AND_ONE, LIMIT), 2.0), Rules(3))
    assert found.gains.tolist() == [0, -1, -4]


def test_log_determinant_of_a_copy_is_worth_little() -> None:
    found = lazy_greedy(LogDeterminant(DUPLICATES_AND_ONE, 0.1), Rules(3))
    assert found.rows.tolist() == [0, 2, 1]
    assert found.gains == pytest.approx([np.log(11), np.log(11), np.log(21 / 11)])


@both
def test_included_rows_come_first_with_their_gains(maximise: Callable[..., Chosen]) -> None:
    kernel = dense_kernel(points(30), LIMIT)
    found = maximise(FacilityLocation(kernel), Rules(5, include=np.array([7, 3])))
    assert found.rows[:2].tolist() == [7, 3]
    values = [facility_value(whole(kernel), found.rows[:count].tolist()) for count in range(6)]
    assert found.gains == pytest.approx(np.diff(values))


@both
def test_barred_rows_are_passed_over(maximise: Callable[..., Chosen]) -> None:
    free = maximise(FacilityLocation(dense_kernel(points(80), LIMIT)), Rules(80)).rows.tolist()
    barred = frozenset(free[:45])
    rules = Rules(10, barred=barred)
    found = maximise(FacilityLocation(dense_kernel(points(80), LIMIT)), rules)
    assert len(found.rows) == 10 and not barred & set(found.rows.tolist())
    assert len(rules.asked) == len(set(rules.asked))


@both
def test_rows_that_wait_come_back(maximise: Callable[..., Chosen]) -> None:
    kernel = dense_kernel(points(80), LIMIT)
    last = maximise(FacilityLocation(kernel), Rules(80)).rows[-3:].tolist()
    found = maximise(FacilityLocation(kernel), Rules(10, first=frozenset(last)))
    assert sorted(found.rows[:3].tolist()) == sorted(last)
    after = maximise(FacilityLocation(kernel), Rules(10, include=found.rows[:3]))
    assert found.rows.tolist() == after.rows.tolist()


@both
def test_it_ends_where_no_row_is_left(maximise: Callable[..., Chosen]) -> None:
    found = maximise(FacilityLocation(dense_kernel(points(5), LIMIT)), Rules(9, barred=frozenset({2})))
    assert sorted(found.rows.tolist()) == [0, 1, 3, 4]


def test_the_verdict_is_asked_of_the_next_choice_alone() -> None:
    rules = Rules(6)
    found = lazy_greedy(FacilityLocationOnDemand(dense_kernel(points(50), LIMIT)), rules, few=16)
    assert rules.asked == found.rows.tolist()


def sampled(rows: int, sample: int, seed: int = 0, rules: Rules | None = None) -> Chosen:
    objective = FacilityLocationOnDemand(dense_kernel(points(rows), LIMIT))
    return stochastic_greedy(objective, rules or Rules(rows // 4), sample, np.arange(rows), seed)


def test_a_sample_of_everything_is_greedy() -> None:
    exact = greedy(FacilityLocation(dense_kernel(points(40), LIMIT)), Rules(10))
    assert sampled(40, 40).rows.tolist() == exact.rows.tolist()


def test_stochastic_greedy_is_nearly_as_good_for_fewer_gains() -> None:
    exact = greedy(FacilityLocation(dense_kernel(points(200), LIMIT)), Rules(50))
    found = sampled(200, sample_rows(200, 50, 0.1))
    assert found.evaluations == 50 * 10 < exact.evaluations
    assert 0.95 * exact.gains.sum() < found.gains.sum() < exact.gains.sum()


def test_stochastic_greedy_chooses_by_its_seed() -> None:
    first, same, other = (sampled(60, 5, seed).rows.tolist() for seed in (1, 1, 2))
    assert first == same != other


def test_stochastic_greedy_keeps_the_rules() -> None:
    rules = Rules(12, np.array([5]), barred=frozenset(range(20, 40)), first=frozenset({1, 2}))
    found = sampled(40, 4, rules=rules).rows.tolist()
    assert found[0] == 5 and set(found[1:3]) == {1, 2}
    assert len(found) == len(set(found)) == 12 and not set(found) & rules.barred


def test_stochastic_greedy_ends_where_no_row_is_left() -> None:
    assert sorted(sampled(6, 2, rules=Rules(9)).rows.tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("rows", "chosen", "expected"), [(1000, 100, 24), (10, 10, 3), (5, 100, 1), (9, 1, 9)]
)
def test_size_of_a_sample(rows: int, chosen: int, expected: int) -> None:
    assert sample_rows(rows, chosen, 0.1) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("of", [FacilityLocation, FacilityLocationOnDemand])
def test_on_a_gpu_as_on_the_cpu(of: type[FacilityLocation] | type[FacilityLocationOnDemand]) -> None:
    kernel = dense_kernel(points(500, 32), LIMIT)
    here = lazy_greedy(of(kernel), Rules(50))
    there = lazy_greedy(of(DenseKernel(kernel.values.cuda())), Rules(50))
    assert here.rows.tolist() == there.rows.tolist()
    assert here.gains.tolist() == there.gains.tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_log_determinant_on_a_gpu_as_on_the_cpu() -> None:
    here, there = (
        lazy_greedy(LogDeterminant(points(500, 32), NOISE, device), Rules(50)) for device in ("cpu", "cuda")
    )
    assert here.rows.tolist() == there.rows.tolist()
