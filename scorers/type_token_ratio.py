"""Type-token ratio: how many of a text's words are distinct.

Formula: the moving-average type-token ratio (MATTR): the mean, over all runs of w consecutive words, of the
    distinct words in the run over w, where w = min(`window`, words of the text). Without a window (null)
    w is the whole text: the plain ratio V / N.
Direction: neither end is the good one; `higher_is_better` is None. Low is repetition, or a table; 1 is a
    text in which no word comes twice, as short answers and word salad are.
Cost: no model; O(words log words), whatever the window.
Source: Covington and McFall, Cutting the Gordian Knot, Journal of Quantitative Linguistics 17(2), 2010.
Deviations: words are lower-cased runs of letters, digits and marks. The plain ratio falls with length, so
    a window is the default, and 50 words, not the 100 to 500 of studies of style: a text shorter than the
    window gets its plain ratio, and still depends on its length.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.scorer import TextScorer
from scorers._words import Part, columns, words


class TypeTokenRatio(TextScorer):
    """Distinct words over words, in a moving window."""

    higher_is_better = None

    part: Part = Field(default="response", description="the text that is read")
    window: int | None = Field(
        default=50,
        gt=0,
        description="words of the moving window; null: the whole text, which favours short ones",
    )

    def needs(self) -> frozenset[str]:
        """The text."""
        return columns(self.part)

    def score(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Float64 [rows], in (0, 1]; null for a text without a word.

        A word counts in each window that holds it but not its previous occurrence, which starts at one
        of max(0, place - w + 1, previous + 1) to min(place, N - w).
        """
        text = rows.select(word=words(self.part)).with_row_index("row")
        place, length = pl.int_range(pl.len()).over("row"), pl.len().cast(pl.Int64).over("row")
        span = length if self.window is None else pl.min_horizontal(length, self.window)
        first = pl.max_horizontal(0, pl.col("place") - pl.col("span") + 1, pl.col("previous") + 1)
        last = pl.min_horizontal("place", pl.col("length") - pl.col("span"))
        windows = pl.col("length").first() - pl.col("span").first() + 1
        ratios = (
            text.explode("word")
            .drop_nulls("word")
            .with_columns(place.alias("place"), length.alias("length"), span.alias("span"))
            .with_columns(previous=pl.col("place").shift(1).over("row", "word"))
            .group_by("row")
            .agg(ratio=(last - first + 1).clip(0).sum() / (pl.col("span").first() * windows))
        )
        joined = text.select("row").join(ratios, on="row", how="left", maintain_order="left")
        return joined["ratio"].fill_null(float("nan")).to_numpy()
