"""Graph cut: rows near to the whole pool and far from each other.

Formula: f(S) = Σ_{i∈V} Σ_{j∈S} s_ij − λ Σ_{i,j∈S} s_ij, s_ij = max(0, cos(x_i, x_j)); the gain of e is
Σ_{i∈V} s_ie − 2λ Σ_{j∈S} s_ej − λ s_ee. Maximised greedily. Where λ is large a gain may be negative: f is monotone
up to λ = ½ alone. The budget is met all the same, and the reasons say the gain. Against facility location: rows in
dense regions win, a row that is like no other comes last (two duplicates and one row at a right angle, λ = 0.4:
gains 1.6, 0.8, 0.6, the odd one last), and a pool with many near duplicates needs a larger λ.
Kernel: as of facility_location. A sparse kernel leaves out all but the nearest rows, from the first sum as well: rows
are near to their neighbourhood, no longer to the whole pool.
Rank is the order of choice, ties by uid.

Cost: n²d operations for the kernel (twice that for a sparse one), then O(n) a choice.
Source: Iyer, Bilmes, 2015, and as used by Renduchintala et al., "SMART", 2024 (λ = 0.4).
"""

from pydantic import Field

from curate.budget import Budget
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._submodular import (
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


class GraphCut(Selector):
    """Rows near to the whole pool and far from each other."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    redundancy: float = Field(
        default=0.4, ge=0, allow_inf_nan=False, description="λ, the weight of the likeness of the kept rows"
    )
    kernel: KernelForm = Field(
        default="auto", description="which similarities are held: dense, sparse, or dense while it fits"
    )
    neighbours: int = Field(default=64, ge=2, description="sparse: the rows that each is compared with")
    max_memory_gib: float = Field(default=4, gt=0, description="the most that the kernel may take, in GiB")
    device: Device = Field(default="cpu", description="where the kernel is held and read: cpu or cuda")

    def needs(self) -> frozenset[str]:
        """The embedding and what the budget counts."""
        return frozenset({"embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """The kernel."""
        return kernel_bytes(self.kernel, rows, width, self.neighbours, self.max_memory_gib)

    def select(self, pool: Pool) -> Selection:
        """The rows in order of choice. Raises DataError where a kernel does not fit, or as any selector."""
        check_device(self.device)
        return choose(pool, self.budget, self._maximise)

    def _maximise(self, candidates: Candidates) -> Found:
        from curate.numerics import submodular

        kernel, notes = kernel_of(
            candidates.vectors, self.kernel, self.neighbours, self.max_memory_gib, self.device
        )
        return greedily(submodular.GraphCut(kernel, self.redundancy), candidates, notes)
