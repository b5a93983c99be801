"""The command `plan`, and what keeps `run` from starting. Registered by `curate.cli`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from curate.forecast import Forecast, bytes_text, duration, gibibytes
from curate.options import (
    RUNS,
    AsJson,
    ConfigFile,
    MaxHours,
    MaxMemory,
    Overrides,
    ProbeOption,
    RunnerName,
    RunnerOption,
    RunsFolder,
)

if TYPE_CHECKING:
    from curate.spec import Config

ORIGINS = {"measured before": "earlier", "probed": "probe", "stored": "stored", "unknown": "-"}


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    runs: RunsFolder = RUNS,
    runner: RunnerOption = RunnerName.RAY,
    probe: ProbeOption = True,
    max_hours: MaxHours = None,
    max_memory_gib: MaxMemory = None,
    as_json: AsJson = False,
) -> None:
    """Print what a run would do: each stage, stored or to do, its rows, time, memory and disk.

    What never ran here is tried on a few rows, which takes about a minute (--no-probe: not). Exit code 2 where the
    run must not start: above --max-hours, or above the memory or the disk that is free.
    """
    from curate.config import load_config
    from curate.limits import Limits, check_limits

    loaded = load_config(config, overrides or [])
    with loaded.marks.located():
        forecast = forecast_of(loaded.config, runs, runner, probe)
    if as_json:
        print(json.dumps(forecast.as_dict(), indent=1))
    else:
        print_plan(forecast, Console())
    check_limits(forecast, Limits.of(runs, max_hours, max_memory_gib))


def check_before(
    config: "Config", runs: Path, runner: RunnerName, max_hours: float | None, max_memory_gib: float | None
) -> None:
    """Raise ConfigError where a run must not start. It is probed with `max_hours` alone.

    Without, what methods state of their memory is held against what is available.
    """
    from curate.limits import Limits, check_limits
    from curate.pipeline import build

    states = any(stage.expected_memory_bytes(2, 2) is not None for stage in build(config))
    if max_hours is None and max_memory_gib is None and not states:
        return
    forecast = forecast_of(config, runs, runner, probe=max_hours is not None)
    check_limits(forecast, Limits.of(runs, max_hours, max_memory_gib))
    if max_hours is not None:
        print_totals(forecast, Console(stderr=True))


def forecast_of(config: "Config", runs: Path, runner: RunnerName, probe: bool) -> Forecast:
    """The plan of a configuration; with a probe, where the run would be."""
    from curate.plan import plan as make_plan
    from curate.start import make_runner
    from curate.timing import Probing

    if not probe:
        return make_plan(config, runs / "store")
    # Plain lines: a spinner's thread would take time from what is timed.
    workplace = make_runner(runner.value)
    try:
        tell = Probing(tell=lambda text: print(f"probe: {text}", file=sys.stderr), runner=workplace)
        return make_plan(config, runs.resolve() / "store", tell)
    finally:
        workplace.close()


def print_plan(forecast: Forecast, console: Console) -> None:
    """Print a plan: its stages, what it will cost in all, and of what nothing is known."""
    columns = ("rows", "left", "time", "memory", "disk", "from")
    table = Table(Column("stage", no_wrap=True), *columns, box=None, padding=(0, 1, 0, 0))
    steps, shown = forecast.by_step(), set[int]()
    for line in forecast.lines:
        known = line.estimate
        seconds = "-" if line.cached else "?"
        if known.seconds is not None and not line.cached:
            seconds = (
                "same pass"
                if line.step in shown
                else f"{'<' if known.at_most else '~'}{duration(steps[line.name])}"
            )
            shown.add(line.step)
        rows = known.expected_rows if line.rows is None else line.rows
        expected = (
            "?"
            if rows is None
            else f"{'' if line.rows is not None else '<' if known.at_most else '~'}{rows:,}"
        )
        workers = f" x{known.workers}" if known.workers > 1 else ""
        memory = "?" if known.peak_memory_bytes is None else f"{gibibytes(known.peak_memory_bytes)}{workers}"
        disk = "?" if known.disk_bytes is None else bytes_text(known.disk_bytes)
        table.add_row(
            line.name,
            expected,
            "?" if line.left is None else f"{line.left:,}",
            seconds,
            *("-" if line.cached else text for text in (memory, disk)),
            ORIGINS[known.source_of_estimate],
        )
    console.print(table)
    print_totals(forecast, console)


def print_totals(forecast: Forecast, console: Console) -> None:
    """Print the sums, and why some things are in none."""
    left = forecast.to_do
    if not left:
        console.print("Nothing to do: everything is stored.")
        return
    if forecast.by_step():
        peak = forecast.peak_memory_bytes
        memory = "" if peak is None else f", {gibibytes(peak)} of memory at most at once"
        told = f"To do: {forecast.about} {duration(forecast.seconds)} on this machine{memory}, "
        least = "at least " if forecast.disk_unknown else ""
        console.print(f"{told}{least}{bytes_text(forecast.disk_bytes)} on disk.", highlight=False)
    if any(line.estimate.at_most for line in left):
        console.print("<: a bound; how many rows come is known only when the stages before it have run.")
    few = [
        line
        for line in left
        if 0 < (line.estimate.probed_rows or 64) < 64 <= (line.estimate.expected_rows or 0)
    ]
    for line in few:
        console.print(f"{line.name} was tried on {line.estimate.probed_rows} rows alone.", highlight=False)
    for line in left:
        if line.estimate.why_unknown is not None:
            console.print(f"{line.name} could not be tried: it {line.estimate.why_unknown}.", highlight=False)
    if forecast.unknown:
        console.print(
            f"Never run here, so not known and in no sum: {', '.join(forecast.unknown)}.", highlight=False
        )
