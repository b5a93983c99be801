"""Overlap: how much of the response already stands in its prompt.

Formula: the containment of the response in the prompt, |G(response) ∩ G(prompt)| / |G(response)|, with G
    the set of a text's word n-grams. A response of fewer than n words is compared by n-grams of its length.
Direction: neither end is the good one; `higher_is_better` is None. 1 is an echo of the prompt (or a rightful
    extract, as in summaries and reading); 0 shares no phrase with it, as an answer to something else does.
Cost: no model; O(characters + words log words) of both texts.
Source: containment: Broder, On the Resemblance and Containment of Documents, 1997. Its complement is the
    share of novel n-grams by which abstraction is measured: See et al., Get To The Point, 2017 (arXiv
    1704.04368).
Deviations: not ROUGE-L, which falls with the length of the prompt that a short answer is copied from.
    n = 2 by default: single words are shared by any two texts. Words are lower-cased runs of letters, digits
    and marks. N-grams are compared by 64-bit hashes. The prompt is everything before the
    last answer, earlier answers included.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.numerics.shingles import shingle_hashes
from curate.scorer import TextScorer
from scorers._words import words


class Overlap(TextScorer):
    """Share of the response's distinct word n-grams that the prompt has too."""

    higher_is_better = None

    n: int = Field(default=2, gt=0, description="words of an n-gram")

    def score(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Float64 [rows], in [0, 1]; null where the response or the prompt has no word."""
        said = rows.select(words("prompt"), words("response")).fill_null([])
        counted = said.select(pl.all().list.len())
        length = counted.select(
            pl.when(pl.col("prompt") > 0).then(pl.col("response").clip(0, self.n)).otherwise(0)
        ).to_series().to_numpy()  # fmt: skip
        texts = said.select(pl.all().list.join(" "))
        score = np.full(len(rows), np.nan)
        for n in np.unique(length[length > 0]):
            some = np.flatnonzero(length == n)
            score[some] = _containment(texts["response"][some], texts["prompt"][some], int(n))
        return score


def _containment(inner: pl.Series, outer: pl.Series, n: int) -> NDArray[np.float64]:
    """|G(inner) ∩ G(outer)| / |G(inner)|, float64 [texts]; every inner text has at least n words."""
    asked, given = _ngrams(inner, n), _ngrams(outer, n)
    found = asked.join(given, on=["row", "ngram"], how="semi")
    sizes = [np.bincount(each["row"].to_numpy(), minlength=len(inner)) for each in (found, asked)]
    return np.divide(sizes[0], sizes[1], dtype=np.float64)


def _ngrams(texts: pl.Series, n: int) -> pl.DataFrame:
    """The distinct n-grams of each text: row, ngram."""
    hashes, offsets = shingle_hashes(texts.to_list(), n, "word")
    return pl.DataFrame({"row": np.repeat(np.arange(len(texts)), np.diff(offsets)), "ngram": hashes}).unique()
