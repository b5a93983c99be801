"""A comparison: cells that are runs, equal tokens and steps, what is stored, what is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import configuration, write_pool

import curate
from curate.cli import main
from curate.comparison import difference, verdict
from curate.config import read_config
from curate.errors import ConfigError
from curate.overlap import overlaps
from curate.pipeline import build

STAGES = [
    {"clean": ["exact_duplicates"]},
    {"score": ["length", "loss"]},
    {"select": {"random": {"budget": "2000 tokens"}}},
    {"train": {"adapter": {"lora": {"r": 2}}, "steps_per_epoch": 3, "learning_rate": 0.01}},
    {"evaluate": {"held_out": "10%"}},
]
SHAPE: dict[str, Any] = {
    "methods": {
        "long": {"top": {"by": "length", "order": "highest"}},
        "low_loss": {"top": {"by": "loss", "order": "lowest"}},
    },
    "budgets": ["2000 tokens"],
    "seeds": [0, 1],
}


def written(folder: Path, model: Path, **changed: Any) -> dict[str, Any]:
    pool = write_pool(folder / "data")
    return configuration(pool, STAGES, model, pipeline={"compare": {**SHAPE, **changed}}, agreement_rows=0)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> curate.Run:
    folder = tmp_path_factory.mktemp("compare")
    return curate.run(written(folder, tiny_model), runs=folder / "runs", runner="local")


def told(run: curate.Run) -> dict[str, Any]:
    return json.loads((run.path / "comparison.json").read_bytes())  # type: ignore[no-any-return]


def test_every_method_stands_beside_its_baselines(compared: curate.Run) -> None:
    cells = [(each["cell"]["method"], each["cell"]["seed"]) for each in told(compared)["outcomes"]]
    names = ["random", "full", "long", "long, lengths", "low_loss", "low_loss, lengths"]
    assert cells == [(name, seed) for seed in (0, 1) for name in names]


def test_all_train_on_equal_tokens_in_equal_steps(compared: curate.Run) -> None:
    found = told(compared)["outcomes"]
    assert {each["steps"] for each in found} == {3}
    longest = 300
    assert all(2000 - longest < each["supervised_tokens"] <= 2000 + longest for each in found)


def test_a_seed_draws_anew_on_the_same_pool(compared: curate.Run) -> None:
    runs = {
        (each["cell"]["method"], each["cell"]["seed"]): curate.open(compared.path.parent / each["run"])
        for each in told(compared)["outcomes"]
    }
    selected = {key: set(run.selected.collect()["uid"]) for key, run in runs.items()}
    assert selected["random", 0] != selected["random", 1]
    assert selected["long", 0] == selected["long", 1]
    held = {run.evaluation["losses"]["before"]["source_mean"] for run in runs.values()}
    assert len(held) == 1


def test_scores_are_computed_once(compared: curate.Run) -> None:
    run = curate.open(compared.path.parent / told(compared)["outcomes"][-1]["run"])
    cached = {stage["name"]: stage["cached"] for stage in run.stages}
    assert all(cached[name] for name in ("ingest", "tokenize", "hold_out", "score.loss", "evaluate.before"))
    assert not cached["select.length_matched_random"]


def test_the_cost_of_scoring_is_that_of_the_columns_read(compared: curate.Run) -> None:
    cost = {each["cell"]["method"]: each["scoring_tokens"] for each in told(compared)["outcomes"]}
    assert cost["random"] == cost["full"] == cost["long"] == 0
    assert cost["low_loss"] > 0


def test_another_seed_computes_that_alone(compared: curate.Run, tiny_model: Path) -> None:
    config = json.loads(json.dumps(compared.info["config"]))
    config["pipeline"]["compare"]["seeds"] = [0, 1, 2]
    before = {path.name for path in compared.path.parent.glob("store/train-*")}
    more = curate.run(config, runs=compared.path.parent, runner="local")
    added = {path.name for path in compared.path.parent.glob("store/train-*")} - before
    assert len(told(more)["outcomes"]) == 18
    assert len(added) == 6


def test_the_table_holds_every_summary(compared: curate.Run) -> None:
    text = (compared.path / "comparison.md").read_text()
    assert text.count("\n| 2000 tokens |") == 6
    assert text.count("\n- ") == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budgets": ["10%"]}, "must be a number of tokens"),
        ({"budgets": [100]}, "must be a number of tokens"),
        ({"methods": {"x": {"topp": {}}}}, "unknown selector name `topp`"),
        ({"methods": {"x": {"top": {"buy": "loss"}}}}, "buy"),
        ({"methods": {"x": {"threshold": {"by": "length", "min": 1}}}}, "budget"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    changed: dict[str, Any], message: str, tmp_path: Path, tiny_model: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(written(tmp_path, tiny_model, **changed))


def test_a_list_without_equal_steps_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    config = written(tmp_path, tiny_model)
    config["stages"] = [*STAGES[:3], {"train": {}}, STAGES[4]]
    with pytest.raises(ConfigError, match="steps_per_epoch"):
        build(read_config(config).config)


@pytest.mark.parametrize(
    ("values", "shown"),
    [([-0.1, -0.11, -0.12], True), ([-0.1, -0.01, -0.3], False), ([0.1, 0.11, 0.12], True), ([-0.1], False)],
)
def test_a_difference_is_shown_where_both_intervals_exclude_zero(values: list[float], shown: bool) -> None:
    assert difference(np.array(values))["shown"] is shown


def test_a_verdict_says_where_nothing_is_shown() -> None:
    summary = {
        "method": "long", "budget": "2000 tokens", "seeds": [0, 1, 2],
        "differences": {"random": difference(np.array([-0.1, 0.1, 0.0])), "lengths": difference(np.array([0.2, 0.21, 0.2]))},
    }  # fmt: skip
    said = verdict(summary)
    assert "no difference shown from random" in said
    assert "worse than random of its lengths (+0.203" in said


def test_overlap_counts_contents_and_ranks_scores(compared: curate.Run) -> None:
    cells = {each["cell"]["method"]: each["run"] for each in told(compared)["outcomes"]}
    runs = [curate.open(compared.path.parent / cells[name]) for name in ("long", "low_loss", "long")]
    first, same = overlaps(runs[:2]), overlaps([runs[0], runs[2]])
    assert same.pairs[0].jaccard == 1.0
    assert first.pairs[0].jaccard < 1.0
    assert first.pairs[0].spearman["loss"] == pytest.approx(1.0)
    kept = [set(run.selected.collect()["uid"]) for run in runs[:2]]
    assert first.pairs[0].shared == len(kept[0] & kept[1])


def test_the_command_prints_what_is_stored(compared: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = [each["run"] for each in told(compared)["outcomes"][:2]]
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *names, "--runs", str(compared.path.parent), "--json"])
    assert stopped.value.code == 0
    assert [each["run"] for each in json.loads(capsys.readouterr().out)["runs"]] == names


def test_the_command_refuses_a_single_run(compared: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(compared.path)])
    assert stopped.value.code == 2
    assert "at least two runs" in capsys.readouterr().err


def test_the_command_refuses_a_list_that_compares_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(Path(__file__).parent.parent / "configs" / "demo.yaml")])
    assert stopped.value.code == 2
    assert "nothing to compare" in capsys.readouterr().err
