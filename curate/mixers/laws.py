"""Laws: draws in proportion to the mixture that a law, fitted to trained mixtures, predicts to be best.

Formula: p = argmin_h of the weighted mean over targets of L(h), with L fitted to a table of runs:
additive, L = E + 1 / (sum_i C_i h_i^gamma_i) + A/N^alpha + B/D^beta; joint, the same with A and B functions of h;
exponential, L = c + b exp(-sum_j A_j h_j). Terms that the runs cannot tell, as they share one N or one D, are left
out and said. The notes hold the parameters, the diagnostics (leave-one-out error above all), the optimum and the
predicted loss with bootstrap intervals, and what the law predicts for the proportional and the equal mixture.
Each weight stays within the range that the runs tried, unless `extrapolate`: a law that fits the runs can be
wrong by much beyond them (benchmarks/mixture_laws.py); `outside_tried` names the groups whose weight is.

Cost: seconds for 3 to 4 groups: `starts` searches, a refit for each run and each resample. About 10 runs for 3 or
4 groups; at least one more than the law has parameters (additive 1 + 2k, exponential 1 + k, plus terms).
Source: Shukor et al., "Scaling laws for optimal data mixtures", 2025; Ye et al., "Data mixing laws", 2024.
Deviations: gamma at most 1 and no extrapolation, unless told; a polish by least squares (numerics.law_fitting).
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from curate.budget import Budget
from curate.errors import ConfigError, CurateError, DataError
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.mixers._mixture_runs import COLUMNS, RunTable, read_runs
from curate.mixers.weights import Weight
from curate.model.folders import file_hash
from curate.numerics.law_fitting import Fit, fit_law
from curate.numerics.law_optimum import Objective, Optimum, best_mixture, intervals
from curate.numerics.law_runs import form_of
from curate.numerics.mixture_laws import Law
from curate.numerics.seeds import derive
from curate.pool import Pool, column_of

Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Laws(Mixer):
    """The mixture that a law fitted to trained mixtures predicts to be best."""

    runs: Path = Field(description=f"table (.csv, .jsonl, .parquet) of trained mixtures: {COLUMNS}")
    law: Law = Field(default="additive", description="form of the law")
    losses: Mapping[str, Weight] = Field(
        default_factory=dict, description="target -> weight of its `loss.<target>`; all equal when left out"
    )
    at_parameters: Size | None = Field(
        default=None, description="N that the mixture is for; the largest of the runs when left out"
    )
    at_tokens: Size | None = Field(
        default=None, description="D that the mixture is for; the largest of the runs when left out"
    )
    min_weight: float = Field(default=0.0, ge=0, lt=1, description="least weight of every group")
    max_repeats: float | None = Field(
        default=None, gt=0, description="how often the rows of a group may be drawn on average, at most"
    )
    extrapolate: bool = Field(
        default=False, description="let weights leave the range that the runs tried, each by itself"
    )
    max_gamma: float = Field(
        default=1.0,
        ge=0.01,
        le=20,
        description="largest gamma; at most 1: returns diminish, the law is convex",
    )
    starts: int = Field(default=16, ge=1, description="searches from random parameters; the best is kept")
    resamples: int = Field(default=200, ge=0, description="refits behind the intervals; 0: no intervals")
    by: str = Field(default="source", description="column whose values are the groups")
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    @field_validator("runs")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()  # a worker may run in another folder

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.max_repeats is not None and self.draws is not None and self.draws.column is not None:
            raise ValueError(
                f"with `max_repeats`, `draws` must be rows or a share, as caps are of draws. Got {self.draws}."
            )
        try:
            table = read_runs(self.runs)
            for target in self._weights(table):
                form_of(self.law, table.runs(target), self.max_gamma)
        except CurateError as error:
            raise ValueError(str(error)) from error
        return self

    def needs(self) -> frozenset[str]:
        """The groups and what `draws` counts."""
        return frozenset({column_of(self.by)}) | (self.draws.needs() if self.draws else frozenset())

    def identity(self) -> dict[str, Any]:
        """The content of the table, not its place."""
        return {**super().identity(), "runs": file_hash(self.runs)}

    def mix(self, pool: Pool) -> Schedule:
        """Fit, find the optimum, draw and shuffle; phases are the groups.

        Raises ConfigError for groups of the table that are not the pool's; DataError for a table that cannot be
        fitted, and for bounds of the weights that leave no mixture.
        """
        deck, table = Deck.of(pool, column_of(self.by)), read_runs(self.runs)
        place = self._places(deck, table)
        sizes = deck.sizes[place].astype(np.float64)
        least, most = self._bounds(table, sizes, pool.rows)
        weights = self._weights(table)
        fits = [
            fit_law(
                self.law,
                table.runs(target),
                derive(pool.seed, "laws", target),
                self.starts,
                self.max_gamma,
            )
            for target in weights
        ]
        objective = Objective(
            tuple(fit.law for fit in fits),
            np.array(list(weights.values())),
            self.at_parameters or _largest(table.parameters),
            self.at_tokens or _largest(table.tokens),
        )
        optimum = best_mixture(objective, least, most)
        notes = self._notes(table, fits, objective, optimum, sizes)
        if self.resamples:
            seed = derive(pool.seed, "laws", "intervals")
            spread = intervals(fits, objective, optimum, least, most, self.resamples, seed)
            notes["intervals"] = {
                "level": spread.level,
                "mixture": dict(zip(table.groups, spread.weights.tolist(), strict=True)),
                "loss": list(spread.loss),
                "loss_of_a_run": list(spread.run),
            }
        chosen = np.zeros(len(place))
        chosen[place] = optimum.mixture
        return replace(mixture(deck, chosen, self.draws, pool.rows), notes=notes)

    def _weights(self, table: RunTable) -> dict[str, float]:
        """The weight of each target, summing to 1."""
        if not self.losses:
            return dict.fromkeys(table.losses, 1 / len(table.losses))
        unknown = [name for name in self.losses if name not in table.losses]
        total = sum(self.losses.values())
        if unknown or total == 0:
            raise ConfigError(
                f"`losses` must weigh targets of {self.runs} ({', '.join(table.losses)}), one above 0. "
                f"Got {', '.join(f'{name}: {weight:g}' for name, weight in self.losses.items())}."
            )
        return {name: weight / total for name, weight in self.losses.items() if weight}

    def _places(self, deck: Deck, table: RunTable) -> list[int]:
        """For each group of the table, its place in the deck."""
        missing = [name for name in deck.names if name not in table.groups]
        unknown = [name for name in table.groups if name not in deck.names]
        if missing or unknown:
            wrong = [f"no column for: {', '.join(missing)}"] if missing else []
            wrong += [f"columns that are no group of them: {', '.join(unknown)}"] if unknown else []
            raise ConfigError(
                f"{self.runs}: must have a column for each group (`{self.by}`) of the selected rows "
                f"({', '.join(deck.names)}), and no others. Got {'; '.join(wrong)}."
            )
        return [deck.names.index(name) for name in table.groups]

    def _bounds(
        self, table: RunTable, sizes: NDArray[np.float64], rows: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the most weight of each group, float64 [groups]."""
        least, most = np.full(len(sizes), self.min_weight), np.ones(len(sizes))
        if not self.extrapolate:
            least = np.maximum(least, table.mixtures.min(axis=0))
            most = np.minimum(most, table.mixtures.max(axis=0))
        if self.max_repeats is not None:
            draws = rows if self.draws is None else self.draws.rows(rows)
            most = np.minimum(most, self.max_repeats * sizes / draws)
        if most.sum() < 1 or least.sum() > 1 or (most < least).any():
            bounds = zip(table.groups, least, most, strict=True)
            raise DataError(
                "`min_weight`, `max_repeats` and the weights that the runs tried (without `extrapolate`) must leave "
                f"a mixture. Got {', '.join(f'{name} {low:.3g} to {high:.3g}' for name, low, high in bounds)}."
            )
        return least, most

    def _notes(
        self,
        table: RunTable,
        fits: list[Fit],
        objective: Objective,
        optimum: Optimum,
        sizes: NDArray[np.float64],
    ) -> dict[str, Any]:
        """What is said of the schedule: JSON values."""
        tried = zip(table.groups, optimum.mixture, table.mixtures.min(0), table.mixtures.max(0), strict=True)
        weights = self._weights(table)
        return {
            "law": self.law,
            "mixture": dict(zip(table.groups, optimum.mixture.tolist(), strict=True)),
            "outside_tried": [name for name, weight, low, high in tried if not low <= weight <= high],
            "gap": optimum.gap,
            "at": {"parameters": objective.parameters, "tokens": objective.tokens},
            "predicted_loss": optimum.loss,
            "predicted_loss_proportional": objective(sizes / sizes.sum())[0],
            "predicted_loss_equal": objective(np.full(len(sizes), 1 / len(sizes)))[0],
            "targets": {
                target: {"weight": weight, "parameters": fit.law.parameters(), **asdict(fit.diagnostics)}
                for (target, weight), fit in zip(weights.items(), fits, strict=True)
            },
        }


def _largest(values: NDArray[np.float64] | None) -> float | None:
    return None if values is None else float(values.max())
