"""Forecast: what a run will cost, output by output and in all. Numbers that are not known are None, never made up."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["stored", "measured before", "probed", "unknown"]


@dataclass(frozen=True)
class Estimate:
    """What an output will cost. None where it is not known.

    seconds: still to be spent, `load_seconds` of them once (to start workers, to load a model), however much there is
    to read; the outputs of one stage share them. peak_memory_bytes: of each of its `workers`, gpu_memory_bytes: of
    their GPU, 0 where none is used. disk_bytes: what it leaves in the store; scratch_bytes: what it has on disk
    beside that while it runs (checkpoints).
    probed_rows: on how many rows it was timed, where it is from a probe. rows, tokens: that it is for; tokens where
    its time goes by them. at_most: whether that is more than may come, since a stage before cannot say how many it
    leaves. why_unknown: what kept it from being probed.
    """

    source_of_estimate: Origin
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    load_seconds: float | None = None
    probed_rows: int | None = None
    tokens: int | None = None
    at_most: bool = False
    why_unknown: str | None = None
    expected_rows: int | None = None
    workers: int = 1
    gpu_memory_bytes: int | None = None
    disk_bytes: int | None = None
    scratch_bytes: int | None = None


@dataclass(frozen=True)
class PlannedOutput:
    """One line of a plan. step: which of the stages computes it, from 0; its outputs share their seconds.

    rows: that enter; left: that leave; None where not known for certain.
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

    @property
    def rows_are_a_bound(self) -> bool:
        """Whether nobody has looked how many rows come: then its memory is no reason to refuse a run."""
        return self.rows is None and self.estimate.source_of_estimate != "probed"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, those of the estimate among the others."""
        fields = asdict(self)
        estimate = fields.pop("estimate")
        return {**fields, **estimate, "cached": self.cached}


@dataclass(frozen=True)
class Forecast:
    """A plan: its lines; what the process that drives the run holds beside its workers; what comes beyond the lines."""

    lines: Sequence[PlannedOutput]
    process_bytes: int = 0
    beyond: str | None = None

    @property
    def to_do(self) -> list[PlannedOutput]:
        """The lines that are not stored."""
        return [line for line in self.lines if not line.cached]

    def by_step(self) -> dict[str, float]:
        """Seconds of each stage of which they are known, under the name of its first output to do."""
        found: dict[int, float] = {}
        names: dict[int, str] = {}
        for line in self.to_do:
            if line.estimate.seconds is not None:
                found[line.step] = max(found.get(line.step, 0.0), line.estimate.seconds)
                names.setdefault(line.step, line.name)
        return {names[step]: seconds for step, seconds in found.items()}

    @property
    def seconds(self) -> float:
        """Still to spend, as far as known."""
        return sum(self.by_step().values())

    @property
    def unknown(self) -> list[str]:
        """The outputs of whose time nothing is known, and what comes beyond the stages."""
        names = [line.name for line in self.to_do if line.estimate.seconds is None]
        return names if self.beyond is None else [*names, self.beyond]

    @property
    def disk_unknown(self) -> list[str]:
        """The outputs of whose size nothing is known."""
        return [line.name for line in self.to_do if line.estimate.disk_bytes is None]

    @property
    def about(self) -> str:
        """How the sums are to be read: `at least` where something is unknown."""
        if self.unknown:
            return "at least"
        return "at most about" if any(line.estimate.at_most for line in self.to_do) else "about"

    def memory_bytes(self, line: PlannedOutput) -> int | None:
        """The most that a stage's workers and the driving process hold together."""
        peak = line.estimate.peak_memory_bytes
        return None if peak is None else peak * line.estimate.workers + self.process_bytes

    @property
    def peak_memory_bytes(self) -> int | None:
        """Of the largest stage of which it is known."""
        known = [need for line in self.to_do if (need := self.memory_bytes(line)) is not None]
        return max(known, default=None)

    @property
    def disk_bytes(self) -> int:
        """What will be written, as far as known, with the largest scratch."""
        scratch = max((line.estimate.scratch_bytes or 0 for line in self.to_do), default=0)
        return sum(line.estimate.disk_bytes or 0 for line in self.to_do) + scratch

    def as_dict(self) -> dict[str, Any]:
        """As JSON values: `stages`, a list of the lines, and `total`."""
        total = {
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "process_bytes": self.process_bytes,
            "disk_bytes": self.disk_bytes,
            "reading": self.about,
            "unknown": self.unknown,
            "disk_unknown": self.disk_unknown,
        }
        return {"stages": [line.as_dict() for line in self.lines], "total": total}


def gibibytes(count: int) -> str:
    """`1.5 GiB`."""
    return f"{count / 2**30:.1f} GiB"


def bytes_text(count: int) -> str:
    """`12 KiB`, `9.4 MiB`, `1.5 GiB`."""
    if count < 2**20:
        return f"{max(1, round(count / 2**10)) if count else 0} KiB"
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else gibibytes(count)


def duration(seconds: float) -> str:
    """`0.4 s`, `75 s`, `12 min`, `8 h 20 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
