"""Tasks: the work of a stage as a worker does it, from reading its rows to writing its shards."""

import json
import logging
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.errors import CurateError
from curate.reader import Reader
from curate.stage import DROP, Artifacts, ArtifactStage, Inputs, PoolStage, RowStage
from curate.store import Entry, Shard, replacing

TARGET_SHARDS = 32
MAX_SHARD_ROWS = 8192
POOL_SHARD_ROWS = 1_000_000


@dataclass(frozen=True)
class RowTask:
    """One shard of a row stage, wherever it runs."""

    stage: RowStage
    reader: Reader
    entries: Mapping[str, Entry]
    artifacts: Artifacts

    def setup(self) -> Any:
        """The stage's own state."""
        return self.stage.setup(self.artifacts)

    def run(self, unit: tuple[int, int, int], state: Any) -> dict[str, Any]:
        """Read rows start:stop, apply the stage, write a shard per output."""
        index, start, stop = unit
        begun = time.monotonic()
        needs = frozenset[str]().union(*(self.stage.output_needs(output) for output in self.entries))
        columns = [need for need in needs if not need.startswith(("artifact:", "rows:"))]
        rows = self.reader.frame(columns, start, stop)
        with collected() as notices:
            result = self.stage.apply(rows, state, frozenset(self.entries))
        if result.height != rows.height:
            raise CurateError(f"stage `{self.stage.label}` returned {result.height} rows for {rows.height}")
        tokens = int(rows["tokens"].sum()) if self.stage.uses_model and "tokens" in rows.columns else 0
        stats = {
            **self.stage.counts(state),
            "tokens": tokens,
            "seconds": time.monotonic() - begun,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        shards = {}
        for output, entry in self.entries.items():
            columns = sorted(self.stage.outputs[output])
            frame = result.select(columns).with_columns(rows["position"]).select("position", *columns)
            found = {**stats, **null_counts(frame)}
            if self.stage.quarantines:
                found["quarantined"] = frame[DROP].count()
            shards[output] = vars(entry.write_shard(shard_name(index), frame, found))
        return {"shards": shards, "rows": rows.height, "tokens": tokens, "notices": notices}


def pool_task(
    stage: PoolStage, entry: Entry, reader: Reader, artifacts: Artifacts
) -> Callable[[], dict[str, Any]]:
    """The work of a pool stage: apply it to all living rows, write its columns."""

    def work() -> dict[str, Any]:
        with collected() as notices:
            result = stage.apply(reader, artifacts)
        if result.frame.height != len(reader):
            raise CurateError(f"stage `{stage.label}` returned {result.frame.height} rows for {len(reader)}")
        columns = sorted(stage.adds)
        frame = result.frame.select(columns).with_columns(pl.Series("position", reader.positions))
        frame = frame.select("position", *columns)
        shards = [
            vars(_write_slice(entry, index, frame[start : start + POOL_SHARD_ROWS]))
            for index, start in enumerate(range(0, max(frame.height, 1), POOL_SHARD_ROWS))
        ]
        told = {"notes": dict(result.notes), "notices": notices}
        return {"shards": shards, "peak_memory_bytes": peak_memory_bytes(), **told}

    return work


def artifact_task(stage: ArtifactStage, entry: Entry, inputs: Inputs) -> Callable[[], dict[str, Any]]:
    """The work of an artifact stage: write its files beside the entry, then make them the entry's."""

    def work() -> dict[str, Any]:
        entry.work.mkdir(parents=True, exist_ok=True)
        out = entry.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        counted = {"tokens": 0}

        def tell(done: int, total: int, tokens: int) -> None:
            counted["tokens"] = tokens
            told = {"label": stage.label, "unit": stage.unit, "done": done, "total": total, "tokens": tokens}
            with replacing(entry.work / "progress.json") as temporary:
                temporary.write_text(json.dumps(told))

        with collected() as notices:
            notes = stage.write(inputs, out, entry.work, tell)
        shards = [vars(shard) for shard in entry.adopt_files(out)]
        told = {"notes": notes, "notices": notices, **counted}
        return {"shards": shards, "peak_memory_bytes": peak_memory_bytes(), **told}

    return work


def _write_slice(entry: Entry, index: int, frame: pl.DataFrame) -> Shard:
    return entry.write_shard(shard_name(index), frame, null_counts(frame), record=False)


class _Collector(logging.Handler):
    def __init__(self, notices: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notices = notices

    def emit(self, record: logging.LogRecord) -> None:
        self._notices.append(record.getMessage())


@contextmanager
def collected() -> Iterator[list[str]]:
    """What curate's own modules warn of meanwhile (a batch that was halved): told where the run is driven."""
    notices: list[str] = []
    handler = _Collector(notices)
    logger = logging.getLogger("curate")
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield notices
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def null_counts(frame: pl.DataFrame) -> dict[str, float]:
    """The rows without a value, for each score column: `nulls:<column>` -> count."""
    return {f"nulls:{name}": frame[name].null_count() for name in frame.columns if name.startswith("score.")}


def shard_rows(rows: int, minimum: int) -> int:
    """Rows per shard: a power of two near rows / 32, at least `minimum`, at most 8192.

    A function of the pool's size alone, so that the layout never depends on workers.
    """
    wanted = max(minimum, min(MAX_SHARD_ROWS, rows // TARGET_SHARDS))
    return 1 << (wanted - 1).bit_length() if wanted > 1 else 1


def shard_name(index: int) -> str:
    """`shard-00000.parquet`."""
    return f"shard-{index:05d}.parquet"


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far.

    From /proc where there is one: `ru_maxrss` of a child process starts at its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes() -> int:
    """Resident memory of this process now."""
    import psutil

    return int(psutil.Process().memory_info().rss)
