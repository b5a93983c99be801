"""The card of a run in Jupyter: of every status, and with everything escaped."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.errors import ConfigError, CurateError

STAGE = {
    "name": "select.<img src=x onerror=alert(1)>",
    "rows": 3000,
    "kept": 2100,
    "cached": False,
    "seconds": 1.25,
    "folder": "nowhere",
}
INFO = {"name": "toy", "status": "running", "seed": 3, "seconds": 12.0, "stages": [STAGE]}


def written(folder: Path, **more: Any) -> curate.Run:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(INFO | more))
    return curate.open(folder)


def test_a_running_run_shows_what_is_done(tmp_path: Path) -> None:
    card = written(tmp_path / "toy-1")._repr_html_()
    assert "toy-1</b> (running, 1 stage, 12.0 s, seed 3)" in card
    assert "<td>3,000</td><td>2,100</td><td>900</td><td>1.2</td>" in card


def test_the_funnel_has_the_stages_that_took_rows_out(tmp_path: Path) -> None:
    stages = [
        STAGE | {"name": name, "kept": kept}
        for name, kept in (("ingest", 3000), ("embed", None), ("select.top", 9))
    ]
    card = written(tmp_path / "toy-1", stages=stages)._repr_html_()
    funnel, everything = card.split("<details>")
    assert "ingest" in funnel and "select.top" in funnel and "embed" not in funnel
    assert "embed" in everything


def test_everything_is_escaped(tmp_path: Path) -> None:
    run = written(tmp_path / "<b>toy-1", status="failed", error="<script>alert(1)</script>")
    card = run._repr_html_()
    assert "<script" not in card
    assert "<img" not in card
    assert "<b>toy" not in card.replace("<b>&lt;b&gt;toy", "")
    assert "&lt;script&gt;" in card


def test_a_failed_run_shows_its_error(tmp_path: Path) -> None:
    run = written(tmp_path / "toy-1", status="failed", error="disk full", stages=[])
    assert "<pre>disk full</pre>" in run._repr_html_()


def test_losses_are_of_each_source_and_model(tmp_path: Path) -> None:
    run = written(tmp_path / "toy-1", status="done")
    losses = {
        name: {"source_mean": mean, "sources": {"chat": {"loss": mean}}}
        for name, mean in {"before": 2.5, "length_matched_random": 2.25}.items()
    }
    (run.path / "eval.json").write_text(json.dumps({"unit": "nats", "losses": losses}))
    card = run._repr_html_()
    assert "<th>length matched random</th>" in card
    assert "<td>2.5000</td><td>2.2500</td>" in card


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("running", "the run is running, 0 stages done"),
        ("interrupted", "the run was interrupted after 0 stages"),
        ("failed", "the run failed after 0 stages: disk full"),
    ],
)
def test_a_table_that_is_not_there_yet_says_how_far_the_run_came(
    tmp_path: Path, status: str, told: str
) -> None:
    more = {"error": "disk full"} if status == "failed" else {}
    run = written(tmp_path / "toy-1", status=status, stages=[], config={}, **more)
    for table in (lambda: run.rows, lambda: run.scores, lambda: run.selected, lambda: run.health):
        with pytest.raises(CurateError, match=told):
            table()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "the run is done. Its configuration has no `mix`."),
        ({"stop_after": None}, "the run is done. Its configuration has no `mix`."),
        ({"stop_after": 2}, "the run ends after item 2 (`stop_after`)."),
    ],
)
def test_what_a_finished_run_lacks_has_its_reason(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    run = written(tmp_path / "toy-1", status="done", stages=[], config=config)
    with pytest.raises(CurateError, match=re.escape(f"toy-1: has no schedule.parquet; {told}")):
        _ = run.schedule


def test_a_folder_of_runs_names_those_in_it(tmp_path: Path) -> None:
    for number in range(10):
        written(tmp_path / f"toy-{number}")
    with pytest.raises(ConfigError, match=r"Runs in it, the newest 8 of 10: toy-2, .*, toy-9\."):
        curate.open(tmp_path)
