"""The commands that touch runs: run, show, export, and `list runs`. Registered by `curate.cli`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from curate.errors import ConfigError
from curate.forecast import gibibytes
from curate.options import (
    RUNS,
    AsJson,
    ConfigFile,
    Format,
    MaxHours,
    MaxMemory,
    Overrides,
    RunArgument,
    RunnerName,
    RunnerOption,
    RunsFolder,
)
from curate.runs import Run, runs_in


def run(
    config: ConfigFile,
    overrides: Overrides = None,
    runs: RunsFolder = RUNS,
    runner: RunnerOption = RunnerName.RAY,
    max_hours: MaxHours = None,
    max_memory_gib: MaxMemory = None,
    as_json: AsJson = False,
) -> None:
    """Run a configuration to its end. What is stored from earlier runs is not computed again.

    With --max-hours it is probed first (see `curate plan`), and does not start where it will take longer. It does not
    start either where a method states that it needs more memory than there is. Exit code 2.
    """
    from curate.config import load_config
    from curate.plan_command import check_before
    from curate.progress import Silent, observer
    from curate.start import start

    loaded = load_config(config, overrides or [])
    with loaded.marks.located():
        check_before(loaded.config, runs, runner, max_hours, max_memory_gib)
        finished = start(loaded.config, runs, runner.value, Silent() if as_json else observer())
    if as_json:
        print(json.dumps(finished.info, indent=1))
        return
    print_summary(finished)


def show(
    run: RunArgument,
    row: Annotated[str | None, typer.Option("--row", metavar="ID", help="tell all of one row")] = None,
    health: Annotated[bool, typer.Option("--health", help="tell what the scores look like")] = False,
    schedule: Annotated[bool, typer.Option("--schedule", help="draw what is trained when")] = False,
    losses: Annotated[
        bool, typer.Option("--losses", help="with --row: load the model, compute what tuning did to its loss")
    ] = False,
    neighbours: Annotated[
        int, typer.Option("--neighbours", metavar="N", min=0, help="with --row: how many")
    ] = 5,
    runs: RunsFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show a run: its stages, what it kept and dropped and why.

    With --row the story of one row, by its id, its uid or SOURCE:NUMBER; with --health the distribution of each
    score, and warnings; with --schedule the share of each phase and source over time.
    """
    if (row is not None) + health + schedule > 1:
        raise ConfigError("show: --row, --health and --schedule exclude each other. Give one of them.")
    if losses and row is None:
        raise ConfigError("show: --losses are those of a row. Add --row ID.")
    found = find_run(run, runs)
    if schedule:
        show_schedule(found, as_json)
        return
    if row is not None:
        story = found.why(row, losses, neighbours)
        if as_json:
            print(json.dumps(story.as_dict(), indent=1))
        else:
            Console().print(story)
        return
    if as_json:
        print(json.dumps(found.health if health else found.info, indent=1))
        return
    if health:
        from curate.show import print_health

        print_health(found, Console())
    else:
        print_summary(found)


def show_schedule(run: Run, as_json: bool) -> None:
    """Print what a run trains on when: a chart as wide as the terminal, or its tenths as JSON."""
    from curate.schedule_view import view_schedule
    from curate.show import print_schedule, stretches_for

    console = Console()
    view = view_schedule(run, 10 if as_json else stretches_for(console))
    if as_json:
        print(json.dumps(view.as_dict(), indent=1))
        return
    print_schedule(view, console)


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="an empty or new folder")],
    format: Annotated[Format, typer.Option("--format", help="jsonl, parquet or hf")] = Format.JSONL,
    runs: RunsFolder = RUNS,
) -> None:
    """Write the selected rows in their original schema."""
    written = find_run(run, runs).export(to, format.value)
    print(f"{written.rows:,} rows in {len(written.files)} files under {written.folder}")
    if written.separate:
        print("The sources' schemas differ, so each has its own folder:")
        for source, folder in written.folders.items():
            print(f"  {source}: {folder}")


