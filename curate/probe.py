"""Probe: what a stage that reads a model will cost, from a few rows of its own pool, before the run.

1. A sample of about 2,000 records is drawn, each as likely, and read. Where stages that drop rows
   are stored already, it is drawn from the rows that they left.
2. It goes in memory through the stages before the model that look at each row by itself (tokenize,
   filters), which tells the tokens of a row, and the share of the rows that they drop. What compares rows
   cannot be tried on a sample: there a stage's own prediction counts, or, where it has none, all its rows,
   and the estimate is one of at most.
3. The stage is timed on some of the rows that came through (`curate.timing`).

Nothing is written. The estimate is for one worker on this machine.
"""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.data.rows import FILE_BITS
from curate.data.sample import rows_at
from curate.engine import Planned
from curate.errors import CurateError
from curate.numerics.seeds import derive
from curate.reader import Reader
from curate.stage import DROP, Artifacts, RowStage
from curate.stages.ingest import CHUNK_ROWS, Ingest
from curate.store import Entry
from curate.tasks import collected, peak_memory_bytes, shard_rows
from curate.timing import Probing, Timing, time_stage
from curate.view import Located, View


@dataclass(frozen=True)
class Step:
    """A stage with its entries, and the pool as it finds it."""

    planned: Planned
    view: View


@dataclass(frozen=True)
class Workload:
    """What a stage will read. tokens: None where it reads none. at_most: whether it may be fewer."""

    rows: int
    tokens: int | None
    at_most: bool = False

    @property
    def units(self) -> int:
        """What its time is proportional to: tokens, or rows where it reads no tokens."""
        return self.rows if self.tokens is None else self.tokens


@dataclass(frozen=True)
class _Drawn:
    """A sample, and how many rows there are of what it was drawn from, those apart that cannot be read."""

    rows: pl.DataFrame
    alive: float


@dataclass(frozen=True)
class Sample:
    """Rows as they reach a stage, and what they stand for."""

    rows: pl.DataFrame
    work: Workload


def stored(place: Located | None) -> bool:
    """Whether what lies there is complete."""
    return place is not None and (place.folder / "manifest.json").exists()


def stored_work(stage: RowStage, view: View) -> Workload | None:
    """What the stage will read, exactly, where its rows (and their tokens, if it reads them) are stored."""
    reads_tokens = "tokens" in stage.needs
    if not stored(view.rows) or (reads_tokens and not stored(view.columns["tokens"])):
        return None
    reader = view.reader()
    return Workload(len(reader), int(reader.frame(["tokens"])["tokens"].sum()) if reads_tokens else None)


def record_counts(first: Step) -> list[int]:
    """Records of each file that the first stage reads, good and bad. They are counted, not parsed; O(bytes)."""
    ingest = _ingest(first)
    return [sum(chunk.count for chunk in file.file.chunks(CHUNK_ROWS)) for file in ingest.files]


def _ingest(first: Step) -> Ingest:
    if not isinstance(first.planned.stage, Ingest):
        raise CurateError("the first stage must read the sources")
    return first.planned.stage


