"""Facility location: rows so chosen that every row of the pool has one like it among them.

Formula: f(S) = Σ_i max_{j∈S} s_ij over all rows i with an embedding, s_ij = max(0, cos(x_i, x_j)). Negative cosines
count as 0, so f is monotone and no gain is negative. Maximised greedily: at least 1 − 1/e of the best possible on a
budget in rows. Rank is the order of choice. The gain of a row: by how much all rows together are served better.
Kernel: `dense` holds all n² similarities (4n² bytes); `sparse` those of each row with its nearest `neighbours`, by
exact search, s_ij where either is a neighbour of the other; all others count as 0, so that a row is served by near
ones or not at all. `auto`: dense while it fits into `max_memory_gib` (4 GiB: 32,768 rows), else sparse. `pruned` goes
through all n² similarities once and holds those that can still serve a row better after the first choices (one row
in 160), which are made on a sample of 1,000 of the rows to be served: the fastest, with a small part of the memory, and
in our measurements 99.9 % of the objective or more. On 1,000 rows or fewer it chooses as `dense` does. 4 GiB hold some
200,000 rows (sparse, 64 neighbours: 700,000).
`greedy: exact` chooses the best row each time, ties by uid. `stochastic`: the best of a random sample of
(n/k) ln(1/epsilon) rows; 1 − 1/e − epsilon in expectation, about half the time on a dense kernel, no faster on
a sparse one.

Cost: n²d operations for the kernel (twice that for a sparse one), then some passes over it. On two cores, 8,000 rows of
384 numbers: 0.3 s pruned, 0.5 s dense; 84,636 rows of 256: 13 s and 1.2 GiB pruned (the better objective), 30 s and
1 GiB sparse.
Source: Nemhauser, Wolsey, Fisher, 1978; Mirzasoleiman et al., "Lazier than lazy greedy", 2015; sparse kernels for
it: Wei, Iyer, Bilmes, "Fast multi-stage submodular maximization", 2014.
"""

from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from curate.budget import Budget
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._submodular import (
    GIB,
    Candidates,
    Device,
    Found,
    KernelForm,
    check_device,
    choose,
    greedily,
    kernel_bytes,
    kernel_of,
)

if TYPE_CHECKING:
    from curate.numerics.submodular import Objective


class FacilityLocation(Selector):
    """Rows that together lie close to every row of the pool."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    kernel: KernelForm | Literal["pruned"] = Field(
        default="auto",
        description="which similarities are held: dense, sparse, dense while it fits (auto), or pruned",
    )
    neighbours: int = Field(default=64, ge=2, description="sparse: the rows that each is compared with")
    max_memory_gib: float = Field(default=4, gt=0, description="the most that the kernel may take, in GiB")
    greedy: Literal["exact", "stochastic"] = Field(
        default="exact", description="look at every row for each choice, or at a random sample"
    )
    epsilon: float = Field(
        default=0.1, gt=0, lt=1, description="stochastic: what is given up of the guarantee"
    )
    device: Device = Field(default="cpu", description="where the kernel is held and read: cpu or cuda")

    @model_validator(mode="after")
    def _one_sample(self) -> Self:
        if self.kernel == "pruned" and self.greedy == "stochastic":
            raise ValueError(
                "`greedy: stochastic` reads a `dense` or `sparse` kernel. Got `kernel: pruned`; leave `greedy` out."
            )
        return self

    def needs(self) -> frozenset[str]:
        """The embedding and what the budget counts."""
        return frozenset({"embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """The kernel."""
        if self.kernel == "pruned":
            from curate.numerics.pruned import pruned_bytes

            return pruned_bytes(rows, self.max_memory_gib * GIB) + 10 * rows * width
        return kernel_bytes(self.kernel, rows, width, self.neighbours, self.max_memory_gib)

    def select(self, pool: Pool) -> Selection:
        """The rows in order of choice. Raises DataError where a kernel does not fit, or as any selector."""
        check_device(self.device)
        if self.kernel == "pruned":
            return choose(pool, self.budget, self._pruned)
        return choose(pool, self.budget, partial(self._maximise, self.kernel))

    def _maximise(self, form: KernelForm, candidates: Candidates) -> Found:
        from curate.numerics import submodular
        from curate.numerics.kernels import SparseKernel

        kernel, notes = kernel_of(candidates.vectors, form, self.neighbours, self.max_memory_gib, self.device)
        objective: Objective
        if isinstance(kernel, SparseKernel):
            objective = submodular.SparseFacilityLocation(kernel)
        elif self.greedy == "stochastic":
            objective = submodular.FacilityLocationOnDemand(kernel)
        else:
            objective = submodular.FacilityLocation(kernel)
        return greedily(objective, candidates, notes, self.epsilon if self.greedy == "stochastic" else None)

    def _pruned(self, candidates: Candidates) -> Found:
        from curate.numerics.pruned import pruned_greedy

        found = pruned_greedy(
            candidates.vectors, candidates.admission, self.max_memory_gib * GIB, self.device
        )
        notes = {
            "kernel": "pruned",
            "greedy": "exact",
            "chosen_on_a_sample": found.begun - len(candidates.admission.include),
        }
        if found.kernel is None:
            return Found(found.chosen, notes, "")
        held = {
            "kernel_bytes": found.kernel.bytes,
            "mean_neighbours": round(found.kernel.mean_neighbours, 1),
        }
        return Found(found.chosen, notes | held, "")
