"""Engine: runs stages against the store. It knows no method by name.

For each stage: its fingerprint from its identity and its inputs', the entry in the store, the shards
that are missing, the runner for those, the manifest last. Nothing that is stored is computed again.

A fingerprint covers the stage's fields and version, the fingerprint of the living rows (of the last
stage that dropped any), and the fingerprints of exactly the columns and artifacts that it needs. So
adding a clustering does not invalidate the scores after it, unless it drops rows or they read it.
"""

import json
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.errors import CurateError, DataError
from curate.progress import Observer
from curate.reader import Reader
from curate.runner import Runner
from curate.stage import DROP, ArtifactStage, Inputs, PoolStage, RowStage, Stage
from curate.stages.ingest import Ingest
from curate.store import Entry, Manifest, Shard, Waiting, fingerprint, replacing, write_json

TARGET_SHARDS = 32
MAX_SHARD_ROWS = 8192
POOL_SHARD_ROWS = 1_000_000


@dataclass(frozen=True)
class Located:
    """Where something lies, and the fingerprint of what made it."""

    folder: Path
    fingerprint: str


@dataclass(frozen=True)
class View:
    """The pool as the next stage sees it: which rows live, and where their columns lie."""

    rows: Located | None = None
    columns: Mapping[str, Located] = field(default_factory=dict)
    artifacts: Mapping[str, Located] = field(default_factory=dict)
    named_rows: Mapping[str, "View"] = field(default_factory=dict)

    def reader(self) -> Reader:
        """A reader of the living rows."""
        if self.rows is None:
            raise CurateError("no rows were read yet")
        return Reader(self.rows.folder, {name: place.folder for name, place in self.columns.items()})

    def set_aside(self, name: str) -> "View":
        """This view, remembering its present rows under a name."""
        return replace(self, named_rows={**self.named_rows, name: replace(self, named_rows={})})

    def inputs(self, needs: Iterable[str]) -> dict[str, Any]:
        """The fingerprints of what a stage reads, for its own."""
        found: dict[str, Any] = {"rows": self.rows.fingerprint if self.rows else None}
        for need in sorted(needs):
            kind, _, name = need.rpartition(":")
            if kind == "artifact":
                found[need] = self.artifacts[name].fingerprint
            elif kind == "rows":
                earlier = self.named_rows[name]
                found[need] = earlier.rows.fingerprint if earlier.rows else None
            else:
                found[need] = self.columns[need].fingerprint
        return found


@dataclass(frozen=True)
class Planned:
    """A stage and its entries, by output label."""

    stage: Stage
    entries: Mapping[str, Entry]
    inputs: Mapping[str, Mapping[str, Any]]

    def missing(self) -> list[str]:
        """The outputs that are not complete in the store."""
        return [output for output, entry in self.entries.items() if entry.manifest() is None]


