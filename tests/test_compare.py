"""A comparison: cells that are runs, equal tokens and steps, what is stored, what is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import configuration, write_pool

import curate
from curate.cli import main
from curate.compare_command import print_comparison
from curate.comparison import FOOT, Cell, Outcome, difference, markdown, outcome, report, verdict
from curate.config import read_config
from curate.errors import ConfigError
from curate.overlap import overlaps
from curate.pipeline import build

STAGES: list[Any] = [
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
    found = told(compared)["outcomes"]
    cost = {each["cell"]["method"]: each["scoring_tokens"] for each in found}
    assert cost["random"] == cost["full"] == cost["long"] == 0
    assert cost["low_loss"] > 0
    (scored,) = (stage["rows"] for stage in compared.stages if stage["name"] == "score.loss")
    passes = {(each["cell"]["method"], each["scoring_forwards"], each["scoring_backwards"]) for each in found}
    assert {("random", 0, 0), ("long", 0, 0), ("low_loss", scored, 0)} <= passes


def test_training_tokens_are_those_that_went_through_the_model(compared: curate.Run) -> None:
    outcome = told(compared)["outcomes"][0]
    (curve,) = (compared.path.parent / outcome["run"]).glob("adapter/curve.jsonl")
    steps = [json.loads(line) for line in curve.read_text().splitlines()]
    assert outcome["training_tokens"] == sum(step["tokens"] for step in steps) > outcome["supervised_tokens"]


def test_a_view_is_a_forward_and_is_shared(tiny_model: Path, tmp_path: Path) -> None:
    config = configuration(write_pool(tmp_path), [{"score": ["loss", "el2n", "ifd"]}], tiny_model)
    (stage,) = (each for each in build(read_config(config).config) if "score.ifd" in each.outputs)
    asked = [["score.loss"], ["score.loss", "score.el2n"], ["score.ifd"], ["score.ifd", "score.loss"]]
    assert [stage.passes(frozenset(outputs)).forwards for outputs in asked] == [1, 1, 2, 2]


@pytest.mark.slow
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
    assert text.endswith(f"\n\n{FOOT}\n")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budgets": ["10%"]}, "must be a number of tokens"),
        ({"budgets": [100]}, "must be a number of tokens"),
        ({"methods": {"x": {"topp": {}}}}, "unknown selector name `topp`"),
        ({"methods": {"x": {"top": {"buy": "loss"}}}}, "buy"),
        ({"methods": {"x": {"threshold": {"by": "length", "min": 1}}}}, "budget"),
        ({"methods": {"x": {"top": {"by": "loss", "budget": 5}}}}, "must be left out: each of `budgets`"),
        ({"methods": {"x": {"top": {"by": "loss"}, "order": "lowest"}}}, "2 keys: top, order"),
        ({"methods": {"x": 5}}, "must be the name of one selector"),
        ({"methods": {"x": {"top": 5}}}, "methods.x.top: must be"),
        ({"methods": {"random": "random"}}, "`random` is the name of a baseline"),
        ({"methods": {"x, lengths": "random"}}, "`x, lengths` is the name of a baseline"),
        ({"budgets": ["2000 tokens", "2k tokens"]}, r"budgets\[1\]: is listed twice"),
        ({"seeds": [0, 1, 0]}, r"seeds\[2\]: is listed twice"),
        ({"seeds": [-1]}, r"seeds\[0\]"),
        ({"models": ["a", {"path": "a"}]}, r"models\[1\]: is listed twice"),
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


def test_noise_that_no_source_has_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="`noise` must be a metadata field of a source. Got spoiled"):
        build(read_config(written(tmp_path, tiny_model, noise="spoiled")).config)


def constrained(folder: Path, model: Path, **changed: Any) -> dict[str, Any]:
    config = written(folder, model, **changed)
    select = {**STAGES[2], "constraints": {"max_per": {"source": "60%"}}}
    return {**config, "stages": [*STAGES[:2], select, *STAGES[3:]]}


def test_lengths_of_a_constrained_choice_cannot_be_matched(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="without the `constraints`"):
        build(read_config(constrained(tmp_path, tiny_model)).config)


def test_constraints_bind_the_methods_and_not_the_baselines(tmp_path: Path, tiny_model: Path) -> None:
    config = read_config(constrained(tmp_path, tiny_model, baselines=["random"], seeds=[0])).config
    shape: Any = config.pipeline
    bound = {trial.cell.method: trial.config.stages[2].constraints for trial in shape._trials(config)}
    assert bound["random"] is None
    assert bound["long"] == bound["low_loss"] == config.stages[2].constraints is not None


def test_models_of_one_path_are_told_apart(tmp_path: Path, tiny_model: Path) -> None:
    models = [{"path": "base"}, {"path": "base", "dtype": "bfloat16"}]
    config = read_config(written(tmp_path, tiny_model, models=models, seeds=[0])).config
    shape: Any = config.pipeline
    assert {trial.cell.model for trial in shape._trials(config)} == {"base", "base (dtype bfloat16)"}


def test_a_list_that_stops_early_compares_nothing(tmp_path: Path, tiny_model: Path) -> None:
    config = read_config({**written(tmp_path, tiny_model), "stop_after": 3}).config
    shape: Any = config.pipeline
    nothing: Any = None
    shape.conclude(config, nothing, lambda other: pytest.fail("a cell was run"))


def outcome_of(method: str, model: str, seed: int, loss: float) -> Outcome:
    cell = Cell(method, "baseline" if method == "random" else "method", model, "2000 tokens", seed)
    return Outcome(
        cell, "run", loss, 3.0, {"chat": loss}, None, 10, 1990, 3, None, None, 0, 0, 0, 0.0, 2400, 1.0
    )


def test_one_seed_has_no_interval() -> None:
    told = report([outcome_of("random", "m", 0, 2.0), outcome_of("long", "m", 0, 1.5)])
    assert [each["interval"] for each in told["summaries"]] == [None, None]
    found = told["summaries"][1]["differences"]["random"]
    assert (found["interval"], found["t_interval"], found["shown"]) == (None, None, False)
    assert "| 2000 tokens | long | 1.5000 | - | -0.500 | - | 10 | 1,990 |" in markdown(told)


def test_differences_are_paired_by_seed() -> None:
    losses = [("random", 0, 2.0), ("random", 1, 5.0), ("long", 1, 4.9), ("long", 0, 1.8), ("long", 2, 9.0)]
    told = report([outcome_of(method, "m", seed, loss) for method, seed, loss in losses])
    assert told["summaries"][1]["differences"]["random"]["values"] == pytest.approx([-0.2, -0.1])


def test_each_model_has_a_table_and_verdicts_that_name_it() -> None:
    told = report(
        [outcome_of(name, model, 0, 1.0) for model in ("one", "two") for name in ("random", "long")]
    )
    text = markdown(told)
    assert text.count("| budget |") == 2
    assert text.index("one:\n\n| budget |") < text.index("two:\n\n| budget |")
    assert [each.split(":")[0] for each in told["verdicts"]] == ["one", "two"]


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


def test_a_row_without_a_mark_or_marked_none_is_sound(tmp_path: Path, tiny_model: Path) -> None:
    pool = write_pool(tmp_path / "data")
    lines = [json.loads(line) for line in (pool / "chat.jsonl").read_text().splitlines()]
    marks = ["none", "", None, "truncated"]
    marked = [row | {"spoiled": marks[place % 4]} for place, row in enumerate(lines)]
    (pool / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in marked))
    stages = [
        {"select": {"random": {"budget": "100%"}}},
        {"train": {"max_steps": 1}},
        {"evaluate": {"held_out": "10%", "baselines": []}},
    ]
    config = configuration(pool, stages, tiny_model)
    config["sources"] = [config["sources"][0] | {"metadata": ["spoiled"]}]
    run = curate.run(config, runs=tmp_path / "runs", runner="local")
    kept = run.selected.select("position").join(run.rows, on="position").select("meta.spoiled").collect()
    expected = (kept["meta.spoiled"] == "truncated").sum() / kept.height
    found = outcome(Cell("all", "method", "toy", "all", 0), run, "meta.spoiled").noise
    assert 0.1 < expected < 0.4
    assert found == expected


def test_the_table_fits_a_terminal(compared: curate.Run, capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(told(compared), compared.path)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if "comparison.md" not in line)
