"""Whole runs without a model: what is stored is not computed again, and what may change changes just that."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pools import QUICK, configuration, outputs, write_jsonl, write_pool

import curate
from curate.errors import ConfigError, DataError
from curate.tasks import shard_rows


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "data")


def go(tmp_path: Path, config: dict[str, Any], runs: str = "runs") -> curate.Run:
    return curate.run(config, runs=tmp_path / runs, runner="local")


def cached(run: curate.Run) -> dict[str, bool]:
    return {stage["name"]: stage["cached"] for stage in run.stages}


def test_the_second_run_computes_nothing(tmp_path: Path, pool: Path) -> None:
    config = configuration(pool, QUICK)
    first = go(tmp_path, config)
    assert not any(cached(first).values())
    before = outputs(first.path)
    second = go(tmp_path, config)
    assert second.path == first.path
    assert all(cached(second).values())
    assert outputs(second.path) == before


def test_another_budget_computes_only_the_selection(tmp_path: Path, pool: Path) -> None:
    go(tmp_path, configuration(pool, QUICK))
    stages = [*QUICK[:2], {"select": {"top": {"by": "length", "budget": "10%", "order": "highest"}}}]
    again = go(tmp_path, configuration(pool, stages))
    assert [name for name, stored in cached(again).items() if not stored] == ["select.top"]


def test_a_stage_that_drops_nothing_leaves_later_stages_stored(tmp_path: Path, pool: Path) -> None:
    go(tmp_path, configuration(pool, QUICK))
    stages = [QUICK[0], {"embed": {"model": "package:wordllama"}}, *QUICK[1:]]
    again = go(tmp_path, configuration(pool, stages))
    assert [name for name, stored in cached(again).items() if not stored] == ["embed"]


def test_another_name_of_the_file_changes_nothing(tmp_path: Path, pool: Path) -> None:
    go(tmp_path, configuration(pool, QUICK))
    elsewhere = tmp_path / "elsewhere"
    pool.rename(elsewhere)
    assert all(cached(go(tmp_path, configuration(elsewhere, QUICK))).values())


def test_another_kind_of_file_is_read_again(tmp_path: Path) -> None:
    """The same bytes are other rows as CSV than as TSV."""
    texts = []
    data = tmp_path / "x.csv"
    data.write_text("text,x\ttext\none,two\tthree\n")
    for kind in ("csv", "tsv"):
        data = data.rename(tmp_path / f"x.{kind}")
        source = {"name": "pool", "path": str(data), "format": "text"}
        run = go(tmp_path, {"name": "toy", "sources": [source], "stages": [{"score": ["length"]}]})
        texts.append(run.rows.collect()["response"].to_list())
    assert texts == [["one"], ["three"]]


def test_another_compression_is_read_again(tmp_path: Path, pool: Path) -> None:
    packed = pool / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress((pool / "pairs.jsonl").read_bytes(), mtime=0))
    (pool / "pairs.jsonl").unlink()
    config = configuration(pool, [{"score": ["length"]}], max_bad_fraction=1.0)
    config["sources"] = [{"name": "both", "path": str(pool / "*.jsonl*"), "format": "messages"}]
    before = go(tmp_path, config).quarantine.collect()["cause"]
    packed.rename(pool / "pairs.jsonl")
    after = go(tmp_path, config).quarantine.collect()["cause"]
    assert all(cause.startswith("missing field `messages`") for cause in before)
    assert any(cause.startswith("invalid UTF-8") for cause in after)


def test_another_byte_in_a_file_computes_all_again(tmp_path: Path, pool: Path) -> None:
    go(tmp_path, configuration(pool, QUICK))
    path = pool / "pairs.jsonl"
    path.write_text(path.read_text().replace(".", "!", 1))
    assert not any(cached(go(tmp_path, configuration(pool, QUICK))).values())


def test_a_damaged_shard_alone_is_computed_again(tmp_path: Path, pool: Path) -> None:
    config = configuration(pool, QUICK)
    first = go(tmp_path, config)
    before = outputs(first.path)
    stage = next(stage for stage in first.stages if stage["name"] == "score.length")
    shard = first.shards(stage)[0]
    good = shard.read_bytes()
    shard.write_bytes(good[:-20])
    again = go(tmp_path, config)
    assert [name for name, stored in cached(again).items() if not stored] == ["score.length"]
    assert shard.read_bytes() == good
    assert outputs(again.path) == before


def test_a_seed_changes_what_is_random_and_not_the_scores(tmp_path: Path, pool: Path) -> None:
    stages = [*QUICK[:2], {"select": {"random": {"budget": 40}}}]
    one = go(tmp_path, configuration(pool, stages))
    two = go(tmp_path, configuration(pool, stages, seed=1))
    assert [name for name, stored in cached(two).items() if not stored] == ["select.random"]
    ids = [set(run.selected.collect()["id"]) for run in (one, two)]
    assert ids[0] != ids[1]


def test_every_row_is_selected_dropped_or_quarantined(tmp_path: Path, pool: Path) -> None:
    with (pool / "chat.jsonl").open("a") as stream:
        stream.write("{broken\n")
    run = go(tmp_path, configuration(pool, QUICK))
    kept, gone = run.selected.collect(), run.dropped.collect()
    assert kept.height == 40
    assert kept.height + gone.height == run.rows.collect().height == 202
    assert not set(kept["position"]) & set(gone["position"])
    assert gone["reason"].null_count() == 0
    bad = run.quarantine.collect().row(0, named=True)
    assert (bad["line"], bad["source"]) == (103, "chat")
    assert bad["file"].endswith("chat.jsonl")


def test_the_quarantine_names_files_as_this_run_does(tmp_path: Path, pool: Path) -> None:
    with (pool / "chat.jsonl").open("a") as stream:
        stream.write("{broken\n")
    go(tmp_path, configuration(pool, QUICK))
    elsewhere = tmp_path / "elsewhere"
    pool.rename(elsewhere)
    run = go(tmp_path, configuration(elsewhere, QUICK))
    assert all(cached(run).values())
    assert run.quarantine.collect()["file"].to_list() == [str(elsewhere / "chat.jsonl")]


def test_why_of_a_bad_record_in_a_second_file(tmp_path: Path) -> None:
    good = [{"prompt": f"p{n}", "response": f"answer number {n}"} for n in range(3)]
    for name in "ab":
        write_jsonl(
            tmp_path / f"{name}.jsonl", [*good, {"prompt": name}, {"prompt": "p", "id": f"mine-{name}"}]
        )
    source = {"name": "math", "path": str(tmp_path / "*.jsonl")}
    config = {"name": "toy", "sources": [source], "stages": [{"score": ["length"]}], "max_bad_fraction": 1.0}
    run = go(tmp_path, config)
    for id, file, line in (
        ("math:3", "a", 4), ("math:1:3", "b", 4), ("mine-b", "b", 5), ("math:1:2", "b", 3)
    ):  # fmt: skip
        story = run.why(id)
        assert (story.id, Path(story.file).name, story.line) == (id, f"{file}.jsonl", line)
        assert (story.fate == "quarantined") == (id != "math:1:2")


def test_too_many_bad_rows_stop_the_run_with_their_causes(tmp_path: Path, pool: Path) -> None:
    with (pool / "chat.jsonl").open("a") as stream:
        stream.write("{broken\n" * 5)
    with pytest.raises(DataError, match=r"5 of 207 rows \(2.4%\).*max_bad_fraction") as caught:
        go(tmp_path, configuration(pool, QUICK))
    assert caught.value.exit_code == 3
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/run.json"))
    assert json.loads((folder / "run.json").read_bytes())["status"] == "failed"
    assert len((folder / "quarantine.jsonl").read_text().splitlines()) == 5


def test_more_bad_rows_are_allowed_by_configuration(tmp_path: Path, pool: Path) -> None:
    with (pool / "chat.jsonl").open("a") as stream:
        stream.write("{broken\n" * 5)
    assert go(tmp_path, configuration(pool, QUICK, max_bad_fraction=0.1)).status == "done"


def test_a_missing_column_is_named_with_what_adds_it(tmp_path: Path, pool: Path) -> None:
    stages = [{"cluster": {"kmeans": {"k": 4}}}]
    with pytest.raises(ConfigError, match=r"stages\[0\].*needs `embedding`.*Add an `embed` stage"):
        go(tmp_path, configuration(pool, stages))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"train": {}}], "no model to tune"),
        ([{"evaluate": {}}], "needs a `train` stage"),
        ([{"score": ["loss"]}], "cannot be had without a model. Add `model:`"),
        ([{"score": ["length"]}, {"select": {"top": {"by": "length", "budget": 5}}}], "order"),
        ([{"mix": "equal"}, {"select": {"random": {"budget": 3}}}], "`select` comes after `mix`"),
    ],
)
def test_stages_that_cannot_follow_are_refused(
    tmp_path: Path, pool: Path, stages: list[Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        go(tmp_path, configuration(pool, stages))


def test_the_names_of_sources_must_differ(tmp_path: Path, pool: Path) -> None:
    config = configuration(pool, QUICK)
    config["sources"][1]["name"] = "chat"
    with pytest.raises(ConfigError, match="`chat` names two sources"):
        go(tmp_path, config)


def test_an_empty_selection_stops_the_run(tmp_path: Path, pool: Path) -> None:
    stages = [
        QUICK[1],
        {"select": {"threshold": {"by": "length", "min": 10_000}}},
        {"score": [{"length": {}}]},
    ]
    with pytest.raises((DataError, ConfigError)):
        go(tmp_path, configuration(pool, stages[:2]))


def test_the_second_of_two_selects_sees_the_survivors_of_the_first(tmp_path: Path, pool: Path) -> None:
    first = {"select": {"top": {"by": "length", "budget": 60, "order": "highest"}}}
    second = {"select": {"top": {"by": "length", "budget": 20, "order": "lowest"}}}
    run = go(tmp_path, configuration(pool, [QUICK[1], first, second]))
    lengths = run.scores.collect()["score.length"].sort(descending=True)
    assert sorted(run.selected.collect()["score.length"]) == sorted(lengths[:60])[:20]
    assert run.stages[-1]["rows"] == 60


def test_export_gives_back_untouched_lines_byte_for_byte(tmp_path: Path, pool: Path) -> None:
    path = pool / "pairs.jsonl"
    odd = '{"prompt" :  "Wie heißt\\u0020du?", "completion": "Ich heiße Ada und wohne seit vielen Jahren hier in der Stadt.", "x": 1.50}'
    path.write_text(path.read_text() + odd + "\n")
    run = go(tmp_path, configuration(pool, [QUICK[1], {"select": {"threshold": {"by": "length", "min": 0}}}]))
    lines = [
        line
        for file in sorted((run.path / "export").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    given = [line for name in ("chat", "pairs") for line in (pool / f"{name}.jsonl").read_text().splitlines()]
    assert lines == given
    assert odd in lines


def test_metadata_travels_to_the_selection(tmp_path: Path) -> None:
    records = [{"prompt": f"p{n}", "response": f"answer number {n}", "level": n % 3} for n in range(30)]
    write_jsonl(tmp_path / "pool.jsonl", records)
    source = {"name": "pool", "path": str(tmp_path / "pool.jsonl"), "metadata": ["level"]}
    config = {"name": "toy", "sources": [source], "stages": [{"select": {"random": {"budget": 5}}}]}
    run = go(tmp_path, config)
    assert run.rows.collect()["meta.level"].to_list() == [str(n % 3) for n in range(30)]


def test_shards_are_a_function_of_the_number_of_rows() -> None:
    assert [shard_rows(n, 64) for n in (10, 2_000, 4_096, 100_000, 10**8)] == [64, 64, 128, 4096, 8192]


def test_scores_hold_the_losers_too(tmp_path: Path, pool: Path) -> None:
    run = go(tmp_path, configuration(pool, QUICK))
    scores = run.scores.collect()
    assert set(run.selected.collect()["position"]) < set(scores["position"])
    assert scores.select(pl.col("score.length").is_null().sum()).item() == 0


@pytest.mark.parametrize("damage", ["remove", "change"])
def test_lost_positions_are_gathered_again_from_the_shards(tmp_path: Path, pool: Path, damage: str) -> None:
    config = configuration(pool, QUICK)
    first = go(tmp_path, config)
    before = outputs(first.path)
    (kept,) = first.store.glob("clean.near_duplicates-*/kept.npy")
    kept.unlink() if damage == "remove" else kept.write_bytes(kept.read_bytes()[:-8] + b"\0" * 8)
    second = go(tmp_path, config)
    assert outputs(second.path) == before


def test_a_score_is_computed_in_one_place(tmp_path: Path, pool: Path) -> None:
    stages = [QUICK[1], QUICK[2], {"score": [{"length": {"unit": "characters"}}]}]
    with pytest.raises(ConfigError, match="`score.length` is computed by an earlier `score` too"):
        go(tmp_path, configuration(pool, stages))


def test_a_run_that_fails_leaves_what_is_known_of_its_rows(tmp_path: Path, pool: Path) -> None:
    stages = [*QUICK[:2], {"select": {"top": {"by": "length", "budget": 10_000, "order": "highest"}}}]
    with pytest.raises(DataError):
        go(tmp_path, configuration(pool, stages))
    (path,) = (tmp_path / "runs").glob("toy-*")
    run = curate.open(path)
    assert run.status == "failed"
    assert set(run.dropped.collect()["stage"]) == {"clean.exact_duplicates", "clean.near_duplicates"}
    assert run.scores.collect()["score.length"].null_count() == 0


def test_the_same_run_twice_at_once(tmp_path: Path, pool: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(configuration(pool, QUICK)))
    command = [
        sys.executable,
        "-m",
        "curate",
        "run",
        str(tmp_path / "config.json"),
        "--runs",
        str(tmp_path / "runs"),
    ]
    started = [
        subprocess.Popen([*command, "--runner", "local"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    (path,) = (tmp_path / "runs").glob("toy-*")
    assert curate.open(path).status == "done"
