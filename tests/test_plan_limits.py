"""Forecasts and limits: what is summed, and what keeps a run from starting."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pools import configuration, write_pool
from typer.testing import CliRunner

from curate import limits, plan_command
from curate.cli import main
from curate.errors import ConfigError
from curate.forecast import Estimate, Forecast, PlannedOutput, bytes_text
from curate.limits import Limits, available_memory_bytes, check_limits

GIB = 2**30


def line(name: str, step: int = 0, rows: int | None = 10, **fields: Any) -> PlannedOutput:
    origin = fields.pop("origin", "probed")
    return PlannedOutput(name, step, "0", rows, rows, Estimate(origin, **fields), [], [])


def refused(forecast: Forecast, **given: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_limits(forecast, Limits(**given))
    return str(error.value)


# ---- sums


def test_outputs_of_one_stage_share_their_seconds() -> None:
    forecast = Forecast([line("a", 0, seconds=5.0), line("b", 0, seconds=5.0), line("c", 1, seconds=2.0)])
    assert forecast.seconds == 7.0
    assert forecast.by_step() == {"a": 5.0, "c": 2.0}


def test_the_peak_is_of_the_largest_stage_with_its_workers_and_the_process() -> None:
    lines = [line("a", 0, peak_memory_bytes=3, workers=4), line("b", 1, peak_memory_bytes=10), line("c", 2)]
    assert Forecast(lines, process_bytes=5).peak_memory_bytes == 17


def test_disk_is_what_stays_and_the_largest_scratch() -> None:
    lines = [
        line("a", disk_bytes=100, scratch_bytes=7),
        line("b", 1, disk_bytes=10, scratch_bytes=50),
        line("c", 2),
    ]
    assert Forecast(lines).disk_bytes == 160


def test_what_is_stored_is_in_no_sum() -> None:
    forecast = Forecast([line("a", origin="stored", seconds=3.0, peak_memory_bytes=1, disk_bytes=1)])
    assert (forecast.seconds, forecast.peak_memory_bytes, forecast.disk_bytes) == (0.0, None, 0)


def test_sums_with_something_unknown_are_at_least() -> None:
    assert Forecast([line("a", seconds=1.0), line("b", 1)]).about == "at least"
    assert Forecast([line("a", seconds=1.0)], beyond="other runs").unknown == ["other runs"]
    assert Forecast([line("a", seconds=1.0, at_most=True)]).about == "at most about"
    assert Forecast([line("a", seconds=1.0)]).about == "about"


def test_the_json_of_a_forecast() -> None:
    told = Forecast([line("a", seconds=1.0, disk_bytes=3), line("b", 1)], process_bytes=2).as_dict()
    assert set(told["stages"][0]) == {
        "name", "step", "fingerprint", "rows", "left", "needs", "adds", "cached", "source_of_estimate", "seconds",
        "load_seconds", "peak_memory_bytes", "gpu_memory_bytes", "disk_bytes", "scratch_bytes", "workers", "tokens",
        "probed_rows", "expected_rows", "at_most", "why_unknown",
    }  # fmt: skip
    assert told["total"] == {
        "seconds": 1.0, "peak_memory_bytes": None, "process_bytes": 2, "disk_bytes": 3, "reading": "at least",
        "unknown": ["b"], "disk_unknown": ["b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 KiB"), (10, "1 KiB"), (12 * 2**10, "12 KiB"), (9_856_614, "9.4 MiB"), (GIB, "1.0 GiB")],
)
def test_bytes_are_read_at_a_glance(count: int, text: str) -> None:
    assert bytes_text(count) == text


# ---- limits


def test_a_forecast_within_its_limits_passes() -> None:
    forecast = Forecast(
        [line("a", seconds=3600.0, peak_memory_bytes=GIB, disk_bytes=GIB, gpu_memory_bytes=GIB)]
    )
    check_limits(forecast, Limits(1.0, GIB, GIB, GIB))
    check_limits(forecast, Limits())


def test_too_long_names_the_dearest_stages() -> None:
    lines = [line(f"s{n}", n, seconds=n * 1000.0) for n in range(1, 6)]
    told = refused(Forecast([*lines, line("x", 9)]), hours=4.0)
    assert "at least 4 h 10 min" in told
    assert "s5 83 min" not in told
    assert "s5 1 h 23 min, s4 1 h 7 min, s3 50 min" in told
    assert "--max-hours allows 4 h" in told


def test_too_much_memory_names_the_stage_and_the_way_out() -> None:
    told = refused(Forecast([line("a", peak_memory_bytes=GIB, workers=3)], GIB), memory_bytes=3 * GIB)
    assert "`a` needs 4.0 GiB of memory (3 workers), and 3.0 GiB are available" in told
    assert "--max-memory-gib" in told


def test_memory_for_rows_that_nobody_counted_refuses_nothing() -> None:
    unseen = line("a", rows=None, origin="unknown", peak_memory_bytes=9 * GIB)
    check_limits(Forecast([unseen]), Limits(memory_bytes=GIB))
    tried = line("a", rows=None, peak_memory_bytes=9 * GIB)
    assert "9.0 GiB" in refused(Forecast([tried]), memory_bytes=GIB)


def test_too_much_of_a_gpu_or_a_disk() -> None:
    assert "of a GPU's memory" in refused(Forecast([line("a", gpu_memory_bytes=9)]), gpu_memory_bytes=8)
    told = refused(Forecast([line("a", disk_bytes=2 * GIB)]), disk_bytes=GIB)
    assert "2.0 GiB, and 1.0 GiB are free" in told
    assert "--runs" in told


def test_all_reasons_are_told_at_once() -> None:
    told = refused(
        Forecast([line("a", seconds=9e9, disk_bytes=2, peak_memory_bytes=2)]),
        hours=1.0,
        memory_bytes=1,
        disk_bytes=1,
    )
    assert len(told.splitlines()) == 3


def test_a_given_limit_stands_for_the_memory_of_this_machine(tmp_path: Path) -> None:
    found = Limits.of(tmp_path / "not" / "yet", max_memory_gib=0.5)
    assert found.memory_bytes == GIB // 2
    assert found.disk_bytes is not None and found.disk_bytes > 0


def test_on_a_cluster_this_machine_limits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    assert Limits.of(tmp_path).memory_bytes is None


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1000", "a/memory.current": "400"}, 600),
        (
            "4:memory:/x\n",
            {"memory/x/memory.limit_in_bytes": "900", "memory/x/memory.usage_in_bytes": "950"},
            0,
        ),
        ("3:cpu:/x\n", {}, 10**12),
    ],
)
def test_a_control_group_allows_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**12))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(own)
    assert available_memory_bytes(tmp_path, tmp_path / "own") == expected


# ---- the commands


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(each) for each in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A configuration with a selector that states its memory."""
    pool = write_pool(tmp_path / "data")
    stages = [{"embed": {"model": "package:wordllama"}}, {"select": {"facility_location": {"budget": 10}}}]
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(configuration(pool, stages)))
    return path


