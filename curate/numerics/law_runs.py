"""Runs of trained mixtures, and which terms of a mixture law they can tell."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError
from curate.numerics.mixture_laws import FittedLaw, Floats, Form, Law


@dataclass(frozen=True)
class Runs:
    """Trained models: mixtures float64 [n, k], rows summing to 1, columns as `groups`; losses float64 [n], nats.

    parameters, tokens: N and D of each run, float64 [n]; None where they are not known.
    """

    groups: tuple[str, ...]
    mixtures: Floats
    losses: Floats
    parameters: Floats | None = None
    tokens: Floats | None = None

    def of(self, rows: NDArray[np.integer[Any]]) -> "Runs":
        """Some of the runs, by their places, also repeatedly."""
        sizes = [None if each is None else each[rows] for each in (self.parameters, self.tokens)]
        return Runs(self.groups, self.mixtures[rows], self.losses[rows], *sizes)

    @property
    def points(self) -> NDArray[np.int64]:
        """Which runs are of one mixture and size: equal numbers, int64 [n]."""
        sizes = [each[:, None] for each in (self.parameters, self.tokens) if each is not None]
        return np.unique(np.column_stack([self.mixtures, *sizes]), axis=0, return_inverse=True)[1]


def form_of(law: Law, runs: Runs, max_gamma: float = 1.0) -> tuple[Form, tuple[str, ...]]:
    """The law with the terms that the runs can tell, and for each term left out, why.

    Raises DataError for losses or mixtures that are none; fewer than two groups; a group of one weight throughout;
    two different sizes, which cannot tell a power law; sizes that differ under the exponential law, which has no
    term for them; and too few different runs: at least one more than parameters.
    """
    _check(runs)
    left_out: list[str] = []
    references: list[float | None] = []
    terms = (("A/N^alpha", "parameters", runs.parameters), ("B/D^beta", "tokens", runs.tokens))
    for term, name, sizes in terms:
        different = 0 if sizes is None else len(np.unique(sizes))
        references.append(None)
        if law == "exponential":
            if different > 1:
                raise DataError(
                    f"the exponential law has no term for `{name}`: all runs must have the same. Got {different} "
                    "different ones. Give runs of one size, or take the additive law."
                )
        elif sizes is None:
            left_out.append(f"{term}: the runs do not say their `{name}`")
        elif different == 1:
            left_out.append(f"{term}: all runs have {sizes[0]:.6g} {name}, so it is a part of E")
        elif different == 2:
            both = " and ".join(f"{each:.6g}" for each in np.unique(sizes))
            raise DataError(
                f"`{name}` of the runs must be one number or at least 3 different ones, which a power law takes. "
                f"Got 2 ({both})."
            )
        else:
            references[-1] = float(np.exp(np.log(sizes).mean()))
    form = Form(law, runs.groups, references[0], references[1], max_gamma)
    different = len(np.unique(runs.points))
    needed = len(form.names) + 1
    if different < needed:
        raise DataError(
            f"the {law} law of {len(runs.groups)} groups has {len(form.names)} parameters here, and needs at least "
            f"{needed} different runs. Got {different}."
        )
    return form, tuple(left_out)


def _check(runs: Runs) -> None:
    k = len(runs.groups)
    if k < 2 or runs.mixtures.shape != (len(runs.losses), k):
        raise DataError(
            "runs must be of two or more groups, with a weight for each. "
            f"Got {k} groups, mixtures of shape {runs.mixtures.shape} and {len(runs.losses)} losses."
        )
    for name, values in (("losses", runs.losses), ("parameters", runs.parameters), ("tokens", runs.tokens)):
        if values is not None and not (np.isfinite(values).all() and (values > 0).all()):
            raise DataError(f"{name} of the runs must be finite and above 0. Got {values.tolist()}.")
    if np.ptp(runs.losses) == 0:
        raise DataError(
            f"losses of the runs must differ, to tell which mixture is best. All are {runs.losses[0]}."
        )
    sums = runs.mixtures.sum(axis=1)
    if not ((runs.mixtures >= 0).all() and (np.abs(sums - 1) < 1e-6).all()):
        raise DataError("the weights of a run must be at least 0 and sum to 1.")
    spans = np.ptp(runs.mixtures, axis=0)
    if (spans == 0).any():
        constant = ", ".join(name for name, span in zip(runs.groups, spans, strict=True) if span == 0)
        raise DataError(
            f"the weight of each group must differ between runs. It is the same in all of: {constant}."
        )


def predictions(law: FittedLaw, runs: Runs) -> Floats:
    """The predicted loss of each run, float64 [n]."""
    return law.form.evaluate(law.theta, runs.mixtures, ratios_of(law.form, runs))[0]


def ratios_of(form: Form, runs: Runs) -> Floats:
    """ln(N/N0) and ln(D/D0) of the terms that the law has, float64 [n, terms]."""
    pairs = ((runs.parameters, form.reference_parameters), (runs.tokens, form.reference_tokens))
    columns = [np.log(sizes / at) for sizes, at in pairs if sizes is not None and at is not None]
    return np.column_stack(columns) if columns else np.zeros((len(runs.losses), 0))
