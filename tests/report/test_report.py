"""The report without a browser: what stands in the file, what is escaped, what is said where a run has no data."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import pytest
from pools import QUICK, configuration, write_pool

import curate
from curate.cli import main
from curate.errors import ConfigError, CurateError
from curate.report.account import facts, verdicts
from curate.report.examples import cut, extremes
from curate.report.figures import Figures, script_json
from curate.report.leakage import leakage
from curate.report.page import page

EVIL = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> curate.Run:
    """A run without a model: most parts of its report are missing."""
    folder = tmp_path_factory.mktemp("report")
    pool = write_pool(folder / "data")
    record = {
        "id": EVIL,
        "messages": [{"role": "user", "content": EVIL}, {"role": "assistant", "content": "w " * 90}],
    }
    with (pool / "chat.jsonl").open("a") as stream:
        stream.write(json.dumps(record) + "\n{broken\n")
    return curate.run(configuration(pool, QUICK), runs=folder / "runs", runner="local")


@pytest.fixture(scope="module")
def html(run: curate.Run) -> str:
    return page(run)


def evaluated(run: curate.Run, folder: Path, rows: list[float] | None) -> curate.Run:
    """A run that says that its selection's loss is 0.1 under random's; rows: by how much in each of four rows."""
    made = folder / "runs" / "evaluated-00000000"
    made.mkdir(parents=True)
    info = dict(run.info)
    losses = {name: {"source_mean": mean, "sources": {"a": {}}} for name, mean in
              {"before": 3.0, "selected": 2.0, "random": 2.1}.items()}  # fmt: skip
    (made / "eval.json").write_text(json.dumps({"losses": losses}))
    if rows is not None:
        stages = []
        for name, shift in (("selected", rows), ("random", [0.0] * len(rows))):
            files = folder / "runs" / "store" / name / "files"
            files.mkdir(parents=True)
            table = pl.DataFrame({"position": range(len(rows)), "source": "a", "loss": shift, "tokens": 5})
            table.write_parquet(files / "losses.parquet")
            stages.append({"adds": [f"artifact:losses.{name}"], "folder": name})
        info["stages"] = stages
    (made / "run.json").write_text(json.dumps(info))
    return curate.open(made)


def test_the_file_lies_in_the_run(run: curate.Run) -> None:
    written = run.report()
    assert written == run.path / "report.html"
    assert written.read_text().startswith("<!doctype html>")


def test_the_command_prints_the_path_and_the_size(
    run: curate.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["report", run.name, "--runs", str(run.path.parent), "--to", str(tmp_path / "made" / "a.html")])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/made/a.html: \d\.\d MB\n", told)
    assert (tmp_path / "made" / "a.html").stat().st_size < 5e6


def test_a_folder_is_no_file(run: curate.Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be written to a file\. .* is a folder"):
        run.report(tmp_path)


def test_a_run_without_a_stage_has_nothing_to_report(run: curate.Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**run.info, "stages": [], "status": "running"}))
    with pytest.raises(CurateError, match="nothing to report; the run is running"):
        curate.open(tmp_path).report()


def test_an_unfinished_run_is_told_of(run: curate.Run) -> None:
    info: Mapping[str, Any] = {
        **run.info,
        "status": "failed",
        "error": "out of rows",
        "stages": run.info["stages"][:1],
    }
    made = run.path.parent / "failed-00000000"
    made.mkdir()
    (made / "run.json").write_text(json.dumps(info))
    text = page(curate.open(made))
    assert "The run is not finished, so the report shows what there is: out of rows" in text
    assert "has no selection.parquet; the run failed after 1 stages: out of rows" in text


def test_nothing_is_loaded(html: str) -> None:
    loaded = re.findall(r"""<[^>]+?\s(?:src|href)\s*=\s*["']?([^"'\s>]+)""", html.replace(bundle(html), ""))
    assert loaded
    assert all(target.startswith("#") for target in loaded)


def test_the_policy_allows_only_what_stands_in_the_file(html: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert "unsafe" not in policy


def test_three_scripts_whatever_the_data_holds(html: str) -> None:
    assert html.count("</script>") == 3
    assert "<!--" not in html
    assert "<img" not in html.replace(bundle(html), "")


def test_data_is_shown_as_text(html: str) -> None:
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html


def test_a_missing_part_names_its_stage(html: str) -> None:
    missing = re.findall(r'<p class="missing">This run has no `(\w+)` stage', html)
    assert set(missing) == {"evaluate", "mix", "embed", "train"}


def test_the_funnel_tells_reasons(html: str) -> None:
    assert "1 · the same row as #" in html


def test_what_is_gone_and_what_is_kept_add_up_to_what_was_read(run: curate.Run) -> None:
    told = {name: int(figure.split()[0]) for name, figure in facts(run)}
    assert told["records read"] == run.rows.collect().height + run.quarantine.collect().height
    assert told["not usable"] == run.quarantine.collect().height == 1
    assert told["dropped"] == run.dropped.collect().height
    assert told["records read"] == told["not usable"] + told["dropped"] + told["rows kept"]


def test_json_cannot_leave_its_script() -> None:
    told = script_json({"text": EVIL, "line": "\u2028"})
    assert not re.search("[<>&\u2028]", told)
    assert json.loads(told) == {"text": EVIL, "line": "\u2028"}


def test_a_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        script_json(float("nan"))


def chart(**columns: list[Any]) -> Any:
    rows = pl.DataFrame(columns).to_dicts()
    return alt.Chart(alt.InlineData(rows)).mark_point().encode(x="x:Q")


def test_data_that_charts_share_is_there_once() -> None:
    figures = Figures()
    figures.add("first", chart(x=[1, 2], more=["a", "b"]))
    figures.add("second", chart(x=[1, 2]))
    assert len(figures.datasets) == 1
    assert figures.specs["second"]["spec"]["data"] == {"name": figures.specs["first"]["datasets"][0]}


def test_a_chart_without_data_shows_none_of_another() -> None:
    figures = Figures()
    figures.add("first", chart(x=[1, 2]))
    figures.add("empty", chart(x=[]))
    (own,) = figures.specs["empty"]["datasets"]
    assert figures.datasets[own] == {}


def test_other_data_is_not_shared() -> None:
    figures = Figures()
    figures.add("first", chart(x=[1, 2], more=["a", "b"]))
    figures.add("second", chart(x=[1, 3]))
    assert len(figures.datasets) == 2


def test_charts_below_each_other_are_taken_apart() -> None:
    figures = Figures()
    both = alt.vconcat(chart(x=[1]), chart(x=[2]), title="both").properties(background="transparent")
    assert figures.add("two", both).parts == ["two", "two-1"]
    assert [each["spec"].get("title") for each in figures.specs.values()] == ["both", None]
    assert figures.specs["two-1"]["spec"]["background"] == "transparent"


def test_the_ends_of_a_score(run: curate.Run) -> None:
    (length,) = extremes(run)
    values = run.scores.select("score.length").collect()["score.length"].sort()
    assert [each.value for each in length.highest] == values.reverse().head(10).to_list()
    assert [each.value for each in length.lowest] == values.head(10).to_list()


def test_a_row_tells_whether_it_was_kept(run: curate.Run) -> None:
    (length,) = extremes(run)
    assert {each.fate for each in length.highest} == {"kept"}
    assert {each.fate for each in length.lowest} == {"dropped by select.top"}


def test_a_long_text_is_cut() -> None:
    assert cut("a  b\nc") == "a b c"
    assert cut("x" * 11, 10) == "x" * 10 + "…"
    assert cut(" " * 50, 10) == "…"


def test_no_difference_is_shown_where_the_interval_holds_zero(run: curate.Run, tmp_path: Path) -> None:
    said = verdicts(evaluated(run, tmp_path, [-0.6, 0.4, -0.5, 0.3]))
    assert said[1].startswith("No difference shown from random rows (−0.100, 95 % interval over")


def test_a_difference_is_told_with_its_limits(run: curate.Run, tmp_path: Path) -> None:
    said = verdicts(evaluated(run, tmp_path, [-0.1, -0.1, -0.12, -0.08]))
    assert said[1].startswith("Better than random rows on these held-out rows (−0.100, ")
    assert "`curate compare` tells what other seeds say" in said[1]


def test_without_losses_of_rows_no_difference_is_shown(run: curate.Run, tmp_path: Path) -> None:
    said = verdicts(evaluated(run, tmp_path, None))
    assert said[1].startswith("No difference shown from random rows (−0.100): the run keeps no losses")


def test_no_contamination_without_its_file(run: curate.Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run.info))
    assert leakage(curate.open(tmp_path)) is None


def test_contamination_shows_both_texts(run: curate.Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run.info))
    match = {"id": "chat:1", "source": "chat", "kept": True, "evaluation_id": "dev:4", "evaluation_source": "dev",
             "others": 2, "ngrams": 21, "share": 0.84, "similarity": None, "part": "prompt", "words": "a train leaves",
             "prompt": "When?", "response": "At noon.", "evaluation_prompt": "When then?", "evaluation_response": "At 1."}  # fmt: skip
    told = {"words": 13, "min_share": 0.5, "half": 4, "similarity": None, "drop": False, "rows": 100, "matched": 30, "kept": 1, "warnings": ["see"],
            "evaluation": {"dev": {"rows": 9, "found": 3, "pool_rows": 30}}, "matches": [match] * 30}  # fmt: skip
    (tmp_path / "contamination.json").write_text(json.dumps(told))
    found = leakage(curate.open(tmp_path))
    assert found is not None
    assert found.told == (
        "30 of 100 rows share runs of 13 words with an evaluation row, at least 50% of its n-grams, 4 of them half of "
        "it or more; they were kept: the stage warns only; 1 are in the selection."
    )
    assert (found.matches[0].row.response, found.matches[0].evaluation.response) == ("At noon.", "At 1.")
    assert found.matches[0].told.startswith(
        "21 n-grams, 84% of the evaluation row's, in the prompt; 2 further"
    )
    assert found.more == 5


def bundle(html: str) -> str:
    """The script that is Vega: the longest."""
    return max(re.findall(r"<script>(.*?)</script>", html, re.DOTALL), key=len)