def list_runs(runs: Path, as_json: bool) -> None:
    """Print the runs of a folder, the newest last."""
    found = [
        {"name": run.name, "status": run.status, "stages": len(run.stages), "seconds": run.info["seconds"]}
        for run in runs_in(runs)
    ]
    if as_json:
        print(json.dumps(found, indent=1))
        return
    table = Table("run", "status", "stages", "seconds", title=str(runs))
    for each in found:
        table.add_row(*(str(value) for value in each.values()))
    Console().print(table)


def find_run(name: str, runs: Path) -> Run:
    """A run by its folder, its name under `runs`, or the beginning of its name where that is unique."""
    if (Path(name) / "run.json").is_file():
        return Run(Path(name))
    matching = [run for run in runs_in(runs) if run.name.startswith(name)]
    if len(matching) > 1 and name not in {run.name for run in matching}:
        raise ConfigError(
            f"{name}: is the beginning of {', '.join(run.name for run in matching)}. Write more of it."
        )
    return matching[0] if len(matching) == 1 else Run(runs / name)


def print_summary(run: Run) -> None:
    """Print stages, reasons and losses of a run."""
    console = Console()
    table = Table("stage", "rows", "left", "seconds", "peak memory", box=None)
    for stage in run.stages:
        left = stage["kept"] if stage["kept"] is not None else stage["rows"]
        seconds = "stored" if stage["cached"] else f"{stage['seconds']:.1f}"
        memory = gibibytes(stage["peak_memory_bytes"]) if stage["peak_memory_bytes"] else "-"
        table.add_row(stage["name"], f"{stage['rows']:,}", f"{left:,}", seconds, memory)
    console.print(f"[bold]{run.path}[/bold] ({run.status})", highlight=False)
    console.print(table)
    passes = [stage["notes"] for stage in run.stages if "matrix_peak_fraction" in stage["notes"]]
    for notes in {json.dumps(each, sort_keys=True): each for each in passes}.values():
        speed = (
            f"{notes['tokens_per_second']:,.0f} tokens/s a worker, {notes['matrix_peak_fraction']:.0%} of its"
        )
        layout = f"rows {notes['layout']}, {notes['padding_fraction']:.0%} padding"
        console.print(f"pass: {layout}; {speed} matrix peak", highlight=False)
    if (run.path / "dropped.parquet").exists():
        by_stage = run.dropped.group_by("stage").len().sort("len", descending=True).collect()
        gone = ", ".join(f"{stage} {count:,}" for stage, count in by_stage.iter_rows())
        quarantined = run.quarantine.collect().height
        console.print(f"dropped: {gone or 'none'}; quarantined: {quarantined:,}", highlight=False)
    if (run.path / "health.json").exists() and (warned := len(run.health["warnings"])):
        told = "1 warning" if warned == 1 else f"{warned} warnings"
        console.print(f"scores: {told}, see `curate show {run.name} --health`", highlight=False)
    if (run.path / "contamination.json").exists():
        print_contamination(run, console)
    if (run.path / "eval.json").exists():
        print_losses(run, console)


def print_contamination(run: Run, console: Console) -> None:
    """Print how many rows match evaluation rows."""
    found = run.contamination
    told = f"contamination: {found['matched']:,} of {found['rows']:,} rows match an evaluation row"
    if found["matched"]:
        told += f", {found['half']:,} half of it or more"
        told += ", and were dropped" if found["drop"] else f", {found['kept']:,} of them selected"
    if warned := len(found["warnings"]):
        told += f"; {warned} warning{'s' * (warned > 1)}, see contamination.json"
    console.print(told, highlight=False)


def print_losses(run: Run, console: Console) -> None:
    """Print held-out loss per source, of each model; below the mean, and outside it, that of the target."""
    losses = run.evaluation["losses"]
    table = Table("held-out loss", *losses, box=None)
    for source in next(iter(losses.values()))["sources"]:
        table.add_row(source, *(f"{model['sources'][source]['loss']:.4f}" for model in losses.values()))
    table.add_row(
        "mean over sources", *(f"{model['source_mean']:.4f}" for model in losses.values()), style="bold"
    )
    if all("target" in model for model in losses.values()):
        table.add_row("target", *(f"{model['target']['loss']:.4f}" for model in losses.values()))
    console.print(table)
