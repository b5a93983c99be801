"""Plan: what a run would do, stage by stage, before any work: stored or to do, rows, time, memory, disk.

Rows are exact for what is stored and for files (records are counted, not parsed); behind a stage
that has not run they are as that stage predicts, or unknown. A method that states the memory of its arrays is
believed. Everything else comes from earlier runs of the same stage in this store, of the same model and settings
where it holds a model, scaled by the tokens that it reads, else by rows; where there was none, from a probe
(`curate.probe`); else it is unknown, never made up.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import cast

from curate.engine import Planned, after
from curate.engine import plan as plan_stage
from curate.forecast import Estimate, Forecast, PlannedOutput
from curate.pipeline import Pipeline, build
from curate.probe import Probe
from curate.spec import Config
from curate.stage import DROP, ArtifactStage, RowStage, Stage
from curate.stages.embed import EmbedRows
from curate.store import Manifest, fingerprint
from curate.tasks import resident_bytes, shard_rows
from curate.timing import Probing
from curate.view import View
from curate.workload import Step, Workload, record_counts, stored_work


@dataclass(frozen=True)
class _Flow:
    """Rows that enter a stage and leave it, None where not known. most: that may enter, always known."""

    rows: int | None
    left: int | None
    most: int


def plan(config: Config, store: Path, probing: Probing | None = None) -> Forecast:
    """Plan a configuration against a store. Reads and hashes files and models; computes no stage, leaves no file.

    probing: how to probe what was never run here; None for not at all. The probe's files lie in a folder beside
    the store's entries, where all workers see them, and are removed.
    Raises ConfigError or DataError as the run itself would before its first stage; with a probe, as the
    probed stages would.
    """
    steps: list[Step] = []
    view = View()
    for stage in build(config):
        steps.append(Step(plan_stage(store, stage, view), view))
        view = after(steps[-1].planned, view)
    counts = record_counts(steps[0])
    flows, width = _flows(steps, sum(counts)), _width(steps)
    works = [_known_work(step, flow) for step, flow in zip(steps, flows, strict=True)]
    earlier = [_earlier(store, step.planned, work, width) for step, work in zip(steps, works, strict=True)]
    if probing is None or not any(step.planned.missing() for step in steps):
        lines = _lines(steps, flows, [_Tried(work, None, 1) for work in works], earlier, width)
        return Forecast(lines, beyond=_beyond(config))
    with _scratch(store) as folder:
        probe = Probe(steps, counts, config.seed, probing, folder, _dear(steps, earlier))
        probe.finish()
        works = [probe.sample(at).work for at in range(len(steps))]
        tried = [
            _Tried(work, probe, _workers(step, work, probing))
            for step, work in zip(steps, works, strict=True)
        ]
    earlier = [_earlier(store, step.planned, work, width) for step, work in zip(steps, works, strict=True)]
    held = resident_bytes() if probing.runner.separate else 0
    return Forecast(_lines(steps, flows, tried, earlier, width), held, _beyond(config))


@dataclass(frozen=True)
class _Tried:
    """What a step will read, the probe that tried it, None without one, and its workers."""

    work: Workload
    probe: Probe | None
    workers: int


@contextmanager
def _scratch(store: Path) -> Iterator[Path]:
    made = [folder for folder in (store, *store.parents) if not folder.exists()]
    store.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=".probe-", dir=store.resolve()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        for empty in made:
            if not any(empty.iterdir()):
                empty.rmdir()


def _beyond(config: Config) -> str | None:
    """What a shape of pipeline does that is no stage of the list."""
    shape = cast(type[Pipeline], type(config.pipeline))
    if shape.conclude is Pipeline.conclude:
        return None
    return f"the runs that pipeline `{config.pipeline.name}` makes after this one"


def _flows(steps: Sequence[Step], records: int) -> list[_Flow]:
    rows: int | None = records
    most, found = records, []
    for step in steps:
        entering, bound = rows, most
        stage = step.planned.stage
        manifests = [entry.manifest() for entry in step.planned.entries.values()]
        if DROP in stage.adds and manifests[0] is not None and manifests[0].kept is not None:
            rows = most = manifests[0].kept
        else:
            rows = None if rows is None else stage.predicted_rows(rows)
            predicted = stage.predicted_rows(most)
            most = most if predicted is None else predicted
        found.append(_Flow(entering, rows, bound))
    return found


def _dear(steps: Sequence[Step], earlier: Sequence[Mapping[str, Estimate]]) -> frozenset[int]:
    """The steps with a model that a probe must try: those never run, and those whose columns a step to do reads."""
    chosen, needs = set(), set[str]()
    for at in range(len(steps) - 1, -1, -1):
        stage, missing = steps[at].planned.stage, steps[at].planned.missing()
        never = any(estimate.seconds is None for estimate in earlier[at].values())
        if missing and (not stage.uses_model or never or stage.adds & needs):
            chosen.add(at)
            needs |= stage.needs
    return frozenset(chosen)


def _known_work(step: Step, flow: _Flow) -> Workload:
    """What a stage will read, without a sample."""
    stage = step.planned.stage
    exact = stored_work(stage, step.view) if isinstance(stage, RowStage) else None
    if exact is not None and step.planned.missing():
        return exact
    return Workload(flow.most, None, at_most=flow.rows is None)


def _workers(step: Step, work: Workload, probing: Probing) -> int:
    """Of a row stage; all others have one."""
    stage = step.planned.stage
    if not isinstance(stage, RowStage) or not step.planned.missing():
        return 1
    units = -(-work.rows // shard_rows(work.rows, stage.min_shard_rows))
    return probing.runner.workers(stage.resources, stage.uses_model, max(units, 1))


def _width(steps: Sequence[Step]) -> int | None:
    """Of the last embeddings; None where there are none."""
    embeds = [step.planned.stage for step in steps if isinstance(step.planned.stage, EmbedRows)]
    return embeds[-1].width if embeds else None


def _lines(
    steps: Sequence[Step],
    flows: Sequence[_Flow],
    tried: Sequence[_Tried],
    earlier: Sequence[Mapping[str, Estimate]],
    width: int | None,
) -> list[PlannedOutput]:
    return [
        PlannedOutput(
            name=output,
            step=at,
            fingerprint=entry.fingerprint,
            rows=flow.rows,
            left=flow.left,
            estimate=_estimate(at, output, step.planned.stage, by, known, width),
            needs=sorted(step.planned.stage.output_needs(output)),
            adds=sorted(step.planned.stage.outputs[output]),
        )
        for at, (step, flow, by, known) in enumerate(zip(steps, flows, tried, earlier, strict=True))
        for output, entry in step.planned.entries.items()
    ]


def _estimate(
    at: int, output: str, stage: Stage, tried: _Tried, earlier: Mapping[str, Estimate], width: int | None
) -> Estimate:
    known, work, probe = earlier[output], tried.work, tried.probe
    if known.source_of_estimate == "stored" or probe is None:
        return known
    known = replace(known, expected_rows=work.rows, workers=tried.workers)
    if all(estimate.seconds is not None for estimate in earlier.values()):
        return known
    timing = probe.timings.get(at)
    if timing is None or (at, output) in probe.obstacles:
        why = probe.obstacles.get((at, output))
        return replace(known, why_unknown=why) if known.seconds is None else known
    disk = probe.disk_bytes.get((at, output))
    stated = None if width is None else stage.expected_memory_bytes(work.rows, width)
    measured = (
        timing.peak_memory_for(work.rows) if not isinstance(stage, RowStage) else timing.peak_memory_bytes
    )
    return Estimate(
        "probed",
        seconds=timing.seconds_for(work.units, tried.workers),
        peak_memory_bytes=measured
        if stated is None
        else max(timing.peak_memory_bytes, probe.starting.worker_bytes + stated),
        load_seconds=timing.load_seconds,
        probed_rows=timing.rows,
        tokens=work.tokens,
        at_most=work.at_most,
        expected_rows=work.rows,
        workers=tried.workers,
        gpu_memory_bytes=timing.gpu_memory_bytes,
        disk_bytes=None if disk is None else round(disk),
        scratch_bytes=probe.scratch_bytes.get(at, 0),
    )


def _earlier(store: Path, planned: Planned, work: Workload, width: int | None) -> dict[str, Estimate]:
    """For each output what earlier runs tell of it; `unknown` where there was none."""
    return {
        output: Estimate(
            "stored",
            0.0,
            0,
            tokens=manifest.tokens or None,
            gpu_memory_bytes=0,
            disk_bytes=0,
            scratch_bytes=0,
        )
        if (manifest := entry.manifest()) is not None
        else _history(store, planned.stage, output, work, width)
        for output, entry in planned.entries.items()
    }


def _history(store: Path, stage: Stage, output: str, work: Workload, width: int | None) -> Estimate:
    """What earlier runs of this output in this store tell; of artifacts and models, only with the same settings.

    The memory of a method that states it is what it states, whatever was measured.
    """
    stated = None if width is None else stage.expected_memory_bytes(work.rows, width)
    found = [Manifest.read(path) for path in store.glob(f"{output}-*/manifest.json")]
    found = [manifest for manifest in found if manifest.stage == output]
    if isinstance(stage, ArtifactStage) or (isinstance(stage, RowStage) and stage.uses_model):
        same = fingerprint(stage.output_identity(output))
        found = [manifest for manifest in found if fingerprint(manifest.identity) == same]
    if not found:
        return Estimate(
            "unknown",
            peak_memory_bytes=stated,
            tokens=work.tokens,
            at_most=stated is not None and work.at_most,
        )
    of_rows = [manifest for manifest in found if manifest.rows]
    memory = stated or max(manifest.peak_memory_bytes for manifest in of_rows or found)
    by_tokens = work.tokens is not None and all(manifest.tokens for manifest in of_rows or found)
    if not of_rows:  # an artifact
        disk = round(median(_bytes(manifest) for manifest in found))
        parts = [work.tokens / manifest.tokens if by_tokens and work.tokens else 1.0 for manifest in found]
        seconds = median(each.seconds * part for each, part in zip(found, parts, strict=True))
        return Estimate(
            "measured before", seconds, memory, tokens=work.tokens, at_most=work.at_most, disk_bytes=disk
        )
    units = work.tokens if by_tokens and work.tokens is not None else work.rows
    seconds = median(
        _scaled(manifest, units / (manifest.tokens if by_tokens else manifest.rows)) for manifest in of_rows
    )
    disk = round(median(_bytes(manifest) * work.rows / manifest.rows for manifest in of_rows))
    return Estimate(
        "measured before", seconds, memory, tokens=work.tokens, at_most=work.at_most, disk_bytes=disk
    )


def _bytes(manifest: Manifest) -> int:
    return sum(shard.bytes for shard in manifest.shards)


def _scaled(manifest: Manifest, times: float) -> float:
    """Seconds of a stage on so many times the work; what it took beside its shards (loading) does not grow.

    Where several workers shared the shards, that part cannot be told, and all of it grows.
    """
    inside = sum(shard.stats.get("seconds", 0.0) for shard in manifest.shards)
    beside = manifest.seconds - inside if 0.0 < inside <= manifest.seconds else 0.0
    return beside + times * (manifest.seconds - beside)
