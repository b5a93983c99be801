"""Rehearsal: a stage tried on a sample where the run would do it, in a worker of the runner.

Each function here makes one that a worker calls. It leaves what the stage made in a file, since rows do not pass
through the driver, and returns what it took.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.data.ingest import read_shard
from curate.numerics.seeds import derive
from curate.runner import Runner
from curate.sampled import SampledRows
from curate.settings import Resources
from curate.stage import Artifacts, ArtifactStage, Inputs, PoolStage, RowStage
from curate.stages.ingest import CHUNK_ROWS, Ingest
from curate.tasks import collected, peak_memory_bytes
from curate.timing import Timing, grown, time_once, time_stage, told_timing

Clock = Callable[[], float]
Work = Callable[[], dict[str, Any]]

FOUND = "found.parquet"
INGEST_SECONDS = 5.0
"""Files are read until this is spent."""


class Enough(Exception):
    """Raised out of work that has told enough."""


@dataclass(frozen=True)
class Starting:
    """What a runner takes beside the work.

    runner_seconds: to start itself; map_seconds: to start a pool of workers; call_seconds: a worker for a call;
    again_seconds: a call right after another, whose worker is still there. worker_bytes: what a bare worker holds.
    """

    runner_seconds: float
    map_seconds: float
    call_seconds: float
    again_seconds: float
    worker_bytes: int

    @classmethod
    def of(cls, runner: Runner, clock: Clock) -> "Starting":
        """Measured, with work that does nothing."""
        seconds = []
        for _ in range(2):
            begun = clock()
            list(runner.map(_Nothing(), [0], Resources(), False))
            seconds.append(clock() - begun)
        for _ in range(2):
            begun = clock()
            told = runner.call(_nothing, Resources(), False)
            seconds.append(clock() - begun)
        first, again, call, call_again = seconds
        return cls(max(0.0, first - again), again, call, call_again, told["peak_memory_bytes"])


class _Nothing:
    def setup(self) -> None:
        return None

    def run(self, unit: Any, state: Any) -> dict[str, Any]:
        return {}


def _nothing() -> dict[str, Any]:
    return {"peak_memory_bytes": peak_memory_bytes()}


def _timing(timing: Timing) -> dict[str, Any]:
    return {"timing": {**asdict(timing), "gpu_memory_bytes": _gpu_memory_bytes()}}


def _gpu_memory_bytes() -> int:
    """The most of the GPU's memory that this process held; 0 where it used none."""
    import sys

    if "torch" not in sys.modules:
        return 0
    import torch

    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]


def source_work(ingest: Ingest, out: Path, clock: Clock) -> Work:
    """Read the first records of each file."""

    def work() -> dict[str, Any]:
        begun, read, kept = clock(), 0, []
        for file in ingest.files:
            if read and clock() - begun > INGEST_SECONDS:
                break
            for chunk in islice(file.file.chunks(CHUNK_ROWS), 1):
                kept.append(read_shard(chunk, file.source, file.index, ingest.metadata)[0])
                kept[-1].write_parquet(out / FOUND)
                read += chunk.count
        pl.concat(kept).write_parquet(out / FOUND)
        return _timing(Timing(0.0, clock() - begun, max(read, 1), read, peak_memory_bytes()))

    return work


def row_work(
    stage: RowStage,
    rows: pl.DataFrame,
    outputs: frozenset[str],
    artifacts: Artifacts,
    most_rows: int,
    seed: int,
    limit_seconds: float,
    out: Path,
    clock: Clock,
) -> Work:
    """Time a row stage. rows: in order of length, with `position`. most_rows: of a shard."""

    def work() -> dict[str, Any]:
        if not stage.uses_model:
            timing, found = time_once(stage, rows, outputs, artifacts, clock)
            found.write_parquet(out / FOUND)
            return _timing(timing)
        generator = np.random.default_rng(derive(seed, "probe", stage.label))
        timing, found = time_stage(
            stage, rows, outputs, artifacts, most_rows, generator, limit_seconds, clock
        )
        found.write_parquet(out / FOUND)
        return _timing(timing)

    return work


def pool_work(
    stage: PoolStage, rows: pl.DataFrame, artifacts: Artifacts, whole: int, out: Path, clock: Clock
) -> Work:
    """Apply a stage to a sample of so many rows in all; where these are more, time it on half of the sample too."""

    def timed(some: pl.DataFrame) -> tuple[float, pl.DataFrame]:
        begun = clock()
        with collected():
            found = stage.rehearsal(min(1.0, some.height / max(whole, 1))).apply(
                SampledRows.of(some), artifacts
            )
        return clock() - begun, found.frame

    def work() -> dict[str, Any]:
        before = peak_memory_bytes()
        seconds, found = timed(rows)
        growth = grown(seconds, timed(rows[::2])[0]) if whole > rows.height > 1 else 1.0
        found.with_columns(rows["position"]).write_parquet(out / FOUND)
        peak = peak_memory_bytes()
        return _timing(
            Timing(0.0, seconds, rows.height, rows.height, peak, growth, added_bytes=peak - before)
        )

    return work


def artifact_work(
    stage: ArtifactStage,
    pool: pl.DataFrame,
    artifacts: Artifacts,
    named: Mapping[str, Any],
    limit_seconds: float,
    out: Path,
    clock: Clock,
) -> Work:
    """Write a stage's artifact from a sample. It ends early, without one, where it tells that it takes long."""

    def work() -> dict[str, Any]:
        begun = clock()
        made, scratch = out / "out", out / "work"
        made.mkdir(parents=True)
        scratch.mkdir()
        told: list[tuple[float, int]] = []
        rows = [0]

        def tell(done: int, total: int, tokens: int) -> None:
            told.append((clock() - begun, tokens))
            rows[0] = done
            if done < total and len(told) > 1 and told[-1][0] - told[0][0] > limit_seconds:
                raise Enough

        try:
            with collected():
                stage.write(Inputs(SampledRows.of(pool), artifacts, named), made, scratch, tell)
            whole, finished = clock() - begun, True
        except Enough:
            whole, finished = told[-1][0], False
        count = rows[0] if stage.unit == "rows" else pool.height
        timing = told_timing(told, whole, count)
        timing = timing or Timing(whole, 0.0, 1, pool.height, peak_memory_bytes())
        sizes = {"made_bytes": folder_bytes(made), "work_bytes": folder_bytes(scratch)}
        return {**_timing(timing), **sizes, "finished": finished}

    return work


def called(
    runner: Runner, work: Work, resources: Resources, uses_model: bool, clock: Clock
) -> tuple[dict[str, Any], float]:
    """What the work returned, and what its worker took beside it to start and to answer."""
    begun = clock()
    found = runner.call(_within(work, clock), resources, uses_model)
    return found, max(0.0, clock() - begun - found["inside_seconds"])


def _within(work: Work, clock: Clock) -> Work:
    def timed() -> dict[str, Any]:
        begun = clock()
        return {**work(), "inside_seconds": clock() - begun}

    return timed


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parquet_bytes(frame: pl.DataFrame) -> int:
    """Bytes of a frame as a shard."""
    stream = BytesIO()
    frame.write_parquet(stream, compression="zstd", statistics=True)
    return stream.tell()
