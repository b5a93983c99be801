"""The command `report`. Registered by `curate.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from curate.commands import find_run
from curate.options import RUNS, RunArgument, RunsFolder


def report(
    run: RunArgument,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="default: report.html in the run's folder")
    ] = None,
    runs: RunsFolder = RUNS,
) -> None:
    """Write a run's report: one HTML file, for a browser, that needs no network."""
    written = find_run(run, runs).report(to)
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
