"""Sample: a few rows of large files, read without parsing or keeping the others."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.data.ingest import read_shard
from curate.data.sources import Chunk, SourceFile
from curate.data.storage import Block, Record
from curate.settings import SourceSpec

SKIP_ROWS = 64
"""Records that are stepped over at a time. All records of a step are parsed where one of them is wanted."""


def rows_at(
    file: SourceFile,
    spec: SourceSpec,
    file_index: int,
    ordinals: NDArray[np.int64],
    metadata: Sequence[str],
) -> pl.DataFrame:
    """The rows of a file with these ordinals, in order, as `read_shard` gives them; unreadable ones are missing.

    ordinals: int64, ascending. Steps through the file up to the last of them; holds a step and the rows found.
    Raises DataError where the file cannot be read on.
    """
    wanted = Block(0, len(ordinals), partial(_records, file, ordinals))
    return read_shard(Chunk(file, wanted), spec, file_index, metadata)[0]


def _records(file: SourceFile, ordinals: NDArray[np.int64]) -> Iterator[Record]:
    for chunk in file.chunks(SKIP_ROWS):
        first, after = np.searchsorted(ordinals, [chunk.first, chunk.first + chunk.count])
        if after > first:
            here = set(ordinals[first:after].tolist())
            yield from (record for record in chunk.records() if record[0] in here)
        if after == len(ordinals):
            return
