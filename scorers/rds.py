"""RDS, representation-based selection: how near a row's states are to those of each target example.

Formula: the weighted mean of the last-layer states, weight i for the i-th token from 1 (a later state has seen
    more), L2-normalised; cosine with each target row's. `round_robin`: the target rows take turns choosing
    their nearest row that is left; the row chosen first has 1, the last above 0. `max`, `mean`: over targets.
Direction: high is better.
Cost: 1 forward, shared by all scorers of the pass; O(T d) beside it; one forward of the target's rows. Stored:
    one float32 per row and target row; round-robin O(n m log n) for n rows and m target rows.
Source: Ivison et al., Large-Scale Data Selection for Instruction Tuning (RDS+), 2025 (arXiv 2503.01807).
Deviations: after the final norm, what the output head reads; the tokens are those of the row as it is trained
    on, template included. Ties in a turn go to the earlier row.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.errors import DataError
from curate.model.request import Readout, StateReadout, States, TokenSignals
from curate.numerics.ranking import choose_in_turn
from curate.scorer import Examples, Numbers, PooledSignalScorer, Reference, Referenced


class Rds(PooledSignalScorer, Referenced):
    """Similarity of position-weighted mean states to the target's."""

    parts = ("similarity",)
    higher_is_better = True

    aggregate: Literal["round_robin", "max", "mean"] = Field(
        default="round_robin", description="how the similarities to the target's rows become one score"
    )

    def refer(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        """The target's vectors, float32 [target rows, d]. Raises DataError where none has a supervised token."""
        found = examples.signals(examples.target, [StateReadout("rds", _vectors)])
        scored = found.counts > 0
        if not scored.any():
            raise DataError(
                "target: none of its rows has a supervised token; there is nothing to compare with."
            )
        return {"vectors": found.readings["rds"][scored]}

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """The cosine with each target row."""
        targets = reference["vectors"].T
        return [StateReadout("rds", lambda states: _vectors(states) @ targets, width=targets.shape[1])]

    def measure(self, tokens: TokenSignals) -> Mapping[str, Numbers]:
        """Cosines, float32 [examples, target rows]."""
        return {"similarity": tokens.readings["rds"]}

    def combine(self, parts: Mapping[str, Numbers], rows: pl.DataFrame) -> Mapping[str, Numbers]:
        """Float64 [rows]; round-robin in (0, 1], else a cosine; null where a row has no supervised token."""
        similarity = parts["similarity"]
        if self.aggregate == "round_robin":
            return {"score": 1 - choose_in_turn(similarity) / max(len(similarity), 1)}
        reduced = similarity.max(axis=1) if self.aggregate == "max" else similarity.mean(axis=1)
        return {"score": np.asarray(reduced, dtype=np.float64)}


def _vectors(states: States):  # type: ignore[no-untyped-def]
    """Position-weighted mean of the states, unit length, [examples, d]."""
    total = states.total(states.hidden.float() * (states.place + 1.0)[:, None])
    return total / total.norm(dim=1, keepdim=True).clamp_min(1e-12)
