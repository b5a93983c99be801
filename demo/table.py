"""One table of what the demo's selection did. `python -m demo.table RUN` for a finished run.

The truth about each row (`meta.corruption`) was kept beside the pool for this table alone: no stage
of the run reads it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

import curate
from curate.runs import runs_in

TRUTH = "meta.corruption"
HELD_OUT = ("held out", "shares its group")
NAMES = {
    "before": "before tuning",
    "selected": "selected",
    "random": "random, equal tokens",
    "length_matched_random": "length-matched random",
}


def print_table(run: curate.Run, console: Console) -> None:
    """Rows, drops with reasons, corrupted rows kept, held-out losses, where the run is; writes its report."""
    truth = run.rows.select("position", TRUTH)
    dropped = run.dropped.join(truth, on="position", how="left").collect()
    aside = dropped.filter(pl.col("reason").str.contains_any(list(HELD_OUT)))
    rejected = dropped.join(aside, on="position", how="anti")
    selected = run.selected.join(truth, on="position", how="left").collect()
    pool = pl.concat([rejected.select(TRUTH), selected.select(TRUTH)])
    tokens = int(selected["supervised_tokens"].sum())

    table = Table(title=f"curate demo: {run.name}", show_header=False, title_justify="left")
    table.add_row(
        "rows read", f"{run.stages[0]['rows']:,} ({run.quarantine.collect().height} more quarantined)"
    )
    table.add_row("held out", f"{aside.height:,}")
    table.add_row("pool", f"{pool.height:,} rows, {share(pool):.1%} corrupted")
    for stage in run.stages:
        inside = rejected.filter(pl.col("stage") == stage["name"])
        if inside.height:
            told = f"{inside.height:,} rows, {share(inside):.1%} of them corrupted"
            table.add_row(f"dropped by {stage['name']}", told)
    table.add_row(
        "selected", f"{selected.height:,} rows, {tokens:,} supervised tokens, {share(selected):.1%} corrupted"
    )
    table.add_section()
    losses: Mapping[str, Any] = run.evaluation["losses"]
    for name, loss in losses.items():
        table.add_row(f"held-out loss, {NAMES.get(name, name)}", f"{loss['source_mean']:.3f} nats/token")
    table.add_section()
    table.add_row("run", str(run.path))
    table.add_row("report", str(run.report()))
    console.print(table, highlight=False)


def share(rows: pl.DataFrame) -> float:
    """The share of corrupted rows."""
    return float((rows[TRUTH] != "none").mean() or 0.0)


def main(arguments: list[str]) -> None:
    """Print the table of the run named, or of the newest under runs/, and write its report."""
    run = curate.open(arguments[0]) if arguments else list(runs_in(Path("runs")))[-1]
    print_table(run, Console())


if __name__ == "__main__":
    main(sys.argv[1:])
