"""Contamination: what is found between a pool and its target, what is not, and that nothing else changes."""

import json
import random
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pools import write_jsonl
from rich.console import Console

import curate
from curate import contamination as report
from curate.commands import print_contamination
from curate.config import read_config
from curate.errors import ConfigError, DataError
from curate.numerics.ngram_index import plain_words
from curate.pipeline import build
from curate.stages import matches

TRAIN = "A train leaves the station at noon and runs three hours at sixty miles per hour; how far is that?"
LEAKED = {"prompt": TRAIN, "completion": "It is 180 miles, as three times sixty is 180."}
SELECT = [{"score": ["length"]}, {"select": {"top": {"by": "length", "budget": 3, "order": "highest"}}}]


def pair(prompt: str, completion: str, id: str | None = None) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion} | ({} if id is None else {"id": id})


def other_rows(count: int) -> list[dict[str, Any]]:
    return [pair(f"What do you know about number {i}?", f"Number {i} is a number.") for i in range(count)]


def go(
    folder: Path,
    pool: list[dict[str, Any]],
    dev: list[dict[str, Any]],
    stages: list[Any] | None = None,
    runs: str = "runs",
    **more: Any,
) -> curate.Run:
    (folder / "data").mkdir(exist_ok=True)
    write_jsonl(folder / "data" / "pool.jsonl", pool)
    write_jsonl(folder / "data" / "dev.jsonl", dev)
    config = {
        "name": "leaks",
        "sources": [{"name": "pool", "path": str(folder / "data" / "pool.jsonl")}],
        "target": {"path": str(folder / "data" / "dev.jsonl")},
        "stages": SELECT[:1] if stages is None else stages,
        **more,
    }
    return curate.run(config, runs=folder / runs, runner="local")


def found(run: curate.Run) -> dict[str, str]:
    """Pool id -> evaluation id."""
    return {match["id"]: match["evaluation_id"] for match in run.contamination["matches"]}


def stage(run: curate.Run, name: str) -> dict[str, Any]:
    (one,) = [dict(record) for record in run.stages if record["name"] == name]
    return one


@pytest.mark.parametrize(
    ("row", "part"),
    [
        (pair("Please: " + TRAIN.upper().replace(";", ","), "No idea."), "prompt"),
        (pair("Say something", f"Well. {TRAIN}"), "response"),
        (pair(f"Hm, {TRAIN}", LEAKED["completion"]), "both"),
    ],
)
def test_a_row_with_thirteen_words_of_a_target_row_is_found(
    tmp_path: Path, row: dict[str, Any], part: str
) -> None:
    run = go(tmp_path, [*other_rows(3), row], [pair("Quite another one?", "Yes."), LEAKED])
    (match,) = run.contamination["matches"]
    assert (match["id"], match["evaluation_id"]) == ("pool:3", "target:1")
    assert (match["kind"], match["part"], match["kept"]) == ("n-gram", part, True)
    assert match["words"].startswith("a train leaves the station at noon and runs")
    assert (match["prompt"], match["evaluation_prompt"]) == (row["prompt"], TRAIN)


def test_twelve_words_are_not_enough_and_thirteen_are(tmp_path: Path) -> None:
    words = TRAIN.split()
    pool = [pair("First one", " ".join(words[:12]) + " stop"), pair("Second one", " ".join(words[:13]))]
    (match,) = go(tmp_path, pool, [LEAKED]).contamination["matches"]
    evaluation = len(plain_words(TRAIN)) + len(plain_words(LEAKED["completion"])) - 12
    assert (match["id"], match["ngrams"], match["share"]) == ("pool:1", 1, 1 / evaluation)


def test_a_short_row_matches_only_the_same_words(tmp_path: Path) -> None:
    pool = [
        pair("Ready, or not", "YES"),
        pair("Now: ready or not?", "Yes!"),
        pair("Ready or not: yes", "Yes!"),
    ]
    run = go(tmp_path, pool, [pair("Ready or not?", "Yes!")])
    assert found(run) == {"pool:0": "target:0"}


def test_texts_without_spaces_without_words_and_empty_prompts(tmp_path: Path) -> None:
    chinese = "请问中国的首都是哪里以及它有多少人口"
    pool = [pair(f"另外,{chinese}?", "上海"), pair("?!", "…"), pair("\U0001f600", "--"), pair(".", "hello")]
    run = go(tmp_path, pool, [pair(chinese, "北京"), pair("!!!", "??"), pair("—", "hello there")])
    assert found(run) == {"pool:0": "target:0"}
    assert run.contamination["unjudged"] == 1


