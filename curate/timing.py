"""Timing: how long a stage takes on a few rows, and so on many.

The stage is set up, which is timed apart, and warmed up with one row. Then it computes ever more rows, spread
evenly over all lengths, until they tell enough or the next step would pass the time limit. The last step
counts: seconds = load + seconds a token x all tokens (a ratio estimate; rows where a stage reads no tokens).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.stage import Artifacts, RowStage
from curate.tasks import collected, peak_memory_bytes

SAMPLE_ROWS = 2000
LIMIT_SECONDS = 25.0
FIRST_ROWS, GROWTH = 4, 4
ENOUGH_ROWS, ENOUGH_SECONDS = 64, 5.0
"""A step of so many rows that took so long tells enough."""


@dataclass(frozen=True)
class Probing:
    """How a probe is done. tell: told what is being done; clock: seconds."""

    rows: int = SAMPLE_ROWS
    limit_seconds: float = LIMIT_SECONDS
    tell: Callable[[str], None] = lambda text: None
    clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Timing:
    """What was timed: `seconds` for so many units in so many rows; and what `setup` took."""

    load_seconds: float
    seconds: float
    units: int
    rows: int
    peak_memory_bytes: int

    def seconds_for(self, units: int) -> float:
        """Seconds of a run on so many units, loading included."""
        return self.load_seconds + self.seconds * units / self.units


def time_stage(
    stage: RowStage,
    rows: pl.DataFrame,
    outputs: frozenset[str],
    artifacts: Artifacts,
    most_rows: int,
    generator: np.random.Generator,
    how: Probing,
) -> Timing:
    """Time a stage on rows that stand in order of length, at most `most_rows` (those of a shard) at once.

    After the warm-up, ever more rows: 4, 16, 64 …, until they tell enough, or the next step would not fit in
    the time limit, which only a single row of a large model can pass.
    """
    how.tell(f"loading the model of {stage.label}")
    begun = how.clock()
    state = stage.setup(artifacts)
    load_seconds = how.clock() - begun
    how.tell(f"timing {stage.label}, about {how.limit_seconds:.0f} s")

    def timed(places: NDArray[np.int64]) -> float:
        begun = how.clock()
        with collected():
            stage.apply(rows[places], state, outputs)
        return how.clock() - begun

    most = min(most_rows, rows.height)
    left = how.limit_seconds - timed(np.array([rows.height // 2]))
    count = min(FIRST_ROWS, most)
    while True:
        places = spread(rows.height, count, generator)
        seconds = timed(places)
        left -= seconds
        fits = int(len(places) * left / seconds) if seconds > 0 else most
        following = min(GROWTH * count, most, fits)
        told = seconds >= ENOUGH_SECONDS and count >= ENOUGH_ROWS
        if told or following < min(2 * count, most) or following <= count:
            break
        count = following
    units = int(rows["tokens"][places].sum()) if "tokens" in rows.columns else len(places)
    return Timing(load_seconds, seconds, units, len(places), peak_memory_bytes())


def spread(total: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`wanted` of the numbers below `total` (at most all), int64, ascending, at equal steps from a random start."""
    count = min(wanted, total)
    places = ((generator.random() + np.arange(count)) * (total / count)).astype(np.int64)
    return np.minimum(places, total - 1)
