"""The words that text scorers count: lower-cased runs of letters, digits, marks and underscores.

As in RedPajama's signals and rouge-score, but of any script. A script without spaces (Chinese, Thai) has
one word a phrase, and little can be said of it in words.
"""

from typing import Literal

import polars as pl

Part = Literal["response", "prompt", "all"]
"""The text that a scorer reads; all: the prompt, a newline, the response (or the response alone)."""


def columns(part: Part) -> frozenset[str]:
    """The columns that hold the part."""
    return frozenset({"prompt", "response"} if part == "all" else {part})


def text(part: Part) -> pl.Expr:
    """The part of each row, str; null where one of its columns is."""
    if part != "all":
        return pl.col(part)
    both = pl.concat_str("prompt", "response", separator="\n")
    return pl.when(pl.col("prompt") == "").then("response").otherwise(both).alias("all")


def words(part: Part) -> pl.Expr:
    """The words of the part of each row, list[str]."""
    return text(part).str.to_lowercase().str.extract_all(r"\w+")