class Engine:
    """Runs one stage after another on a growing view."""

    def __init__(self, store: Path, runner: Runner, observer: Observer) -> None:
        self.store = store
        self.runner = runner
        self.observer = observer
        self.records: list[dict[str, Any]] = []

    def plan(self, stage: Stage, view: View) -> Planned:
        """The entries that a stage will fill, without touching them."""
        entries, inputs = {}, {}
        for output in stage.outputs if isinstance(stage, RowStage) else {stage.label: stage.adds}:
            if isinstance(stage, RowStage):
                identity, needs = stage.output_identity(output), stage.output_needs(output)
            else:
                identity, needs = stage.identity(), stage.needs
            inputs[output] = view.inputs(needs)
            entries[output] = Entry(self.store, output, fingerprint([identity, inputs[output]]))
        return Planned(stage, entries, inputs)

    def after(self, planned: Planned, view: View) -> View:
        """The view that the next stage sees."""
        stage, columns, artifacts = planned.stage, dict(view.columns), dict(view.artifacts)
        rows = view.rows
        outputs = stage.outputs if isinstance(stage, RowStage) else {stage.label: stage.adds}
        for output, added in outputs.items():
            entry = planned.entries[output]
            for name in added:
                kind, _, plain = name.rpartition(":")
                place = Located(entry.folder, entry.fingerprint)
                if kind == "artifact":
                    artifacts[plain] = replace(place, folder=entry.files)
                elif name == DROP:
                    rows = place
                else:
                    columns[name] = place
        return replace(view, rows=rows, columns=columns, artifacts=artifacts)

    def run(self, stage: Stage, view: View) -> View:
        """Do what is missing of a stage, record it, and return the next view."""
        planned = self.plan(stage, view)
        for entry in planned.entries.values():
            if entry.manifest() is not None:
                entry.finished()  # checks every byte; a damaged shard makes the entry incomplete
        missing = planned.missing()
        if missing:
            self._compute(planned, view)
        self._record(planned, cached=not missing)
        after = self.after(planned, view)
        if DROP in stage.adds and not len(after.reader()):
            raise DataError(f"stage `{stage.label}` left no rows. See dropped.parquet and quarantine.jsonl of the run.")
        return after

    def _compute(self, planned: Planned, view: View) -> None:
        stage = planned.stage
        with _locks(planned.entries.values(), _Tell(self.observer)):
            missing = planned.missing()  # another run may have filled them while we waited
            if not missing:
                return
            if isinstance(stage, RowStage):
                self._row_stage(stage, planned, missing, view)
            elif isinstance(stage, PoolStage):
                self._whole(planned, lambda entry: _pool_task(stage, entry, view.reader()), len(view.reader()), "rows")
            elif isinstance(stage, ArtifactStage):
                self._artifact_stage(stage, planned, view)
            elif isinstance(stage, Ingest):
                self._ingest(stage, planned)
            else:
                raise CurateError(f"stage `{stage.label}` is neither a row, a pool nor an artifact stage")

    # --- row stages -------------------------------------------------------------------------------

    def _row_stage(self, stage: RowStage, planned: Planned, missing: Sequence[str], view: View) -> None:
        reader = view.reader()
        rows = len(reader)
        size = shard_rows(rows, stage.min_shard_rows)
        shards = [(index, start, min(start + size, rows)) for index, start in enumerate(range(0, rows, size))]
        finished = {output: planned.entries[output].finished() for output in missing}
        todo: dict[frozenset[str], list[tuple[int, int, int]]] = {}
        for shard in shards:
            lacking = frozenset(output for output in missing if shard_name(shard[0]) not in finished[output])
            if lacking:
                todo.setdefault(lacking, []).append(shard)
        self.observer.started(stage.label, rows, "rows")
        left = sum(stop - start for units in todo.values() for _, start, stop in units)
        self.observer.advanced(rows - left, 0)
        begun = time.monotonic()
        for outputs, units in sorted(todo.items(), key=lambda entry: sorted(entry[0])):
            needs = frozenset().union(*(stage.output_needs(output) for output in outputs))
            task = RowTask(stage, reader, {output: planned.entries[output] for output in outputs}, needs)
            for result in self.runner.map(task, units, stage.resources, stage.uses_model):
                for output, shard in result["shards"].items():
                    finished[output][shard["file"]] = Shard(**shard)
                self.observer.advanced(result["rows"], result["tokens"])
                for notice in result["notices"]:
                    self.observer.note(notice)
        for output in missing:
            entry, found = planned.entries[output], finished[output]
            ordered = [found[shard_name(index)] for index, _, _ in shards]
            self._seal(planned, output, entry, ordered, {}, time.monotonic() - begun)

    # --- pool stages, artifacts and ingest --------------------------------------------------------

    def _whole(self, planned: Planned, make: Callable[[Entry], Callable[[], dict[str, Any]]], rows: int, unit: str) -> None:
        (output, entry), stage = next(iter(planned.entries.items())), planned.stage
        entry.finished()
        self.observer.started(stage.label, rows, unit)
        begun = time.monotonic()
        with self._watching(entry.work / "progress.json"):
            result = self.runner.call(make(entry), stage.resources, stage.uses_model)
        shards = [Shard(**shard) for shard in result["shards"]]
        stats = {"tokens": result.get("tokens", 0), "peak_memory_bytes": result["peak_memory_bytes"]}
        self._seal(planned, output, entry, shards, result["notes"], time.monotonic() - begun, stats)

    def _artifact_stage(self, stage: ArtifactStage, planned: Planned, view: View) -> None:
        inputs = Inputs(
            view.reader(),
            {name: place.folder for name, place in view.artifacts.items()},
            {name: earlier.reader() for name, earlier in view.named_rows.items()},
        )
        self._whole(planned, lambda entry: _artifact_task(stage, entry, inputs), 0, stage.unit)

    def _ingest(self, stage: Ingest, planned: Planned) -> None:
        (output, entry) = next(iter(planned.entries.items()))
        finished = entry.finished()
        self.observer.started(stage.label, 0, "rows")
        begun = time.monotonic()
        quarantined = 0
        for result in self.runner.map(stage.task(entry, finished), stage.units(), stage.resources, False):
            for shard in result["shards"]:
                finished[shard["file"]] = Shard(**shard)
            self.observer.advanced(result["rows"], 0)
        ordered = sorted(finished.values(), key=lambda shard: shard.file)
        quarantined = int(sum(shard.stats.get("quarantined", 0) for shard in ordered))
        self._seal(planned, output, entry, ordered, {}, time.monotonic() - begun, {"quarantined": quarantined})

    # --- the end of a stage -----------------------------------------------------------------------

    def _seal(
        self,
        planned: Planned,
        output: str,
        entry: Entry,
        shards: Sequence[Shard],
        notes: Mapping[str, Any],
        seconds: float,
        stats: Mapping[str, float] | None = None,
    ) -> None:
        stage, stats = planned.stage, stats or {}
        added = stage.outputs[output] if isinstance(stage, RowStage) else stage.adds
        rows, kept = sum(shard.rows for shard in shards), None
        if DROP in added:
            kept = self._write_kept(entry, shards)
        identity = stage.output_identity(output) if isinstance(stage, RowStage) else stage.identity()
        peak = max([shard.stats.get("peak_memory_bytes", 0) for shard in shards] + [stats.get("peak_memory_bytes", 0)])
        entry.seal(
            Manifest(
                stage=output,
                fingerprint=entry.fingerprint,
                identity=identity,
                inputs=planned.inputs[output],
                shards=tuple(shards),
                rows=rows,
                kept=kept,
                tokens=int(sum(shard.stats.get("tokens", 0) for shard in shards) + stats.get("tokens", 0)),
                seconds=seconds,
                peak_memory_bytes=int(peak),
                notes=notes,
                quarantined=int(stats.get("quarantined", sum(shard.stats.get("quarantined", 0) for shard in shards))),
            )
        )

    def _write_kept(self, entry: Entry, shards: Sequence[Shard]) -> int:
        kept = [
            pl.read_parquet(entry.folder / shard.file, columns=["position", DROP])
            .filter(pl.col(DROP).is_null())["position"]
            .to_numpy()
            for shard in shards
            if shard.file.endswith(".parquet")
        ]
        positions = np.concatenate([*kept, np.empty(0, dtype=np.int64)]).astype(np.int64)
        entry.folder.mkdir(parents=True, exist_ok=True)
        entry.write_kept(positions)
        return len(positions)

    def _record(self, planned: Planned, cached: bool) -> None:
        for output, entry in planned.entries.items():
            manifest = entry.manifest()
            if manifest is None:
                raise CurateError(f"{entry.folder}: lost its manifest while the run went on")
            record = {
                "name": output,
                "fingerprint": manifest.fingerprint,
                "folder": entry.folder.name,
                "cached": cached,
                "rows": manifest.rows,
                "kept": manifest.kept,
                "quarantined": manifest.quarantined,
                "tokens": manifest.tokens,
                "seconds": manifest.seconds,
                "peak_memory_bytes": manifest.peak_memory_bytes,
                "adds": sorted(_outputs(planned.stage)[output]),
                "notes": manifest.notes,
            }
            self.records.append(record)
            self.observer.finished(record)

    @contextmanager
    def _watching(self, path: Path) -> Iterator[None]:
        stop = threading.Event()

        def watch() -> None:
            done = tokens = 0
            while not stop.wait(1.0):
                if path.exists():
                    told = json.loads(path.read_bytes())
                    if not done:
                        self.observer.started(told["label"], told["total"], told["unit"])
                    self.observer.advanced(told["done"] - done, told["tokens"] - tokens)
                    done, tokens = told["done"], told["tokens"]

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@dataclass(frozen=True)
class RowTask:
    """One shard of a row stage, wherever it runs."""

    stage: RowStage
    reader: Reader
    entries: Mapping[str, Entry]
    needs: frozenset[str]

    def setup(self) -> Any:
        """The stage's own state."""
        return self.stage.setup()

    def run(self, unit: tuple[int, int, int], state: Any) -> dict[str, Any]:
        """Read rows start:stop, apply the stage, write a shard per output."""
        index, start, stop = unit
        begun = time.monotonic()
        rows = self.reader.frame(self.needs, start, stop)
        result = self.stage.apply(rows, state, frozenset(self.entries))
        if result.height != rows.height:
            raise CurateError(f"stage `{self.stage.label}` returned {result.height} rows for {rows.height}")
        tokens = int(rows["tokens"].sum()) if self.stage.uses_model and "tokens" in rows.columns else 0
        stats = {"tokens": tokens, "seconds": time.monotonic() - begun, "peak_memory_bytes": peak_memory_bytes()}
        shards = {}
        for output, entry in self.entries.items():
            columns = sorted(self.stage.outputs[output])
            frame = result.select(columns).with_columns(rows["position"]).select("position", *columns)
            extra = {"quarantined": float(frame[DROP].count())} if self.stage.label == "tokenize" else {}
            shards[output] = vars(entry.write_shard(shard_name(index), frame, {**stats, **extra}))
        return {"shards": shards, "rows": rows.height, "tokens": tokens, "notices": []}


