"""Plan: what a run would do, stage by stage, before any work: stored or to do, rows, time, memory.

Rows are exact for what is stored and for files (records are counted, not parsed); behind a stage
that has not run they are as that stage predicts, or unknown. A method that states the memory of its arrays is
believed. Seconds and memory come from earlier
runs of the same stage in this store, scaled by the tokens that it reads, else by rows; where there was none,
from a probe (`curate.probe`) if the stage needs a model; else they are unknown, never made up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from curate.engine import Planned, after
from curate.engine import plan as plan_stage
from curate.pipeline import build
from curate.probe import Probe, Step, Workload, record_counts, stored_work
from curate.spec import Config
from curate.stage import DROP, RowStage, Stage
from curate.stages.embed import EmbedRows
from curate.store import Manifest, fingerprint
from curate.timing import Probing
from curate.view import View


@dataclass(frozen=True)
class Estimate:
    """What an output will cost. None where it is not known.

    seconds: still to be spent, `load_seconds` of them on loading a model; the outputs of one stage share them.
    probed_rows: on how many rows they were timed, where they are from a probe.
    tokens: that the stage reads, where it reads tokens. at_most: whether all this is for more rows than may
    come, since a stage before cannot say how many it leaves. why_unknown: what kept it from being probed.
    """

    source_of_estimate: Literal["stored", "measured before", "probed", "unknown"]
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    load_seconds: float | None = None
    probed_rows: int | None = None
    tokens: int | None = None
    at_most: bool = False
    why_unknown: str | None = None


@dataclass(frozen=True)
class PlannedOutput:
    """One line of a plan. step: which of the stages computes it, from 0; its outputs share their seconds.

    rows: that enter; left: that leave; None where not known.
    """

    name: str
    step: int
    fingerprint: str
    rows: int | None
    left: int | None
    estimate: Estimate
    needs: Sequence[str]
    adds: Sequence[str]

    @property
    def cached(self) -> bool:
        """Whether it is stored."""
        return self.estimate.source_of_estimate == "stored"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, those of the estimate among the others."""
        fields = asdict(self)
        estimate = fields.pop("estimate")
        return {**fields, **estimate, "cached": self.cached}


@dataclass(frozen=True)
class _Flow:
    """Rows that enter a stage and leave it, None where not known. most: that may enter, always known."""

    rows: int | None
    left: int | None
    most: int


def plan(config: Config, store: Path, probing: Probing | None = None) -> list[PlannedOutput]:
    """Plan a configuration against a store. Reads and hashes files and models; computes no stage, writes nothing.

    probing: how to probe what needs a model and was never run here; None for not at all.
    Raises ConfigError or DataError as the run itself would before its first stage; with a probe, as the
    probed stages would.
    """
    steps: list[Step] = []
    view = View()
    for stage in build(config):
        steps.append(Step(plan_stage(store, stage, view), view))
        view = after(steps[-1].planned, view)
    counts = record_counts(steps[0])
    flows = _flows(steps, sum(counts))
    probe = None if probing is None else Probe(steps, counts, config.seed, probing)
    works = [_work(step, index, flows[index], probe) for index, step in enumerate(steps)]
    width = _width(steps)
    earlier = [_earlier(store, step.planned, work, width) for step, work in zip(steps, works, strict=True)]
    if probe is not None:
        for index, step in enumerate(steps):
            never = any(estimate.seconds is None for estimate in earlier[index].values())
            if _runs_model(step.planned) and never:
                probe.time(index)
    return [
        PlannedOutput(
            name=output,
            step=index,
            fingerprint=entry.fingerprint,
            rows=flow.rows,
            left=flow.left,
            estimate=_estimate(index, output, work, known, probe),
            needs=sorted(step.planned.stage.output_needs(output)),
            adds=sorted(step.planned.stage.outputs[output]),
        )
        for index, (step, flow, work, known) in enumerate(zip(steps, flows, works, earlier, strict=True))
        for output, entry in step.planned.entries.items()
    ]


