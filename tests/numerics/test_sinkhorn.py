"""Sinkhorn in the log domain against a dense float64 one, and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics import sinkhorn as module
from curate.numerics.sinkhorn import Potentials, calibrated, sinkhorn

Floats = NDArray[np.float64]


def clouds(n: int = 70, m: int = 30, d: int = 6, seed: int = 0) -> tuple[Any, Any]:
    """Points on the unit sphere, the target around one side of it."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + np.eye(d)[0]
    return tuple((v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in (x, y))


def cost_of(x: Any, y: Any) -> Floats:
    return np.square(x[:, None].astype(np.float64) - y[None].astype(np.float64)).sum(axis=2)


def log_sum_exp(values: Floats, axis: int) -> Floats:
    top = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - top).sum(axis=axis)) + top.squeeze(axis)


def dense(x: Any, y: Any, epsilon: float, iterations: int = 20_000) -> tuple[Floats, Floats]:
    """The potentials by the two formulas, one after the other, until nothing moves."""
    cost, g = cost_of(x, y), np.zeros(len(y))
    regularisation = epsilon * cost.mean()
    for _ in range(iterations):
        f = -regularisation * (log_sum_exp((g - cost) / regularisation, 1) - np.log(len(y)))
        before, g = (
            g,
            -regularisation * (log_sum_exp((f[:, None] - cost) / regularisation, 0) - np.log(len(x))),
        )
        if np.abs(g - before).max() < 1e-13:
            break
    return f, g


def centred(values: Floats) -> Floats:
    return values - values.mean()


def apart(found: Potentials, x: Any, y: Any, epsilon: float) -> float:
    """The largest difference to the dense solution, in ε, whatever the constant."""
    f, g = dense(x, y, epsilon)
    either = (np.abs(centred(found.points) - centred(f)), np.abs(centred(found.target) - centred(g)))
    return max(float(part.max()) for part in either) / found.epsilon


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.03])
def test_as_the_dense_solution(epsilon: float) -> None:
    x, y = clouds()
    found = sinkhorn(x, y, epsilon, tolerance=1e-10)
    assert found.converged
    assert apart(found, x, y, epsilon) < 1e-6  # what float32 input leaves of the mean cost


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_as_the_dense_solution_for_any_sizes(n: int, m: int, seed: int) -> None:
    x, y = clouds(n, m, seed=seed)
    assert apart(sinkhorn(x, y, 0.1, tolerance=1e-10), x, y, 0.1) < 1e-6


def test_the_default_tolerance_is_some_1e_4_of_epsilon() -> None:
    x, y = clouds(300, 100)
    assert apart(sinkhorn(x, y), x, y, 0.1) < 2e-4


def test_a_float32_pass_is_within_1e_5_of_the_float64_one() -> None:
    x, y = clouds(300, 100)
    cost = module._Cost(x, y, 0.1, 1 << 30, "cpu")
    g = np.linspace(-0.5, 0.5, 100)
    few, many = (cost.sweep(g, kind) for kind in (torch.float32, torch.float64))
    assert 0 < np.abs(few[0] - many[0]).max() / cost.epsilon < 1e-5
    assert 0 < np.abs(few[1] - many[1]).max() < 1e-5


def test_a_float64_pass_is_the_formula_to_1e_12() -> None:
    x, y = clouds(50, 20)
    cost, g = module._Cost(x, y, 0.1, 1 << 30, "cpu"), np.linspace(-0.5, 0.5, 20)
    exact, epsilon = cost_of(x, y), cost.epsilon
    f = -epsilon * (log_sum_exp((g - exact) / epsilon, 1) - np.log(20))
    mass = np.exp((f[:, None] + g - exact) / epsilon).mean(axis=0)
    found = cost.sweep(g, torch.float64)
    assert np.allclose(found[0], f, rtol=0, atol=1e-12)
    assert np.allclose(found[1], np.log(mass), rtol=0, atol=1e-12)