def _pool_task(stage: PoolStage, entry: Entry, reader: Reader) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        result = stage.apply(reader)
        if result.frame.height != len(reader):
            raise CurateError(f"stage `{stage.label}` returned {result.frame.height} rows for {len(reader)}")
        columns = sorted(stage.adds)
        frame = result.frame.select(columns).with_columns(pl.Series("position", reader.positions))
        frame = frame.select("position", *columns)
        shards = [
            vars(entry.write_shard(shard_name(index), frame[start : start + POOL_SHARD_ROWS], {}))
            for index, start in enumerate(range(0, max(frame.height, 1), POOL_SHARD_ROWS))
        ]
        return {"shards": shards, "notes": dict(result.notes), "peak_memory_bytes": peak_memory_bytes()}

    return work


def _artifact_task(stage: ArtifactStage, entry: Entry, inputs: Inputs) -> Callable[[], dict[str, Any]]:
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

        notes = stage.write(inputs, out, entry.work, tell)
        shards = [vars(shard) for shard in entry.adopt_files(out)]
        return {"shards": shards, "notes": notes, "peak_memory_bytes": peak_memory_bytes(), **counted}

    return work


class _Tell(Waiting):
    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __call__(self, entry: str) -> None:
        self._observer.note(f"another run computes {entry}; waiting for it")


@contextmanager
def _locks(entries: Iterable[Entry], waiting: Waiting) -> Iterator[None]:
    ordered = sorted(entries, key=lambda entry: entry.folder)
    if not ordered:
        yield
        return
    with ordered[0].lock(waiting), _locks(ordered[1:], waiting):
        yield


def _outputs(stage: Stage) -> Mapping[str, frozenset[str]]:
    return stage.outputs if isinstance(stage, RowStage) else {stage.label: stage.adds}


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
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
