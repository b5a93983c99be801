"""SMART: a mixture by what each task adds to the others, by a submodular function over tasks.

Formula: a task is the mean embedding of its selected rows, s the cosine of two (at least 0); greedy graph cut, gain
of e = Σ_i s_ie - 2λ Σ_{j chosen} s_ej - λ s_ee; p_e ∝ 1 + g + g²/2, where g < -1 as for -1. Draws in
proportion to p, by largest remainder; a task with fewer rows than draws is repeated.
The paper embeds the prompts alone: write `embed: {text: prompt}`.

Cost: O(n d + tasks² d), and O(n log n) and two hashes per row.
Source: Renduchintala et al., "SMART: submodular data mixture strategy for instruction tuning", 2024, its first stage.
The selector `smart` has both: the second chooses which rows of a task.
"""

from dataclasses import replace

import numpy as np
from pydantic import Field

from curate.budget import Budget
from curate.errors import DataError
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.pool import Pool, column_of


class Smart(Mixer):
    """Draws in proportion to what each group adds to the others, by a graph cut over their mean embeddings."""

    by: str = Field(default="source", description="column whose values are the groups")
    redundancy: float = Field(
        default=0.4,
        ge=0,
        allow_inf_nan=False,
        description="λ: how much groups alike count against each other",
    )
    tasks: int | None = Field(
        default=None, ge=1, description="only the first so many groups; all when left out"
    )
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    def needs(self) -> frozenset[str]:
        """The embedding, the groups and what `draws` counts."""
        return frozenset({"embedding", column_of(self.by)}) | (
            self.draws.needs() if self.draws else frozenset()
        )

    def mix(self, pool: Pool) -> Schedule:
        """Draw and shuffle; phases are the groups. Raises DataError for a group without an embedding."""
        from curate.numerics.smart import task_mixture

        deck = Deck.of(pool, column_of(self.by))
        vectors, labels = pool.vectors("embedding"), pool.groups(column_of(self.by)).labels
        embedded = np.bincount(labels[~np.isnan(vectors).any(axis=1)], minlength=len(deck.names))
        if missing := [name for name, rows in zip(deck.names, embedded.tolist(), strict=True) if not rows]:
            raise DataError(
                f"SMART needs an embedding in every group of `{self.by}`. None in {', '.join(missing)}."
            )
        found = task_mixture(vectors, labels, self.redundancy, self.tasks)
        weights = np.zeros(len(deck.names))
        weights[found.tasks] = found.shares
        shares = dict(zip(deck.names, weights.tolist(), strict=True))
        return replace(mixture(deck, weights, self.draws, pool.rows), notes={"mixture": shares})
