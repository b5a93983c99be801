"""Mixture laws: the loss of a model as a function of the mixture h that it was trained on, its size and its tokens.

With h on the simplex over k groups, N parameters and D training tokens, for one target loss (nats):

- additive: L = E + 1 / (sum_i C_i h_i^gamma_i) + A (N/N0)^-alpha + B (D/D0)^-beta
- joint: the same with A = (sum_i CA_i h_i)^gammaA and B = (sum_i CB_i h_i)^gammaB: sizes change the best mixture
- exponential: L = c + b exp(-sum_j A_j h_j), with the A_j of mean 0

All parameters but the A_j are positive. N0 and D0 are the geometric means of the runs' N and D, so that A and B
are losses; the papers write A/N^alpha, whose A is ours times N0^alpha, and CA_i ours times N0^(alpha/gammaA).
Where the runs have one N or one D, the term is a constant that no data can tell from E: it is left out.
As h sums to 1, a constant can be moved between b and the A_j, hence the mean of 0.

Source: Shukor et al., "Scaling laws for optimal data mixtures", 2025 (additive and joint); the joint law's A and
B are powers of a linear form, 5 + 4k parameters in all. Ye et al., "Data mixing laws", 2024 (exponential).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Law = Literal["additive", "joint", "exponential"]
Floats = NDArray[np.float64]

SMALLEST_WEIGHT = 1e-12
"""Where a slope is infinite at weight 0 (h^gamma, gamma < 1), it is taken here."""

LOSS, SCALE, POWER, SLOPE = (-14.0, 7.0), (-14.0, 14.0), (-5.0, 3.0), (-30.0, 30.0)
"""Bounds of the logarithms of losses, of C and of exponents (0.0067 to 20), and of the A_j themselves."""


@dataclass(frozen=True)
class Form:
    """A law with the terms that it has; all but the values of its parameters.

    reference_parameters, reference_tokens: N0 and D0; None for a law without the term. max_gamma: the largest
    gamma_i; up to 1 returns diminish, and the additive law is convex in h.
    A vector theta, float64 [p], holds the logarithms of the parameters in the order of `names`; for the
    exponential law log c, then the logits u_j = log b - A_j.
    """

    law: Law
    groups: tuple[str, ...]
    reference_parameters: float | None = None
    reference_tokens: float | None = None
    max_gamma: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """What each place of theta is."""
        return tuple(name for name, _ in self._places())

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """The least and the largest value of each place of theta, float64 [p] each."""
        low, high = zip(*(bound for _, bound in self._places()), strict=True)
        return np.array(low), np.array(high)

    @property
    def sizes(self) -> tuple[tuple[str, float], ...]:
        """The terms in N and D that the law has: their letter and their reference."""
        both = (("A", self.reference_parameters), ("B", self.reference_tokens))
        return tuple((letter, reference) for letter, reference in both if reference is not None)

    def _places(self) -> list[tuple[str, tuple[float, float]]]:
        if self.law == "exponential":
            return [("c", LOSS), *((f"u[{name}]", SLOPE) for name in self.groups)]
        places = [("E", LOSS), *((f"C[{name}]", SCALE) for name in self.groups)]
        power = (POWER[0], min(POWER[1], float(np.log(self.max_gamma))))
        places += [(f"gamma[{name}]", power) for name in self.groups]
        for letter, _ in self.sizes:
            if self.law == "additive":
                places.append((letter, LOSS))
            else:
                places += [(f"C{letter}[{name}]", SCALE) for name in self.groups]
                places.append((f"gamma{letter}", POWER))
            places.append(("alpha" if letter == "A" else "beta", POWER))
        return places

    def evaluate(self, theta: Floats, mixtures: Floats, ratios: Floats) -> tuple[Floats, Floats]:
        """Losses, float64 [n], and their derivatives by theta, float64 [n, p].

        mixtures: float64 [n, k]. ratios: float64 [n, terms], the ln(N/N0) and ln(D/D0) that the law has.
        """
        k = len(self.groups)
        if self.law == "exponential":
            least = np.exp(theta[0])
            rest = np.exp(mixtures @ theta[1:])
            return least + rest, np.column_stack([np.full(len(rest), least), rest[:, None] * mixtures])
        least, scale, power = np.exp(theta[0]), np.exp(theta[1 : k + 1]), np.exp(theta[k + 1 : 2 * k + 1])
        logs = np.log(np.maximum(mixtures, SMALLEST_WEIGHT))
        shares = np.where(mixtures > 0, scale * np.exp(power * logs), 0.0)
        term = 1 / shares.sum(axis=1)
        by_scale = -(term**2)[:, None] * shares
        losses, columns = least + term, [np.full(len(term), least), by_scale, by_scale * power * logs]
        for values, ratio in zip(self._split(theta), ratios.T, strict=True):
            term, by_theta, _ = _size_term(values, mixtures, ratio)
            losses = losses + term
            columns.append(by_theta)
        return losses, np.column_stack(columns)

    def slope(self, theta: Floats, mixture: Floats, ratios: Floats) -> tuple[float, Floats]:
        """The loss of one mixture, float64 [k], and its derivatives by the weights, float64 [k].

        ratios: float64 [terms]. A weight below SMALLEST_WEIGHT counts as that in the derivatives.
        """
        k = len(self.groups)
        loss = float(self.evaluate(theta, mixture[None], ratios[None])[0][0])
        if self.law == "exponential":
            return loss, np.asarray(np.exp(mixture @ theta[1:]) * theta[1:])
        scale, power = np.exp(theta[1 : k + 1]), np.exp(theta[k + 1 : 2 * k + 1])
        least = np.maximum(mixture, SMALLEST_WEIGHT)
        total = float((scale * least**power).sum())
        slope = -scale * power * least ** (power - 1) / total**2
        for values, ratio in zip(self._split(theta), ratios, strict=True):
            slope = slope + _size_term(values, mixture[None], np.array([ratio]))[2][0]
        return loss, slope

    def _split(self, theta: Floats) -> list[Floats]:
        """The part of theta of each term in N and D."""
        if not self.sizes:
            return []
        return np.split(theta[2 * len(self.groups) + 1 :], len(self.sizes))


def _size_term(values: Floats, mixtures: Floats, ratio: Floats) -> tuple[Floats, Floats, Floats]:
    """A (N/N0)^-alpha: its value [n], derivatives by its part of theta [n, q] and by the weights [n, k].

    values: log A, log alpha; or log CA_i, log gammaA, log alpha.
    """
    power = np.exp(values[-1])
    if len(values) == 2:
        term = np.exp(values[0] - power * ratio)
        return term, np.column_stack([term, -power * ratio * term]), np.zeros_like(mixtures)
    scale, outer = np.exp(values[:-2]), np.exp(values[-2])
    total = mixtures @ scale
    term = np.exp(outer * np.log(total) - power * ratio)
    by_weight = (outer * term / total)[:, None] * scale
    by_theta = [by_weight * mixtures, outer * np.log(total) * term, -power * ratio * term]
    return term, np.column_stack(by_theta), by_weight


@dataclass(frozen=True)
class FittedLaw:
    """A law with its parameters: theta, float64 [p]."""

    form: Form
    theta: Floats

    def ratios(self, parameters: Sequence[float] | Floats, tokens: Sequence[float] | Floats) -> Floats:
        """ln(N/N0) and ln(D/D0) of the terms that the law has, float64 [n, terms]; others are not read."""
        given = {"A": parameters, "B": tokens}
        columns = [np.log(np.asarray(given[letter]) / reference) for letter, reference in self.form.sizes]
        return np.column_stack(columns) if columns else np.zeros((len(parameters), 0))

    def predict(
        self, mixtures: Floats, parameters: Floats | None = None, tokens: Floats | None = None
    ) -> Floats:
        """Losses, float64 [n], of mixtures, float64 [n, k], at N and D, float64 [n] (None: N0 and D0)."""
        ones = np.ones(len(mixtures))
        at_n = ones * (self.form.reference_parameters or 1.0) if parameters is None else parameters
        at_d = ones * (self.form.reference_tokens or 1.0) if tokens is None else tokens
        return self.form.evaluate(self.theta, mixtures, self.ratios(at_n, at_d))[0]

    def parameters(self) -> dict[str, float]:
        """The parameters by name, in the form of the module's docstring, with N0 and D0."""
        if self.form.law == "exponential":
            logits, middle = self.theta[1:], float(self.theta[1:].mean())
            found = {"c": float(np.exp(self.theta[0])), "b": float(np.exp(middle))}
            slopes = (middle - logits).tolist()
            return found | {f"A[{name}]": each for name, each in zip(self.form.groups, slopes, strict=True)}
        found = dict(zip(self.form.names, np.exp(self.theta).tolist(), strict=True))
        references = {"A": "N0", "B": "D0"}
        return found | {references[letter]: reference for letter, reference in self.form.sizes}
