"""Length-matched random: a random subset with the lengths of another selector's choice. The honest baseline.

Rule: run the selector `like` on the same pool; draw uniformly at random, from the whole pool, as many rows
in each quantile bin of the lengths that it chose; swap rows inside bins until the totals of supervised
tokens agree to within one row (`numerics.baselines.length_matched`). Lengths are supervised tokens.
Rank is the order of the draw. A score that merely prefers long answers does not beat this subset.

Cost: that of `like`, then O(n log n) and one hash per row.
Source: Zhao et al., "Long is more for alignment", 2024, for why lengths matter.
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from curate.methods import MethodOf
from curate.numerics.baselines import length_bins, length_matched
from curate.pool import Pool
from curate.selector import Selection, Selector


class LengthMatchedRandom(Selector):
    """A random subset with the length histogram and the tokens of another selector's choice."""

    like: Annotated[Selector, MethodOf("selectors")] = Field(
        description="the selector whose choice is matched, e.g. {top: {by: loss, budget: 10%}}"
    )
    bins: int = Field(default=20, ge=1, description="quantile bins of the length histogram")

    def needs(self) -> frozenset[str]:
        """What `like` reads, and the lengths."""
        return self.like.needs() | {"supervised_tokens"}

    def check(self, higher_is_better: Mapping[str, bool | None]) -> None:
        """As `like`."""
        self.like.check(higher_is_better)

    @property
    def takes_constraints(self) -> bool:
        """No: the lengths decide."""
        return False

    def select(self, pool: Pool) -> Selection:
        """The matched rows, in the order of the draw."""
        lengths = pool.counts("supervised_tokens")
        reference = lengths[self.like.select(pool).kept]
        kept = length_matched(lengths, reference, pool.keys("length_matched_random"), self.bins)
        edges = length_bins(reference, self.bins)
        bounds = [int(reference.min()), *edges.tolist(), int(reference.max()) + 1]
        labels = np.searchsorted(edges, lengths, side="right")
        labels[(lengths < bounds[0]) | (lengths >= bounds[-1])] = len(edges) + 1
        held = np.bincount(labels, minlength=len(edges) + 2)
        drawn = np.bincount(labels[kept], minlength=len(edges) + 2)
        bins = [
            f", bin of {bounds[j]} to {bounds[j + 1] - 1}: {drawn[j]} of {held[j]} rows drawn at random, as many as "
            f"`{self.like.name}` chose"
            for j in range(len(edges) + 1)
        ]
        bins.append(f", outside the {bounds[0]} to {bounds[-1] - 1} that `{self.like.name}` chose")
        texts = pl.DataFrame({"tokens": lengths, "bin": pl.Series(bins).gather(labels)}).select(
            pl.format("{} supervised tokens{}", "tokens", "bin")
        )
        return Selection.of(kept, texts.to_series())
