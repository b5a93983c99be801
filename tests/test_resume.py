"""kill -9 in the middle of every stage, with real processes: the same final bytes, no finished shard twice."""

import json
import signal
from pathlib import Path

import pytest
from pools import WHOLE, configuration, outputs, write_pool
from processes import finish, finished, killed, of_shards

ROWS = 600


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
        died = killed(label, config, runs)
        assert died.returncode == -signal.SIGKILL, f"{label}: {died.returncode}\n{died.stderr}"
        assert not list(store.glob(f"{label}-*/manifest.json")), label
        now = finished(store)
        assert of_shards(before).items() <= now.items(), f"a finished shard was computed again before {label}"
        assert not label.startswith("train") or now.keys() > of_shards(now).keys(), "no checkpoint was left"
        before = now
    again = finish(config, runs)
    assert of_shards(before).items() <= finished(store).items()
    assert outputs(again) == outputs(whole)