def total_seconds(lines: Iterable[PlannedOutput]) -> tuple[float, list[str]]:
    """Seconds still to spend, as far as known, and the names of the outputs of which nothing is known."""
    by_step: dict[int, float] = {}
    for line in lines:
        if line.estimate.seconds is not None:
            by_step[line.step] = max(by_step.get(line.step, 0.0), line.estimate.seconds)
    return sum(by_step.values()), [line.name for line in lines if line.estimate.seconds is None]


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


def _runs_model(planned: Planned) -> bool:
    """Whether it is a stage that a probe can time: rows through a model, not all stored."""
    stage = planned.stage
    return isinstance(stage, RowStage) and stage.uses_model and bool(planned.missing())


def _work(step: Step, index: int, flow: _Flow, probe: Probe | None) -> Workload:
    """What a stage will read, as well as it is known."""
    stage = step.planned.stage
    if isinstance(stage, RowStage) and _runs_model(step.planned):
        exact = stored_work(stage, step.view)
        if exact is not None:
            return exact
        if probe is not None:
            return probe.sample(index).work
    return Workload(flow.most, None, at_most=flow.rows is None)


def _width(steps: Sequence[Step]) -> int | None:
    """Of the last embeddings; None where there are none."""
    embeds = [step.planned.stage for step in steps if isinstance(step.planned.stage, EmbedRows)]
    return embeds[-1].width if embeds else None


def _earlier(store: Path, planned: Planned, work: Workload, width: int | None) -> dict[str, Estimate]:
    """For each output what earlier runs tell of it; `unknown` where there was none."""
    return {
        output: Estimate("stored", 0.0, 0, tokens=manifest.tokens or None)
        if (manifest := entry.manifest()) is not None
        else _history(store, planned.stage, output, work, width)
        for output, entry in planned.entries.items()
    }


def _estimate(
    index: int, output: str, work: Workload, earlier: Mapping[str, Estimate], probe: Probe | None
) -> Estimate:
    known = earlier[output]
    if known.source_of_estimate == "stored":
        return known
    if probe is None or all(estimate.seconds is not None for estimate in earlier.values()):
        return known
    timing = probe.timings.get(index)
    if timing is None or (index, output) in probe.obstacles:
        return (
            replace(known, why_unknown=probe.obstacles.get((index, output)))
            if known.seconds is None
            else known
        )
    return Estimate(
        "probed",
        timing.seconds_for(work.units),
        timing.peak_memory_bytes,
        timing.load_seconds,
        timing.rows,
        work.tokens,
        work.at_most,
    )


def _history(store: Path, stage: Stage, output: str, work: Workload, width: int | None) -> Estimate:
    """What earlier runs of this output in this store tell; of rows through a model, only of the same model.

    The memory of a method that states it is what it states, whatever was measured.
    """
    stated = None if width is None else stage.expected_memory_bytes(work.rows, width)
    found = [Manifest.read(path) for path in store.glob(f"{output}-*/manifest.json")]
    found = [manifest for manifest in found if manifest.stage == output]
    if isinstance(stage, RowStage) and stage.uses_model:
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
    if not of_rows:
        return Estimate("measured before", median(manifest.seconds for manifest in found), memory)
    by_tokens = work.tokens is not None and all(manifest.tokens for manifest in of_rows)
    units = work.tokens if by_tokens and work.tokens is not None else work.rows
    seconds = median(
        _scaled(manifest, units / (manifest.tokens if by_tokens else manifest.rows)) for manifest in of_rows
    )
    return Estimate("measured before", seconds, memory, tokens=work.tokens, at_most=work.at_most)


def _scaled(manifest: Manifest, times: float) -> float:
    """Seconds of a stage on so many times the work; what it took beside its shards (loading) does not grow.

    Where several workers shared the shards, that part cannot be told, and all of it grows.
    """
    inside = sum(shard.stats.get("seconds", 0.0) for shard in manifest.shards)
    beside = manifest.seconds - inside if 0.0 < inside <= manifest.seconds else 0.0
    return beside + times * (manifest.seconds - beside)