@pytest.mark.parametrize("elements", [1, 200, 1000])
def test_blocks_of_any_size_give_the_same_potentials(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds()
    whole = sinkhorn(x, y)
    monkeypatch.setitem(module.BLOCK_ELEMENTS, "cpu", elements)
    blocked = sinkhorn(x, y)
    assert np.allclose(blocked.points, whole.points, rtol=0, atol=1e-6 * whole.epsilon)
    assert blocked.iterations == whole.iterations


def test_memory_decides_what_is_held_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.BLOCK_ELEMENTS, "cpu", 300)
    x, y = clouds()
    found = [sinkhorn(x, y, max_bytes=limit) for limit in (1 << 30, 14_000, 12_500)]
    assert [each.held_rows for each in found] == [70, 10, 0]
    for each in found[1:]:
        assert np.allclose(each.points, found[0].points, rtol=0, atol=1e-6 * each.epsilon)


def test_too_little_memory_for_one_row_is_an_error() -> None:
    with pytest.raises(DataError, match="raise `max_memory_gib`"):
        sinkhorn(*clouds(), max_bytes=1000)


def test_a_minute_epsilon_needs_logarithms_for_columns_that_receive_nothing() -> None:
    """Two target points, of which all points are nearer to the first: exp underflows, in float64 too."""
    x = np.array([[0.0], [0.1], [0.2], [0.3]], dtype=np.float32)
    y = np.array([[0.0], [2.0]], dtype=np.float32)
    found = sinkhorn(x, y, epsilon=1e-4, tolerance=1e-8, max_iterations=5000)
    assert found.converged
    share = np.exp((found.points[:, None] + found.target - cost_of(x, y)) / found.epsilon) / 2
    assert np.allclose(share, [[1, 0], [1, 0], [0, 1], [0, 1]], atol=1e-6)


def test_nearer_is_lower_for_one_target_point() -> None:
    found = sinkhorn(np.array([[0], [1]], dtype=np.float32), np.zeros((1, 1), dtype=np.float32))
    assert np.allclose(np.diff(found.points), 1)


def test_the_mean_cost_and_epsilon() -> None:
    x, y = clouds()
    found = sinkhorn(x, y, epsilon=0.3)
    assert np.isclose(found.mean_cost, cost_of(x, y).mean(), rtol=1e-12)
    assert np.isclose(found.epsilon, 0.3 * found.mean_cost, rtol=1e-15)


def test_the_marginal_error_is_that_of_the_potentials() -> None:
    x, y = clouds()
    found = sinkhorn(x, y, tolerance=0.05)
    plan = np.exp((found.points[:, None] + found.target - cost_of(x, y)) / found.epsilon) / (70 * 30)
    assert np.allclose(plan.sum(axis=1), 1 / 70, rtol=1e-10)
    assert np.isclose(np.abs(plan.sum(axis=0) - 1 / 30).sum(), found.marginal_error, rtol=1e-8)
    assert 1e-5 < found.marginal_error <= 0.05


def test_not_converged_is_reported() -> None:
    found = sinkhorn(*clouds(), epsilon=0.01, max_iterations=3)
    assert (found.converged, found.iterations) == (False, 3)
    assert found.marginal_error > 1e-5


def test_a_small_epsilon_converges_in_a_sixth_of_the_plain_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = clouds(200, 100)
    mixed = sinkhorn(x, y, 0.01).iterations
    monkeypatch.setattr(module._Anderson, "next", lambda self, g, residual, error: g + residual)
    assert sinkhorn(x, y, 0.01, max_iterations=5000).iterations > 6 * mixed


def test_where_mixing_raises_the_error_the_plain_iteration_goes_on_from_the_best() -> None:
    anderson = module._Anderson()
    anderson.next(np.zeros(2), np.array([1.0, 0.0]), error=1.0)
    anderson.next(np.ones(2), np.array([0.5, 0.5]), error=0.5)
    assert anderson.next(np.full(2, 9.0), np.array([7.0, 7.0]), error=0.6).tolist() == [1.5, 1.5]


