"""SMART: a budget for each task by what it adds to the others, and in it the rows that represent the task.

Formula: stage 1, over tasks: a task is its mean embedding, s the cosine (at least 0); greedy graph cut, gain of e
= Σ_i s_ie - 2λ Σ_{j chosen} s_ej - λ s_ee; p_e ∝ 1 + g + g²/2, where g < -1 as for -1. Of N rows task e has
⌊N p_e⌋; what is left goes one each to the tasks that were chosen first, and so does what a task has no rows for,
again and again. Stage 2, inside a task: the first rows of the greedy order of facility location, the sum over the
task's rows of their cosine to the nearest row chosen, of those with the largest gain.
Rank: tasks in proportion to p, the rows of a task in their order. A budget in tokens is shared by p in tokens, up
to the first row that does not fit. With constraints, rows (or tokens) are spent in that order too.
Equal gains: the row whose uid comes first, so that nothing depends on the order of the pool.
The paper embeds the prompts alone: write `embed: {text: prompt}`. Rows without an embedding are never chosen.

Cost: O(tasks² d), and facility location inside each task: O(n_e² d) for its kernel, which takes 4 n_e² bytes, or, where
that is above `max_memory_gib`, the kernel of the nearest `neighbours` (the notes say of how many tasks). With
constraints or a budget in tokens more of each task is ordered than is kept.
Source: Renduchintala et al., "SMART: submodular data mixture strategy for instruction tuning", 2024, and its code.
Deviations: the code splits a task's budget over its four prompt templates first; make them tasks of their own by
`per`. Negative cosines count as 0.
"""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.budget import Budget
from curate.numerics.ranking import group_rank
from curate.pool import Groups, Pool, column_of
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask, share_texts
from curate.selectors._submodular import GIB, Device, check_device

if TYPE_CHECKING:
    from curate.numerics.smart import Representatives, TaskMixture


class Smart(Selector):
    """A budget for each task by a graph cut over tasks, filled by facility location."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    per: str = Field(default="source", description="column whose values are the tasks (source, meta.task, …)")
    redundancy: float = Field(
        default=0.4, ge=0, allow_inf_nan=False, description="λ: how much tasks alike count against each other"
    )
    tasks: int | None = Field(
        default=None, ge=1, description="only the first so many tasks; all when left out"
    )
    neighbours: int = Field(
        default=64, ge=2, description="of a row, in the kernel of a task too large for a dense one"
    )
    max_memory_gib: float = Field(
        default=4.0, gt=0, allow_inf_nan=False, description="largest kernel of a task, in GiB"
    )
    device: Device = Field(default="cpu", description="where a kernel is held and read: cpu or cuda")

    def needs(self) -> frozenset[str]:
        """The embedding, the tasks and what the budget counts."""
        return frozenset({"embedding", column_of(self.per)}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int | None:
        """The embeddings twice, and the kernel, at most that of all rows in one task."""
        return 8 * rows * width + min(4 * rows**2, int(self.max_memory_gib * GIB))

    def select(self, pool: Pool) -> Selection:
        """The representative rows of each task. Raises DataError where no row has an embedding."""
        from curate.numerics.smart import in_proportion, representatives, task_mixture

        check_device(self.device)
        vectors = pool.vectors("embedding")
        groups = pool.groups(column_of(self.per))
        mixture = task_mixture(vectors, groups.labels, self.redundancy, self.tasks)
        costs, limits = self._limits(pool, mixture)
        place = pool.frame["uid"].rank("ordinal").to_numpy()
        members = [rows[np.argsort(place[rows])] for rows in mixture.members]
        most = self.max_memory_gib * GIB
        found = representatives(vectors, members, costs, limits, self.neighbours, most, self.device)
        order = found.rows[in_proportion(costs[found.rows], found.tasks, mixture.shares)]
        is_split = self.budget.column is None and pool.constraints is None
        kept = order if is_split else pool.take(order, self.budget)
        names = [f"{name} (not among the first {self.tasks})" for name in groups.names]
        for task, share, gain in zip(mixture.tasks, mixture.shares, mixture.gains, strict=True):
            names[task] = f"{groups.names[task]} ({share:.3g} of the mixture by a gain of {gain:.3g})"
        texts = _texts(pool, found, np.asarray(np.isnan(vectors).any(axis=1)))
        texts = share_texts(texts, kept, np.arange(pool.rows), Groups(groups.labels, tuple(names)), self.per)
        texts = after(texts, mask(pool.rows, found.rows) & ~mask(pool.rows, kept), ", beyond the budget")
        shares = {
            groups.names[t]: s for t, s in zip(mixture.tasks.tolist(), mixture.shares.tolist(), strict=True)
        }
        return Selection.of(kept, texts, {"mixture": shares, "tasks_with_a_sparse_kernel": found.sparse})

    def _limits(self, pool: Pool, mixture: "TaskMixture") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What each row costs, int64 [rows], and how far each task is to be ordered, int64 [tasks]."""
        from curate.numerics.smart import reach, split

        unit = self.budget.column
        costs = np.ones(pool.rows, dtype=np.int64) if unit is None else pool.counts(unit)
        candidates, tasks = np.sort(np.concatenate(mixture.members)), len(mixture.tasks)
        if pool.constraints is not None or self.budget.is_all:
            return costs, np.full(tasks, costs.sum() + 1)
        if unit is not None:
            limit = self.budget.limit(int(costs.sum()))
            return costs, reach([costs[rows] for rows in mixture.members], mixture.shares, limit)
        sizes = np.array([len(rows) for rows in mixture.members])
        return costs, split(mixture.shares, len(pool.take(candidates, self.budget)), sizes)


def _texts(pool: Pool, found: "Representatives", missing: NDArray[np.bool_]) -> pl.Series:
    """Texts like "row 3 in the order of its task, gain 2.31", String [rows]."""
    place, gain = np.zeros(pool.rows, dtype=np.int64), found.bounds.copy()
    task = np.full(pool.rows, -1)
    task[found.rows] = found.tasks
    place[found.rows] = group_rank(found.rows, task) + 1
    frame = pl.DataFrame({"place": place, "gain": gain, "missing": missing})
    number = pl.col("gain").round_sig_figs(4)
    return frame.select(
        pl.when("missing").then(pl.lit("no embedding"))
        .when(pl.col("place") > 0).then(pl.format("row {} in the order of its task, gain {}", "place", number))
        .when(pl.col("gain").is_nan()).then(pl.lit("task without a share"))
        .otherwise(pl.format("not among the first of its task, would have added at most {}", number))
    ).to_series()  # fmt: skip
