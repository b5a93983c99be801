"""The mixture that fitted laws say is best: mirror descent on the simplex, and intervals by bootstrap.

Mirror descent with the entropy (exponentiated gradient): h ← Π(h · exp(-eta · dL/dh)), where Π is the nearest point
in Kullback-Leibler divergence with least <= h <= most and sum 1: clip(lambda · q, least, most). eta is halved
until the step is a descent, and grows again. From k + 2 starts, for the joint law is not convex (and the additive
one only where all gamma <= 1); it ends when the Frank-Wolfe gap, a bound of L(h) - L* for a convex L, is small.

Cost: some hundred steps of O(k log k) a start; an interval takes as many local fits as resamples.
Source: Kivinen and Warmuth 1997; Beck and Teboulle 2003 (mirror descent); Shukor et al. 2025 (for laws).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.law_fitting import Fit, refit
from curate.numerics.mixture_laws import SMALLEST_WEIGHT, FittedLaw, Floats
from curate.numerics.seeds import derive

STEPS = 2000
GAP = 1e-11
"""Of the loss: where a search ends."""

REDRAWS = 1000
"""Resamples of too few different runs that are drawn again."""


@dataclass(frozen=True)
class Objective:
    """The weighted mean of laws of the same groups, one per target loss, at N and D.

    weights: float64 [laws], summing to 1. parameters, tokens: N and D; None for each law's N0 and D0.
    """

    laws: tuple[FittedLaw, ...]
    weights: Floats
    parameters: float | None = None
    tokens: float | None = None

    def __call__(self, mixture: Floats) -> tuple[float, Floats]:
        """The loss of a mixture, float64 [k], and its derivatives, float64 [k]."""
        found = self._each(mixture)
        loss = sum(weight * value for weight, (value, _) in zip(self.weights, found, strict=True))
        slope = sum(weight * each for weight, (_, each) in zip(self.weights, found, strict=True))
        return float(loss), np.asarray(slope)

    def losses(self, mixture: Floats) -> Floats:
        """The loss of a mixture, float64 [k], by each law, float64 [laws]."""
        return np.array([value for value, _ in self._each(mixture)])

    def _each(self, mixture: Floats) -> list[tuple[float, Floats]]:
        both = zip(self.laws, self._ratios(), strict=True)
        return [law.form.slope(law.theta, mixture, ratios) for law, ratios in both]

    def _ratios(self) -> list[Floats]:
        found = []
        for law in self.laws:
            at_n = self.parameters or law.form.reference_parameters or 1.0
            at_d = self.tokens or law.form.reference_tokens or 1.0
            found.append(law.ratios([at_n], [at_d])[0])
        return found


@dataclass(frozen=True)
class Optimum:
    """mixture: float64 [k]. loss: there. gap: at most how far above the minimum, if the law is convex."""

    mixture: Floats
    loss: float
    gap: float


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals at `level`: of the optimum's weights, the law's loss at it, and one run's loss there.

    weights: float64 [k, 2].
    """

    level: float
    weights: Floats
    loss: tuple[float, float]
    run: tuple[float, float]


def best_mixture(
    objective: Objective, least: Floats, most: Floats, starts: Sequence[Floats] = (), gap: float = GAP
) -> Optimum:
    """The mixture of least loss with least <= h <= most, float64 [k] each.

    starts: where to begin; else at equal weights and near each corner. gap: of the loss, where a search ends.
    Raises DataError where the bounds leave no mixture.
    """
    k = len(least)
    if least.sum() > 1 + 1e-9 or most.sum() < 1 - 1e-9 or (least > most).any():
        raise DataError(
            "the bounds of the weights must leave a mixture: none above its upper bound, lower ones summing to at "
            f"most 1 and upper ones to at least 1. Got lower {least.tolist()} and upper {most.tolist()}."
        )
    begins = starts or [np.full(k, 1 / k), *(0.9 * np.eye(k) + 0.1 / k)]
    found = [_descend(objective, each, least, most, gap) for each in begins]
    return min(found, key=lambda each: each.loss)


def _descend(objective: Objective, start: Floats, least: Floats, most: Floats, gap: float) -> Optimum:
    floor = np.minimum(np.maximum(least, SMALLEST_WEIGHT), most)
    mixture = project(start, floor, most)
    loss, slope = objective(mixture)
    rate = 1.0 / max(np.ptp(slope), 1e-12)
    for _ in range(STEPS):
        if _gap(mixture, slope, floor, most) <= gap * loss:
            break
        for _ in range(60):
            after = project(_stepped(mixture, slope, rate), floor, most)
            new_loss, new_slope = objective(after)
            moved = after - mixture
            divergence = float(
                (after * np.log(np.maximum(after, 1e-300) / np.maximum(mixture, 1e-300))).sum()
            )
            if new_loss <= loss + slope @ moved + divergence / rate:
                break
            rate /= 2
        else:
            break  # no step is a descent: as near as rounding allows
        if not moved.any():
            break
        mixture, loss, slope = after, new_loss, new_slope
        rate *= 1.5
    rounded = project(np.where(mixture < 1e-9, 0.0, mixture), least, most)
    rounded = np.where(rounded < 1e-9, least, rounded)  # nothing in place of the smallest number
    loss, slope = objective(rounded)
    return Optimum(rounded, loss, _gap(mixture, slope, floor, most))


