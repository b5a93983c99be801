"""Engine: runs stages against the store. It knows no method by name.

For each stage: its fingerprint from its identity and its inputs', the entry in the store, the shards
that are missing, the runner for those, the manifest last. Nothing that is stored is computed again.

A fingerprint covers the stage's fields and version, the fingerprint of the living rows (of the last
stage that dropped any; unless the stage does not look at them), and the fingerprints of exactly the columns and
artifacts that it needs. So adding a clustering does not invalidate the scores after it, unless it drops rows or they
read it.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.errors import CurateError, DataError
from curate.progress import Observer
from curate.runner import Runner
from curate.stage import DROP, ArtifactStage, Inputs, PoolStage, RowStage, SourceStage, Stage
from curate.store import Entry, Manifest, Shard, fingerprint
from curate.tasks import RowTask, artifact_task, pool_task, shard_name, shard_rows
from curate.view import Located, View
from curate.waiting import locks, watching


@dataclass(frozen=True)
class Planned:
    """A stage, its entries and the fingerprints of its inputs, by output label."""

    stage: Stage
    entries: Mapping[str, Entry]
    inputs: Mapping[str, Mapping[str, Any]]

    def missing(self) -> list[str]:
        """The outputs that are not complete in the store."""
        return [output for output, entry in self.entries.items() if entry.manifest() is None]


def plan(store: Path, stage: Stage, view: View) -> Planned:
    """The entries that a stage will fill, without touching them."""
    entries, inputs = {}, {}
    for output in stage.outputs:
        inputs[output] = view.inputs(stage.output_needs(output), stage.reads_pool)
        entries[output] = Entry(store, output, fingerprint([stage.output_identity(output), inputs[output]]))
    return Planned(stage, entries, inputs)


def after(planned: Planned, view: View) -> View:
    """The view that the next stage sees."""
    columns, artifacts, rows = dict(view.columns), dict(view.artifacts), view.rows
    for output, added in planned.stage.outputs.items():
        entry = planned.entries[output]
        for name in added:
            kind, _, plain = name.rpartition(":")
            if kind == "artifact":
                artifacts[plain] = Located(entry.files, entry.fingerprint)
            elif name == DROP:
                rows = Located(entry.folder, entry.fingerprint)
            else:
                columns[name] = Located(entry.folder, entry.fingerprint)
    named = dict(view.named_rows)
    if rows is not None:
        named |= dict.fromkeys(planned.stage.names_rows, rows)
    return replace(view, rows=rows, columns=columns, artifacts=artifacts, named_rows=named)


class Engine:
    """Runs one stage after another."""

    def __init__(self, store: Path, runner: Runner, observer: Observer) -> None:
        self.store = store
        self.runner = runner
        self.observer = observer
        self.after_stage: Callable[[Mapping[str, Any]], None] = lambda record: None
        """Called with the record of each stage as soon as it is complete."""
        self.records: list[dict[str, Any]] = []

    def run(self, stage: Stage, view: View) -> View:
        """Do what is missing of a stage, record it, and return the next view.

        Raises DataError where it leaves no rows, or too many rows without a score.
        """
        planned = plan(self.store, stage, view)
        for entry in planned.entries.values():
            if entry.manifest() is not None:
                entry.finished()  # checks every byte; a damaged shard makes the entry incomplete
        missing = planned.missing()
        if missing:
            with locks(planned.entries.values(), self._waiting):
                still_missing = planned.missing()  # another run may have filled them while we waited
                if still_missing:
                    self._compute(planned, still_missing, view)
        for output, entry in planned.entries.items():
            self._record(stage, output, entry, cached=output not in missing)
        following = after(planned, view)
        if DROP in stage.adds and not len(following.reader()):
            raise DataError(
                f"stage `{stage.label}` left no rows. The reasons are in the run's dropped.parquet."
            )
        return following

    def _compute(self, planned: Planned, missing: Sequence[str], view: View) -> None:
        stage = planned.stage
        artifacts = {name: place.folder for name, place in view.artifacts.items()}
        if isinstance(stage, RowStage):
            self._rows(stage, planned, missing, view)
        elif isinstance(stage, SourceStage):
            self._source(stage, planned)
        elif isinstance(stage, PoolStage):
            reader = view.reader()
            self._whole(
                planned, lambda entry: pool_task(stage, entry, reader, artifacts), len(reader), "rows"
            )
        elif isinstance(stage, ArtifactStage):
            inputs = Inputs(
                view.reader(),
                artifacts,
                {name: view.reader(rows) for name, rows in view.named_rows.items()},
            )
            self._whole(planned, lambda entry: artifact_task(stage, entry, inputs), 0, stage.unit)
        else:
            raise CurateError(f"stage `{stage.label}` is of no kind that the engine can run")

    def _rows(self, stage: RowStage, planned: Planned, missing: Sequence[str], view: View) -> None:
        reader = view.reader()
        artifacts = {name: place.folder for name, place in view.artifacts.items()}
        rows = len(reader)
        size = shard_rows(rows, stage.min_shard_rows)
        units = [(index, start, min(start + size, rows)) for index, start in enumerate(range(0, rows, size))]
        finished = {output: planned.entries[output].finished() for output in missing}
        todo: dict[tuple[str, ...], list[tuple[int, int, int]]] = {}
        for unit in units:
            lacking = tuple(output for output in missing if shard_name(unit[0]) not in finished[output])
            if lacking:
                todo.setdefault(lacking, []).append(unit)
        left = sum(stop - start for some in todo.values() for _, start, stop in some)
        self.observer.started(stage.label, rows, "rows")
        self.observer.advanced(rows - left, 0)
        begun = time.monotonic()
        for outputs, some in sorted(todo.items()):
            entries = {output: planned.entries[output] for output in outputs}
            for result in self.runner.map(
                RowTask(stage, reader, entries, artifacts), some, stage.resources, stage.uses_model
            ):
                for output, shard in result["shards"].items():
                    finished[output][shard["file"]] = Shard(**shard)
                self.observer.advanced(result["rows"], result["tokens"])
                self._tell(result["notices"])
        for output in missing:
            shards = [finished[output][shard_name(index)] for index, _, _ in units]
            _seal(planned, output, shards, stage.notes(_totals(shards)), time.monotonic() - begun)

    def _source(self, stage: SourceStage, planned: Planned) -> None:
        (output, entry) = next(iter(planned.entries.items()))
        finished = entry.finished()
        self.observer.started(stage.label, 0, "rows")
        begun = time.monotonic()
        for result in self.runner.map(stage.task(entry, finished), stage.units(), stage.resources, False):
            for shard in result["shards"]:
                finished[shard["file"]] = Shard(**shard)
            self.observer.advanced(result["rows"], 0)
        shards = sorted(finished.values(), key=lambda shard: shard.file)
        _seal(planned, output, shards, {}, time.monotonic() - begun)

    def _whole(
        self,
        planned: Planned,
        make: Callable[[Entry], Callable[[], dict[str, Any]]],
        rows: int,
        unit: str,
    ) -> None:
        (output, entry), stage = next(iter(planned.entries.items())), planned.stage
        entry.finished()
        self.observer.started(stage.label, rows, unit)
        begun = time.monotonic()
        with watching(entry.work / "progress.json", self.observer):
            result = self.runner.call(make(entry), stage.resources, stage.uses_model)
        self._tell(result["notices"])
        shards = [Shard(**shard) for shard in result["shards"]]
        _seal(planned, output, shards, result["notes"], time.monotonic() - begun, result)

    def _tell(self, notices: Sequence[str]) -> None:
        for notice in notices:
            self.observer.note(notice)

    def _waiting(self, entry: str) -> None:
        self.observer.note(f"another run computes {entry}; waiting for it")

    def _record(self, stage: Stage, output: str, entry: Entry, cached: bool) -> None:
        manifest = entry.manifest()
        if manifest is None:
            raise CurateError(f"{entry.folder}: lost its manifest while the run went on")
        record = {
            "name": output,
            "stage": stage.label,
            "fingerprint": manifest.fingerprint,
            "folder": entry.folder.name,
            "cached": cached,
            "rows": manifest.rows,
            "kept": manifest.kept,
            "quarantined": manifest.quarantined,
            "nulls": manifest.nulls,
            "tokens": manifest.tokens,
            "seconds": manifest.seconds,
            "peak_memory_bytes": manifest.peak_memory_bytes,
            "adds": sorted(stage.outputs[output]),
            "null_is_a_verdict": sorted(stage.null_is_a_verdict & stage.outputs[output]),
            "notes": manifest.notes,
        }
        self.records.append(record)
        self.observer.finished(record)
        self.after_stage(record)
        if stage.null_limit is not None:
            limit = stage.null_limit
            bad = [
                f"{name} is null for {count:,} of {manifest.rows:,} rows"
                for name, count in manifest.nulls.items()
                if count > limit * manifest.rows and name not in stage.null_is_a_verdict
            ]
            if bad:
                raise DataError(
                    f"stage `{output}`: {'; '.join(bad)}; at most {limit:.1%} is allowed. "
                    "Look at these rows in scores.parquet, or raise `max_null_fraction`."
                )


def _seal(
    planned: Planned,
    output: str,
    shards: Sequence[Shard],
    notes: Mapping[str, Any],
    seconds: float,
    totals: Mapping[str, Any] | None = None,
) -> None:
    stage, entry, totals = planned.stage, planned.entries[output], totals or {}
    kept, checksum = _write_kept(entry, shards) if DROP in stage.outputs[output] else (None, None)
    stats = [*(shard.stats for shard in shards), {"peak_memory_bytes": totals.get("peak_memory_bytes", 0)}]
    nulls = Counter[str]()
    for some in stats:
        nulls.update(
            {name.removeprefix("nulls:"): int(n) for name, n in some.items() if name.startswith("nulls:")}
        )
    entry.seal(
        Manifest(
            stage=output,
            fingerprint=entry.fingerprint,
            identity=stage.output_identity(output),
            inputs=planned.inputs[output],
            shards=tuple(shards),
            rows=sum(shard.rows for shard in shards),
            kept=kept,
            kept_checksum=checksum,
            quarantined=int(sum(some.get("quarantined", 0) for some in stats)),
            nulls=dict(nulls),
            tokens=int(sum(some.get("tokens", 0) for some in stats) + totals.get("tokens", 0)),
            seconds=seconds,
            peak_memory_bytes=int(max(some.get("peak_memory_bytes", 0) for some in stats)),
            notes=dict(notes),
        )
    )


def _totals(shards: Sequence[Shard]) -> Mapping[str, float]:
    totals = Counter[str]()
    for shard in shards:
        totals.update(shard.stats)
    return totals


def _write_kept(entry: Entry, shards: Sequence[Shard]) -> tuple[int, str | None]:
    kept = [
        pl.read_parquet(entry.folder / shard.file, columns=["position", DROP])
        .filter(pl.col(DROP).is_null())["position"]
        .to_numpy()
        for shard in shards
        if shard.file.endswith(".parquet")
    ]
    positions = np.concatenate([np.empty(0, dtype=np.int64), *kept])
    return len(positions), entry.write_kept(positions)