def test_the_check_warns_and_says_where_to_look(tmp_path: Path) -> None:
    run = go(tmp_path, [*other_rows(3), pair("Well, " + TRAIN, "No.")], [LEAKED])
    (warning,) = run.contamination["warnings"]
    assert warning.startswith("contamination: 1 of 4 rows of the pool match 1 of 1 rows of `target`")
    printed = StringIO()
    print_contamination(run, Console(file=printed, width=200))
    assert printed.getvalue().startswith("contamination: 1 of 4 rows match an evaluation row")


def test_nothing_found_is_said_without_a_warning(tmp_path: Path) -> None:
    told = go(tmp_path, other_rows(4), [LEAKED]).contamination
    assert (told["rows"], told["matched"], told["matches"], told["warnings"]) == (4, 0, [], [])


def test_without_something_to_leak_into_there_is_no_stage_and_no_report(tmp_path: Path) -> None:
    run = go(tmp_path, other_rows(4), [LEAKED], target=None)
    assert not any("contamination" in record["name"] for record in run.stages)
    with pytest.raises(curate.errors.CurateError, match="contamination.json"):
        _ = run.contamination


def test_switched_on_it_changes_nothing_that_comes_after(tmp_path: Path) -> None:
    pool = [*other_rows(20), pair("Well, " + TRAIN, "No.")]
    without = go(tmp_path, pool, [LEAKED], SELECT, check_contamination=False)
    assert not (without.path / "contamination.json").exists()
    run = go(tmp_path, pool, [LEAKED], SELECT)
    assert [record["name"] for record in run.stages if not record["cached"]] == [
        "contamination.index",
        "contamination.ngrams",
        "contamination",
    ]
    for table in ("selection.parquet", "scores.parquet", "dropped.parquet"):
        assert (run.path / table).read_bytes() == (without.path / table).read_bytes()


def test_an_item_of_the_list_takes_the_place_of_the_check(tmp_path: Path) -> None:
    stages = [{"clean": ["exact_duplicates"]}, {"contamination": {"words": 8}}, *SELECT]
    run = go(tmp_path, other_rows(6), [LEAKED], stages)
    names = [record["name"] for record in run.stages]
    assert names.count("contamination") == 1
    assert names.index("contamination") > names.index("clean.exact_duplicates")
    assert run.contamination["words"] == 8


def test_dropped_rows_carry_the_evaluation_row_the_share_and_the_words(tmp_path: Path) -> None:
    pool = [*other_rows(3), pair("Say " + TRAIN, "No.", "mine")]
    run = go(tmp_path, pool, [LEAKED], [{"contamination": {"drop": True}}, *SELECT])
    dropped = run.dropped.filter(pl.col("stage") == "contamination").collect()
    assert dropped["id"].to_list() == ["mine"]
    (reason,) = dropped["reason"].to_list()
    shared = len(plain_words(TRAIN)) - 12
    assert reason.startswith(f"has {shared} n-grams of 13 words of evaluation row target:0 of target, ")
    assert "a train leaves the station" in reason
    assert run.contamination["warnings"] == []
    assert run.selected.collect().height == 3


def test_another_threshold_judges_again_and_looks_nothing_up(tmp_path: Path) -> None:
    pool = [*other_rows(3), pair("Say", " ".join(TRAIN.split()[:13]))]
    go(tmp_path, pool, [LEAKED])
    again = go(tmp_path, pool, [LEAKED], [{"contamination": {"min_share": "50%"}}, *SELECT[:1]])
    assert [record["name"] for record in again.stages if not record["cached"]] == ["contamination"]
    assert again.contamination["matched"] == 0


TEMPLATE = "Write a short and friendly reply to the following message of a customer who asks about"


@pytest.mark.parametrize(("prompts", "matched"), [(10, 10), (11, 0)])
def test_a_template_of_many_prompts_is_told_apart(tmp_path: Path, prompts: int, matched: int) -> None:
    pool = [pair(f"{TEMPLATE} thing {i}.", f"Dear customer {i}") for i in range(prompts)]
    told = go(tmp_path, pool, [pair(f"{TEMPLATE} refunds.", "Dear friend")]).contamination
    assert told["matched"] == matched
    if not matched:
        (phrase,) = told["common"]
        assert phrase["rows"] == prompts
        assert phrase["words"] == TEMPLATE.lower()


