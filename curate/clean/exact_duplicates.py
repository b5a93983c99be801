"""Exact duplicates: rows whose text is the same, character by character.

of = row: equal canonical content (the column `uid`: all messages, tools and the rejected answer);
prompt, response: equal text. Rows without that text (the empty prompt of a plain text) are nobody's
duplicate. Of equal rows one survives, by `keep`. Equality is that of a 128-bit BLAKE2b hash.

Cost: one hash a row; grouping sorts n keys of 16 bytes. Source: common practice (Lee et al. 2022,
Deduplicating Training Data Makes Language Models Better, §4.1 for the motivation).
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.cleaner import Columns, Deduplicator, Duplicates, Keep, Part
from curate.numerics.components import survivors


class ExactDuplicates(Deduplicator):
    """Keeps one of the rows that are equal."""

    of: Part = Field(default="row", description="what must be equal: the whole row, its prompt, its response")
    keep: Keep = Field(
        default="first",
        description="who survives: first, longest (most characters of prompt and response), or a "
        "score's name (highest wins; -name: lowest); ties go to the first",
    )

    @property
    def signature(self) -> Mapping[str, pl.DataType]:
        """The hash (16 bytes; null where there is no text) and the length of each row."""
        return {f"{self.name}.hash": pl.Binary(), self.length_column: pl.UInt32()}

    def needs(self) -> frozenset[str]:
        """The columns that `sign` reads."""
        return super().needs() | {"uid"}

    def sign(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The hash and the length of each row."""
        if self.of == "row":
            hashes: list[bytes | None] = [bytes.fromhex(uid) for uid in rows["uid"]]
        else:
            hashes = [_hash(text) for text in rows[self.of]]
        return pl.DataFrame(
            {f"{self.name}.hash": hashes, self.length_column: self.characters(rows)},
            schema=dict(self.signature),
        )

    def group(self, pool: Columns) -> Duplicates:
        """Equal hash, one group. O(n log n)."""
        frame = pool.frame({*self.signature, *self.preference_columns()})
        keys = frame[f"{self.name}.hash"]
        firsts = pl.select(pl.int_range(len(frame)).alias("row"), keys.alias("key")).select(
            pl.when(pl.col("key").is_null()).then("row").otherwise(pl.col("row").min().over("key"))
        )
        survivor = survivors(firsts.to_series().to_numpy(), self.preference(frame))
        dropped = survivor != np.arange(len(frame))
        return Duplicates(survivor, np.where(dropped, 1.0, np.nan))

    def similarities(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """1 where the hash is that of the first row, else 0."""
        hashes = self.sign(rows)[f"{self.name}.hash"]
        return np.array([float(each is not None and each == hashes[0]) for each in hashes])

    def reason(self, survivor: str, similarity: float) -> str:
        """Why a row was dropped."""
        return f"the same {self.of} as {survivor}"


def _hash(text: str) -> bytes | None:
    return hashlib.blake2b(text.encode(), digest_size=16).digest() if text else None
