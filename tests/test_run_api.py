"""The Python API on a finished run: tables, why, select again, dataset."""

import json
import shutil
from pathlib import Path

import pytest
from pools import WHOLE, configuration, write_pool

import curate
from curate.errors import ConfigError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> curate.Run:
    folder = tmp_path_factory.mktemp("api")
    pool = write_pool(folder / "data")
    with (pool / "chat.jsonl").open("a") as stream:
        stream.write("{broken\n")
    return curate.run(configuration(pool, WHOLE, tiny_model), runs=folder / "runs", runner="local")


def test_a_run_can_be_opened_by_its_folder(run: curate.Run) -> None:
    assert curate.open(run.path).status == "done"


def test_a_folder_without_a_run_is_refused_with_the_runs_beside_it(run: curate.Run) -> None:
    with pytest.raises(ConfigError, match=f"must be the folder of a run.*{run.name}"):
        curate.open(run.path.parent / "nothing")


def test_the_selection_has_what_the_contract_names(run: curate.Run) -> None:
    names = run.selected.collect_schema().names()
    assert {"uid", "id", "source", "rank", "repeats", "reason", "prompt", "response"} <= set(names)


def test_the_scores_are_of_all_scored_rows(run: curate.Run) -> None:
    scores = run.scores.collect()
    assert {"uid", "id", "source", "score.loss", "score.el2n", "score.donod"} <= set(scores.columns)
    assert scores.filter(scores["score.loss"].is_not_null()).height > run.selected.collect().height


def test_repeats_are_the_draws_of_the_schedule(run: curate.Run) -> None:
    (draws,) = (stage["notes"]["draws"] for stage in run.stages if stage["name"] == "mix.temperature")
    assert run.selected.collect()["repeats"].sum() == draws


def test_the_dataset_has_the_original_records(run: curate.Run) -> None:
    dataset = run.dataset()
    assert len(dataset) == run.selected.collect().height
    assert {"messages", "prompt", "completion"} <= set(dataset.column_names)


def test_the_evaluation_compares_with_the_baselines(run: curate.Run) -> None:
    assert list(run.evaluation["losses"]) == ["before", "selected", "random", "length_matched_random"]


def test_the_health_is_of_the_scored_rows(run: curate.Run) -> None:
    scores = run.scores.collect()
    supervised, tokens = (int(scores[name].sum()) for name in ("supervised_tokens", "tokens"))
    assert run.health["length"] == "supervised_tokens"
    assert run.health["supervised_token_fraction"] == supervised / tokens
    assert set(run.health["scores"]) == {name for name in scores.columns if name.startswith("score.")}


def test_a_row_that_a_later_scorer_never_saw_is_no_null(run: curate.Run) -> None:
    loss, length = (run.health["scores"][name] for name in ("score.loss", "score.length"))
    assert loss["rows"] < length["rows"] == run.health["rows"]
    assert loss["nulls"] == 0


def test_baselines_trained_on_as_many_tokens(run: curate.Run) -> None:
    tokens = {
        stage["name"]: stage["notes"]["supervised_tokens"]
        for stage in run.stages
        if stage["name"].startswith("train")
    }
    longest = run.rows.collect().height and max(run.scores.collect()["supervised_tokens"])
    assert len(tokens) == 3
    assert max(tokens.values()) - min(tokens.values()) <= longest


def test_the_adapter_lies_in_the_run(run: curate.Run) -> None:
    assert (run.path / "adapter" / "adapter_model.safetensors").is_file()


def test_the_adapter_names_the_model_of_its_own_run(
    run: curate.Run, tiny_model: Path, tmp_path: Path
) -> None:
    elsewhere = Path(shutil.copytree(tiny_model, tmp_path / "elsewhere"))
    config = run.info["config"] | {"model": {"path": str(elsewhere), "dtype": "float32"}}
    again = curate.run(config, runs=run.path.parent, runner="local")
    assert again.path != run.path
    assert all(stage["cached"] for stage in again.stages)
    for each, model in ((run, tiny_model), (again, elsewhere)):
        written = json.loads((each.path / "adapter" / "adapter_config.json").read_bytes())
        assert written["base_model_name_or_path"] == str(model)


