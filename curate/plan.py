"""Plan: what a run would do, stage by stage, before any work: stored or to do, rows, time, memory.

Rows are exact for what is stored and for files (records are counted, not parsed); behind a stage
that has not run they are as that stage predicts, or unknown. Seconds and memory come from earlier
runs of the same stage in this store, scaled by rows; without one they are unknown, never made up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from curate.engine import Planned, after
from curate.engine import plan as plan_stage
from curate.pipeline import build
from curate.spec import Config
from curate.stage import DROP, Stage
from curate.stages.ingest import CHUNK_ROWS, Ingest
from curate.store import Manifest
from curate.view import View


@dataclass(frozen=True)
class PlannedOutput:
    """One line of a plan. rows: that enter; left: that leave. None where it is not known."""

    name: str
    fingerprint: str
    cached: bool
    rows: int | None
    left: int | None
    seconds: float | None
    peak_memory_bytes: int | None
    needs: Sequence[str]
    adds: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def plan(config: Config, store: Path) -> list[PlannedOutput]:
    """Plan a configuration against a store. Reads and hashes files and models; computes no stage.

    Raises ConfigError or DataError as the run itself would before its first stage.
    """
    lines: list[PlannedOutput] = []
    view, rows = View(), None
    for stage in build(config):
        planned = plan_stage(store, stage, view)
        if isinstance(stage, Ingest):
            rows = _records(stage)
        entering = rows
        rows = _left(stage, planned, rows)
        for output, entry in planned.entries.items():
            manifest = entry.manifest()
            seconds, memory = (0.0, 0) if manifest else _history(store, output, entering)
            lines.append(
                PlannedOutput(
                    name=output,
                    fingerprint=entry.fingerprint,
                    cached=manifest is not None,
                    rows=entering,
                    left=rows,
                    seconds=seconds,
                    peak_memory_bytes=memory,
                    needs=sorted(stage.output_needs(output)),
                    adds=sorted(stage.outputs[output]),
                )
            )
        view = after(planned, view)
    return lines


def total_seconds(lines: Iterable[PlannedOutput]) -> tuple[float, list[str]]:
    """Seconds still to spend, as far as known, and the names of the stages of which nothing is known."""
    todo = [line for line in lines if not line.cached]
    known = sum(line.seconds for line in todo if line.seconds is not None)
    return known, [line.name for line in todo if line.seconds is None]


def _records(stage: Ingest) -> int:
    return sum(chunk.count for file in stage.files for chunk in file.file.chunks(CHUNK_ROWS))


def _left(stage: Stage, planned: Planned, rows: int | None) -> int | None:
    manifests = [entry.manifest() for entry in planned.entries.values()]
    if DROP in stage.adds and manifests[0] is not None:
        return manifests[0].kept
    return None if rows is None else stage.predicted_rows(rows)


def _history(store: Path, output: str, rows: int | None) -> tuple[float | None, int | None]:
    """Seconds and peak memory of earlier runs of this output in this store."""
    found = [Manifest.read(path) for path in store.glob(f"{output}-*/manifest.json")]
    earlier = [manifest for manifest in found if manifest.stage == output and manifest.rows]
    if not earlier:
        whole = [manifest for manifest in found if manifest.stage == output]
        if not whole:
            return None, None
        return median(manifest.seconds for manifest in whole), max(m.peak_memory_bytes for m in whole)
    memory = max(manifest.peak_memory_bytes for manifest in earlier)
    if rows is None:
        return None, memory
    return rows * median(manifest.seconds / manifest.rows for manifest in earlier), memory
