"""What a user can get wrong, through the command line: each with its exit code and its message."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pools import configuration, write_pool

from curate.cli import main

LENGTH = {"score": ["length"]}
TOP = {"select": {"top": {"by": "length", "budget": 20, "order": "highest"}}}
STAGES = [LENGTH, TOP]


def top(budget: Any, **more: Any) -> list[Any]:
    return [LENGTH, {"select": {"top": {"by": "length", "budget": budget, "order": "highest"} | more}}]


def with_stages(*stages: Any, **more: Any) -> dict[str, Any]:
    return configuration(Path("data"), list(stages)) | more


def with_source(**fields: Any) -> dict[str, Any]:
    return with_stages(*STAGES, sources=[{"name": "x", **fields}])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good data, every kind of damaged file, and things that are not models or plug-ins."""
    folder = tmp_path_factory.mktemp("bad")
    data = write_pool(folder / "data", 60)
    chat = (data / "chat.jsonl").read_bytes()
    files = {
        "empty.jsonl": b"",
        "broken.jsonl": b'{"mess\n' * 20 + chat,
        "utf8.jsonl": b'{"text": "\xff"}\n' * 5 + chat,
        "fields.jsonl": b'{"foo": 1}\n{"foo": 2}\n',
        "cut.json": b'[{"prompt": "a", "completion": "b"},',
        "no.jsonl.gz": b"not gzip",
        "cut.jsonl.gz": gzip.compress(chat)[:-300],
        "no.jsonl.zst": b"not zstd",
        "no.parquet": b"PAR1xxxx",
        "word.docx": b"abc",
    }
    for name, content in files.items():
        (data / name).write_bytes(content)
    (folder / "no_model").mkdir()
    (folder / "plugins/scorers").mkdir(parents=True)
    (folder / "plugins/scorers/broken.py").write_text("def (\n")
    (folder / "full").mkdir()
    (folder / "full/file").touch()
    return folder


