"""Runs in processes of their own, and what they have finished: for tests that kill them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEADLINE_SECONDS = 240


def process(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own, with the project and the tests on its path."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )


def killed(label: str, config: Path, runs: Path) -> "subprocess.CompletedProcess[str]":
    """A run that dies when stage `label` has finished its first shard, checkpoint or file."""
    return process(str(ROOT / "tests" / "killed.py"), label, str(config), str(runs))


def finish(config: Path, runs: Path) -> Path:
    """Run to the end; the folder of the one run."""
    done = process("-m", "curate", "run", str(config), "--runs", str(runs), "--runner", "local")
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in runs.glob("*/run.json"))
    return run


def finished(store: Path) -> dict[str, int]:
    """Modification time of every finished shard (it has a record, or its entry a manifest) and checkpoint."""
    shards = [
        path
        for path in store.glob("*/shard-*.parquet")
        if path.with_suffix(".json").exists() or (path.parent / "manifest.json").exists()
    ]
    checkpoints = list(store.rglob("complete.json"))
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in (*shards, *checkpoints)}


def of_shards(stamps: dict[str, int]) -> dict[str, int]:
    """Without the checkpoints, which go when their training ends."""
    return {name: stamp for name, stamp in stamps.items() if "/shard-" in name}