@dataclass
class Probe:
    """A plan's samples and timings.

    steps: the whole plan; the first is the ingest. counts: records of each of its files.
    timings: of the steps that were tried so far, by index; obstacles: why an output could not be.
    """

    steps: Sequence[Step]
    counts: Sequence[int]
    seed: int
    how: Probing
    timings: dict[int, Timing] = field(default_factory=dict)
    obstacles: dict[tuple[int, str], str] = field(default_factory=dict)
    _samples: dict[int, Sample] = field(default_factory=dict)
    _drawn: dict[int, _Drawn] = field(default_factory=dict)
    _states: dict[int, Any] = field(default_factory=dict)

    def sample(self, index: int) -> Sample:
        """Rows as they reach a stage, and an estimate of what the stage will read."""
        if index not in self._samples:
            self._samples[index] = self._flow(index)
        return self._samples[index]

    def time(self, index: int) -> None:
        """Time a stage on rows of its sample; of an output that cannot be tried before the run, note why."""
        step, stage = self.steps[index], self._stage(index)
        artifacts = {name: at.folder for name, at in step.view.artifacts.items() if stored(at)}
        sample, tried = self.sample(index), set[str]()
        for output in step.planned.missing():
            obstacle = self._obstacle(stage.output_needs(output), sample.rows, artifacts)
            if obstacle is None:
                tried.add(output)
            else:
                self.obstacles[index, output] = obstacle
        if not tried:
            return
        needs = frozenset[str]().union(*(stage.output_needs(output) for output in tried))
        order = pl.col("tokens") if "tokens" in sample.rows.columns else pl.col("messages").str.len_bytes()
        self.timings[index] = time_stage(
            stage,
            sample.rows.sort(order, "position").select("position", *_columns(needs)),
            frozenset(tried),
            artifacts,
            shard_rows(sample.work.rows, stage.min_shard_rows),
            np.random.default_rng(derive(self.seed, "probe", stage.label)),
            self.how,
        )
        gc.collect()  # the model is gone before the next one is loaded

    def _obstacle(self, needs: frozenset[str], rows: pl.DataFrame, artifacts: Artifacts) -> str | None:
        wanted = sorted(need.removeprefix("artifact:") for need in needs if need.startswith("artifact:"))
        if lacking := [name for name in wanted if name not in artifacts]:
            return f"needs `{lacking[0]}`, which only the run makes"
        if lacking := [name for name in _columns(needs) if name not in rows.columns]:
            return f"needs `{lacking[0]}`, which only the run computes"
        return None if rows.height else f"none of {self.how.rows:,} rows reaches it"

    def _stage(self, index: int) -> RowStage:
        stage = self.steps[index].planned.stage
        if not isinstance(stage, RowStage):
            raise CurateError(f"stage `{stage.label}` does not look at rows by themselves")
        return stage

    def _needs(self, index: int) -> frozenset[str]:
        stage, missing = self._stage(index), self.steps[index].planned.missing()
        return frozenset[str]().union(*(stage.output_needs(output) for output in missing))

    def _flow(self, index: int) -> Sample:
        begin = max((at for at in range(index) if self._kept(at) is not None), default=-1)
        drawn = self._drawn_after(begin)
        rows, alive, at_most = drawn.rows, drawn.alive, False
        tried = self._to_try(index, begin)
        for at in range(1, index):
            stage = self.steps[at].planned.stage
            if at in tried and isinstance(stage, RowStage) and stage.needs <= set(rows.columns):
                before = rows.height
                rows = self._through(at, stage, rows)
                alive *= rows.height / max(before, 1)
            elif at > begin and DROP in stage.adds:
                predicted = stage.predicted_rows(round(alive))
                at_most |= predicted is None or predicted >= round(alive)
                alive = alive if predicted is None else min(alive, float(predicted))
        work = stored_work(self._stage(index), self.steps[index].view)
        if work is None:
            tokens = None
            if "tokens" in self._needs(index) and "tokens" in rows.columns and rows.height:
                tokens = round(alive * int(rows["tokens"].sum()) / rows.height)
            work = Workload(round(alive), tokens, at_most)
        return Sample(rows, work)

    def _kept(self, at: int) -> Entry | None:
        """The entry that lists the rows which live after a stage, where that is stored."""
        planned = self.steps[at].planned
        entries = [planned.entries[name] for name, added in planned.stage.outputs.items() if DROP in added]
        return entries[0] if entries and entries[0].manifest() is not None else None

    def _to_try(self, index: int, begin: int) -> set[int]:
        """The earlier stages that the sample goes through: those that drop rows, those whose columns are read."""
        needs, chosen = set(self._needs(index)), set()
        for at in range(index - 1, 0, -1):
            stage = self.steps[at].planned.stage
            if not isinstance(stage, RowStage) or stage.uses_model:
                continue
            if (stage.adds - {DROP}) & needs or (DROP in stage.adds and at > begin):
                chosen.add(at)
                needs |= stage.needs
        return chosen

    def _drawn_after(self, begin: int) -> _Drawn:
        """Rows drawn from those that live after a stage whose verdicts are stored; -1: from the files."""
        if begin in self._drawn:
            return self._drawn[begin]
        self.how.tell("reading a sample of the rows")
        generator = np.random.default_rng(derive(self.seed, "probe"))
        entry = self._kept(begin) if begin >= 0 else None
        if entry is None:
            total = sum(self.counts)
            positions = _positions(self.counts, _some(total, self.how.rows, generator))
        else:
            living = Reader(entry.folder, {}).positions
            total = len(living)
            positions = np.asarray(living[_some(total, self.how.rows, generator)])
        ingest, frames = _ingest(self.steps[0]), []
        for file in ingest.files:
            ordinals = positions[positions >> FILE_BITS == file.index] & ((1 << FILE_BITS) - 1)
            if len(ordinals):
                frames.append(rows_at(file.file, file.source, file.index, ordinals, ingest.metadata))
        rows = pl.concat(frames)
        self._drawn[begin] = _Drawn(rows, total * rows.height / len(positions))
        return self._drawn[begin]

    def _through(self, at: int, stage: RowStage, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that a stage leaves, with its columns."""
        clock = self.how.clock
        begun = clock()
        if at not in self._states:
            self._states[at] = stage.setup({})
        ready = clock()
        with collected():
            result = stage.apply(rows, self._states[at], frozenset(stage.outputs))
        if rows.height and at not in self.timings:
            taken = clock() - ready
            self.timings[at] = Timing(ready - begun, taken, rows.height, rows.height, peak_memory_bytes())
        columns = [name for name in result.columns if name != DROP]
        rows = rows.drop(columns, strict=False).hstack(result.select(columns))
        return rows.filter(result[DROP].is_null()) if DROP in result.columns else rows


def _columns(needs: Iterable[str]) -> list[str]:
    """Those of the needs that are columns, but for `position`, sorted."""
    return sorted(need for need in needs if ":" not in need and need != "position")


def _some(total: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`wanted` of the numbers below `total` (at most all), int64, ascending; any set is as likely as any other."""
    places: NDArray[np.int64] = generator.choice(total, min(wanted, total), replace=False)
    return np.sort(places)


def _positions(counts: Sequence[int], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of records, from their places among the records of all files."""
    sizes = np.asarray(counts, dtype=np.int64)
    ends = np.cumsum(sizes)
    file = np.searchsorted(ends, places, side="right").astype(np.int64)
    return (file << FILE_BITS) | (places - (ends - sizes)[file])