def _stepped(mixture: Floats, slope: Floats, rate: float) -> Floats:
    logits = np.log(np.maximum(mixture, 1e-300)) - rate * slope
    return np.asarray(np.exp(logits - logits.max()))


def _gap(mixture: Floats, slope: Floats, least: Floats, most: Floats) -> float:
    """slope · (h - s) with the s within the bounds that has the least slope · s."""
    order = np.argsort(slope, kind="stable")
    room = (most - least)[order]
    given = np.clip(1 - least.sum() - (np.cumsum(room) - room), 0, room)
    return float(slope @ mixture - slope @ least - slope[order] @ given)


def project(point: Floats, least: Floats, most: Floats) -> Floats:
    """The nearest h in KL divergence to a point, float64 [k] of at least 0, with least <= h <= most and sum 1.

    clip(lambda · point, least, most), lambda by the breaks of its sum, which is piecewise linear. Exact; O(k²).
    A weight of 0 stays at its lower bound, unless the others' upper bounds leave more to give.
    """
    values = np.maximum(point, 1e-300)
    breaks = np.unique(np.concatenate([least / values, most / values]))
    sums = np.clip(breaks[:, None] * values, least, most).sum(axis=1)
    after = int(np.searchsorted(sums, 1.0))
    if after == 0 or after == len(breaks):
        scale = breaks[min(after, len(breaks) - 1)]
    else:
        low, high, below, above = breaks[after - 1], breaks[after], sums[after - 1], sums[after]
        scale = low + (high - low) * (1 - below) / (above - below)
    return np.asarray(np.clip(scale * values, least, most))


def intervals(
    fits: Sequence[Fit], objective: Objective, optimum: Optimum, least: Floats, most: Floats,
    resamples: int, seed: int, level: float = 0.9,
) -> Intervals:  # fmt: skip
    """Percentile intervals by the bootstrap over runs: they are drawn with replacement and all laws refitted.

    fits: one per law of the objective, of the same runs; a resample draws the same runs for all, at least as many
    different ones as a law has parameters, for fewer many laws fit exactly (`resampled`). `weights`: of each
    resample's own optimum; `loss`: of each resample's law at the optimum found; `run`: the same with the
    leave-one-out error of a random run. With little more runs than parameters the intervals are too narrow
    (benchmarks/mixture_laws.py).
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    generator = np.random.default_rng(derive(seed, "bootstrap"))
    points, needed = fits[0].runs.points, max(fit.diagnostics.parameter_count for fit in fits)
    errors = [np.log(fit.runs.losses / fit.left_out_predicted) for fit in fits]
    k, count = len(least), len(points)
    starts = [0.9 * optimum.mixture + 0.1 / k, np.full(k, 1 / k)]
    weights, losses, runs = np.empty((resamples, k)), np.empty(resamples), np.empty(resamples)
    with threadpool_limits(limits=1, user_api="blas"):
        for resample in range(resamples):
            drawn = resampled(points, needed, generator)
            laws = tuple(refit(fit.law, fit.runs.of(drawn)) for fit in fits)
            other = replace(objective, laws=laws)
            weights[resample] = best_mixture(other, least, most, starts, gap=1e-7).mixture
            each, run = other.losses(optimum.mixture), generator.integers(count)
            losses[resample] = objective.weights @ each
            runs[resample] = objective.weights @ (each * np.exp([error[run] for error in errors]))
    tails = [(1 - level) / 2, (1 + level) / 2]
    return Intervals(
        level=level,
        weights=np.quantile(weights, tails, axis=0).T,
        loss=_pair(np.quantile(losses, tails)),
        run=_pair(np.quantile(runs, tails)),
    )


def resampled(points: NDArray[np.int64], needed: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Runs drawn with replacement, as many as there are, at least `needed` different ones; places, int64 [runs].

    points: int64 [runs], equal for equal runs, of at least `needed` different ones. What has fewer is drawn again.
    Where that is hopeless, as there are many parameters and hardly more runs, one run of each of `needed` points is
    certain, and only the others are drawn with replacement.
    """
    count = len(points)
    for _ in range(REDRAWS):
        drawn = generator.integers(0, count, count)
        if len(np.unique(points[drawn])) >= needed:
            return drawn
    order = generator.permutation(count)
    one_of_each = order[np.unique(points[order], return_index=True)[1]]
    certain = generator.permutation(one_of_each)[:needed]
    return np.concatenate([certain, generator.integers(0, count, count - needed)])


def _pair(values: Floats) -> tuple[float, float]:
    return float(values[0]), float(values[1])
