"""Fitting a mixture law to runs, and how far to trust the fit.

The objective is the sum over runs of Huber's loss, delta = 1e-3, of r = ln(predicted) - ln(measured), by several
starts of basin hopping over L-BFGS-B on the logarithms of the parameters, with exact derivatives; each start's
end is polished by a trust-region least-squares on the same objective (L-BFGS alone stalls in the flat valleys of
E against the exponents). The best end is kept. Left-out and resampled fits begin where the whole fit ended. The
gamma_i are at most 1 unless told otherwise; the paper asks for no more than above 0, and free ones can follow the
noise of a few runs to an optimum far beyond them.

Cost: for 4 groups and 20 runs seconds; starts times hops times some hundred evaluations of O(runs · p).
Source: Shukor et al., "Scaling laws for optimal data mixtures", 2025; Hoffmann et al., 2022 (Huber, 1e-3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curate.numerics.law_runs import Runs, form_of, predictions, ratios_of
from curate.numerics.mixture_laws import FittedLaw, Floats, Form, Law
from curate.numerics.seeds import derive

DELTA = 1e-3
"""Huber's delta, in logarithms of losses."""

HOPS = 3
"""Basin hops of a start."""

SAME = 1e-4
"""Starts agree whose predictions of the runs differ by at most this, relatively."""


@dataclass(frozen=True)
class Diagnostics:
    """How far to trust a fit.

    parameter_count: how many the law has here; rank: of the derivatives at the fit: where it is less, some parameters
    are not determined by these runs (predictions may be). left_out: terms that the runs cannot tell, with the
    reason. at_bound: parameters that ended at a bound of the search: read them as 0, or as without limit.
    mean_relative_error, leave_one_out_error: mean |predicted - measured| / measured over the runs, of the fit
    and of fits without the run. r_squared: of the fit, in losses. residuals: ln(predicted) - ln(measured).
    starts, starts_agreeing: how many starts there were and ended at the best one's predictions.
    """

    runs: int
    parameter_count: int
    rank: int
    left_out: tuple[str, ...]
    at_bound: tuple[str, ...]
    mean_relative_error: float
    leave_one_out_error: float
    r_squared: float
    residuals: tuple[float, ...]
    starts: int
    starts_agreeing: int


@dataclass(frozen=True)
class Fit:
    """A fitted law, its runs, their predictions float64 [n] with and without the run, and its diagnostics."""

    law: FittedLaw
    runs: Runs
    predicted: Floats
    left_out_predicted: Floats
    diagnostics: Diagnostics


