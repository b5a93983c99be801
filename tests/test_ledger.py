"""The ledger of a row in a run without a model: duplicates, scores, verdicts, ids, what is shown of it and how."""

import json
import shutil
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from pools import configuration, write_jsonl, write_pool
from rich.console import Console

import curate
from curate.cli import main
from curate.errors import ConfigError, CurateError
from curate.ledger.stored import stages_of
from curate.ledger.story import Ledger

BUDGET = 40
STAGES = [
    {"clean": ["exact_duplicates", {"near_duplicates": {"threshold": 0.7}}]},
    {"score": ["length", "type_token_ratio"]},
    {"select": {"threshold": {"by": "length", "min": 3}}},
    {"select": {"top": {"by": "length", "budget": BUDGET, "order": "highest"}}},
]
NASTY = "\x1b[31mred\x07 [bold]b[/bold] <script>alert(1)</script> \u202egnp.exe"
LONG = " ".join(f"word{number}" for number in range(60))
NEAR = f"{LONG} and more"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> curate.Run:
    folder = tmp_path_factory.mktemp("ledger")
    pool = write_pool(folder / "data")
    more = [
        {"id": "long", "prompt": "Say it.", "completion": LONG},
        {"id": "near-long", "prompt": "Say it.", "completion": NEAR},
        {"id": "near-again", "prompt": "Say it.", "completion": f"{LONG} again"},
        {"id": "row-7", "prompt": "What is shared?", "completion": "The id is, and nothing else of it."},
        {"id": "nasty", "prompt": "Look.", "completion": NASTY},
        {"id": "no-words", "prompt": "Say nothing.", "completion": "!!! ??? ... ;;;"},
    ]
    with (pool / "pairs.jsonl").open("a") as stream:
        stream.write("".join(json.dumps(record) + "\n" for record in more))
        stream.write("{broken\n")
    return curate.run(configuration(pool, STAGES), runs=folder / "runs", runner="local")


def words(run: curate.Run) -> dict[str, int]:
    """The words of each response, by id."""
    texts = run.rows.select("id", "response").collect()
    return {id: len(text.split()) for id, text in texts.iter_rows()}


def grams(text: str) -> set[tuple[str, ...]]:
    found = text.lower().split()
    return {tuple(found[place : place + 5]) for place in range(len(found) - 4)}


def test_an_exact_duplicate_names_the_row_kept_in_its_place(run: curate.Run) -> None:
    story = run.why("copy-of-3")
    (group,) = story.duplicates
    assert story.fate == "duplicate"
    assert (group.stage, group.rows, group.similarity) == ("clean.exact_duplicates", 2, 1.0)
    assert group.survivor is not None
    assert group.survivor.id == "row-3"
    assert not group.dropped
    assert "row-3" in str(story)


def test_its_survivor_names_the_row_that_went(run: curate.Run) -> None:
    (group,) = run.why("row-3").duplicates
    assert group.survivor is None
    assert [(other.id, other.fate, other.similarity) for other in group.dropped] == [
        ("copy-of-3", "duplicate", 1.0)
    ]


def test_a_near_duplicate_has_its_similarity_and_the_others_of_the_group(run: curate.Run) -> None:
    (group,) = run.why("long").duplicates
    (kept,) = run.rows.filter(pl.col("id") == "near-long").collect().iter_rows(named=True)
    mine, others = grams(f"Say it.\n{LONG}"), grams(f"Say it.\n{kept['response']}")
    assert group.survivor is not None
    assert (group.survivor.id, group.rows) == ("near-long", 3)
    assert group.similarity == pytest.approx(len(mine & others) / len(mine | others), abs=1e-12)
    assert [other.id for other in group.dropped] == ["near-again"]
    assert group.dropped[0].similarity is not None
    assert group.dropped[0].similarity < 1


def test_the_survivor_of_near_duplicates_is_the_longest(run: curate.Run) -> None:
    (group,) = run.why("near-long").duplicates
    assert (group.survivor, group.rows) == (None, 3)
    assert {other.id for other in group.dropped} == {"long", "near-again"}


def test_a_row_like_no_other_has_no_group(run: curate.Run) -> None:
    assert run.why("row-0").duplicates == []


def test_a_score_has_its_percentile_among_the_scored_rows(run: curate.Run) -> None:
    score = run.why("row-0").scores["score.length"]
    gone = run.dropped.filter(pl.col("stage").str.starts_with("clean.")).collect()["position"]
    scored = run.rows.filter(~pl.col("position").is_in(gone.implode())).collect()
    lengths = scored["response"].str.count_matches(r"\S+").to_list()
    mine = words(run)["row-0"]
    assert (score.value, score.scored) == (mine, len(lengths))
    assert score.percentile == pytest.approx(100 * sum(length < mine for length in lengths) / len(lengths))


