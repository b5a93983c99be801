"""What a run tells while it works, and what it says when it is stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import rich.console
from pools import QUICK, configuration, write_pool

import curate
from curate.config import read_config
from curate.progress import Bars, Plain, Silent, observer, rate
from curate.start import start


class Stopping(Silent):
    """As Ctrl-C, or a notebook's square button, when the first stage is done."""

    def finished(self, record: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt


def test_a_notebook_gets_lines_where_bars_would_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(observer(), Bars)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert isinstance(observer(), Plain)


def test_a_count_without_a_total_names_none() -> None:
    assert rate(1200, 0, 0, 2.0, "rows") == "1,200 rows, 600.0 rows/s"


def test_progress_prints_a_line_for_each_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(write_pool(tmp_path / "data", 60), QUICK)
    run = curate.run(config, runs=tmp_path / "runs", runner="local", progress=True)
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    names = [stage["name"] for stage in run.stages]
    assert [word for word in told if word in names] == names


def test_a_run_is_silent_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(write_pool(tmp_path / "data", 60), QUICK)
    curate.run(config, runs=tmp_path / "runs", runner="local")
    assert capsys.readouterr().out == ""


def test_a_stopped_run_says_how_to_go_on_and_goes_on(tmp_path: Path) -> None:
    config = configuration(write_pool(tmp_path / "data", 60), QUICK)
    runs = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt, match="was stopped. What is finished is stored: run it again"):
        start(read_config(config).config, runs, "local", Stopping())
    (stopped,) = (curate.open(path.parent) for path in runs.glob("*/run.json"))
    assert stopped.status == "interrupted"
    again = curate.run(config, runs=runs, runner="local")
    assert again.path == stopped.path
    assert [stage["cached"] for stage in again.stages][:2] == [True, False]
