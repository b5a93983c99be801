"""Timing: how long a stage takes on little, and so on much.

A row stage is set up, which is timed apart, and warmed up with one row. Then it computes ever more rows, spread
evenly over all lengths, until they tell enough or the next step would pass the time limit. The last step counts:
seconds = load + seconds a token x all tokens (a ratio estimate; rows where a stage reads no tokens).

Work that tells how far it is (a training, an evaluation) is timed from its first telling to its last; what is before
and after, the first step among it, is spent once. Work on whole columns is timed on all rows of a sample; where there
are more in the pool, on half of them too, and the seconds grow as they did: between linearly and with the square.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.runner import Runner
from curate.runners.local import Local
from curate.stage import Artifacts, RowStage
from curate.tasks import collected, peak_memory_bytes

SAMPLE_ROWS = 2000
LIMIT_SECONDS = 25.0
FIRST_ROWS, GROWTH = 4, 4
ENOUGH_ROWS, ENOUGH_SECONDS = 64, 5.0
"""A step of so many rows that took so long tells enough."""
LEAST_SECONDS = 0.05
"""Of what took less, how it grows cannot be told: linearly."""


@dataclass(frozen=True)
class Probing:
    """How a probe is done. tell: told what is being done; clock: seconds, picklable; runner: where the run will be."""

    rows: int = SAMPLE_ROWS
    limit_seconds: float = LIMIT_SECONDS
    tell: Callable[[str], None] = lambda text: None
    clock: Callable[[], float] = time.perf_counter
    runner: Runner = field(default_factory=Local)


@dataclass(frozen=True)
class Timing:
    """What was timed: `seconds` for so many units in so many rows; and what is spent once, `load_seconds`.

    seconds for u units: load_seconds + seconds · (u / units)^growth. peak_memory_bytes: of the worker, `added_bytes`
    of them by these rows; gpu_memory_bytes: of its GPU, 0 without one.
    """

    load_seconds: float
    seconds: float
    units: int
    rows: int
    peak_memory_bytes: int
    growth: float = 1.0
    gpu_memory_bytes: int = 0
    added_bytes: int = 0

    def seconds_for(self, units: int, workers: int = 1) -> float:
        """Seconds of a run on so many units, shared by so many workers, each of which loads."""
        return self.load_seconds + self.seconds * float((units / self.units) ** self.growth) / workers

    def peak_memory_for(self, rows: int) -> int:
        """Of a worker that holds so many rows at once."""
        return self.peak_memory_bytes + round(self.added_bytes * (rows / max(self.rows, 1) - 1))


def time_stage(
    stage: RowStage,
    rows: pl.DataFrame,
    outputs: frozenset[str],
    artifacts: Artifacts,
    most_rows: int,
    generator: np.random.Generator,
    limit_seconds: float,
    clock: Callable[[], float],
) -> tuple[Timing, pl.DataFrame]:
    """Time a stage on rows that stand in order of length, at most `most_rows` (those of a shard) at once.

    After the warm-up, ever more rows: 4, 16, 64 …, until they tell enough, or the next step would not fit in
    the time limit, which only a single row of a large model can pass. What the stage found for the rows of the last
    step comes back with their `position`; where all others take little longer, of them too.
    """
    begun = clock()
    state = stage.setup(artifacts)
    load_seconds = clock() - begun
    found: list[pl.DataFrame] = []

    def timed(places: NDArray[np.int64]) -> float:
        begun = clock()
        with collected():
            result = stage.apply(rows[places], state, outputs)
        seconds = clock() - begun
        found.append(result.with_columns(rows["position"][places]))
        return seconds

    most = min(most_rows, rows.height)
    left = limit_seconds - timed(np.array([rows.height // 2]))
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
    known = [found[-1]]
    others = np.setdiff1d(np.arange(rows.height), places)
    if seconds * len(others) / len(places) < min(left, ENOUGH_SECONDS):
        for first in range(0, len(others), most):
            timed(others[first : first + most])
            known.append(found[-1])
    timing = Timing(load_seconds, seconds, units, len(places), peak_memory_bytes())
    return timing, pl.concat(known).sort("position")


def time_once(
    stage: RowStage,
    rows: pl.DataFrame,
    outputs: frozenset[str],
    artifacts: Artifacts,
    clock: Callable[[], float],
) -> tuple[Timing, pl.DataFrame]:
    """Time a stage without a model on all these rows at once; they come back as from `time_stage`."""
    begun = clock()
    state = stage.setup(artifacts)
    ready = clock()
    with collected():
        found = stage.apply(rows, state, outputs)
    seconds = clock() - ready
    units = int(rows["tokens"].sum()) if "tokens" in rows.columns else rows.height
    timing = Timing(ready - begun, seconds, max(units, 1), rows.height, peak_memory_bytes())
    return timing, found.with_columns(rows["position"]).sort("position")


def told_timing(told: Sequence[tuple[float, int]], whole_seconds: float, rows: int) -> Timing | None:
    """From (seconds since the start, tokens so far) of each telling; None where there are fewer than two.

    rows: on how many it was tried. peak_memory_bytes is of this process.
    """
    if len(told) < 2 or told[-1][1] <= told[0][1]:
        return None
    (first, before), (last, after) = told[0], told[-1]
    rate = (last - first) / (after - before)
    return Timing(max(0.0, whole_seconds - rate * after), rate * after, after, rows, peak_memory_bytes())


def grown(seconds: float, half_seconds: float) -> float:
    """The growth of what took so long on all rows and on half of them: from 1, linear, to 2, the square."""
    if seconds < LEAST_SECONDS or half_seconds <= 0:
        return 1.0
    return min(2.0, max(1.0, math.log2(seconds / half_seconds)))


def spread(total: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`wanted` of the numbers below `total` (at most all), int64, ascending, at equal steps from a random start."""
    count = min(wanted, total)
    places = ((generator.random() + np.arange(count)) * (total / count)).astype(np.int64)
    return np.minimum(places, total - 1)
