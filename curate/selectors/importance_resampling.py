"""Importance resampling (DSIR): rows drawn so that their words are distributed as the target's.

Formula: words and pairs of words of "prompt response", hashed into `buckets`; p and q, the shares of each bucket in
the target and in the pool; log w_i = Σ_{n-grams g of row i} log p(g) − log q(g). Rows are drawn without replacement,
each next one with probability ∝ w among those left, by the k largest of log w_i + Gumbel noise; `draw: top` leaves out
the noise.
Smoothing: `floor` adds 1e-8 to each share, as the official code; an n-gram that a small target lacks then costs about
ten nats, and `add_one`, (count + 1) / (sum + buckets), is milder.
The sum grows with length: weights of rows differ by tens of nats, the noise by one, so that the draw is nearly the top,
and long rows stand at both ends. `per_ngram: true` divides by the number of n-grams: length does not count, and the
draw is nearly uniform; take it with `draw: top`. Rows without a word are never chosen. Budgets in tokens stop at the
first row that does not fit. Rank: the order of the draw.

Cost: no model; the texts are hashed twice, about 30 MB a second; memory: some numbers a row and 128 MiB.
Source: Xie et al., "Data Selection for Language Models via Importance Resampling", 2023 (arXiv 2302.03169), and its
    code.
Deviations: a polynomial hash in place of SHA-256; non-ASCII punctuation belongs to words.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.budget import Budget
from curate.errors import DataError
from curate.numerics.hashed_ngrams import bucket_counts, bucket_sums
from curate.numerics.ranking import ranked, weighted_order
from curate.pool import Pool
from curate.selector import Selection, Selector
from curate.selectors._reasons import after, mask
from curate.selectors._vectors import texts_of

_SLICE_ROWS = 2048


class ImportanceResampling(Selector):
    """Rows drawn so that their words are distributed as the target's."""

    dimension_fields = ("buckets",)

    budget: Budget = Field(description='how much to keep: 500, "10%", "2M tokens" or "10% characters"')
    ngrams: int = Field(default=2, ge=1, le=5, description="longest run of words that is counted")
    buckets: int = Field(default=10_000, ge=2, description="buckets that n-grams are hashed into")
    smoothing: Literal["floor", "add_one"] = Field(
        default="floor", description="1e-8 added to each share, or 1 to each count"
    )
    per_ngram: bool = Field(
        default=False, description="mean of the log ratios in place of their sum: length does not count"
    )
    draw: Literal["sample", "top"] = Field(
        default="sample",
        description="with Gumbel noise: a draw with probability ∝ weight; or the largest weights",
    )

    def needs(self) -> frozenset[str]:
        """The texts of the rows and the target, and what the budget counts."""
        return frozenset({"prompt", "response", "artifact:target_rows"}) | self.budget.needs()

    def expected_memory_bytes(self, rows: int, width: int) -> int:
        """Some numbers a row, and the hashes of a block of text."""
        return 64 * rows + 2**27

    def select(self, pool: Pool) -> Selection:
        """The rows in the order of the draw. Raises DataError where the target or the pool has no word."""
        if pool.target.rows is None:
            raise DataError("the target must have rows to compare with. Add `target:` to the configuration.")
        aim, had = self._counts(pool.target.rows), self._counts(pool.frame)
        if not aim.sum() or not had.sum():
            raise DataError(
                f"the {'pool' if aim.sum() else 'target'} must have words to compare. It has none."
            )
        p, q = self._shares(aim), self._shares(had)
        ratios = np.log(p) - np.log(q)
        parts = [bucket_sums(texts, self.ngrams, ratios) for texts in _texts(pool.frame)]
        sums, sizes = (np.concatenate(each) for each in zip(*parts, strict=True))
        counted = np.where(sizes > 0, sizes, np.nan)
        weights = np.round(sums / counted if self.per_ngram else sums + 0 * counted, 9)
        order = ranked(weights, highest=True)
        place = np.zeros(pool.rows, dtype=np.int64)
        place[order] = np.arange(1, len(order) + 1)
        if self.draw == "sample":
            order = weighted_order(weights, pool.keys("importance_resampling"))
        kept = pool.take(order, self.budget)
        text = pl.format(f"log weight {{}}, place {{}} of {len(order)}", texts_of(weights), pl.Series(place))
        reasons = pl.select(
            pl.when(pl.Series(sizes == 0)).then(pl.lit("no words")).otherwise(text)
        ).to_series()
        dropped = mask(pool.rows, order) & ~mask(pool.rows, kept)
        more = ", not drawn" if self.draw == "sample" else ", the budget was spent before it"
        chosen = self._shares(self._counts(pool.frame[kept.tolist()]))
        notes = {"kl_of_pool": _divergence(p, q), "kl_of_kept": _divergence(p, chosen)}
        return Selection.of(kept, after(reasons, dropped, more), notes)

    def _counts(self, rows: pl.DataFrame) -> NDArray[np.int64]:
        """How many n-grams of the rows fall into each bucket, int64 [buckets]."""
        counts = np.zeros(self.buckets, dtype=np.int64)
        for texts in _texts(rows):
            counts += bucket_counts(texts, self.ngrams, self.buckets)
        return counts

    def _shares(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The smoothed share of each bucket, float64 [buckets]."""
        extra = 1.0 if self.smoothing == "add_one" else 0.0
        shares = (counts + extra) / max(counts.sum() + extra * len(counts), 1)
        return np.asarray(shares if self.smoothing == "add_one" else shares + 1e-8, dtype=np.float64)


def _texts(rows: pl.DataFrame) -> Iterator[list[str]]:
    """The texts of the rows, in slices."""
    whole = pl.concat_str(pl.col("prompt", "response").fill_null(""), separator="\n")
    for some in rows.iter_slices(_SLICE_ROWS):
        yield some.select(whole).to_series().to_list()


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """KL(p ‖ q) in nats."""
    return float((p * (np.log(p) - np.log(q))).sum())