CONFIGURATIONS: dict[str, tuple[bytes | dict[str, Any], int, str]] = {
    # what the file holds, exit code, what the message says
    "yaml": (b"name: [a\nstages: {", 2, "c.yaml:2:7: not valid YAML: expected ',' or ']'"),
    "tab": (b"name:\n\t- a", 2, "c.yaml:2:1: not valid YAML"),
    "empty": (b"", 2, "c.yaml:1:1: must be a mapping with name, sources and stages. Got an empty file."),
    "list": (b"- a\n", 2, 'must be a mapping with name, sources and stages. Got ["a"].'),
    "latin1": ("name: café".encode("latin-1"), 2, "c.yaml:1:1: must be UTF-8 text."),
    "key": (with_stages(*STAGES, sead=1), 2, "sead: unknown key `sead`. Did you mean `seed`?"),
    "method": (with_stages({"score": ["lenght"]}), 2, "unknown scorer name `lenght`. Did you mean `length`?"),
    "number": (
        with_stages({"train": {"learning_rate": "fast"}}, model="x"),
        2,
        "stages[0].train.learning_rate: must be a number. Got the text 'fast'.",
    ),
    "no stages": (with_stages(), 2, "stages: must have at least 1 element. Got []."),
    "no sources": (with_stages(*STAGES, sources=[]), 2, "sources: must have at least 1 element."),
    "two names": (
        with_stages(*STAGES, sources=[{"name": "a", "path": "data/chat.jsonl"}] * 2),
        2,
        "sources[1].name: `a` names two sources.",
    ),
    "plugins": (with_stages(*STAGES, plugins=["none"]), 2, "plugins[0]: must be a folder"),
    "plugin": (
        with_stages({"score": ["broken"]}, plugins=["plugins"]),
        2,
        "broken.py: cannot be imported. SyntaxError",
    ),
    "budget 0": (with_stages(*top(0)), 2, "a whole number above 0. Got 0."),
    "budget text": (with_stages(*top("abc")), 2, "a budget must be rows (500)"),
    "budget 110%": (with_stages(*top("110%")), 2, "above 0% and at most 100%. Got '110%'."),
    "budget above the pool": (with_stages(*top(10_000)), 3, "must be at most the 62 rows that can be chosen"),
    "tokens without a model": (
        with_stages(*top("10% tokens")),
        2,
        "`select.top` needs `supervised_tokens`, which nothing before it adds. Add `model:` to the",
    ),
    "no score": (
        with_stages({"select": {"top": {"by": "el2n", "budget": 3, "order": "lowest"}}}),
        2,
        "needs `score.el2n`, which nothing before it adds. Add `score: [el2n]` before it.",
    ),
    "no direction": (with_stages(*top(3, order=None)), 2, "Write `order: highest` or `order: lowest`"),
    "no tuning": (with_stages({"evaluate": {}}), 2, "`evaluate` needs a `train` stage before it."),
    "nothing to evaluate on": (
        with_stages({"train": {}}, {"evaluate": {"held_out": 0}}, model="x", target="data/pairs.jsonl"),
        2,
        "stages[1]: `evaluate` has no rows to evaluate on: `held_out` is 0 and `sources` is empty.",
    ),
    "too late": (
        with_stages({"train": {}}, TOP, model="x"),
        2,
        "`select` comes after `train`; only `evaluate` may.",
    ),
    "nothing left": (
        with_stages(LENGTH, {"select": {"threshold": {"by": "length", "min": 999}}}),
        3,
        "no row has `length` at least 999. The 62 values are from 1 to 20.",
    ),
    "model missing": (with_stages({"score": ["loss"]}), 2, "Add `model:` to the configuration."),
    "model folder": (with_stages(*STAGES, model="./none"), 2, "model './none': no such file or folder."),
    "model empty": (with_stages(*STAGES, model="./no_model"), 2, "lacks config.json, *.safetensors"),
    "model hub": (with_stages(*STAGES, model="nobody/nothing"), 2, "the hub cannot be reached"),
    "model package": (with_stages(*STAGES, model="package:none"), 2, "Run `pip install none`"),
    "file": (with_source(path="data/none.jsonl"), 3, "data/none.jsonl: does not exist"),
    "pattern": (with_source(path="data/*.arrow"), 3, "data/*.arrow: matches no file"),
    "extension": (with_source(path="data/word.docx"), 3, "word.docx: the extension must be one of .jsonl"),
    "empty file": (with_source(path="data/empty.jsonl"), 3, "holds no record that can be read"),
    "gzip": (with_source(path="data/no.jsonl.gz"), 3, "damaged or cut off: Not a gzipped file"),
    "gzip cut": (with_source(path="data/cut.jsonl.gz"), 3, "damaged or cut off: Compressed file ended"),
    "zstd": (with_source(path="data/no.jsonl.zst"), 3, "damaged or cut off: zstd"),
    "parquet": (with_source(path="data/no.parquet"), 3, "is no parquet file, or a damaged one"),
    "array cut": (with_source(path="data/cut.json"), 3, "cut.json:1: the array breaks off here"),
    "rows": (
        with_source(path="data/broken.jsonl"),
        3,
        "20 of 52 rows (38.5%) cannot be used, at most 1.0% may be (`max_bad_fraction`). Causes:\n"
        "        20  bad JSON:",
    ),
    "rows of bytes": (with_source(path="data/utf8.jsonl"), 3, "5  invalid UTF-8 at byte 10: 0xff"),
    "fields": (with_source(path="data/fields.jsonl"), 3, "Found the fields `foo`. Say which field is which"),
    "columns": (
        with_source(path="data/chat.jsonl", columns={"prompt": "question", "response": "answer"}),
        3,
        "columns: unknown field `question`. Known: id, messages.",
    ),
    "format": (with_source(path="data/chat.jsonl", format="alpaca"), 3, "32  missing field `instruction`"),
}


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """Exit code and standard error of a command line."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_a_bad_run(
    case: str,
    pool: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, code, message = CONFIGURATIONS[case]
    monkeypatch.chdir(pool)
    (pool / "c.yaml").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    found, errors = run(["run", "c.yaml", "--runs", str(tmp_path / "runs"), "--runner", "local"], capsys)
    assert message in errors
    assert found == code
    assert "Traceback" not in errors


COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "configuration": (
        ["run", "none.yaml"],
        2,
        "none.yaml: no such file. Expected a YAML file with name, sources and stages.",
    ),
    "set": (["run", "good.yaml", "--set", "seed"], 2, "--set seed: must be KEY=VALUE"),
    "set a place": (["run", "good.yaml", "--set", "stages.9.x=1"], 2, "index 9 is too large"),
    "show": (["show", "none"], 2, "none: must be the folder of a run, with a run.json. Runs beside it: toy-"),
    "row": (
        ["show", "toy", "--row", "none:7"],
        2,
        "unknown row id `none:7`. Ids look like `row-0`; see `run.rows`.",
    ),
    "export there": (["export", "toy", "--to", "full"], 2, "full: must be a new or an empty folder."),
    "export nothing": (["export", "none", "--to", "new"], 2, "none: must be the folder of a run"),
    "list": (["list", "scorer"], 2, "unknown kind `scorer`. Did you mean `scorers`?"),
}


@pytest.fixture(scope="module")
def runs(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pool)
        (pool / "good.yaml").write_text(json.dumps(with_stages(*STAGES)))
        with pytest.raises(SystemExit) as stopped:
            main(["run", "good.yaml", "--runs", str(runs), "--runner", "local"])
    assert stopped.value.code == 0
    return runs


@pytest.mark.parametrize("case", COMMANDS)
def test_a_bad_command(
    case: str, pool: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, message = COMMANDS[case]
    monkeypatch.chdir(pool)
    found, errors = run([*arguments, "--runs", str(runs)], capsys)
    assert found == code
    assert message in errors
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
