"""The ledger of a row in a run with a model: neighbours, cluster, schedule, steps, losses."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pools import configuration, write_pool

import curate
from curate.errors import CurateError
from curate.ledger.placement import training_steps
from curate.model.quiet import no_peft_deprecation
from curate.reader import Reader
from curate.stage import Inputs
from curate.stages.schedule import Drawn, every_row_once, scheduled
from curate.training.packing import equal_steps, steps

SELECTED = [
    {"clean": ["exact_duplicates"]},
    {"embed": {"model": "states"}},
    {"cluster": {"kmeans": {"k": 4}}},
    {"score": ["loss"]},
    {"select": {"kmeans_quality": {"by": "loss", "order": "lowest", "budget": 40}}},
]
TRAIN = {"adapter": {"lora": {"r": 2}}, "batch_rows": 8}
TUNED = [
    {"mix": {"temperature": {"temperature": 2.0}}},
    {"train": TRAIN},
    {"evaluate": {"held_out": "5%", "baselines": ["random"]}},
]


PIECES = {"length_buckets": {"min_tokens": 8, "max_tokens": 64, "batch_tokens": 128}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger-model")
    write_pool(folder / "data", rows=100)
    return folder


def go(folder: Path, model: Path, stages: list[Any]) -> curate.Run:
    return curate.run(configuration(folder / "data", stages, model), runs=folder / "runs", runner="local")


@pytest.fixture(scope="module")
def run(folder: Path, tiny_model: Path) -> curate.Run:
    return go(folder, tiny_model, [*SELECTED, *TUNED])


def record(run: curate.Run, column: str) -> Any:
    return next(stage for stage in reversed(run.stages) if column in stage["adds"])


def column(run: curate.Run, *names: str) -> pl.DataFrame:
    return pl.scan_parquet(run.shards(record(run, names[0]))).select("position", *names).collect()


def first(run: curate.Run) -> Any:
    return run.selected.collect().row(0, named=True)


def test_the_neighbours_are_those_of_largest_cosine(run: curate.Run) -> None:
    row = first(run)
    table = column(run, "embedding").drop_nulls()
    vectors = table["embedding"].to_numpy().astype(np.float64)
    mine = int(np.flatnonzero(table["position"].to_numpy() == row["position"])[0])
    cosines = vectors @ vectors[mine]
    cosines[mine] = -2
    nearest = np.argsort(-cosines)[:5]
    ids = dict(run.rows.select("position", "id").collect().iter_rows())
    found = run.why(row["uid"]).neighbours
    assert [other.id for other in found] == [ids[table["position"][int(place)]] for place in nearest]
    assert [other.similarity for other in found] == pytest.approx(cosines[nearest].tolist(), abs=1e-6)


def test_each_neighbour_has_its_fate(run: curate.Run) -> None:
    kept = set(run.selected.collect()["id"])
    found = run.why(first(run)["uid"], neighbours=30).neighbours
    assert len(found) == 30
    assert {other.fate for other in found} == {"selected", "dropped by select.kmeans_quality"}
    assert all((other.fate == "selected") == (other.id in kept) for other in found)


def test_the_cluster_has_its_size_and_what_was_kept_of_it(run: curate.Run) -> None:
    row = first(run)
    labels = column(run, "cluster", "cluster_distance")
    members = labels.filter(pl.col("cluster") == row["cluster"])
    kept = run.selected.filter(pl.col("cluster") == row["cluster"]).collect()
    found = run.why(row["uid"]).cluster
    assert found is not None
    assert (found.cluster, found.clusters) == (row["cluster"], 4)
    assert (found.rows, found.kept) == (members.height, kept.height)
    assert found.distance == members.filter(pl.col("position") == row["position"])["cluster_distance"].item()


def test_a_row_dropped_by_a_draw_is_held_against_its_own_cluster(run: curate.Run) -> None:
    gone = run.dropped.filter(pl.col("stage") == "select.kmeans_quality").collect().row(0, named=True)
    story = run.why(gone["uid"])
    last = story.verdicts[-1].last_kept
    assert story.cluster is not None
    assert last is not None
    assert last.group == f"cluster {story.cluster.cluster}"
    inside = run.selected.filter(pl.col("cluster") == story.cluster.cluster).collect()
    assert last.id == inside["id"][-1]
    assert last.value == inside["score.loss"][-1]
    assert story.schedule is None


def test_a_scheduled_row_has_its_draws_and_steps(run: curate.Run) -> None:
    schedule = run.schedule.collect()
    row = run.selected.filter(pl.col("repeats") == pl.col("repeats").max()).collect().row(0, named=True)
    draws = schedule.filter(pl.col("position") == row["position"])["draw"].to_list()
    story = run.why(row["uid"])
    place = story.schedule
    assert place is not None
    assert (list(place.draws), place.epoch_draws) == (draws, schedule.height)
    assert story.repeats == row["repeats"] == place.trainings
    assert list(place.steps or ()) == sorted({draw // 8 for draw in draws})
    assert place.training_steps == record(run, "artifact:adapter")["notes"]["steps"]
    assert "trained on" in str(story)


@pytest.mark.parametrize(
    ("mix", "train"),
    [
        (None, {"epochs": 2.5, "batch_rows": 15, "max_steps": 5}),
        (None, {"epochs": 1, "steps_per_epoch": 5}),
        (PIECES, {"epochs": 1, "max_steps": 4}),
        ({"mosaic": {"max_rows": 3}}, {"epochs": 1, "steps_per_epoch": 3}),
    ],
    ids=["stopped epochs", "equal steps", "pieces", "composed"],
)
def test_the_steps_are_those_of_the_training(
    folder: Path, tiny_model: Path, run: curate.Run, mix: Any, train: Any
) -> None:
    mixed = [] if mix is None else [{"mix": mix}]
    check_steps(go(folder, tiny_model, [*SELECTED, *mixed, {"train": TRAIN | train}]))


def test_the_steps_of_pieces_without_steps_of_their_own(
    folder: Path, tiny_model: Path, run: curate.Run, tmp_path: Path
) -> None:
    pieces = go(folder, tiny_model, [*SELECTED, {"mix": PIECES}])
    edited = pieces.schedule.with_columns(step=pl.lit(None, dtype=pl.Int64)).collect()
    edited.write_parquet(tmp_path / "schedule.parquet")
    replayed = {"mix": {"replay": {"schedule": str(tmp_path / "schedule.parquet")}}}
    again = go(folder, tiny_model, [*SELECTED, replayed, {"train": TRAIN | {"steps_per_epoch": 3}}])
    assert edited["length"].null_count() == 0
    check_steps(again)


def check_steps(again: curate.Run) -> None:
    """Whether each row's steps are those in which the trainer sees it."""
    drawn, spec = what_is_drawn(again)
    given_steps = drawn.steps
    if spec["steps_per_epoch"]:
        given_steps = equal_steps(drawn.supervised_tokens[drawn.draws], spec["steps_per_epoch"])
    trained = steps(drawn.draws, spec["epochs"], spec["batch_rows"], spec["max_steps"], given_steps)
    for index, row in enumerate(again.selected.sort("position").collect().iter_rows(named=True)):
        if index % 7:
            continue  # a few rows are enough
        examples = [e for e, members in enumerate(drawn.members) if index in members]
        times = [int(np.isin(step, examples).sum()) for step in trained]
        place = again.why(row["uid"]).schedule
        assert place is not None
        assert list(place.steps or ()) == [step for step, count in enumerate(times) if count]
        assert (place.trainings, place.training_steps) == (sum(times), len(trained))


