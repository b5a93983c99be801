"""Limits: what a run may take, and why one must not start. Time, memory and disk, against a plan's forecast."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import ConfigError
from curate.forecast import Forecast, PlannedOutput, duration, gibibytes

GIB = 2**30
DEAREST = 3


@dataclass(frozen=True)
class Limits:
    """None: no limit. hours: of the whole run; memory_bytes, gpu_memory_bytes, disk_bytes: at any time of it."""

    hours: float | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    disk_bytes: int | None = None
    memory_from: str = "are available"

    @classmethod
    def of(cls, runs: Path, hours: float | None = None, max_memory_gib: float | None = None) -> "Limits":
        """Those of this machine, and what the user gave.

        max_memory_gib stands for the memory that is available. Where RAY_ADDRESS names a cluster, workers are not on
        this machine, and only what the user gives limits memory.
        """
        place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
        disk = shutil.disk_usage(place).free
        if max_memory_gib is not None:
            return cls(hours, round(max_memory_gib * GIB), None, disk, "are allowed by --max-memory-gib")
        if os.environ.get("RAY_ADDRESS"):
            return cls(hours, None, None, disk)
        return cls(hours, available_memory_bytes(), gpu_memory_bytes(), disk)


def check_limits(forecast: Forecast, limits: Limits) -> None:
    """Raise ConfigError where the forecast passes a limit: which, by what, and what to do."""
    told = [*_hours(forecast, limits), *_memory(forecast, limits), *_disk(forecast, limits)]
    if told:
        raise ConfigError("This run does not start: " + "\n".join(told))


def _hours(forecast: Forecast, limits: Limits) -> list[str]:
    if limits.hours is None or forecast.seconds <= limits.hours * 3600:
        return []
    dearest = sorted(forecast.by_step().items(), key=lambda each: -each[1])[:DEAREST]
    stages = ", ".join(f"{name} {duration(seconds)}" for name, seconds in dearest)
    return [
        f"it will take {forecast.about} {duration(forecast.seconds)}, and --max-hours allows {limits.hours:g} h. "
        f"The dearest stages: {stages}. Raise --max-hours, put a cheap `select` before the dearest stage, or take a "
        "smaller model or budget."
    ]


def _memory(forecast: Forecast, limits: Limits) -> list[str]:
    told = []
    for line in forecast.to_do:
        need, limit = forecast.memory_bytes(line), limits.memory_bytes
        if need is not None and limit is not None and need > limit and not line.rows_are_a_bound:
            told.append(
                f"`{line.name}` needs {gibibytes(need)} of memory{_workers(line)}, and {gibibytes(limit)} "
                f"{limits.memory_from}. Select fewer rows before it, choose a method or kernel that holds less, fewer "
                "`resources: {workers: …}`; or, if you know better, allow more: --max-memory-gib."
            )
        gpu, of_gpu = line.estimate.gpu_memory_bytes, limits.gpu_memory_bytes
        if gpu is not None and of_gpu is not None and gpu > of_gpu:
            told.append(
                f"`{line.name}` needs {gibibytes(gpu)} of a GPU's memory, and the largest has {gibibytes(of_gpu)}. "
                "Lower `resources: {batch_tokens: …}`, or take a smaller model."
            )
    return told


def _workers(line: PlannedOutput) -> str:
    return f" ({line.estimate.workers} workers)" if line.estimate.workers > 1 else ""


def _disk(forecast: Forecast, limits: Limits) -> list[str]:
    if limits.disk_bytes is None or forecast.disk_bytes <= limits.disk_bytes:
        return []
    return [
        f"it will write {forecast.about} {gibibytes(forecast.disk_bytes)}, and {gibibytes(limits.disk_bytes)} are "
        "free. Free some, or give another folder with --runs."
    ]


def available_memory_bytes(
    system: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """What this process and its children may still take: of the machine, or of a control group that allows less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *(max(0, limit - used) for limit, used in _groups(system, own))])


def _groups(system: Path, own: Path) -> Sequence[tuple[int, int]]:
    """(limit, used) bytes of the control groups that this process is in, and those around them; both versions."""
    if not own.exists():
        return []
    found = []
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            base, names = system / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        elif not controllers:
            base, names = system, ("memory.max", "memory.current")
        else:
            continue
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            limit, used = (base / group / name for name in names)
            if limit.exists() and used.exists() and limit.read_text().strip() != "max":
                found.append((int(limit.read_text()), int(used.read_text())))
    return found


def gpu_memory_bytes() -> int | None:
    """Of the largest GPU; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return max(
        int(torch.cuda.get_device_properties(index).total_memory)
        for index in range(torch.cuda.device_count())
    )