def test_a_plain_step_is_never_refused() -> None:
    """Else the iteration would stand still where rounding raises the error."""
    anderson = module._Anderson()
    anderson.next(np.zeros(2), np.array([1.0, 0.0]), error=1.0)
    assert anderson.next(np.ones(2), np.array([2.0, 0.0]), error=2.0).tolist() != [1.0, 0.0]


def test_equal_points_have_equal_potentials_to_1e_12(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.BLOCK_ELEMENTS, "cpu", 17 * 30)
    x, y = clouds()
    twice = sinkhorn(np.concatenate([x, x[:40]]), y).points
    assert np.allclose(twice[:40], twice[70:], rtol=0, atol=1e-12)


def test_points_in_one_place_have_potentials_of_zero() -> None:
    found = sinkhorn(np.full((3, 2), 0.3, dtype=np.float32), np.full((2, 2), 0.3, dtype=np.float32))
    assert found.points.tolist() == [0, 0, 0]
    assert found.target.tolist() == [0, 0]
    assert found.converged


def test_a_common_shift_of_all_points_changes_nothing() -> None:
    x, y = clouds()
    far = np.float32(64)
    near, moved = sinkhorn(x, y), sinkhorn(x + far, y + far)
    assert np.allclose(centred(moved.points), centred(near.points), atol=1e-4)  # x + 64 rounds to 4e-6


def test_rounding_is_that_of_distances_from_the_target_not_from_the_origin() -> None:
    x, y = clouds()
    near, moved = (
        module._Cost(x + far, y + far, 0.1, 1 << 30, "cpu") for far in (np.float32(0), np.float32(64))
    )
    assert np.isclose(near.float32_error, moved.float32_error, rtol=1e-3)


def test_the_input_is_left_as_it_was() -> None:
    x, y = clouds()
    before = x.copy(), y.copy()
    sinkhorn(x, y)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


def test_calibrated() -> None:
    assert np.allclose(calibrated(np.array([0.0, 1.0, 3.0])), [-2, -0.5, 2.5])


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20), st.floats(-100, 100))
def test_calibrated_does_not_depend_on_a_shift(values: list[float], shift: float) -> None:
    potentials = np.array(values)
    assert np.allclose(calibrated(potentials + shift), calibrated(potentials), atol=1e-9)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_calibrated_is_the_formula(values: list[float]) -> None:
    g = np.array(values)
    naive = [g[i] - np.delete(g, i).sum() / (len(g) - 1) for i in range(len(g))]
    assert np.allclose(calibrated(g), naive, atol=1e-9)


def test_a_single_potential_has_nothing_to_be_calibrated_by() -> None:
    assert calibrated(np.array([3.0])).tolist() == [0]


BAD = [
    ({"points": np.zeros((0, 6))}, "a row each"),
    ({"points": np.zeros((3, 5))}, r"Got shapes \(3, 5\) and \(30, 6\)"),
    ({"points": np.full((3, 6), np.nan)}, "must be finite"),
    ({"epsilon": 0.0}, "above 0"),
    ({"max_iterations": 0}, "at least 1"),
    ({"device": "meta"}, "device must be cpu or cuda"),
]


@pytest.mark.parametrize(("given_", "message"), BAD)
def test_what_cannot_be_is_refused(given_: dict[str, Any], message: str) -> None:
    x, y = clouds()
    with pytest.raises(ValueError, match=message):
        sinkhorn(**{"points": x, "target": y, **given_})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("max_bytes", [1 << 30, 3 << 20])
def test_a_gpu_gives_the_same_potentials(max_bytes: int) -> None:
    x, y = clouds(5000, 300, 32)
    here, there = sinkhorn(x, y), sinkhorn(x, y, device="cuda", max_bytes=max_bytes)
    assert there.converged
    assert np.allclose(there.points, here.points, rtol=0, atol=1e-4 * here.epsilon)