def what_is_drawn(run: curate.Run) -> tuple[Drawn, Any]:
    """What the trainer of a run draws, by the trainer's own code; and how it trains."""
    from curate.numerics.seeds import derive

    tokens, dropped = record(run, "input_ids"), record(run, "drop_reason")
    places = dict.fromkeys(("input_ids", "supervised"), run.store / tokens["folder"])
    inputs = Inputs(Reader(run.store / dropped["folder"], places), {}, {})
    spec = run.manifest(record(run, "artifact:adapter")).identity
    mixed = [stage for stage in run.stages if "artifact:schedule" in stage["adds"]]
    if mixed:
        return scheduled(inputs, run.store / mixed[0]["folder"] / "files"), spec
    return every_row_once(inputs, derive(spec["seed"], "order")), spec


@given(
    draws=st.integers(1, 40),
    epochs=st.floats(0.1, 4),
    batch_rows=st.integers(1, 9),
    max_steps=st.none() | st.integers(1, 12),
    of_step=st.none() | st.integers(1, 7),
)
def test_steps_equal_those_that_the_trainer_cuts(
    draws: int, epochs: float, batch_rows: int, max_steps: int | None, of_step: int | None
) -> None:
    step_of = None if of_step is None else np.arange(draws) // of_step
    cut = steps(np.arange(draws), epochs, batch_rows, max_steps, step_of)
    spec = {"epochs": epochs, "batch_rows": batch_rows, "max_steps": max_steps}
    for draw in (0, draws // 2, draws - 1):
        expected = [step for step, rows in enumerate(cut) for row in rows if row == draw]
        assert training_steps([draw], draws, spec, step_of) == (expected, len(cut))


def test_a_held_out_row_has_its_loss_by_every_model(run: curate.Run) -> None:
    gone = run.dropped.filter(pl.col("reason") == "held out").collect().row(0, named=True)
    story = run.why(gone["id"])
    assert story.fate == "held out"
    assert story.losses is not None
    assert list(story.losses.of) == ["before", "selected", "random"]
    for name, value in story.losses.of.items():
        folder = run.store / record(run, f"artifact:losses.{name}")["folder"]
        table = pl.read_parquet(folder / "files" / "losses.parquet")
        assert value == table.filter(pl.col("position") == gone["position"])["loss"].item()
    assert len(set(story.losses.of.values())) > 1


def test_a_selected_row_has_the_score_before_tuning_and_no_loss_after(run: curate.Run) -> None:
    row = first(run)
    losses = run.why(row["uid"]).losses
    assert losses is not None
    assert losses.of == {"before": row["score.loss"]}
    assert "--losses" in losses.origin


def test_losses_on_request_are_the_models(run: curate.Run, tiny_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    row = first(run)
    (tokens,) = (
        column(run, "input_ids", "supervised").filter(pl.col("position") == row["position"]).to_dicts()
    )
    ids = torch.tensor(tokens["input_ids"])
    labels = torch.where(torch.tensor(tokens["supervised"]), ids, -100)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    with torch.no_grad(), no_peft_deprecation():
        before = base(ids[None], labels=labels[None]).loss.item()
        tuned = PeftModel.from_pretrained(base, run.path / "adapter").eval()
        after = tuned(ids[None], labels=labels[None]).loss.item()
    losses = run.why(row["uid"], losses=True).losses
    assert losses is not None
    assert losses.of == {
        "before": pytest.approx(before, abs=1e-5),
        "selected": pytest.approx(after, abs=1e-5),
    }
    assert before != after
    assert losses.of["before"] == pytest.approx(row["score.loss"], abs=1e-5)


def test_another_base_model_than_the_runs_is_refused(
    run: curate.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.stages.models.ModelHandle.identity", lambda self: {"content": "another"})
    with pytest.raises(CurateError, match="is not the one that this run has tuned"):
        run.why(first(run)["uid"], losses=True)
