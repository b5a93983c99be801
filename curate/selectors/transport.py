"""Transport (GOT-D): the rows that pull the pool's distribution towards the target's.

Formula: entropic optimal transport between the pool (n rows, mass 1/n each) and the target, squared Euclidean cost
of unit embeddings, ε = `epsilon` times the mean cost. f_i, the dual potential of row i, is the derivative of the
cost by its mass; potential_i = f_i − Σ_{j≠i} f_j / (n−1). Keep the lowest: the rows of which more mass brings the
pool nearer to the target. These are not the nearest rows: what the target and the pool both have in plenty needs
no more. The pool stands for the mixture that the model was pre-trained on. Potentials within 1e-9 ε are a tie,
broken by position; rows and target rows without an embedding take no part.
Where `tolerance` is not reached, a warning and the notes say so, with the error that is left.

Cost: rows × target rows exponentials an iteration, some 10 iterations at ε = 0.1 and more for a smaller one;
4 bytes per row and target row, or, beyond `max_memory_gib`, products made anew at each iteration.
Source: Kang et al., "Get more for less: principled data selection for warming up fine-tuning in LLMs", ICLR 2024;
the calibrated gradient: Just et al., "LAVA: data valuation without pre-specified learning algorithms", ICLR 2023.
Deviations: the tolerance is 1e-5 by default (theirs: 0.1), as misplaced mass.
"""

import logging
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.budget import Budget
from curate.errors import DataError
from curate.numerics.kmeans import unit_rows
from curate.numerics.ranking import ranked
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, rank_texts

GIB = 2**30
TIE = 1e-9


class Transport(Selector):
    """The rows that pull the pool's distribution towards the target's (optimal transport gradients)."""

    execution_fields: ClassVar[frozenset[str]] = frozenset({"max_memory_gib", "device"})

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    epsilon: float = Field(
        default=0.1,
        gt=0,
        allow_inf_nan=False,
        description="entropic regularisation, as a multiple of the mean cost",
    )
    tolerance: float = Field(
        default=1e-5, gt=0, lt=2, description="marginal error (total mass that is misplaced) to stop at"
    )
    max_iterations: int = Field(
        default=1000, ge=1, description="passes over the pool to stop after, converged or not"
    )
    max_memory_gib: float = Field(default=4.0, gt=0, description="memory of the solver's blocks")
    device: str | None = Field(default=None, description="cpu or cuda; a GPU where there is one if not given")

    def needs(self) -> frozenset[str]:
        """The embeddings of pool and target, and what the budget counts."""
        return frozenset({"embedding", "artifact:target_embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """At most the limit and the vectors of unit length, however many target rows there are."""
        return int(self.max_memory_gib * GIB) + 8 * rows * width

    def select(self, pool: Pool) -> Selection:
        """The rows of the lowest potential, in rank order. Raises DataError where no row has an embedding."""
        points, known = _known(pool.vectors("embedding"), "pool")
        target, _ = _known(pool.target.vectors, "target")
        potential = np.full(pool.rows, np.nan)
        potential[known], notes = self._potentials(points, target)
        order = ranked(potential, highest=False)
        scored = replace(pool, frame=pool.frame.with_columns(potential=potential))
        texts = rank_texts(scored, "potential", order, highest=False)
        texts = texts.set(pl.Series(~known), "no embedding (embedding is null)")
        kept = pool.take(order, self.budget)
        is_kept = mask(pool.rows, kept)
        last = np.flatnonzero(is_kept[order])[-1:]
        beyond = order[last[0] + 1 :] if len(last) else order
        cut = "".join(f" at {value}" for value in scored.texts("potential").gather(order[last]))
        return Selection.of(kept, after(texts, mask(pool.rows, beyond), f", above the cut{cut}"), notes)

    def _potentials(
        self, points: NDArray[np.float32], target: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """The calibrated potential of each point, and what to say of the solution."""
        from curate.model.load import choose_device
        from curate.numerics.sinkhorn import calibrated, sinkhorn

        device, limit = choose_device(self.device), self.max_memory_gib * GIB
        found = sinkhorn(points, target, self.epsilon, self.tolerance, self.max_iterations, limit, device)
        names = ("converged", "iterations", "marginal_error", "epsilon", "mean_cost", "held_rows")
        notes = {
            **{name: getattr(found, name) for name in names},
            "target_rows": len(target),
            "device": device,
        }
        if not found.converged:
            logging.getLogger(__name__).warning(
                "transport: not converged after %d iterations: the marginal error is %.2g, not %.2g; raise "
                "`max_iterations`, `epsilon` or `tolerance`",
                found.iterations, found.marginal_error, self.tolerance,
            )  # fmt: skip
        values, grid = calibrated(found.points), TIE * found.epsilon
        return (np.round(values / grid) * grid if grid else values), notes


def _known(vectors: NDArray[np.float32] | None, name: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors that are there, at length 1, and which rows they are of."""
    rows = 0 if vectors is None else len(vectors)
    if vectors is not None:
        known = np.asarray(np.isfinite(vectors).all(axis=1))
        if known.any():
            return unit_rows(vectors if known.all() else vectors[known]), known
    raise DataError(f"transport needs embeddings of the {name}. None of its {rows} rows has one.")
