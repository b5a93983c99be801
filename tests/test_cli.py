"""The command line: exit codes, where messages go, and what is not imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import plugin_folder
import pytest
from pools import write_jsonl

from curate.cli import app, main
from curate.errors import ConfigError, CurateError, DataError

ROOT = Path(__file__).parents[1]
GOOD = """\
name: demo
plugins: [mine]
sources: [{name: chat, path: chat.jsonl}]
stages:
- clean: toy_empty
- score: toy_words
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and its plug-ins."""
    made = tmp_path_factory.mktemp("cli")
    plugin_folder.write_plugins(made / "mine")
    (made / "good.yaml").write_text(GOOD)
    bad = GOOD.replace("toy_words", "toy_wrods").replace("plugins", "pipeline: toy_once\nplugins")
    (made / "bad.yaml").write_text(bad + "sead: 1\n")
    return made


def code(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_wrong_configuration_ends_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("check", str(folder / "bad.yaml")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        (
            f"error: {folder}/bad.yaml:7:10: stages[1].score: unknown scorer name `toy_wrods`. "
            "Did you mean `toy_words`?"
        ),
        f"{folder}/bad.yaml:8:1: sead: unknown key `sead`. Did you mean `seed`?",
    ]


def test_set_reaches_the_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("check", str(folder / "bad.yaml"), "--set", "seed=x") == 2
    assert "--set seed=x: seed: must be an integer" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(folder: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", str(folder / "bad.yaml")]
    assert code(*(["--debug", *command] if place == "before" else [*command, "--debug"])) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["check"], ["chek"], ["check", "a", "--no-such"], ["list"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert code(*arguments) == 2


@pytest.mark.parametrize(
    ("error", "expected"), [(CurateError("a"), 1), (ConfigError("a"), 2), (DataError("a"), 3)]
)
def test_each_error_has_its_code(error: CurateError, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("curate.cli.check_installation", fail)
    assert code("list", "scorers") == expected


def test_an_error_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(kind: str, registry: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("curate.listing.methods", fail)
    with pytest.raises(ZeroDivisionError):
        main(["list", "scorers"])


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(kind: str, registry: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("curate.listing.methods", stop)
    assert code("list", "scorers") == 130
    assert "The same command goes on" in capsys.readouterr().err


def test_list_says_what_a_scorer_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("list", "scorers", "--plugins", str(folder / "mine"), "--json") == 0
    listed = {method["name"]: method for method in json.loads(capsys.readouterr().out)}
    assert listed["toy_words"] == {
        "name": "toy_words",
        "better": "two-sided",
        "cost": "none.",
        "reads": ["prompt", "response"],
        "fields": ["rate", "rows", "fast"],
        "summary": "Words of the response.",
        "source": "a test, on two lines.",
    }
    assert listed["toy_plain"]["better"] == "higher"


def test_list_prints_no_cost_that_is_not_stated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code("list", "scorers", "--plugins", str(folder / "mine"), "--json")
    listed = {method["name"]: method for method in json.loads(capsys.readouterr().out)}
    assert listed["toy_plain"]["cost"] == ""


def test_list_marks_required_fields(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code("list", "selectors", "--plugins", str(folder / "mine"), "--json")
    listed = {method["name"]: method for method in json.loads(capsys.readouterr().out)}
    assert listed["toy_best"]["fields"] == ["by*", "budget*", "k", "weights"]


def test_list_prints_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("list", "adapters", "--plugins", str(folder / "mine")) == 0
    assert "toy_rank" in capsys.readouterr().out


def test_list_of_an_unknown_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("list", "scorer") == 2
    assert "unknown kind `scorer`. Did you mean `scorers`?" in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    """A run of 60 rows whose scores `toy_words` and `length` are one."""
    from curate.api import run

    rows = [{"prompt": "Say", "completion": "ha " * count} for count in range(1, 61)]
    write_jsonl(folder / "chat.jsonl", rows)
    config = {
        "name": "told",
        "plugins": [str(folder / "mine")],
        "sources": [{"name": "chat", "path": str(folder / "chat.jsonl")}],
        "stages": [{"score": ["toy_words", "length"]}],
    }
    return run(config, runs=folder / "runs", runner="local").path


def test_show_tells_of_the_scores(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert code("show", str(finished), "--health") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "60 scored rows"
    spread, alike = (line.split() for line in lines if line.strip().startswith("toy_words"))
    assert spread == ["toy_words", "0", "60", "3.95", "30.5", "57", "0"]
    assert alike == ["toy_words", "1.000", "-", "1.000", "length"]
    assert "warning: score.length and score.toy_words put the rows in the same order" in " ".join(lines)


def test_show_health_as_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("show", str(finished), "--health", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((finished / "health.json").read_bytes())


def test_show_points_to_the_warnings(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("show", str(finished)) == 0
    assert f"scores: 3 warnings, see `curate show {finished.name} --health`" in capsys.readouterr().out


def test_show_of_a_row_and_of_health_at_once(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("show", str(finished), "--health", "--row", "chat:0") == 2
    assert "--row, --health and --schedule exclude each other" in capsys.readouterr().err


def test_schema_is_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("schema", "--plugins", str(folder / "mine")) == 0
    assert "scorers.toy_words" in json.loads(capsys.readouterr().out)["$defs"]


def test_check_prints_the_resolved_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("check", str(folder / "good.yaml"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["pipeline"] == "straight"


def test_check_loads_neither_torch_nor_ray(folder: Path) -> None:
    heavy = ("torch", "ray", "transformers", "faiss", "sklearn", "datasets", "peft", "pandas")
    program = (
        "import sys\n"
        "from curate.cli import app\n"
        f"app(['check', {str(folder / 'good.yaml')!r}], standalone_mode=False)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_a_summary() -> None:
    assert all(command.callback and command.callback.__doc__ for command in app.registered_commands)
