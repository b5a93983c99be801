"""Log-determinant: rows whose embeddings span the largest volume; the most diverse set.

Formula: f(S) = log det(I + X_S X_Sᵀ / ε), cosine similarities of the chosen rows, ε = `noise`. The gain of a row is
log(1 + r/ε), r the squared part of its vector that the chosen rows do not explain, which is 1 for the first row,
0 for a copy of a chosen one as ε goes to 0. Monotone, so greedy is worth at least 1 − 1/e of the best.
It is the mode of a determinantal point process with kernel I + XXᵀ/ε, and the most informative set of a Gaussian
process with noise ε. It does not look at what is common: an odd row goes before a typical one. Up to about d rows
it picks new directions; after that it evens out how often each direction is chosen.
Rank is the order of choice, ties by uid.
No kernel is made: d × d numbers (float64) beside the vectors, exact for a pool of any size.

Cost: O(d²) for each gain that is computed anew; lazy greedy computes few of them.
Source: Kulesza, Taskar, 2012; Chen, Zhang, Zhou, "Fast greedy MAP inference for determinantal point process", 2018.
Deviations: their update holds n·|S| numbers; here M = (I + X_SᵀX_S/ε)⁻¹ is updated, the same gains.
"""

from typing import Literal

from pydantic import Field

from curate.budget import Budget
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._submodular import Device, check_device, choose, greedily


class LogDeterminant(Selector):
    """Rows whose embeddings span the largest volume."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    noise: float = Field(
        default=0.1, ge=1e-6, allow_inf_nan=False, description="ε; the smaller, the less a near copy is worth"
    )
    greedy: Literal["exact", "stochastic"] = Field(
        default="exact", description="look at every row for each choice, or at a random sample"
    )
    epsilon: float = Field(
        default=0.1, gt=0, lt=1, description="stochastic: what is given up of the guarantee"
    )
    device: Device = Field(default="cpu", description="where the vectors are held: cpu or cuda")

    def needs(self) -> frozenset[str]:
        """The embedding and what the budget counts."""
        return frozenset({"embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """The unit vectors, and the matrix."""
        return 8 * rows * width + 24 * width**2

    def select(self, pool: Pool) -> Selection:
        """The rows in order of choice. Raises DataError as any selector."""
        from curate.numerics import submodular

        check_device(self.device)
        epsilon = self.epsilon if self.greedy == "stochastic" else None
        return choose(
            pool,
            self.budget,
            lambda candidates: greedily(
                submodular.LogDeterminant(candidates.vectors, self.noise, self.device),
                candidates,
                {},
                epsilon,
            ),
        )
