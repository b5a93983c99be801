"""Compression ratio: how far a text shrinks under zlib.

Formula: (bytes of the text's DEFLATE stream at level 6 - 2) / bytes of the text in UTF-8. The 2 bytes are
    the stream of the empty text.
Direction: neither end is the good one; `higher_is_better` is None. Low is repetition; high has no pattern,
    as keys and binary data, or no room for one, as every short text.
Cost: no model; O(bytes), one row at a time.
Source: Radford et al., Whisper, 2022 (arXiv 2212.04356), which rejects text that zlib shrinks more than
    2.4 times (0.42 here); Yin et al., Entropy Law, 2024 (arXiv 2407.06645) selects data by it.
Deviations: both state the inverse, raw over compressed. They count the whole zlib stream, in which the
    header, checksum and end weigh 8 bytes: a text of 4 bytes would seem to triple. Here a single byte
    scores 1, no text more than 1.2. The ratio still falls with length, most below some hundred bytes: compare
    within a length (`per`), not across. Another build of zlib (zlib-ng) can differ in the last digits.
"""

import zlib

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.scorer import TextScorer
from scorers._words import Part, columns, text


class CompressionRatio(TextScorer):
    """Compressed bytes over raw bytes."""

    higher_is_better = None

    part: Part = Field(default="response", description="the text that is compressed")

    def needs(self) -> frozenset[str]:
        """The text."""
        return columns(self.part)

    def score(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Float64 [rows], in (0, 1.2]; null for an empty text."""
        texts = rows.select(text(self.part)).to_series()
        return np.array([_ratio(each.encode()) if each else np.nan for each in texts], dtype=np.float64)


def _ratio(raw: bytes) -> float:
    return (len(zlib.compress(raw, level=6, wbits=-zlib.MAX_WBITS)) - 2) / len(raw)
