"""Mixture laws: derivatives, exact recovery, the optimum's closed forms, intervals, what cannot be fitted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import DataError
from curate.numerics.law_fitting import Fit, fit_law
from curate.numerics.law_optimum import Intervals, Objective, best_mixture, intervals, project
from curate.numerics.law_runs import Runs, form_of, predictions, ratios_of
from curate.numerics.mixture_laws import FittedLaw, Floats, Form, Law

GROUPS = ("chat", "code", "math", "prose")


def law_of(law: Law, k: int = 3, sized: bool = False, seed: int = 0) -> FittedLaw:
    """A law of random parameters."""
    rng = np.random.default_rng(seed)
    form = Form(law, GROUPS[:k], *((1e8, 1e9) if sized else ()))
    if law == "exponential":
        return FittedLaw(form, np.array([np.log(1.5), *rng.normal(0, 1, k)]))
    theta = [np.log(1.7), *np.log(rng.uniform(0.5, 3, k)), *np.log(rng.uniform(0.2, 0.9, k))]
    for _ in form.sizes:
        theta += [np.log(0.4)] if law == "additive" else [*np.log(rng.uniform(0.2, 2, k)), np.log(0.6)]
        theta += [np.log(0.3)]
    return FittedLaw(form, np.array(theta))


def runs_of(law: FittedLaw, count: int, seed: int = 0, noise: float = 0.0) -> Runs:
    """Runs at random mixtures; of three and four sizes where the law has terms for them."""
    rng = np.random.default_rng(seed)
    mixtures = rng.dirichlet(np.ones(len(law.form.groups)), count)
    sizes: tuple[Floats | None, Floats | None] = (None, None)
    if law.form.sizes:
        sizes = (rng.choice([3e7, 1e8, 3e8], count), rng.choice([3e8, 1e9, 3e9, 1e10], count))
    runs = Runs(law.form.groups, mixtures, np.ones(count), *sizes)
    return replace(runs, losses=predictions(law, runs) * np.exp(noise * rng.normal(size=count)))


@pytest.fixture(scope="module")
def noisy() -> Fit:
    """The additive law of three groups fitted to twelve noisy runs."""
    return fit_law("additive", runs_of(law_of("additive"), 12, noise=0.002), seed=0, starts=4)


def objective_of(*laws: FittedLaw, **sizes: float) -> Objective:
    return Objective(laws, np.full(len(laws), 1 / len(laws)), **sizes)


def optimum_of(objective: Objective, k: int = 3) -> Floats:
    return best_mixture(objective, np.zeros(k), np.ones(k)).mixture


CASES = pytest.mark.parametrize(
    ("law", "sized"), [("additive", False), ("additive", True), ("joint", True), ("exponential", False)]
)


@CASES
def test_derivatives_by_parameters_are_those_of_differences(law: Law, sized: bool) -> None:
    made = law_of(law, 4, sized)
    runs = runs_of(made, 5)
    runs.mixtures[0] = [0, 1, 0, 0]
    ratios = ratios_of(made.form, runs)
    jacobian = made.form.evaluate(made.theta, runs.mixtures, ratios)[1]
    for place in range(len(made.theta)):
        step = np.zeros(len(made.theta))
        step[place] = 1e-6
        ends = [made.form.evaluate(made.theta + sign * step, runs.mixtures, ratios)[0] for sign in (1, -1)]
        assert jacobian[:, place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


@CASES
def test_derivatives_by_weights_are_those_of_differences(law: Law, sized: bool) -> None:
    made = law_of(law, 4, sized)
    ratios, mixture = np.array([0.5, -0.7][: len(made.form.sizes)]), np.array([0.1, 0.2, 0.3, 0.4])
    slope = made.form.slope(made.theta, mixture, ratios)[1]
    for place, step in enumerate(1e-6 * np.eye(4)):
        ends = [made.form.slope(made.theta, mixture + sign * step, ratios)[0] for sign in (1, -1)]
        assert slope[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


def test_the_additive_law_by_hand() -> None:
    """E 1, C 2 and 4, gamma 1/2 and 1, at N = 4 N0 with A 3, alpha 1/2: 1 + 1/(2·.5 + 4·.75) + 3/2."""
    form = Form("additive", ("a", "b"), reference_parameters=100.0)
    law = FittedLaw(form, np.log([1, 2, 4, 0.5, 1, 3, 0.5]))
    found = law.predict(np.array([[0.25, 0.75]]), parameters=np.array([400.0]))
    assert found == pytest.approx([1 + 1 / 4 + 3 / 2])


def test_the_joint_law_by_hand() -> None:
    """B = (1·.25 + 5·.75)^2 = 16, at D = 8 D0 with beta 2/3: 16 / 4."""
    form = Form("joint", ("a", "b"), reference_tokens=10.0)
    law = FittedLaw(form, np.log([1, 2, 4, 0.5, 1, 1, 5, 2, 2 / 3]))
    found = law.predict(np.array([[0.25, 0.75]]), tokens=np.array([80.0]))
    assert found == pytest.approx([1 + 1 / 4 + 4])


def test_the_exponential_law_by_its_parameters() -> None:
    law = law_of("exponential")
    mixture, values = np.array([0.2, 0.3, 0.5]), law.parameters()
    slopes = np.array([values[f"A[{name}]"] for name in law.form.groups])
    assert slopes.sum() == pytest.approx(0)
    assert law.predict(mixture[None])[0] == pytest.approx(
        values["c"] + values["b"] * np.exp(-slopes @ mixture)
    )


def test_a_weight_of_0_is_a_number_and_its_slope_too() -> None:
    law = law_of("additive")
    loss, slope = law.form.slope(law.theta, np.array([0.0, 0.0, 1.0]), np.zeros(0))
    assert np.isfinite([loss, *slope]).all()
    assert loss == pytest.approx(np.exp(law.theta[0]) + 1 / np.exp(law.theta[3]))


@pytest.mark.parametrize(
    ("law", "k", "sized", "count"),
    [("additive", 3, False, 10), ("additive", 4, True, 30), ("exponential", 4, False, 8)],
)
def test_parameters_are_recovered_from_noiseless_runs(law: Law, k: int, sized: bool, count: int) -> None:
    truth = law_of(law, k, sized)
    fit = fit_law(law, runs_of(truth, count), seed=1, starts=4)
    found, expected = fit.law.parameters(), truth.parameters()
    if sized:  # A and B are at N0 and D0, which are the runs' own
        expected["A"] *= (found["N0"] / expected["N0"]) ** -expected["alpha"]
        expected["B"] *= (found["D0"] / expected["D0"]) ** -expected["beta"]
        expected |= {name: found[name] for name in ("N0", "D0")}
    assert found == pytest.approx(expected, rel=1e-6)
    assert fit.diagnostics.rank == fit.diagnostics.parameter_count
    assert fit.diagnostics.leave_one_out_error < 1e-8


def test_the_joint_law_predicts_new_runs() -> None:
    truth = law_of("joint", 2, sized=True)
    fit = fit_law("joint", runs_of(truth, 30), seed=1, starts=3)
    new = runs_of(truth, 20, seed=5)
    assert predictions(fit.law, new) == pytest.approx(new.losses, rel=1e-5)


def test_equal_exponents_have_a_closed_form() -> None:
    scale, power = np.array([1.0, 2.0, 0.5]), 0.4
    law = FittedLaw(Form("additive", GROUPS[:3]), np.log([1.7, *scale, *np.full(3, power)]))
    closed = scale ** (1 / (1 - power))
    assert optimum_of(objective_of(law)) == pytest.approx(closed / closed.sum(), abs=1e-6)


def test_the_additive_optimum_does_not_move_with_size() -> None:
    law = law_of("additive", sized=True)
    small = optimum_of(objective_of(law, parameters=1e6, tokens=1e7))
    assert optimum_of(objective_of(law, parameters=1e11, tokens=1e13)) == pytest.approx(small, abs=1e-6)


def test_the_joint_optimum_moves_with_size() -> None:
    law = law_of("joint", sized=True)
    small = optimum_of(objective_of(law, parameters=1e6, tokens=1e7))
    assert np.abs(optimum_of(objective_of(law, parameters=1e11, tokens=1e13)) - small).max() > 0.05


def test_an_exponential_optimum_within_and_at_a_corner() -> None:
    """exp(-2 h1) + exp(-2 h2) is least in the middle; exp(-2 h1) alone at h1 = 1."""
    form = Form("exponential", ("a", "b"))
    one, other = (FittedLaw(form, np.array([0.0, *slopes])) for slopes in ([-2.0, 0.0], [0.0, -2.0]))
    assert optimum_of(objective_of(one, other), 2) == pytest.approx([0.5, 0.5], abs=1e-6)
    assert optimum_of(objective_of(one), 2).tolist() == [1, 0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), law=st.sampled_from(["additive", "joint", "exponential"]))
def test_no_mixture_of_a_grid_is_better(seed: int, law: Law) -> None:
    objective = objective_of(law_of(law, seed=seed), law_of(law, seed=seed + 1))
    found = best_mixture(objective, np.full(3, 0.1), np.array([0.3, 0.7, 0.8]))
    assert found.mixture.sum() == pytest.approx(1)
    assert (found.mixture >= 0.1 - 1e-12).all()
    assert (found.mixture <= np.array([0.3, 0.7, 0.8]) + 1e-12).all()
    for first in np.linspace(0.1, 0.3, 9):
        for second in np.linspace(0.1, 0.7, 25):
            rest = 1 - first - second
            if 0.1 <= rest <= 0.8:
                assert found.loss <= objective(np.array([first, second, rest]))[0] + 1e-9


def test_bounds_without_a_mixture_are_an_error() -> None:
    with pytest.raises(DataError, match="must leave a mixture"):
        best_mixture(objective_of(law_of("additive")), np.zeros(3), np.full(3, 0.3))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_projection_is_the_scaled_point_where_no_bound_binds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    point, least = rng.uniform(0, 1, 4) + 1e-3, rng.uniform(0, 0.2, 4)
    most = least + rng.uniform(0.3, 0.5, 4)
    found = project(point, least, most)
    free = (found > least + 1e-9) & (found < most - 1e-9)
    assert found.sum() == pytest.approx(1)
    assert np.ptp((found / point)[free], axis=0) < 1e-9 if free.sum() > 1 else True
    scale = (found / point)[free].mean() if free.any() else None
    if scale is not None:  # what is at a bound would be beyond it
        assert (scale * point[found <= least + 1e-9] <= least[found <= least + 1e-9] + 1e-9).all()
        assert (scale * point[found >= most - 1e-9] >= most[found >= most - 1e-9] - 1e-9).all()


def test_permuted_groups_permute_the_answer(noisy: Fit) -> None:
    order, runs = [2, 0, 1], noisy.runs
    groups = tuple(runs.groups[place] for place in order)
    fit = fit_law("additive", replace(runs, groups=groups, mixtures=runs.mixtures[:, order]), 0, starts=4)
    here, there = optimum_of(objective_of(noisy.law)), optimum_of(objective_of(fit.law))
    assert there == pytest.approx(here[order], abs=1e-3)


def test_same_seed_same_fit(noisy: Fit) -> None:
    assert fit_law("additive", noisy.runs, 0, starts=4).law.theta.tolist() == noisy.law.theta.tolist()


def test_an_outlier_moves_the_fit_little() -> None:
    """Huber: one run of twice the loss among thirty, in their middle; squares would spread it over all."""
    truth = law_of("additive")
    runs = runs_of(truth, 30, noise=0.001)
    odd = int(np.square(runs.mixtures - 1 / 3).sum(axis=1).argmin())
    runs.losses[odd] *= 2
    fit = fit_law("additive", runs, 0, starts=3)
    others = np.arange(30) != odd
    assert np.abs(fit.predicted / runs.losses - 1)[others].max() < 0.01


def test_errors_of_the_fit_are_as_defined(noisy: Fit) -> None:
    found, measured = noisy.diagnostics, noisy.runs.losses
    assert found.mean_relative_error == pytest.approx(np.abs(noisy.predicted / measured - 1).mean())
    assert found.leave_one_out_error > found.mean_relative_error
    unexplained = np.square(noisy.predicted - measured).sum() / np.square(measured - measured.mean()).sum()
    assert 1 - found.r_squared == pytest.approx(unexplained)
    assert np.exp(found.residuals) * measured == pytest.approx(noisy.predicted)


def test_a_run_that_is_left_out_does_not_touch_its_prediction(noisy: Fit) -> None:
    runs = replace(noisy.runs, losses=noisy.runs.losses.copy())
    runs.losses[0] *= 1.3
    again = fit_law("additive", runs, 0, starts=4)
    assert again.left_out_predicted[0] == pytest.approx(noisy.left_out_predicted[0], rel=1e-3)


def test_gamma_is_at_most_1_unless_told_and_said_where_it_ends_there() -> None:
    form = Form("additive", GROUPS[:2], max_gamma=5.0)
    runs = runs_of(FittedLaw(form, np.log([1.7, 1, 2, 2.0, 0.5])), 12)
    bound, free = (fit_law("additive", runs, 0, starts=8, max_gamma=most) for most in (1.0, 5.0))
    assert max(bound.law.parameters()[f"gamma[{name}]"] for name in GROUPS[:2]) <= 1
    assert "gamma[" in " ".join(bound.diagnostics.at_bound)
    assert free.law.parameters()["gamma[chat]"] == pytest.approx(2, rel=1e-5)
    assert free.diagnostics.at_bound == ()


def test_starts_that_agree_are_counted(noisy: Fit) -> None:
    assert 1 <= noisy.diagnostics.starts_agreeing <= noisy.diagnostics.starts == 4


@pytest.fixture(scope="module")
def spread(noisy: Fit) -> Intervals:
    """Intervals of the noisy fit; no weight of its optimum is at a bound."""
    objective = objective_of(noisy.law)
    optimum = best_mixture(objective, np.zeros(3), np.ones(3))
    return intervals([noisy], objective, optimum, np.zeros(3), np.ones(3), 25, seed=0)


def test_intervals_hold_the_optimum_and_are_near_the_truth(noisy: Fit, spread: Intervals) -> None:
    objective = objective_of(noisy.law)
    found = optimum_of(objective)
    truth = law_of("additive").predict(found[None])[0]
    assert (spread.weights[:, 0] <= found).all()
    assert (found <= spread.weights[:, 1]).all()
    assert spread.loss[0] <= objective(found)[0] <= spread.loss[1]
    assert abs(objective(found)[0] - truth) < 2 * np.ptp(spread.loss)


def test_a_run_is_less_certain_than_the_law(spread: Intervals) -> None:
    assert np.ptp(spread.run) > np.ptp(spread.loss) > 0


def test_same_seed_same_intervals(noisy: Fit, spread: Intervals) -> None:
    objective = objective_of(noisy.law)
    optimum = best_mixture(objective, np.zeros(3), np.ones(3))
    again = intervals([noisy], objective, optimum, np.zeros(3), np.ones(3), 25, seed=0)
    other = intervals([noisy], objective, optimum, np.zeros(3), np.ones(3), 25, seed=1)
    assert again.loss == spread.loss != other.loss


def test_intervals_of_noiseless_runs_have_no_width() -> None:
    fit = fit_law("exponential", runs_of(law_of("exponential"), 8), 0, starts=2)
    objective = objective_of(fit.law)
    optimum = best_mixture(objective, np.zeros(3), np.ones(3))
    found = intervals([fit], objective, optimum, np.zeros(3), np.ones(3), 20, seed=0)
    assert np.ptp(found.loss) < 1e-6
    assert np.ptp(found.weights, axis=1).max() < 1e-3


def test_one_size_leaves_its_term_out_and_says_why() -> None:
    runs = replace(runs_of(law_of("additive"), 10), parameters=np.full(10, 1.3e8))
    form, left_out = form_of("additive", runs)
    assert form.sizes == ()
    assert left_out == (
        "A/N^alpha: all runs have 1.3e+08 parameters, so it is a part of E",
        "B/D^beta: the runs do not say their `tokens`",
    )


def test_two_sizes_are_an_error() -> None:
    runs = replace(runs_of(law_of("additive"), 20), tokens=np.repeat([1e8, 2e8], 10))
    with pytest.raises(DataError, match=r"`tokens` .* at least 3 different .* Got 2 \(1e\+08 and 2e\+08\)"):
        form_of("additive", runs)


def test_the_exponential_law_refuses_sizes_that_differ() -> None:
    runs = replace(runs_of(law_of("exponential"), 20), tokens=np.linspace(1, 2, 20))
    with pytest.raises(DataError, match="exponential law has no term for `tokens`"):
        form_of("exponential", runs)


@pytest.mark.parametrize(
    ("law", "count", "message"),
    [
        (
            "additive",
            7,
            "additive law of 3 groups has 7 parameters here, and needs at least 8 different runs",
        ),
        ("exponential", 4, "has 4 parameters here, and needs at least 5 different runs. Got 4"),
    ],
)
def test_too_few_runs_say_how_many_are_needed(law: Law, count: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        form_of(law, runs_of(law_of(law), count))
    assert form_of(law, runs_of(law_of(law), count + 1))


def test_repeated_runs_count_once() -> None:
    runs = runs_of(law_of("additive"), 7)
    with pytest.raises(DataError, match="Got 7"):
        form_of("additive", runs.of(np.array([*range(7), 0, 1, 2])))


def test_a_group_of_one_weight_is_named() -> None:
    runs = runs_of(law_of("additive"), 10)
    mixtures = np.column_stack([runs.mixtures[:, 0], 1 - runs.mixtures[:, 0], np.zeros(10)])
    with pytest.raises(DataError, match="the same in all of: math"):
        form_of("additive", replace(runs, mixtures=mixtures))


@pytest.mark.parametrize(
    ("losses", "message"),
    [([0.0] + [1.0] * 9, "losses .* above 0"), ([2.0] * 10, "losses of the runs must differ")],
)
def test_losses_that_cannot_be_fitted(losses: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        form_of("additive", replace(runs_of(law_of("additive"), 10), losses=np.array(losses)))


def test_parameters_that_runs_cannot_tell_are_seen_in_the_rank() -> None:
    """gammaA of the joint law against CA, where all CA are equal."""
    k, form = 3, Form("joint", GROUPS[:3], reference_parameters=1e8)
    law = FittedLaw(form, np.log([1.7, 1, 2, 3, 0.4, 0.5, 0.6, *[0.5] * k, 0.8, 0.3]))
    rng = np.random.default_rng(0)
    runs = Runs(GROUPS[:3], rng.dirichlet(np.ones(k), 40), np.ones(40), rng.choice([1e7, 1e8, 1e9], 40))
    fit = fit_law("joint", replace(runs, losses=predictions(law, runs)), 0, starts=2)
    assert fit.diagnostics.rank < fit.diagnostics.parameter_count
