"""SMART: shares of tasks, their rows, and rows of a task by facility location."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError
from curate.numerics.kernels import dense_kernel
from curate.numerics.kmeans import unit_rows
from curate.numerics.smart import (
    in_proportion,
    reach,
    representatives,
    split,
    task_mixture,
    taylor_softmax,
)

GAINS = st.lists(st.floats(-20, 20), min_size=1, max_size=8).map(lambda gains: np.array(gains))


def test_shares_are_the_second_order_taylor_softmax() -> None:
    assert taylor_softmax(np.array([2.0, 1.0, 0.0])).tolist() == pytest.approx([10 / 17, 5 / 17, 2 / 17])


def test_below_minus_one_a_share_does_not_rise_again() -> None:
    """1 + g + g²/2 is 2.5 at -3, more than the 1 of gain 0."""
    assert taylor_softmax(np.array([0.0, -1.0, -3.0])).tolist() == pytest.approx([0.5, 0.25, 0.25])


@given(GAINS)
def test_a_smaller_gain_never_has_the_larger_share(gains: np.ndarray) -> None:
    shares = taylor_softmax(np.sort(gains))
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) >= -1e-15).all()


def test_ten_rows_of_gains_two_one_zero() -> None:
    shares = taylor_softmax(np.array([2.0, 1.0, 0.0]))
    assert split(shares, 10, np.array([99, 99, 99])).tolist() == [6, 3, 1]


def test_what_is_above_a_cap_goes_one_each_to_the_first_with_rows_left() -> None:
    """[6, 3, 1] with at most 2 of the first: 4 too many, two each."""
    shares = taylor_softmax(np.array([2.0, 1.0, 0.0]))
    assert split(shares, 10, np.array([2, 99, 99])).tolist() == [2, 5, 3]
    assert split(shares, 10, np.array([3, 99, 99])).tolist() == [3, 5, 2]
    assert split(shares, 10, np.array([2, 3, 99])).tolist() == [2, 3, 5]


def test_a_quota_is_not_rounded_down_by_floating_point() -> None:
    """10 * 0.29 * 10 is 28.999999999999996."""
    assert split(np.array([0.71, 0.29]), 100, np.array([100, 100])).tolist() == [71, 29]


@given(GAINS, st.data())
def test_the_sum_is_the_total_and_caps_hold(gains: np.ndarray, data: st.DataObject) -> None:
    caps = np.array(data.draw(st.lists(st.integers(1, 30), min_size=len(gains), max_size=len(gains))))
    total = data.draw(st.integers(1, int(caps.sum())))
    counts = split(taylor_softmax(gains), total, caps)
    assert counts.sum() == total
    assert (counts >= 0).all()
    assert (counts <= caps).all()


def test_a_pool_that_is_smaller_is_an_error() -> None:
    with pytest.raises(DataError, match="must hold the 7 rows to be chosen. They hold 6"):
        split(np.array([0.5, 0.5]), 7, np.array([3, 3]))


def tasks(*directions: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Two rows for each task, around its direction."""
    points = np.array([row for direction in directions for row in (direction, direction)], dtype=np.float32)
    return points, np.repeat(np.arange(len(directions)), 2)


def test_gains_are_those_of_the_graph_cut() -> None:
    """Two tasks alike and one at a right angle, λ = 0.4: 1.6, 0.8, 0.6."""
    found = task_mixture(*tasks([0.0, 2.0], [1.0, 0.0], [0.0, 1.0]), redundancy=0.4, first=None)
    assert found.tasks.tolist() == [0, 2, 1]
    assert found.gains.tolist() == pytest.approx([1.6, 0.8, 0.6])
    assert found.shares.tolist() == taylor_softmax(found.gains).tolist()
    assert [rows.tolist() for rows in found.members] == [[0, 1], [4, 5], [2, 3]]


def test_a_task_is_the_mean_of_its_rows() -> None:
    """Rows at ±30 degrees: their mean, not a row, equals the other task."""
    points = np.array([[3**0.5, 1], [3**0.5, -1], [1, 0], [0, 1]], dtype=np.float32)
    found = task_mixture(points, np.array([0, 0, 1, 2]), redundancy=0.4, first=None)
    assert found.gains.tolist() == pytest.approx([1.6, 0.8, 0.6])