def test_why_of_a_kept_row(run: curate.Run) -> None:
    row = run.selected.collect().row(0, named=True)
    story = run.why(row["id"])
    assert story.fate == "selected"
    assert story.rank == 0
    score = story.scores["score.loss"]
    assert score.value == row["score.loss"]
    assert score.percentile is not None
    assert 0 <= score.percentile < 100
    assert story.line is not None
    assert row["reason"] in " ".join(str(story).split())


def test_why_of_a_dropped_row(run: curate.Run) -> None:
    gone = run.dropped.collect()
    row = gone.filter(gone["stage"] == "select.kmeans_quality").row(0, named=True)
    story = run.why(row["id"])
    assert story.fate == "dropped by select.kmeans_quality"
    assert row["reason"] in " ".join(str(story).split())


def test_why_of_a_duplicate_names_the_survivor(run: curate.Run) -> None:
    gone = run.dropped.collect()
    duplicates = gone.filter(gone["stage"].str.starts_with("clean."))
    assert duplicates.height >= 1
    assert " of " in str(run.why(duplicates["id"][0]))


def test_why_of_a_held_out_row(run: curate.Run) -> None:
    gone = run.dropped.collect()
    row = gone.filter(gone["reason"] == "held out").row(0, named=True)
    assert run.why(row["id"]).fate == "held out"


def test_why_of_a_quarantined_row_gives_file_line_and_cause(run: curate.Run) -> None:
    bad = run.quarantine.collect().row(0, named=True)
    story = run.why(f"{bad['source']}:{bad['ordinal']}")
    assert (story.fate, story.line) == ("quarantined", bad["line"])
    assert bad["cause"] in " ".join(str(story).split())


def test_why_by_uid(run: curate.Run) -> None:
    row = run.selected.collect().row(0, named=True)
    assert run.why(row["uid"]).id == row["id"]


def test_why_of_an_unknown_id_is_a_clear_error(run: curate.Run) -> None:
    with pytest.raises(ConfigError, match="unknown row id `nobody`"):
        run.why("nobody")


def test_select_again_computes_no_score(run: curate.Run) -> None:
    again = run.select({"top": {"by": "el2n", "budget": "20%", "order": "lowest"}})
    computed = [stage["name"] for stage in again.stages if not stage["cached"]]
    assert computed == ["select.top"]
    scores = run.scores.collect()["score.el2n"].drop_nulls().sort()
    assert again.selected.collect()["score.el2n"].max() <= scores[round(0.2 * len(scores))]


def test_held_out_rows_share_no_group_with_the_pool(run: curate.Run) -> None:
    rows = run.rows.collect()
    gone = run.dropped.collect()
    held = set(gone.filter(gone["reason"] == "held out")["position"])
    groups = {
        held_out: set(rows.filter(rows["position"].is_in(list(held)) == held_out)["group"])
        for held_out in (True, False)
    }
    away = set(gone.filter(gone["stage"] == "hold_out")["position"]) - held
    shared = groups[True] & groups[False]
    assert held
    assert shared <= set(rows.filter(rows["position"].is_in(list(away)))["group"])


def test_run_json_tells_where_the_run_came_from(run: curate.Run) -> None:
    info = json.loads((run.path / "run.json").read_bytes())
    assert {"name", "config", "versions", "commit", "seed", "machine", "status", "stages"} <= set(info)
    stage = info["stages"][0]
    assert {"name", "fingerprint", "cached", "rows", "tokens", "seconds", "peak_memory_bytes"} <= set(stage)


def test_the_representation_names_the_stages(run: curate.Run) -> None:
    assert "tokenize" in run._repr_html_()
    assert "done" in repr(run)


def test_a_file_that_a_method_reads_names_the_run(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data")
    barred = tmp_path / "barred.txt"
    select = {"select": {"random": {"budget": 20}}, "constraints": {"exclude_file": str(barred)}}
    names = []
    for ids in ("nobody", "nobody\n", "chat:00001"):
        barred.write_text(ids)
        names.append(curate.run(configuration(pool, [select]), runs=tmp_path / "runs", runner="local").name)
    assert names[0] == names[1] != names[2]
