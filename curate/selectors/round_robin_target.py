"""Round robin over the target: its rows take turns to choose their nearest row that is left.

Rule: target row 0 chooses the row of the pool with the largest cosine to it, target row 1 its own among those left,
and so on, and again from the first, until the budget is spent; equal cosines by position. A row that a constraint
bars is passed over within the turn. Rows that must be included are chosen before. Rows without an embedding are
never chosen, and target rows without one have no turn: they are counted from 0 among those that have one. Budgets in
tokens stop at the first row that does not fit.
Against `top` by similarity to the mean of the target: every target row has its share, however rare its kind.
Rank is the order of the turns.

Cost: O(n m d) for n rows and m target rows, more where many target rows want the same; memory: the embeddings twice
    and about 0.3 GiB, never n × m.
Source: Ivison et al., "Large-Scale Data Selection for Instruction Tuning" (RDS+), 2025 (arXiv 2503.01807).
Deviations: the embeddings are those of the `embed` stage; RDS+ itself takes the states of the tuned model, weighted by
    position: the scorer `rds`. `embed: {model: states}` is the plain mean of them.
"""

import numpy as np
import polars as pl
from pydantic import Field

from curate.budget import Budget
from curate.numerics.kmeans import assign
from curate.numerics.nearest import BLOCK_ELEMENTS, LIST_BYTES, NearestLeft
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._choosing import Choosing
from curate.selectors._reasons import after, mask
from curate.selectors._vectors import NO_EMBEDDING, Embedded, target_vectors, texts_of


class RoundRobinTarget(Selector):
    """The target's rows take turns to choose their nearest row that is left."""

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')

    def needs(self) -> frozenset[str]:
        """The embeddings of the rows and the target, and what the budget counts."""
        return frozenset({"embedding", "artifact:target_embedding"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """The embeddings twice, a block of cosines, and the target rows' lists."""
        return 8 * width * rows + 4 * max(BLOCK_ELEMENTS, rows) + LIST_BYTES

    def select(self, pool: Pool) -> Selection:
        """The rows in the order of the turns."""
        embedded, target = Embedded.of(pool), target_vectors(pool)
        choosing = Choosing(pool, self.budget)
        left = NearestLeft(embedded.vectors, target, self.expected_rows(pool.rows) or pool.rows // 10)
        for place in embedded.places_of(choosing.included):
            left.take(place)
        turns = np.full(pool.rows, -1, dtype=np.int64)
        cosine = np.full(pool.rows, np.nan)
        turn = 0
        while not choosing.spent:
            found = left.nearest(turn % len(target))
            if found is not None:
                place, similarity = found
                row = int(embedded.rows[place])
                left.take(place)
                if choosing.ask(row):
                    turns[row], cosine[row] = turn, similarity
                    turn += 1
            released = embedded.places_of(choosing.released())
            if released:
                left.put_back(released)
            elif found is None:
                break
        kept = choosing.finish()
        nearest, distance = assign(embedded.vectors, target, spherical=True)
        own = np.zeros(pool.rows, dtype=np.int64)
        own[embedded.rows] = nearest
        similarity_texts = texts_of(embedded.spread(1 - distance.astype(np.float64)))
        dropped = pl.format("nearest target row {}, cosine {}", pl.Series(own), similarity_texts)
        chosen = pl.format(
            "chosen by target row {} in its turn {}, cosine {}",
            pl.Series(turns % len(target)), pl.Series(turns // len(target) + 1), texts_of(cosine),
        )  # fmt: skip
        texts = pl.select(
            pl.when(pl.Series(embedded.missing)).then(pl.lit(NO_EMBEDDING))
            .when(pl.Series(turns >= 0)).then(chosen).otherwise(dropped)
        ).to_series()  # fmt: skip
        asked = mask(pool.rows, np.array([*kept, *choosing.barred], dtype=np.int64)) | embedded.missing
        notes = {"target_rows": len(target), "turns": turn, "searches": left.searches}
        return Selection.of(kept, after(texts, ~asked, "; left when the turns ended"), notes)
