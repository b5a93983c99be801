"""How well a plan predicts: a probe of an empty store, then the run itself, compared stage by stage.

python -m benchmarks.forecast configs/demo.yaml --runs DIR [--cpu]

Wall seconds with Ray, as `curate plan` and `curate run` do it; with --cpu, processor seconds of one process (the local
runner), which other work on the machine hardly changes. DIR must be new.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.config import load_config
from curate.forecast import Forecast
from curate.plan import plan
from curate.progress import Silent
from curate.start import make_runner, start
from curate.timing import Probing


class Clocked(Silent):
    """Notes the processor seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.process_time()

    def finished(self, record: Mapping[str, Any]) -> None:
        """What was spent since the stage before; of outputs of one stage, all at the first."""
        now = time.process_time()
        self.seconds[record["name"]] = now - self.last
        self.last = now


def compare(
    config: Path, overrides: Sequence[str], runs: Path, cpu: bool
) -> list[tuple[str, float, float, int, int, int, int]]:
    """Per stage: predicted and measured seconds, peak memory in bytes, bytes on disk."""
    loaded = load_config(config, overrides).config
    runner = make_runner("local" if cpu else "ray")
    clock = time.process_time if cpu else time.perf_counter
    forecast: Forecast = plan(loaded, runs.resolve() / "store", Probing(runner=runner, clock=clock))
    runner.close()
    observer = Clocked()
    run = start(loaded, runs, "local" if cpu else "ray", observer)
    measured = {stage["name"]: stage for stage in run.stages}
    table = []
    for name, predicted in forecast.by_step().items():
        record = measured[name]
        line = next(line for line in forecast.lines if line.name == name)
        together = [each.name for each in forecast.lines if each.step == line.step]
        seconds = max(observer.seconds[each] if cpu else measured[each]["seconds"] for each in together)
        folder = runs / "store" / record["folder"]
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        memory = line.estimate.peak_memory_bytes or 0
        disk = line.estimate.disk_bytes or 0
        table.append((name, predicted, seconds, memory, record["peak_memory_bytes"], disk, size))
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    table = compare(given.config, given.set, given.runs, given.cpu)
    unit = "processor s" if given.cpu else "s"
    print(
        f"| stage | predicted {unit} | measured | ratio | predicted MiB | measured | predicted KiB | measured |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    sums = [sum(row[at] for row in table) for at in range(1, 7)]
    peak = ("all", *sums[:2], max(row[3] for row in table), max(row[4] for row in table), *sums[4:])
    for name, predicted, seconds, memory, held, disk, size in [*table, peak]:
        ratio = predicted / seconds if seconds else float("nan")
        print(
            f"| {name} | {predicted:.1f} | {seconds:.1f} | {ratio:.2f} | {memory / 2**20:,.0f} | {held / 2**20:,.0f} "
            f"| {disk / 2**10:,.0f} | {size / 2**10:,.0f} |"
        )


if __name__ == "__main__":
    main()