@pytest.mark.parametrize(("prompts", "matched"), [(10, 1), (11, 0)])
def test_a_template_of_many_target_rows_is_no_match_either(
    tmp_path: Path, prompts: int, matched: int
) -> None:
    target = [pair(f"{TEMPLATE} thing {i}.", f"Dear customer {i}") for i in range(prompts)]
    told = go(tmp_path, [*other_rows(3), pair(f"{TEMPLATE} refunds.", "Dear friend")], target).contamination
    assert told["matched"] == matched


def test_many_answers_to_one_leaked_prompt_make_it_no_template(tmp_path: Path) -> None:
    pool = [pair(f"Solve: {TRAIN}", f"I guess {i} miles") for i in range(30)]
    assert go(tmp_path, pool, [LEAKED]).contamination["matched"] == 30


def test_a_row_with_a_template_and_more_has_the_share_of_both(tmp_path: Path) -> None:
    copy = pair(f"Hello. {TEMPLATE} refunds.", "Dear friend")
    pool = [*(pair(f"{TEMPLATE} thing {i}.", f"Dear customer {i}") for i in range(20)), copy]
    (match,) = go(tmp_path, pool, [pair(f"{TEMPLATE} refunds.", "Dear friend")]).contamination["matches"]
    assert (match["id"], match["share"]) == ("pool:20", 1.0)


def test_a_target_that_is_a_source_of_the_pool_is_found_at_once(tmp_path: Path) -> None:
    rows = [pair(f"Tell me all that you know of the number {i}", "It is one.") for i in range(9)]
    run = go(tmp_path, [*other_rows(3), *rows], rows)
    assert run.contamination["kept_away"] == {"pool": {"rows": 12, "pool_rows": 9}}
    assert "source `pool` have the prompt of a held-out row" in run.contamination["warnings"][0]
    with pytest.raises(DataError, match="all 18 rows are held out or share a group"):
        go(tmp_path, rows, rows, runs="again")


def test_an_evaluation_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        go(tmp_path, other_rows(3), [], target={"path": str(tmp_path / "nowhere.jsonl")})


def drawn(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A pool and a target of random words out of few."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(draw.choices("abcdefg", k=draw.randint(1, most)))

    target = [pair(f"target {i} {words(9)}", words(9)) for i in range(8)]
    return [pair(f"row {i} {words(12)}", words(12), f"r{i}") for i in range(60)], target


def expected(pool: list[dict[str, Any]], target: list[dict[str, Any]], n: int, most: int) -> dict[str, Any]:
    """Pool id -> (evaluation id, n-grams shared, evaluation rows matched), by sets."""

    def ngrams(row: dict[str, Any]) -> set[tuple[str, ...]]:
        words = plain_words(row["prompt"] + "\n" + row["completion"])
        return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}

    def prompts(rows: list[dict[str, Any]], ngram: tuple[str, ...]) -> int:
        return len({row["prompt"] for row in rows if ngram in ngrams(row)})

    every = set().union(*map(ngrams, target))
    common = {ngram for ngram in every if max(prompts(pool, ngram), prompts(target, ngram)) > most}
    told = {}
    for row in pool:
        shared = [ngrams(row) & ngrams(other) for other in target]
        hits = [i for i, both in enumerate(shared) if both - common]
        if hits:
            best = max(hits, key=lambda i: (len(shared[i]) / len(ngrams(target[i])), -i))
            told[row["id"]] = (f"target:{best}", len(shared[best]), len(hits))
    return told


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_sets_in_any_order_and_any_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    pool, target = drawn(seed)
    stages = [{"contamination": {"words": 3, "max_prompts": 4}}, *SELECT]
    wanted = expected(pool, target, 3, 4)
    assert 5 < len(wanted) < 60
    for order, block in ((pool, 1 << 16), (pool[::-1], 7)):
        monkeypatch.setattr(matches, "BLOCK_ROWS", block)
        run = go(tmp_path, order, target, stages, runs=f"runs{block}")
        told = {
            match["id"]: (match["evaluation_id"], match["ngrams"], match["others"] + 1)
            for match in run.contamination["matches"]
        }
        assert told == wanted
        assert run.contamination["evaluation"]["target"]["pool_rows"] == len(wanted)


