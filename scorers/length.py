"""Length: how long a row is.

Formula: the number of words (runs of characters other than white space), of characters (Unicode code
    points), or of tokens, in the response, the prompt or both. Tokens are those that the trainer sees:
    `response` the supervised ones, `all` the whole row with the template, `prompt` the rest.
Direction: neither end is the good one; `higher_is_better` is None. Length is the strongest simple baseline.
Cost: no model; O(characters), and O(1) a row for tokens.
Source: Zhao et al., Long Is More for Alignment, 2024 (arXiv 2402.04833), which keeps the longest responses.
Deviations: the paper counts tokens; the default here is words, which need no tokenizer.
"""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.scorer import TextScorer

_TOKENS = {
    "response": pl.col("supervised_tokens"),
    "all": pl.col("tokens"),
    "prompt": pl.col("tokens") - pl.col("supervised_tokens"),
}


class Length(TextScorer):
    """Words, characters or tokens of a row's response, prompt or both."""

    higher_is_better = None

    unit: Literal["words", "characters", "tokens"] = Field(default="words", description="what is counted")
    part: Literal["response", "prompt", "all"] = Field(default="response", description="where it is counted")

    def needs(self) -> frozenset[str]:
        """The text or the token counts, whichever the options read."""
        if self.unit == "tokens":
            return frozenset(_TOKENS[self.part].meta.root_names())
        return frozenset({"prompt", "response"} if self.part == "all" else {self.part})

    def score(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Whole numbers, float64 [rows], at least 0; null where the counted column is."""
        if self.unit == "tokens":
            count = _TOKENS[self.part]
        else:
            texts = [pl.col(name) for name in sorted(self.needs())]
            words = [text.str.count_matches(r"\S+") for text in texts]
            characters = [text.str.len_chars() for text in texts]
            count = pl.sum_horizontal(words if self.unit == "words" else characters, ignore_nulls=False)
        counted = rows.select(count.cast(pl.Float64)).to_series()
        return counted.fill_null(float("nan")).to_numpy()
