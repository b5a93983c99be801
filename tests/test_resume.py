"""kill -9 in the middle of every stage, with real processes: the same final bytes, no finished shard twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pools import WHOLE, configuration, outputs, write_pool

ROOT = Path(__file__).parent.parent
ROWS = 600
DEADLINE_SECONDS = 240


def process(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own, with the project and the tests on its path."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )


def finish(config: Path, runs: Path) -> Path:
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


@pytest.mark.slow
def test_killed_in_every_stage_a_run_ends_as_one_never_killed(tmp_path: Path, tiny_model: Path) -> None:
    pool = write_pool(tmp_path / "data", ROWS)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(configuration(pool, WHOLE, tiny_model)))
    whole = finish(config, tmp_path / "whole")
    stages = [stage["name"] for stage in json.loads((whole / "run.json").read_bytes())["stages"]]

    runs = tmp_path / "killed"
    store = runs / "store"
    before: dict[str, int] = {}
    for label in stages:
        died = process(str(ROOT / "tests" / "killed.py"), label, str(config), str(runs))
        assert died.returncode == -signal.SIGKILL, f"{label}: {died.returncode}\n{died.stderr}"
        assert not list(store.glob(f"{label}-*/manifest.json")), label
        now = finished(store)
        assert of_shards(before).items() <= now.items(), f"a finished shard was computed again before {label}"
        assert not label.startswith("train") or now.keys() > of_shards(now).keys(), "no checkpoint was left"
        before = now
    again = finish(config, runs)
    assert of_shards(before).items() <= finished(store).items()
    assert outputs(again) == outputs(whole)
