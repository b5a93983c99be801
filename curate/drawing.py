"""Drawing: a sample of the records that the sources hold, or of the rows that a stored stage left of them."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.data.rows import FILE_BITS
from curate.data.sample import rows_at
from curate.reader import Reader
from curate.sampled import WEIGHT
from curate.stages.ingest import Ingest
from curate.store import Entry

LEAST_ROWS = 64
"""Of each source: of files to evaluate on, few beside a large pool, too."""


def draw(
    ingest: Ingest, counts: Sequence[int], entry: Entry | None, wanted: int, generator: np.random.Generator
) -> pl.DataFrame:
    """About so many rows in order of position, with `weight`: how many each stands for; unreadable ones are missing.

    counts: records of each file. entry: whose surviving rows are drawn from, each as likely; None for all records,
    at least 64 of each source. O(records).
    """
    if entry is not None:
        living = Reader(entry.folder, {}).positions
        positions = np.asarray(living[some(len(living), wanted, generator)])
        return _read(ingest, positions, np.full(len(positions), len(living) / max(len(positions), 1)))
    sources = [file.source.name for file in ingest.files]
    drawn, stand_for, total = [], [], sum(counts)
    for name in dict.fromkeys(sources):
        own = [index for index, source in enumerate(sources) if source == name]
        sizes = [counts[index] for index in own]
        share = max(round(wanted * sum(sizes) / max(total, 1)), min(LEAST_ROWS, wanted))
        places = some(sum(sizes), share, generator)
        drawn.append(positions_of(sizes, places, own))
        stand_for.append(np.full(len(places), sum(sizes) / max(len(places), 1)))
    return _read(ingest, np.concatenate(drawn), np.concatenate(stand_for))


def _read(ingest: Ingest, positions: NDArray[np.int64], stand_for: NDArray[np.float64]) -> pl.DataFrame:
    frames = []
    for file in ingest.files:
        ordinals = positions[positions >> FILE_BITS == file.index] & ((1 << FILE_BITS) - 1)
        if len(ordinals):
            frames.append(rows_at(file.file, file.source, file.index, np.sort(ordinals), ingest.metadata))
    weight = pl.DataFrame({"position": positions, WEIGHT: stand_for})
    return pl.concat(frames).join(weight, on="position", how="left", maintain_order="left")


def some(total: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`wanted` of the numbers below `total` (at most all), int64, ascending; any set is as likely as any other."""
    places: NDArray[np.int64] = generator.choice(total, min(wanted, total), replace=False)
    return np.sort(places)


def positions_of(
    counts: Sequence[int], places: NDArray[np.int64], files: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Positions of records, from their places among the records of these files (all, from 0, where None)."""
    sizes = np.asarray(counts, dtype=np.int64)
    ends = np.cumsum(sizes)
    index = np.searchsorted(ends, places, side="right").astype(np.int64)
    file = index if files is None else np.asarray(files, dtype=np.int64)[index]
    return (file << FILE_BITS) | (places - (ends - sizes)[index])