def forecast(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[bool]:
    """Every forecast is of one stage; whether each was asked with a probe."""
    asked: list[bool] = []

    def found(config: Any, runs: Path, runner: Any, probe: bool) -> Forecast:
        asked.append(probe)
        return Forecast([line("a", **fields)])

    monkeypatch.setattr(plan_command, "forecast_of", found)
    return asked


@pytest.mark.parametrize("command", ["plan", "run"])
def test_above_max_hours_nothing_starts(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    asked = forecast(monkeypatch, seconds=7300.0)
    runs = kernel.parent / "runs"
    assert exit_code(command, kernel, "--runs", runs, "--runner", "local", "--max-hours", 2) == 2
    assert "--max-hours allows 2 h" in capsys.readouterr().err
    assert asked == [True]
    assert not runs.exists()


def test_a_run_is_not_probed_by_itself(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = forecast(monkeypatch, peak_memory_bytes=10**18)
    assert exit_code("run", kernel, "--runs", kernel.parent / "runs", "--runner", "local") == 2
    assert asked == [False]


def test_a_run_without_anything_stated_is_not_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = forecast(monkeypatch, peak_memory_bytes=10**18)
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(configuration(write_pool(tmp_path / "data"), [{"score": ["length"]}])))
    assert exit_code("run", path, "--runs", tmp_path / "runs", "--runner", "local", "--json") == 0
    assert asked == []


@pytest.mark.parametrize(("gib", "code"), [("0.0001", 2), ("1", 0)])
def test_stated_memory_is_known_without_a_probe(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, gib: str, code: int
) -> None:
    monkeypatch.setattr("curate.start.start", lambda *_: SimpleNamespace(info={}))
    arguments = (
        "run",
        kernel,
        "--runs",
        kernel.parent / "runs",
        "--runner",
        "local",
        "--json",
        "--max-memory-gib",
        gib,
    )
    assert exit_code(*arguments) == code


def test_a_full_disk(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast(monkeypatch, disk_bytes=10)
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda place: SimpleNamespace(free=9))
    assert exit_code("plan", kernel, "--runs", kernel.parent / "runs", "--runner", "local") == 2
    assert "are free" in capsys.readouterr().err


def test_a_negative_limit_is_wrong_usage(kernel: Path) -> None:
    from curate.cli import app

    assert CliRunner().invoke(app, ["run", str(kernel), "--max-hours", "-1"]).exit_code == 2
