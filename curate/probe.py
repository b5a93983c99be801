"""Probe: what the stages of a run will cost, from a few rows of its own pool, before the run.

1. A sample of about 2,000 records is drawn, at least 64 of each source, and read; each stands for as many rows as its
   `weight` says. Where stages that drop rows are stored already, it is drawn from the rows that they left.
2. It goes through the stages in their order, in workers of the run's own runner. A stage that holds a model is timed
   on 64 rows, which then stand for all; where many rows are quick (a small embedder), on more. What works on whole
   columns (deduplication, clusters, a selection) is tried on as many rows as there will be, up to 2,000, budgets in
   proportion; a sample that is smaller is repeated. A training takes its first steps, an evaluation 64 rows.
3. Each stage's seconds are scaled to what it will read (`curate.timing`); which rows it keeps, and how long they are,
   the next stages see. A stage's own prediction of its rows counts before the sample's.

What only the run can make is an obstacle, said and never guessed. Nothing stays on disk. Of near duplicates a sample
holds fewer than the pool, so behind a deduplicator an estimate is one of at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.drawing import draw
from curate.errors import CurateError
from curate.flow import Flow, tries
from curate.numerics.seeds import derive
from curate.rehearsal import (
    FOUND,
    Starting,
    Work,
    artifact_work,
    called,
    parquet_bytes,
    pool_work,
    row_work,
    source_work,
)
from curate.stage import ArtifactStage, PoolStage, RowStage, Stage
from curate.stages.ingest import Ingest
from curate.tasks import shard_rows
from curate.timing import Probing, Timing
from curate.workload import Sample, Step, columns_of, ingest_of, kept_by


@dataclass
class Probe:
    """A plan's sample, on its way through the stages, and their timings.

    steps: the whole plan; the first is the ingest. counts: records of each of its files. folder: where what is tried
    leaves its files; it must be seen by all workers. wanted: the steps to be tried that hold a model; all others are
    quick, and tried anyway. timings: of the steps that were tried so far, by index; obstacles: why an output could
    not be; disk_bytes: of an output, stored; scratch_bytes: of a step, while it runs.
    """

    steps: Sequence[Step]
    counts: Sequence[int]
    seed: int
    how: Probing
    folder: Path
    wanted: frozenset[int] = frozenset()
    timings: dict[int, Timing] = field(default_factory=dict)
    obstacles: dict[tuple[int, str], str] = field(default_factory=dict)
    disk_bytes: dict[tuple[int, str], float] = field(default_factory=dict)
    scratch_bytes: dict[int, int] = field(default_factory=dict)
    _samples: list[Sample] = field(default_factory=list)
    _tried: list[tuple[Stage, dict[str, Any] | str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.how.tell("reading a sample of the rows")
        kept = [at for at, step in enumerate(self.steps) if kept_by(step.planned) is not None]
        begin = max(kept, default=-1)
        entry = kept_by(self.steps[begin].planned) if kept else None
        ingest, generator = ingest_of(self.steps[0]), np.random.default_rng(derive(self.seed, "probe"))
        self.flow = Flow(draw(ingest, self.counts, entry, self.how.rows, generator), begin)
        if kept:
            self.flow.scale(float(sum(self.counts)))
        self.how.tell("starting workers")
        self.starting = Starting.of(self.how.runner, self.how.clock)

    def sample(self, index: int) -> Sample:
        """Rows as they reach a step, and an estimate of what it will read; all before it have been tried then."""
        while len(self._samples) <= index:
            self._advance(len(self._samples))
        return self._samples[index]

    def finish(self) -> None:
        """Try every step."""
        self.sample(len(self.steps) - 1)
        self._advance(len(self.steps))

    def _advance(self, at: int) -> None:
        """Try the step before, and let the sample reach this one."""
        if at > 0:
            before = self.steps[at - 1]
            found = self._try(at - 1) if before.planned.missing() else None
            if found is not None:
                self._weigh(at - 1, found)
                self.flow.learn(found)
            self.flow.leave(at - 1, before, found is not None)
        if at < len(self.steps):
            self.flow.fetch(self.steps[at])
            self._samples.append(Sample(self.flow.rows, self.flow.work(self.steps[at])))

    def _try(self, at: int) -> pl.DataFrame | None:
        """What a step adds to rows of the sample, by `position`, where it is tried and adds columns."""
        step, stage = self.steps[at], self.steps[at].planned.stage
        if stage.uses_model and at not in self.wanted:
            return None
        possible, tried = set[str](), tries(stage)
        for output in sorted(step.planned.missing()):
            obstacle = self._obstacle(tried, step, stage.output_needs(output))
            if obstacle is None:
                possible.add(output)
            else:
                self.obstacles[at, output] = obstacle
        if not possible:
            return None
        self.how.tell(f"trying {stage.label}")
        if isinstance(stage, Ingest):
            self._try_ingest(at, stage)
        elif isinstance(stage, RowStage):
            return self._try_rows(at, stage, frozenset(possible))
        elif isinstance(stage, PoolStage):
            return self._try_pool(at, stage)
        elif isinstance(tried, ArtifactStage):
            self._try_artifact(at, stage, tried)
        return None

    def _obstacle(self, tried: Stage | None, step: Step, needs: frozenset[str]) -> str | None:
        if tried is None:
            return "cannot be tried before the run"
        if not self.flow.rows.height:
            return f"cannot be tried: none of {self.how.rows:,} rows reaches it"
        return self.flow.lacking(tried.needs if isinstance(tried, ArtifactStage) else needs, step.view)

    def _try_ingest(self, at: int, stage: Ingest) -> None:
        out, clock = self._place(at), self.how.clock
        told, _ = called(self.how.runner, source_work(stage, out, clock), stage.resources, False, clock)
        self._time(at, told, self.starting.map_seconds)
        share = sum(self.counts) / max(told["timing"]["rows"], 1)
        self.disk_bytes[at, stage.label] = share * (out / FOUND).stat().st_size

    def _try_rows(self, at: int, stage: RowStage, outputs: frozenset[str]) -> pl.DataFrame:
        needs = frozenset[str]().union(*(stage.output_needs(output) for output in outputs))
        rows, out = self.flow.rows, self._place(at)
        order = pl.col("tokens") if "tokens" in rows.columns else pl.col("messages").str.len_bytes()
        rows = rows.sort(order, "position").select("position", *sorted(columns_of(needs)))
        most = shard_rows(self._samples[at].work.rows, stage.min_shard_rows)
        work = row_work(
            stage,
            rows,
            outputs,
            self.flow.given(self.steps[at].view),
            most,
            self.seed,
            self.how.limit_seconds,
            out,
            self.how.clock,
        )
        fresh = (
            stage.uses_model or type(stage).setup is not RowStage.setup
        )  # a process of its own, as in the run
        resources = stage.resources
        if fresh and not stage.uses_model:
            resources = resources.model_copy(update={"gpus": 0})
        told, _ = called(self.how.runner, work, resources, fresh, self.how.clock)
        self._time(at, told, self.starting.map_seconds)
        return pl.read_parquet(out / FOUND)

    def _try_pool(self, at: int, stage: PoolStage) -> pl.DataFrame | None:
        whole, out = self._samples[at].work.rows, self._place(at)
        generator = np.random.default_rng(derive(self.seed, "probe", stage.label))
        self.flow.enlarge(min(whole, self.how.rows), generator)
        given = self.flow.given(self.steps[at].view)
        told = self._called(at, stage, pool_work(stage, self.flow.rows, given, whole, out, self.how.clock))
        if isinstance(told, str):
            return None
        self._time(at, told, self._call_seconds(at))
        return pl.read_parquet(out / FOUND)

    def _try_artifact(self, at: int, stage: Stage, rehearsal: ArtifactStage) -> None:
        told = next((told for tried, told in self._tried if tried == rehearsal), None)
        if told is None:
            inputs, out = self.flow.inputs(self.steps[at]), self._place(at)
            limit, clock = self.how.limit_seconds, self.how.clock
            work = artifact_work(rehearsal, self.flow.rows, inputs.artifacts, inputs.rows, limit, out, clock)
            told = self._called(at, rehearsal, work)
            told = told if isinstance(told, str) else {**told, "out": str(out / "out")}
            self._tried.append((rehearsal, told))
        if isinstance(told, str):
            self._hinder(at, told)
            return
        if told["timing"]["seconds"] and self._samples[at].work.tokens is None:
            self._hinder(at, "cannot be timed: how many tokens it will read is not known")
            return
        if told["finished"]:
            made = (name.removeprefix("artifact:") for name in stage.adds)
            self.flow.artifacts |= dict.fromkeys(made, Path(told["out"]))
            self.disk_bytes[at, stage.label] = told["made_bytes"]
        self._time(at, told, told["beside_seconds"] if rehearsal.uses_model else self._call_seconds(at))
        self.scratch_bytes[at] = 2 * told["work_bytes"]  # two checkpoints are kept

    def _called(self, at: int, stage: Stage, work: Work) -> dict[str, Any] | str:
        """What the work told, or the obstacle where the sample would not do."""
        runner, clock = self.how.runner, self.how.clock
        try:
            told, beside = called(runner, work, stage.resources, stage.uses_model, clock)
        except CurateError as error:
            why = f"failed on a sample: {str(error).strip().splitlines()[-1]}"
            self._hinder(at, why)
            return why
        return {**told, "beside_seconds": beside}

    def _call_seconds(self, at: int) -> float:
        """To start a call without a model; less where the worker of the step before is still there."""
        before = self.steps[at - 1].planned
        called = isinstance(before.stage, PoolStage | ArtifactStage) and not before.stage.uses_model
        return self.starting.again_seconds if called and before.missing() else self.starting.call_seconds

    def _hinder(self, at: int, why: str) -> None:
        for output in self.steps[at].planned.missing():
            self.obstacles[at, output] = why

    def _time(self, at: int, told: dict[str, Any], beside_seconds: float) -> None:
        timing = Timing(**told["timing"])
        first = self.starting.runner_seconds if not self.timings else 0.0
        self.timings[at] = replace(timing, load_seconds=timing.load_seconds + beside_seconds + first)

    def _weigh(self, at: int, found: pl.DataFrame) -> None:
        """How much disk a step's columns will take."""
        for output, added in self.steps[at].planned.stage.outputs.items():
            columns = sorted(added & set(found.columns))
            if columns and found.height:
                size = parquet_bytes(found.select("position", *columns))
                self.disk_bytes[at, output] = size * self._samples[at].work.rows / found.height

    def _place(self, at: int) -> Path:
        place = self.folder / str(at)
        place.mkdir(parents=True, exist_ok=True)
        return place