def fit_law(law: Law, runs: Runs, seed: int, starts: int = 16, max_gamma: float = 1.0) -> Fit:
    """Fit a law to runs. Deterministic for a seed. Raises DataError as `form_of`.

    The matrices are tiny: BLAS runs on one thread, for more cost twenty times as much and round differently.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    form, left_out = form_of(law, runs, max_gamma)
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit(form, left_out, runs, seed, starts)


def _fit(form: Form, left_out: tuple[str, ...], runs: Runs, seed: int, starts: int) -> Fit:
    ends = [_search(form, runs, derive(seed, "law", str(start))) for start in range(starts)]
    costs = [_cost(form, theta, runs) for theta in ends]
    best = ends[int(np.argmin(costs))]
    reached = predictions(FittedLaw(form, best), runs)
    fitted = FittedLaw(form, _polish(form, best, runs, tolerance=1e-12, evaluations=500))
    predicted, jacobian = form.evaluate(fitted.theta, runs.mixtures, ratios_of(form, runs))
    agreeing = sum(
        bool((np.abs(predictions(FittedLaw(form, theta), runs) / reached - 1) <= SAME).all())
        for theta in ends
    )
    count = len(runs.losses)
    without = np.empty(count)
    for run in range(count):
        others = refit(fitted, runs.of(np.delete(np.arange(count), run)))
        without[run] = predictions(others, runs.of(np.array([run])))[0]
    low, high = form.bounds
    margin = 1e-3 * (high - low)
    at_bound = (fitted.theta < low + margin) | (fitted.theta > high - margin)
    spread = float(np.square(runs.losses - runs.losses.mean()).sum())
    diagnostics = Diagnostics(
        runs=count,
        parameter_count=len(form.names),
        rank=int(np.linalg.matrix_rank(jacobian / predicted[:, None], rtol=1e-8)),
        left_out=left_out,
        at_bound=tuple(name for name, at in zip(form.names, at_bound, strict=True) if at),
        mean_relative_error=float(np.abs(predicted / runs.losses - 1).mean()),
        leave_one_out_error=float(np.abs(without / runs.losses - 1).mean()),
        r_squared=1 - float(np.square(runs.losses - predicted).sum()) / spread,
        residuals=tuple(np.log(predicted / runs.losses).tolist()),
        starts=starts,
        starts_agreeing=agreeing,
    )
    return Fit(fitted, runs, predicted, without, diagnostics)


def refit(law: FittedLaw, runs: Runs) -> FittedLaw:
    """The same form fitted to other runs, from the parameters of `law` on; one local search."""
    return FittedLaw(law.form, _polish(law.form, law.theta, runs, tolerance=1e-8))


def _cost(form: Form, theta: Floats, runs: Runs) -> float:
    return _objective(form, runs)(theta)[0]


def _objective(form: Form, runs: Runs) -> Callable[[Floats], tuple[float, Floats]]:
    """theta -> (sum of Huber's losses / delta², its gradient [p])."""
    ratios, measured = ratios_of(form, runs), np.log(runs.losses)

    def objective(theta: Floats) -> tuple[float, Floats]:
        losses, jacobian = form.evaluate(theta, runs.mixtures, ratios)
        residual = (np.log(losses) - measured) / DELTA
        inside = np.clip(residual, -1, 1)
        return float((inside * (residual - inside / 2)).sum()), (inside / losses / DELTA) @ jacobian

    return objective


def _search(form: Form, runs: Runs, seed: int) -> Floats:
    """The end of one start, theta float64 [p]."""
    from scipy.optimize import basinhopping  # type: ignore[import-untyped]

    generator = np.random.default_rng(seed)
    low, high = form.bounds
    start = np.clip(_start(form, runs, generator), low, high)

    def step(theta: Floats) -> Floats:
        return np.clip(theta + generator.normal(0, 0.5, len(theta)), low, high)

    found = basinhopping(
        _objective(form, runs),
        start,
        niter=HOPS,
        take_step=step,
        minimizer_kwargs={
            "method": "L-BFGS-B",
            "jac": True,
            "bounds": list(zip(low, high, strict=True)),
            "options": {"maxiter": 80},
        },
        rng=generator,
    )
    return _polish(form, np.asarray(found.x, dtype=np.float64), runs, tolerance=1e-10)


def _polish(form: Form, theta: Floats, runs: Runs, tolerance: float, evaluations: int = 100) -> Floats:
    """The nearby minimum of the same objective, by trust-region least squares."""
    from scipy.optimize import least_squares

    ratios, measured = ratios_of(form, runs), np.log(runs.losses)

    def residual(theta: Floats) -> Floats:
        return (np.log(form.evaluate(theta, runs.mixtures, ratios)[0]) - measured) / DELTA

    def derivative(theta: Floats) -> Floats:
        losses, jacobian = form.evaluate(theta, runs.mixtures, ratios)
        return jacobian / losses[:, None] / DELTA

    low, high = form.bounds
    found = least_squares(
        residual, np.clip(theta, low, high), derivative, bounds=(low, high), loss="huber",
        ftol=tolerance, xtol=tolerance, gtol=tolerance, max_nfev=evaluations,
    )  # fmt: skip
    return np.asarray(found.x, dtype=np.float64)


def _start(form: Form, runs: Runs, generator: np.random.Generator) -> Floats:
    """A random theta of about the runs' losses: E a share of the least, the terms sharing what is left."""
    k, terms = len(form.groups), 1 + len(form.sizes)
    least = float(runs.losses.min()) * generator.uniform(0.1, 0.95)
    rest = float(runs.losses.mean()) - least
    if form.law == "exponential":
        return np.array([np.log(least), *(np.log(rest) + generator.normal(0, 1, k))])
    part = rest / terms
    theta = [np.log(least), *(-np.log(part) + generator.normal(0, 0.7, k)), *generator.normal(-0.7, 0.7, k)]
    for _ in form.sizes:
        if form.law == "additive":
            theta += [np.log(part) + generator.normal(0, 0.5)]
        else:
            theta += [*(np.log(part) + generator.normal(0, 0.7, k)), generator.normal(0, 0.3)]
        theta += [generator.normal(-1, 0.5)]
    return np.array(theta)
