"""Rounds that are killed: `python benchmarks/iterative.py POOL.parquet`. Text columns `prompt`, `response`, `group`.

Runs benchmarks/iterative.yaml on 3,000 short rows of the pool, in a process of its own: kills it (-9) once the first
round's training has left a checkpoint, runs it again and kills it once some shards of that round's answers are
written, and runs it to its end. Tells the seconds of each stage, which finished shards and checkpoints the next
process left as they were, the clusters' weights before and after, and what each cluster gave.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

ROOT = Path(__file__).parent.parent
ROWS, CHARACTERS, SHARDS = 3000, 400, 3


def sample(pool: Path, target: Path) -> None:
    """Some short rows."""
    length = pl.col("prompt").str.len_chars() + pl.col("response").str.len_chars()
    frame = pl.scan_parquet(pool).filter(length <= CHARACTERS).select("prompt", "response", "group").collect()
    frame.sample(ROWS, seed=0).write_parquet(target)


def start(source: Path, runs: Path) -> "subprocess.Popen[bytes]":
    """The run, as a user starts it."""
    config = ROOT / "benchmarks" / "iterative.yaml"
    chosen = ["--set", f"sources.0.path={source}", "--runs", str(runs), "--runner", "local"]
    return subprocess.Popen([sys.executable, "-m", "curate", "run", str(config), *chosen], cwd=ROOT)


def stamps(store: Path, pattern: str) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in store.glob(pattern)}


def kill_when(source: Path, runs: Path, ready: Callable[[], bool]) -> float:
    """Start a run, kill it when `ready` says so; seconds that it lived."""
    begun, run = time.monotonic(), start(source, runs)
    while not ready():
        if run.poll() is not None:
            raise SystemExit(f"the run ended by itself ({run.returncode}) before it could be killed")
        time.sleep(0.2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    return time.monotonic() - begun


def main() -> None:
    """Sample, run, kill, run, kill, run, tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pool", type=Path)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        source, runs = Path(folder) / "sample.parquet", Path(folder) / "runs"
        store = runs / "store"
        sample(arguments.pool, source)

        checkpoints, shards = (
            ".work-round1.train-*/checkpoint-*/complete.json",
            "round1.answers-*/shard-*.json",
        )
        lived = kill_when(source, runs, lambda: bool(stamps(store, checkpoints)))
        left = stamps(store, checkpoints)
        finished = stamps(store, "*/manifest.json")
        names = sorted(path.parent.name for path in left)
        print(f"killed in round1.train after {lived:.0f} s; left: {', '.join(names)}", flush=True)

        lived = kill_when(source, runs, lambda: len(stamps(store, shards)) >= SHARDS)
        assert stamps(store, "*/manifest.json").items() >= finished.items()
        answered = {path: path.stat().st_mtime_ns for path in store.glob("round1.answers-*/shard-*.parquet")}
        kept = [path for path in answered if path.with_suffix(".json").exists()]
        finished = stamps(store, "*/manifest.json")
        curve = next(store.glob("round1.train-*/manifest.json"))
        trained = json.loads(curve.read_bytes())["notes"]
        print(
            f"killed in round1.answers after {lived:.0f} s; left: {len(kept)} shards. The second process trained "
            f"the rest of {trained['steps']} steps in {trained['seconds']:.0f} s",
            flush=True,
        )

        begun, last = time.monotonic(), start(source, runs)
        if last.wait():
            raise SystemExit(f"the last run failed ({last.returncode})")
        assert all(path.stat().st_mtime_ns == answered[path] for path in kept), (
            "a finished shard was written again"
        )
        assert stamps(store, "*/manifest.json").items() >= finished.items(), (
            "a finished stage was computed again"
        )
        print(f"ran to its end in {time.monotonic() - begun:.0f} s; the {len(kept)} shards are as they were")
        tell(next(path.parent for path in runs.glob("*/run.json")), store)


def tell(run: Path, store: Path) -> None:
    """Stages and clusters of a finished run."""
    stages = json.loads((run / "run.json").read_bytes())["stages"]
    for stage in stages:
        notes = stage["notes"] if stage["name"].startswith(("round", "train", "select")) else {}
        shown = {name: value for name, value in notes.items() if name not in ("weights", "model")}
        where = "stored" if stage["cached"] else "computed"
        print(f"{stage['name']:<24} {where:<9}{stage['seconds']:8.1f} s  {json.dumps(shown)}")
    (weights,) = store.glob("round1.weights-*/files/weights.parquet")
    drawn = pl.read_parquet(run / "selection.parquet").with_columns(
        pl.col("cluster").cast(pl.String), round=pl.col("reason").str.extract(r"round (\d)")
    )
    counts = drawn.pivot("round", index="cluster", values="position", aggregate_function="len")
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(pl.read_parquet(weights).join(counts, on="cluster", how="left").sort("weight", descending=True))


if __name__ == "__main__":
    main()