def test_a_null_score_is_said_to_be_null(run: curate.Run) -> None:
    story = run.why("no-words")
    assert story.scores["score.type_token_ratio"].value is None
    assert story.scores["score.type_token_ratio"].percentile is None
    assert "null" in str(story)


def test_the_direction_of_a_score_is_its_scorers(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data", rows=60)
    config = configuration(pool, [{"score": ["ngram_repetition", "length"]}])
    found = curate.run(config, runs=tmp_path / "runs", runner="local").why("row-0").scores
    assert found["score.ngram_repetition"].higher_is_better is False
    assert found["score.length"].higher_is_better is None


def test_a_kept_row_has_its_rank_rule_and_place(run: curate.Run) -> None:
    row = run.selected.collect().row(3, named=True)
    story = run.why(row["uid"])
    last = story.verdicts[-1]
    assert (story.fate, story.rank, last.kept, last.stage) == ("selected", 3, True, "select.top")
    assert (last.rule["method"], last.rule["by"], last.rule["budget"]) == ("top", "length", str(BUDGET))
    assert last.standing is not None
    assert (last.standing.place, last.standing.highest_first) == (4, True)
    assert (last.rows_kept, last.last_kept) == (BUDGET, None)
    assert last.reason == row["reason"]


def test_a_row_that_the_budget_left_out_names_the_last_that_it_took(run: curate.Run) -> None:
    row = run.dropped.filter(pl.col("stage") == "select.top").collect().row(0, named=True)
    last = run.why(row["uid"]).verdicts[-1]
    kept = run.selected.collect()
    lengths = words(run)
    assert last.last_kept is not None
    assert last.last_kept.id == kept["id"][-1]
    assert last.last_kept.rank == BUDGET - 1
    assert last.last_kept.value == lengths[kept["id"][-1]] >= lengths[row["id"]]
    assert last.standing is not None
    assert last.standing.place is not None
    assert last.standing.place > BUDGET
    assert f"{last.standing.place:,} of {last.rows:,}" in str(run.why(row["uid"]))


def test_a_rule_per_group_is_held_against_its_own_group(run: curate.Run) -> None:
    again = run.select({"top": {"by": "length", "budget": BUDGET, "order": "highest", "per": "source"}})
    row = again.dropped.filter(pl.col("stage") == "select.top", pl.col("source") == "chat").collect()
    last = again.why(row["uid"][0]).verdicts[-1].last_kept
    kept = again.selected.filter(pl.col("source") == "chat").collect()
    assert last is not None
    assert (last.id, last.group) == (kept["id"][-1], "source chat")


def test_a_bound_names_no_row_that_took_the_place(run: curate.Run) -> None:
    row = run.dropped.filter(pl.col("stage") == "select.threshold").collect().row(0, named=True)
    story = run.why(row["uid"])
    assert story.fate == "dropped by select.threshold"
    assert (story.verdicts[-1].reason, story.verdicts[-1].last_kept) == (row["reason"], None)
    assert "below the minimum of 3" in str(story)


def test_a_quarantined_row_has_its_cause_and_place(run: curate.Run) -> None:
    (bad,) = run.quarantine.collect().iter_rows(named=True)
    story = run.why(bad["id"])
    assert (story.fate, story.line, story.uid, story.response) == ("quarantined", 107, None, "{broken")
    assert story.address == "pairs:106"
    assert story.cause == bad["cause"]
    with pytest.raises(CurateError, match="never a row"):
        run.why(bad["id"], losses=True)


def test_an_unknown_id_is_refused_with_ids_like_it(run: curate.Run) -> None:
    with pytest.raises(ConfigError, match=r"unknown row id `rov-33`\. Did you mean `row-33` or"):
        run.why("rov-33")


def test_the_search_for_ids_alike_says_how_far_it_went(
    run: curate.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.ledger.lookup.LOOKED_AT", 20)
    with pytest.raises(ConfigError, match="among the first 20 of 208 ids"):
        run.why("rov-3")


def test_an_id_that_rows_share_lists_them_and_each_can_be_had(run: curate.Run) -> None:
    with pytest.raises(ConfigError, match="2 rows have the id `row-7`") as caught:
        run.why("row-7")
    assert "2 rows have the id `row-7`. Give one of these in its place:" in str(caught.value)
    assert "chat:7  " in str(caught.value)
    assert "pairs.jsonl:104" in str(caught.value)
    assert [(run.why(place).source, run.why(place).id) for place in ("chat:7", "pairs:103")] == [
        ("chat", "row-7"),
        ("pairs", "row-7"),
    ]


@pytest.mark.parametrize("ordinal", [str(1 << 40), "9" * 13, "9" * 5000])
def test_a_number_that_no_record_can_have_is_no_address(run: curate.Run, ordinal: str) -> None:
    with pytest.raises(ConfigError, match="unknown row id `chat:"):
        run.why(f"chat:{ordinal}")


def test_a_uid_means_the_row_that_stands_for_its_copies(run: curate.Run) -> None:
    story = run.why(str(run.why("copy-of-3").uid))
    assert (story.id, story.copies) == ("row-3", 1)


def test_what_steers_a_terminal_is_shown_and_not_obeyed(run: curate.Run) -> None:
    text = str(run.why("nasty"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31mred\\x07 [bold]b[/bold] <script>" in text
    stream = StringIO()
    Console(file=stream, force_terminal=True, width=80).print(run.why("nasty"))
    assert "\x1b[31m" not in stream.getvalue()
    assert "[bold]b[/bold]" in stream.getvalue()


def test_a_notebook_shows_markup_as_text(run: curate.Run) -> None:
    page = run.why("nasty")._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_the_text_fits_a_terminal(run: curate.Run) -> None:
    assert max(map(len, str(run.why("near-long")).splitlines())) <= 80


def test_the_command_prints_the_ledger_as_json(run: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["show", str(run.path), "--row", "nasty", "--json"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert json.loads(printed) == json.loads(json.dumps(run.why("nasty").as_dict()))


def test_losses_need_a_row(run: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["show", str(run.path), "--losses"])
    assert stopped.value.code == 2
    assert "Add --row ID" in capsys.readouterr().err


def test_a_run_without_a_tuned_model_says_so(run: curate.Run) -> None:
    story = run.why("row-0")
    assert (story.schedule, story.tokens, story.neighbours, story.cluster) == (None, None, [], None)
    assert "no tuned model" in str(story)
    with pytest.raises(CurateError, match="has no tuned model"):
        run.why("row-0", losses=True)


def cut_short(run: curate.Run, stages: int) -> curate.Run:
    """The same run, as it was when so many of its stages were done."""
    folder = run.path.parent / f"cut-{stages}"
    folder.mkdir(exist_ok=True)
    told = {**run.info, "status": "running", "stages": list(run.stages[:stages])}
    (folder / "run.json").write_text(json.dumps(told))
    return curate.open(folder)


def test_a_run_that_goes_on_tells_what_there_is(run: curate.Run) -> None:
    names = [stage["name"] for stage in run.stages]
    story = cut_short(run, names.index("score.length") + 1).why("row-0")
    assert story.fate == "kept so far"
    assert list(story.scores) == ["score.length"]
    assert cut_short(run, 1).why("row-0").verdicts == []


def test_a_run_that_has_read_nothing_is_refused(run: curate.Run) -> None:
    with pytest.raises(CurateError, match="no finished stage"):
        cut_short(run, 0).why("row-0")


def test_what_the_store_has_lost_is_named(run: curate.Run, tmp_path: Path) -> None:
    shutil.copytree(run.path.parent, tmp_path / "runs")
    copy = curate.open(tmp_path / "runs" / run.name)
    lost = next(stage["folder"] for stage in run.stages if stage["name"] == "score.length")
    (copy.store / lost / "shard-00000.parquet").unlink()
    with pytest.raises(CurateError, match=f"{lost}.*is gone from the store"):
        copy.why("row-0")


def test_only_the_shard_that_can_hold_a_position_is_opened(run: curate.Run, tmp_path: Path) -> None:
    shutil.copytree(run.path.parent, tmp_path / "runs")
    origin = stages_of(curate.open(tmp_path / "runs" / run.name))[0]
    chat, pairs = run.shards(origin.record)
    (origin.run.store / origin.record["folder"] / pairs.name).write_bytes(b"no table")
    assert origin.rows([0], "prompt").height == 1
    with pytest.raises(pl.exceptions.ComputeError):
        origin.rows([1 << 40], "prompt")
    assert chat != pairs


def test_a_second_file_of_a_source_has_addresses_of_its_own(tmp_path: Path) -> None:
    for name in "ab":
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": name, "response": f"{name} one", "id": "same"}])
    config = {
        "name": "toy",
        "sources": [{"name": "math", "path": str(tmp_path / "*.jsonl")}],
        "stages": [{"score": ["length"]}],
    }
    run = curate.run(config, runs=tmp_path / "runs", runner="local")
    with pytest.raises(ConfigError, match=r"math:0 .*a\.jsonl:1  selected\n  math:1:0 .*b\.jsonl:1"):
        run.why("same")
    stories: list[Ledger] = [run.why("math:0"), run.why("math:1:0")]
    assert [story.prompt for story in stories] == ["a", "b"]
