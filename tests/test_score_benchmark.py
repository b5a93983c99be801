"""benchmarks/score.py, all of its comparisons, with a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_comparison_is_made(tiny_model: Path, tmp_path: Path) -> None:
    texts = [("name a river, please", "the river is green"), ("which stone", "a stone under water")] * 6
    pl.DataFrame(texts, schema=["prompt", "response"], orient="row").write_parquet(tmp_path / "pool.parquet")
    options = "--rows 6 --target-rows 2 --single-rows 2 --repeats 1 --threads 1 --expansion 8 --more --json"
    command = [
        sys.executable,
        "benchmarks/score.py",
        str(tmp_path / "pool.parquet"),
        "--model",
        str(tiny_model),
    ]
    found = subprocess.run([*command, *options.split()], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    rows = json.loads(found.stdout)
    assert [row["beside"] for row in rows] == [
        *["bare forward", "bare, lean"] * 2,
        "7 passes of one each",
        *["seven"] * 5,
        "one at a time, frugal",
        "one at a time",
    ]
    added = ["rds", "head_influence", "trim", "mona", "all four"]
    assert [row["over"] for row in rows[5:10]] == [f"seven and {name}" for name in added]
    assert all(row["ours_seconds"] > 0 and row["other_seconds"] > 0 for row in rows)
