"""kill -9 in the middle of every stage, with real processes: the same final bytes, no finished shard twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pools import WHOLE, configuration, outputs, write_pool

ROOT = Path(__file__).parent.parent
ROWS = 600
DEADLINE_SECONDS = 240


def command(config: Path, runs: Path) -> list[str]:
    return [sys.executable, "-m", "curate", "run", str(config), "--runs", str(runs), "--runner", "local"]


def start(config: Path, runs: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(config, runs), env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(config: Path, runs: Path) -> Path:
    process = start(config, runs)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors.decode()
    (run,) = (path.parent for path in runs.glob("*/run.json"))
    return run


def begun(store: Path, label: str) -> bool:
    """Whether a stage has something on disk and is not complete: its first shard, or its work folder."""
    folders = list(store.glob(f"{label}-*"))
    work = list(store.glob(f".work-{label}-*/*"))
    sealed = any((folder / "manifest.json").exists() for folder in folders)
    return bool(sealed or work or any(folder.glob("*") for folder in folders for folder in [folder]))


def finished_shards(store: Path) -> dict[str, int]:
    """Modification time of every shard that is whole: it has a record, or its entry a manifest."""
    found = {}
    for shard in store.glob("*/*.parquet"):
        if shard.with_suffix(".json").exists() or (shard.parent / "manifest.json").exists():
            found[str(shard.relative_to(store))] = shard.stat().st_mtime_ns
    return found


@pytest.mark.slow
def test_killed_in_every_stage_a_run_ends_as_one_never_killed(tmp_path: Path, tiny_model: Path) -> None:
    pool = write_pool(tmp_path / "data", ROWS)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(configuration(pool, WHOLE, tiny_model)))
    whole = finish(config, tmp_path / "whole")
    stages = [stage["name"] for stage in json.loads((whole / "run.json").read_bytes())["stages"]]

    runs = tmp_path / "killed"
    store = runs / "store"
    killed_in = []
    for label in stages:
        process = start(config, runs)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not begun(store, label) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed_in.append(label)
        process.communicate()
        before = finished_shards(store)
        assert before or label == stages[0]
        # What was finished when the process died is never written again.
        kept = {name: stamp for name, stamp in finished_shards(store).items() if name in before}
        assert kept == before

    before = finished_shards(store)
    again = finish(config, runs)
    assert len(killed_in) >= len(stages) - 2, f"killed only in {killed_in}"
    assert {name: stamp for name, stamp in finished_shards(store).items() if name in before} == before
    assert outputs(again) == outputs(whole)
