"""The pipeline `predictive_strength` on a toy pool, with three tiny models as the family."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toys
from pools import configuration, outputs, write_pool

import curate
from curate.config import load_config, read_config
from curate.errors import ConfigError, DataError
from curate.pipeline import build, expanded
from curate.stages.evaluate import TuneBaseline
from curate.stages.train import TrainSelection

CHEAP = {"fasttext_quality": {"dim": 8, "buckets": 1000}}
CLEAN = {"clean": ["exact_duplicates"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("preselect") / "data", rows=160).parent


@pytest.fixture(scope="module")
def family(home: Path) -> list[str]:
    return [str(toys.tiny_llama(home / f"model-{seed}", seed)) for seed in range(3)]


def shape(family: list[str], **more: Any) -> dict[str, Any]:
    models = [{"path": path, "dtype": "float32"} for path in family]
    fields = {"family": models, "sample": 1.0, "budget": "30% characters", "classifier": CHEAP, **more}
    return {"pipeline": {"predictive_strength": fields}, "agreement_rows": 0}


def go(home: Path, config: dict[str, Any]) -> curate.Run:
    """All runs share one store."""
    return curate.run(config, runs=home / "runs", runner="local")


@pytest.fixture(scope="module")
def run(home: Path, family: list[str]) -> curate.Run:
    return go(home, configuration(home / "data", [CLEAN], **shape(family)))


def test_strength_is_a_share_of_three_pairs(run: curate.Run) -> None:
    strength = run.scores.collect()["score.predictive_strength"]
    assert set((strength * 3).round(9).unique()) <= {0.0, 1.0, 2.0, 3.0}
    assert strength.n_unique() > 1


def test_what_is_kept_has_the_highest_quality(run: curate.Run) -> None:
    scores, kept = run.scores.collect(), run.selected.collect().sort("rank")
    name = "score.fasttext_quality"
    assert scores[name].null_count() == 0
    assert kept[name].is_sorted(descending=True)
    left = scores.join(kept.select("position"), on="position", how="anti")
    assert left[name].max() <= kept[name].min()  # type: ignore[operator]


def test_the_budget_of_characters_is_kept(run: curate.Run) -> None:
    stage = next(stage for stage in run.stages if stage["name"] == "characters")
    counts = pl.read_parquet(run.shards(stage))
    alive = counts.join(run.scores.select("position").collect(), on="position")
    kept = counts.join(run.selected.select("position").collect(), on="position")
    total = alive["supervised_characters"].sum()
    assert 0.2 * total < kept["supervised_characters"].sum() <= 0.3 * total


def test_the_run_remembers_what_the_user_wrote(run: curate.Run) -> None:
    assert [next(iter(entry)) for entry in run.info["config"]["stages"]] == ["clean"]


def test_the_run_tells_how_good_the_classifier_is(run: curate.Run) -> None:
    (learnt,) = [stage for stage in run.stages if stage["name"] == "score.fasttext_quality.reference"]
    assert min(learnt["notes"]["trained_on"]) >= 10
    assert 0 <= learnt["notes"]["held_out_auc"] <= 1


def test_the_second_run_computes_nothing(home: Path, run: curate.Run, family: list[str]) -> None:
    before = outputs(run.path)
    again = go(home, configuration(home / "data", [CLEAN], **shape(family)))
    assert all(stage["cached"] for stage in again.stages)
    assert outputs(again.path) == before


def test_a_family_that_lies_elsewhere_computes_nothing(
    home: Path, run: curate.Run, family: list[str], tmp_path: Path
) -> None:
    links = [tmp_path / f"link-{index}" for index in range(3)]
    for link, model in zip(links, family, strict=True):
        link.symlink_to(model)
    again = go(home, configuration(home / "data", [CLEAN], **shape([str(link) for link in links])))
    assert again.path != run.path
    assert all(stage["cached"] for stage in again.stages)


def test_the_reverse_order_of_the_family_is_the_reverse_strength(
    home: Path, run: curate.Run, family: list[str]
) -> None:
    models = [{"path": path, "dtype": "float32"} for path in family[::-1]]
    stages = [CLEAN, {"score": [{"predictive_strength": {"family": models, "sample": 1.0}}]}]
    back = go(home, configuration(home / "data", stages, agreement_rows=0))
    both = (
        run.scores.collect()["score.predictive_strength"] + back.scores.collect()["score.predictive_strength"]
    )
    assert (both - 1).abs().max() < 1e-12  # type: ignore[operator]


def test_a_sample_is_what_the_family_reads_and_all_rows_get_a_quality(home: Path, family: list[str]) -> None:
    run = go(home, configuration(home / "data", [CLEAN], **shape(family, sample="60%")))
    scores = run.scores.collect()
    unread = scores["score.predictive_strength"].is_null()
    assert 0.25 < unread.mean() < 0.55  # type: ignore[operator]
    for member in range(3):
        assert scores[f"score.predictive_strength.model_{member}"].is_null().equals(unread, check_names=False)
    assert scores["score.fasttext_quality"].null_count() == 0


def test_a_sample_that_is_too_small_says_what_to_do(home: Path, family: list[str]) -> None:
    with pytest.raises(DataError, match=r"at least 10 good and 10 bad .* Score more rows \(`sample`\)"):
        go(home, configuration(home / "data", [CLEAN], **shape(family, sample=0.05)))


def test_a_missing_adapter_is_found_before_any_work(home: Path, family: list[str]) -> None:
    models = [{"path": family[0], "adapter": str(home / "none")}, family[1]]
    config = configuration(home / "data", [CLEAN], pipeline={"predictive_strength": {"family": models}})
    with pytest.raises(ConfigError, match=r"adapter .* must be a folder with adapter_config\.json"):
        go(home, config)


@pytest.fixture(scope="module")
def trained(home: Path, family: list[str]) -> curate.Run:
    """A training that keeps its adapter after two and after four of its four steps."""
    train = {"adapter": {"lora": {"r": 2}}, "max_steps": 4, "learning_rate": 0.02, "save_at": ["50%", "100%"]}
    return go(home, configuration(home / "data", [CLEAN, {"train": train}], Path(family[0]), name="family"))


def test_the_checkpoints_of_a_run_name_their_base_model(trained: curate.Run, family: list[str]) -> None:
    kept = sorted((trained.path / "adapter" / "checkpoints").iterdir())
    assert [folder.name for folder in kept] == ["step-000002", "step-000004"]
    for folder in kept:
        named = json.loads((folder / "adapter_config.json").read_bytes())
        assert named["base_model_name_or_path"] == family[0]


def test_the_checkpoints_of_a_training_are_a_family(
    home: Path, trained: curate.Run, family: list[str]
) -> None:
    """Each is abler than the one before, on the rows that it was trained on."""
    base = {"path": family[0], "dtype": "float32"}
    kept = [trained.path / "adapter" / "checkpoints" / f"step-00000{step}" for step in (2, 4)]
    models = [base, *({**base, "adapter": str(folder)} for folder in kept)]
    scorer = {"predictive_strength": {"family": models, "sample": 1.0}}
    run = go(home, configuration(home / "data", [CLEAN, {"score": [scorer]}], agreement_rows=0))
    assert run.scores.collect()["score.predictive_strength"].mean() > 0.9  # type: ignore[operator]


def test_baselines_keep_no_checkpoints() -> None:
    stages = [CLEAN, {"train": {"save_at": [0.5]}}, {"evaluate": {}}]
    config = read_config(configuration(Path("data"), stages, Path("model"))).config
    trainings = [stage for stage in build(config) if isinstance(stage, TrainSelection | TuneBaseline)]
    assert {stage.label: stage.tuning.spec.save_at for stage in trainings} == {
        "train": (0.5,),
        "train.random": (),
        "train.length_matched_random": (),
    }


WRITTEN = {"clean": CLEAN, "mix": {"mix": "proportional"}, "train": {"train": {}}}


def config_of(kinds: list[str], **more: Any) -> Any:
    stages = [WRITTEN[kind] for kind in kinds]
    config = configuration(Path("data"), stages, Path("model"), **shape(["a", "b"]), **more)
    return read_config(config).config


@pytest.mark.parametrize(
    ("kinds", "full"),
    [
        (["clean"], ["clean", "score", "score", "select"]),
        (["clean", "mix"], ["clean", "score", "score", "select", "mix"]),
        (["clean", "train"], ["clean", "score", "score", "select", "train"]),
        (["mix", "train"], ["score", "score", "select", "mix", "train"]),
    ],
)
def test_it_stands_before_the_first_mix_or_train(kinds: list[str], full: list[str]) -> None:
    assert [entry.kind for entry in expanded(config_of(kinds)).stages] == full


@pytest.mark.parametrize(
    ("stop_after", "last"), [(1, "select.top"), (2, "mix.proportional"), (3, "train"), (9, "train")]
)
def test_stop_after_counts_what_the_user_wrote(stop_after: int, last: str) -> None:
    assert build(config_of(["clean", "mix", "train"], stop_after=stop_after))[-1].label == last


def test_a_stop_before_it_leaves_it_out() -> None:
    config = configuration(Path("data"), [CLEAN, {"score": ["length"]}], stop_after=1, **shape(["a", "b"]))
    assert build(read_config(config).config)[-1].label == "clean.exact_duplicates"


def test_a_mistake_behind_it_is_reported_at_the_line_of_the_user(tmp_path: Path) -> None:
    config = configuration(Path("data"), [], **shape(["a", "b"]))
    config["stages"] = [CLEAN, {"mix": "proportional"}, {"select": {"threshold": {"by": "x", "min": 1}}}]
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config, indent=1))
    lines = file.read_text().splitlines()
    opening = next(number for number, text in enumerate(lines, 1) if '"select"' in text) - 1
    loaded = load_config(file)
    where = rf"config.yaml:{opening}:.*stages\[2\]: `select` comes after `mix`"
    with pytest.raises(ConfigError, match=where), loaded.marks.located():
        build(loaded.config)


def test_a_mistake_of_its_own_is_reported_at_the_pipeline() -> None:
    stages = [{"score": ["length"]}, {"score": [{"fasttext_quality": {"by": "length"}}]}]
    config = configuration(Path("data"), stages, **shape(["a", "b"]))
    with pytest.raises(ConfigError, match="^pipeline: `score.fasttext_quality` is computed by an earlier"):
        build(read_config(config).config)


def test_characters_are_counted_without_a_model_only_where_a_budget_asks() -> None:
    def labels(budget: str) -> list[str]:
        config = configuration(Path("data"), [CLEAN], **shape(["a", "b"], budget=budget))
        return [stage.label for stage in build(read_config(config).config)]

    assert labels("1k characters")[:2] == ["ingest", "characters"]
    assert "characters" not in labels("10%")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": ["a"]}, r"family: must have at least 2 elements. Got \[.a.\]"),
        ({"sample": 0}, "greater than 0"),
        ({"classifier": "loss"}, "trained on text. Got loss"),
        ({"budget": "20M apples"}, "a budget must be"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    config = configuration(Path("data"), [CLEAN])
    config["pipeline"] = {"predictive_strength": {"family": ["a", "b"], **fields}}
    with pytest.raises(ConfigError, match=message):
        read_config(config)