def test_the_strongest_are_told_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_MATCHES", 1)
    weak, strong = " ".join(TRAIN.split()[:14]), f"{TRAIN} {LEAKED['completion']}"
    run = go(tmp_path, [pair("One", weak), pair("Two", strong), pair("Three", TRAIN)], [LEAKED])
    assert found(run) == {"pool:1": "target:0"}
    assert (run.contamination["matched"], run.contamination["half"]) == (3, 1)


def test_long_texts_are_cut(tmp_path: Path) -> None:
    (match,) = go(tmp_path, [pair("Say", TRAIN + " x" * 3000)], [LEAKED]).contamination["matches"]
    assert len(match["response"]) == 2000


@pytest.mark.parametrize("own", [False, True], ids=["the embedding of `embed`", "a model of its own"])
def test_rows_near_by_embedding_match_too(tmp_path: Path, own: bool) -> None:
    """The words in another order: no n-gram, and the same mean of static word vectors."""
    words = TRAIN.split()
    pool = [*other_rows(5), pair(" ".join(sorted(words)), LEAKED["completion"])]
    embed = [] if own else [{"embed": {"model": "package:wordllama"}}]
    item = {"similarity": 0.9} | ({"model": "package:wordllama"} if own else {})
    run = go(tmp_path, pool, [pair("Quite another one?", "No."), LEAKED], [*embed, {"contamination": item}])
    (match,) = run.contamination["matches"]
    assert (match["id"], match["evaluation_id"], match["kind"]) == ("pool:5", "target:1", "embedding")
    assert 0.9 <= match["similarity"] <= 1
    assert (match["ngrams"], match["words"], match["part"]) == (None, None, None)
    assert run.contamination["kinds"] == {"n-gram": 0, "embedding": 1, "both": 0}


def test_a_row_of_both_kinds_is_dropped_once_with_both_told(tmp_path: Path) -> None:
    stages = [{"contamination": {"similarity": 0.9, "model": "package:wordllama", "drop": True}}]
    run = go(tmp_path, [*other_rows(5), pair("So: " + TRAIN, LEAKED["completion"])], [LEAKED], stages)
    (match,) = run.contamination["matches"]
    assert (match["kind"], match["kept"]) == ("both", False)
    assert run.dropped.filter(pl.col("stage") == "contamination").collect().height == 1


TUNED = [{"train": {}}, {"evaluate": {}}]


@pytest.mark.parametrize(
    ("stages", "more", "message"),
    [
        ([{"contamination": {}}, {"contamination": {}}], {}, "at most one `contamination`"),
        ([{"contamination": {}}], {"target": None}, "Add `evaluate` to `stages`, or `target:`"),
        ([{"contamination": {"similarity": 0.9}}], {}, "there is no `embed` before it"),
        ([{"contamination": {"similarity": 0}}], {}, "similarity"),
        ([{"contamination": {"words": 0}}], {}, "words"),
        ([{"contamination": {"model": "x"}}], {}, "`model` is there for `similarity`"),
        ([{"mix": "equal"}, {"contamination": {"drop": True}}], {}, "would break its schedule"),
        ([*TUNED[:1], {"contamination": {}}], {"model": "x"}, "comes after `train`"),
        ([{"contamination": {"word": 8}}], {}, "Did you mean `words`"),
    ],
)
def test_what_cannot_be_is_said(stages: list[Any], more: dict[str, Any], message: str) -> None:
    config = {"name": "x", "sources": [{"name": "pool", "path": "x"}], "target": "y", "stages": stages}
    with pytest.raises(ConfigError) as error:
        build(read_config(json.loads(json.dumps({**config, **more}))).config)
    assert message in str(error.value)


def test_rows_held_out_for_an_evaluation_are_looked_for_too() -> None:
    config = {"name": "x", "sources": [{"name": "pool", "path": "x"}], "model": "y", "stages": TUNED}
    labels = [each.label for each in build(read_config(config).config)]
    assert labels[:6] == [
        "ingest",
        "tokenize",
        "hold_out",
        "contamination.index",
        "contamination.ngrams",
        "contamination",
    ]