def test_only_the_first_tasks() -> None:
    found = task_mixture(*tasks([0.0, 2.0], [1.0, 0.0], [0.0, 1.0]), redundancy=0.4, first=2)
    assert found.tasks.tolist() == [0, 2]
    assert found.shares.sum() == pytest.approx(1)


def test_rows_without_a_vector_do_not_count() -> None:
    points, labels = tasks([0.0, 1.0], [1.0, 0.0])
    points[[0, 2, 3]] = np.nan
    found = task_mixture(points, labels, redundancy=0.4, first=None)
    assert [rows.tolist() for rows in found.members] == [[1]]


def test_without_any_vector_is_an_error() -> None:
    with pytest.raises(DataError, match="all 2 rows have none"):
        task_mixture(np.full((2, 3), np.nan, dtype=np.float32), np.zeros(2, dtype=np.int64), 0.4, None)


def greedy_facility_location(points: np.ndarray) -> list[int]:
    similarity = dense_kernel(points, 1e9).values.double().numpy()
    covered, order = np.zeros(len(points)), list[int]()
    for _ in points:
        gains = np.maximum(similarity - covered, 0).sum(axis=1)
        gains[order] = -1
        order.append(int(gains.argmax()))
        covered = np.maximum(covered, similarity[order[-1]])
    return order


def test_rows_stand_in_the_order_of_facility_location() -> None:
    points = unit_rows(np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32))
    members = [np.arange(0, 40, 2), np.arange(1, 40, 2)]
    ones = np.ones(40, dtype=np.int64)
    found = representatives(points, members, ones, np.array([20, 3]), 30, 1e9)
    assert found.rows[:20].tolist() == [2 * row for row in greedy_facility_location(points[::2])]
    assert found.rows[20:].tolist() == [2 * row + 1 for row in greedy_facility_location(points[1::2])[:3]]
    assert found.tasks.tolist() == [0] * 20 + [1] * 3
    assert found.sparse == 0


def test_a_task_whose_kernel_does_not_fit_has_a_sparse_one() -> None:
    points = unit_rows(np.random.default_rng(1).normal(size=(500, 5)).astype(np.float32))
    ones, members = np.ones(500, dtype=np.int64), [np.arange(500)]
    dense = representatives(points, members, ones, np.array([50]), 10, 500 * 500 * 4)
    sparse = representatives(points, members, ones, np.array([50]), 10, 500 * 500 * 4 - 1)
    assert (dense.sparse, sparse.sparse) == (0, 1)
    assert len(sparse.rows) == 50


def test_a_limit_is_of_what_the_rows_cost() -> None:
    points = unit_rows(np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32))
    found = representatives(points, [np.arange(9)], np.full(9, 5), np.array([11]), 9, 1e9)
    assert len(found.rows) == 3


def test_tasks_are_in_proportion_in_every_prefix() -> None:
    tasks_of = np.repeat([0, 1], [8, 4])
    order = in_proportion(np.ones(12, dtype=np.int64), tasks_of, np.array([2 / 3, 1 / 3]))
    assert tasks_of[order].tolist() == [0, 1, 0] * 4
    assert order[tasks_of[order] == 0].tolist() == list(range(8))


def test_shares_are_of_the_cost() -> None:
    """A row of the first task costs 30, of the second 10: three for one at equal shares."""
    tasks_of = np.repeat([0, 1], [2, 6])
    order = in_proportion(np.repeat([30, 10], [2, 6]), tasks_of, np.array([0.5, 0.5]))
    assert tasks_of[order].tolist() == [1, 0, 1, 1, 1, 0, 1, 1]


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=5), st.data())
def test_what_fits_into_a_limit_lies_within_the_reach(rows: list[list[int]], data: st.DataObject) -> None:
    """Orders cut where the cost of a task reaches its reach have the prefix of the whole ones."""
    costs = [np.array(each) for each in rows]
    shares = taylor_softmax(
        np.array(data.draw(st.lists(st.floats(-2, 9), min_size=len(rows), max_size=len(rows))))
    )
    limit = data.draw(st.integers(1, 1 + sum(map(sum, rows))))
    reached = reach(costs, shares, limit)
    before = np.concatenate([np.cumsum(each) - each for each in costs])
    tasks_of = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    flat = np.concatenate(costs)
    whole = in_proportion(flat, tasks_of, shares)
    fits = whole[: int(np.searchsorted(np.cumsum(flat[whole]), limit, side="right")) + 1]
    assert (before[fits] < np.maximum(reached[tasks_of[fits]], 1)).all()
