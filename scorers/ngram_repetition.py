"""N-gram repetition: how much of a text is word n-grams that come more than once.

Formula: unit `ngrams`: 1 - distinct n-grams / n-grams. Unit `characters`: the characters of the words that
    stand in an n-gram which occurs at least twice (its first occurrence included, each word once) over the
    characters of all words. A text of fewer than n words has one n-gram, itself, and so scores 0.
Direction: lower is better: copies of one phrase. Code, tables and verse repeat themselves rightfully.
Cost: no model; O(characters + words log words).
Source: `ngrams`: seq-rep-n of Welleck et al., Neural Text Generation with Unlikelihood Training, 2019
    (arXiv 1908.04319). `characters`: duplicate n-gram character fraction of Rae et al., Gopher, 2021 (arXiv
    2112.11446, table A1: at most 0.15 at n = 5 down to 0.10 at n = 10), as in RedPajama's
    `rps_doc_frac_chars_dupe_<n>grams` (Weber et al., 2024, arXiv 2411.12372).
Deviations: seq-rep-n is over the model's tokens; here, and in both units, over lower-cased words without
    punctuation. N-grams are compared by 64-bit hashes.
"""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.numerics.shingles import shingle_hashes
from curate.scorer import TextScorer
from scorers._words import Part, columns, words


class NgramRepetition(TextScorer):
    """Share of a text's word n-grams, or of its characters, that is repeated."""

    higher_is_better = False

    part: Part = Field(default="response", description="the text that is read")
    n: int = Field(default=4, gt=0, description="words of an n-gram")
    unit: Literal["ngrams", "characters"] = Field(default="ngrams", description="what the share is of")

    def needs(self) -> frozenset[str]:
        """The text."""
        return columns(self.part)

    def score(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Float64 [rows], in [0, 1]; null for a text without a word."""
        texts = rows.select(words(self.part).alias("words"))["words"].fill_null([])
        hashes, offsets = shingle_hashes(texts.list.join(" ").to_list(), self.n, "word")
        row = np.repeat(np.arange(len(texts)), np.diff(offsets))
        ngrams = pl.DataFrame({"row": row, "ngram": hashes})
        if self.unit == "ngrams":
            repeated = ~ngrams.select(pl.struct("row", "ngram").is_first_distinct()).to_series().to_numpy()
            return _shares(row, repeated, np.ones(len(row)), len(texts))
        twice = ngrams.select(pl.len().over("row", "ngram") > 1).to_series().to_numpy()
        spoken = texts.explode().drop_nulls()
        counts = texts.list.len().to_numpy().astype(np.int64)
        first_word = np.cumsum(counts) - counts
        starts = (np.arange(len(row)) - np.repeat(offsets[:-1], np.diff(offsets)) + first_word[row])[twice]
        edges = np.zeros(len(spoken) + 1, dtype=np.int64)
        np.add.at(edges, starts, 1)
        np.add.at(edges, starts + self.n, -1)
        characters = spoken.str.len_chars().to_numpy().astype(np.float64)
        return _shares(
            np.repeat(np.arange(len(texts)), counts), edges.cumsum()[:-1] > 0, characters, len(texts)
        )


def _shares(
    row: NDArray[np.int64], marked: NDArray[np.bool_], weights: NDArray[np.float64], rows: int
) -> NDArray[np.float64]:
    """The weight of what is marked over all weight, float64 [rows]; NaN for a row without any."""
    total = np.bincount(row, weights, rows)
    share = np.full(rows, np.nan)
    np.divide(np.bincount(row, weights * marked, rows), total, out=share, where=total > 0)
    return share
