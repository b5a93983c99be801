"""The stages of `iterative`, each by itself: the draws of the rounds, the weights between them, the ledger."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of
from memory import Memory

from curate.errors import CurateError, DataError
from curate.selectors.kmeans_quality import KmeansQuality
from curate.settings import ModelSpec, Resources
from curate.stage import DROP, Inputs
from curate.stages.models import ModelHandle
from curate.stages.train import Tuning
from curate.training.spec import Train
from pipelines._lessons import Reweigh, TuneDrawn, round_tuning
from pipelines._rounds import WEIGHTS, Draw, Plan, SelectDrawn, drawn

NAMES = ["0", "1"]


def rows(sizes: list[int], scores: list[float | None] | None = None, tokens: int = 5) -> pl.DataFrame:
    """Rows of clusters 0, 1, … of these sizes."""
    clusters = np.repeat(np.arange(len(sizes)), sizes).tolist()
    return pool_of(
        {
            "cluster": pl.Series(clusters, dtype=pl.Int32),
            "score.q": pl.Series(scores or [1.0] * sum(sizes), dtype=pl.Float64),
            "supervised_tokens": np.full(sum(sizes), tokens),
        }
    ).frame


def plan_of(budget: Any, rounds: int = 2, seed: int = 0) -> Plan:
    method = KmeansQuality.model_validate({"by": "q", "budget": budget})
    return Plan(method, seed, (("score.q", True),), rounds)


def write_weights(folder: Path, weights: list[float], names: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    frame = pl.DataFrame(
        {"cluster": names or [str(index) for index in range(len(weights))], "weight": weights}
    )
    frame.write_parquet(folder / WEIGHTS)
    return folder


def draw(
    frame: pl.DataFrame, plan: Plan, number: int, artifacts: dict[str, Path] | None = None
) -> pl.DataFrame:
    """The rows with what the round drew."""
    reader: Any = Memory(frame)
    found = Draw(f"round{number}.draw", 0, Resources(), plan, number).apply(reader, artifacts or {})
    return frame.hstack(found.frame)


def both(frame: pl.DataFrame, plan: Plan, folder: Path, weights: list[float]) -> pl.DataFrame:
    """Two rounds, the second by these weights."""
    second = {"round1.weights": write_weights(folder / "weights", weights)}
    return draw(draw(frame, plan, 1), plan, 2, second)


def of_clusters(frame: pl.DataFrame, number: int) -> list[int]:
    chosen = frame.filter(pl.col(drawn(number)).is_not_null())
    return [
        chosen.filter(pl.col("cluster") == cluster).height for cluster in sorted(frame["cluster"].unique())
    ]


def test_the_first_round_draws_alike_from_every_cluster() -> None:
    """Whatever its size: w = 1/k."""
    assert of_clusters(draw(rows([40, 10, 4]), plan_of(18), 1), 1) == [3, 3, 3]


def test_a_cluster_without_a_score_has_no_weight() -> None:
    frame = rows([4, 4, 4], [1.0] * 4 + [None] * 4 + [1.0] * 4)
    assert of_clusters(draw(frame, plan_of(8), 1), 1) == [2, 0, 2]


def test_a_later_round_draws_by_the_weights(tmp_path: Path) -> None:
    found = both(rows([40, 40]), plan_of(24), tmp_path, [0.75, 0.25])
    assert of_clusters(found, 1) == [6, 6]
    assert of_clusters(found, 2) == [9, 3]


def test_what_a_cluster_cannot_give_is_passed_on(tmp_path: Path) -> None:
    found = both(rows([8, 40]), plan_of(24), tmp_path, [0.75, 0.25])
    assert of_clusters(found, 2) == [2, 10]


def test_no_row_is_drawn_twice(tmp_path: Path) -> None:
    found = both(rows([9, 9]), plan_of(14), tmp_path, [0.5, 0.5])
    assert not (found[drawn(1)].is_not_null() & found[drawn(2)].is_not_null()).any()


def test_the_rounds_share_the_budget(tmp_path: Path) -> None:
    plan = plan_of(10, rounds=3)
    found = draw(rows([20, 20]), plan, 1)
    for number in (2, 3):
        found = draw(
            found,
            plan,
            number,
            {f"round{number - 1}.weights": write_weights(tmp_path / str(number), [0.5, 0.5])},
        )
    assert [sum(of_clusters(found, number)) for number in (1, 2, 3)] == [4, 3, 3]


def test_places_count_the_draw_from_zero() -> None:
    found = draw(rows([20, 20]), plan_of(10), 1)
    assert sorted(found[drawn(1)].drop_nulls()) == list(range(5))


def test_good_rows_are_drawn_first() -> None:
    """100 clusters of one row with all the quality and one with none: the first is drawn."""
    found = draw(rows([2] * 100, [1e9, 1e-9] * 100), plan_of(200), 1)
    assert found[drawn(1)].is_not_null().to_list() == [True, False] * 100


def test_all_rounds_together_draw_without_replacement_by_quality(tmp_path: Path) -> None:
    """With equal clusters, all rows but the worst go: what the second round draws are the best of what was left."""
    found = both(rows([3] * 50, [1e9, 1e-9, 1.0] * 50), plan_of(100), tmp_path, [0.02] * 50)
    assert found[drawn(1)].is_not_null().to_list() == [True, False, False] * 50
    assert found[drawn(2)].is_not_null().to_list() == [False, False, True] * 50


def test_a_budget_in_tokens_is_spent_in_proportion(tmp_path: Path) -> None:
    """24 rows of 5 tokens, half in each round; 4 tokens are left over, in the end."""
    found = both(rows([40, 40]), plan_of("124 tokens"), tmp_path, [0.75, 0.25])
    assert of_clusters(found, 1) == [6, 6]
    assert of_clusters(found, 2) == [9, 3]


def test_tokens_that_a_round_leaves_over_go_to_the_next(tmp_path: Path) -> None:
    """Budget 58: the first round has 29 and spends 25, the second 33 and spends 30."""
    found = both(rows([40, 40]), plan_of("58 tokens"), tmp_path, [0.5, 0.5])
    assert (sum(of_clusters(found, 1)), sum(of_clusters(found, 2))) == (5, 6)


@pytest.mark.parametrize("budget", ["100%", "100% tokens"])
def test_all_means_all_that_can_be_chosen(tmp_path: Path, budget: str) -> None:
    frame = rows([6, 6], [1.0] * 10 + [None] * 2)
    found = both(frame, plan_of(budget), tmp_path, [0.5, 0.5])
    assert (sum(of_clusters(found, 1)), sum(of_clusters(found, 2))) == (5, 5)


@pytest.mark.parametrize(
    ("budget", "message"),
    [(30, "at most the 12 rows"), (1, "a row for each of 2 rounds"), ("9 tokens", "must hold the first row")],
)
def test_a_budget_that_cannot_be_met(budget: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        draw(rows([6, 6]), plan_of(budget), 1)


def test_weights_of_other_clusters_are_refused(tmp_path: Path) -> None:
    plan, frame = plan_of(8), rows([6, 6])
    other = write_weights(tmp_path / "w", [0.5, 0.5], ["0", "7"])
    with pytest.raises(CurateError, match="other clusters"):
        draw(draw(frame, plan, 1), plan, 2, {"round1.weights": other})


def reweigh(
    frame: pl.DataFrame, folder: Path, number: int, artifacts: dict[str, Path]
) -> tuple[pl.DataFrame, Any]:
    reader: Any = Memory(frame)
    folder.mkdir()
    stage = Reweigh("weights", 0, Resources(), plan_of(8), number, "reward")
    notes = stage.write(Inputs(reader, artifacts, {}), folder, folder, lambda *how_far: None)
    return pl.read_parquet(folder / WEIGHTS), notes


def test_weights_are_moved_by_the_mean_reward_round_after_round(tmp_path: Path) -> None:
    """Means 3 and 1; rows that were not answered are in no mean."""
    frame = rows([4, 4]).with_columns(reward=pl.Series([2.0, 4.0, None, None, 1.0, 1.0, 1.0, None]))
    first, notes = reweigh(frame, tmp_path / "1", 1, {})
    assert first["score"].to_list() == [3.0, 1.0]
    assert first["scored"].to_list() == [2, 3]
    assert first["weight"].to_list() == pytest.approx([0.75, 0.25])
    assert notes["form"] == "product"
    assert notes["scored_rows"] == 5
    second, _ = reweigh(frame, tmp_path / "2", 2, {"round1.weights": tmp_path / "1"})
    assert second["before"].to_list() == first["weight"].to_list()
    assert second["weight"].to_list() == pytest.approx([0.9, 0.1])


def test_a_cluster_without_an_answer_keeps_its_weight(tmp_path: Path) -> None:
    frame = rows([2, 2, 2]).with_columns(reward=pl.Series([None, None, 3.0, 3.0, 1.0, 1.0]))
    found, notes = reweigh(frame, tmp_path / "1", 1, {})
    assert found["weight"].to_list() == pytest.approx([1 / 3, 1 / 2, 1 / 6])
    assert found["score"].to_list() == [None, 3.0, 1.0]
    assert (notes["clusters"], notes["scored_clusters"]) == (3, 2)


def test_a_negative_mean_makes_it_the_softmax(tmp_path: Path) -> None:
    frame = rows([1, 1]).with_columns(reward=pl.Series([-1.0, np.log(3.0) - 1]))
    found, notes = reweigh(frame, tmp_path / "1", 1, {})
    assert found["weight"].to_list() == pytest.approx([0.25, 0.75])
    assert notes["form"] == "softmax"


def test_the_record_tells_the_ends_of_many_weights(tmp_path: Path) -> None:
    frame = rows([1] * 50).with_columns(reward=pl.Series(np.arange(1.0, 51.0)))
    _, notes = reweigh(frame, tmp_path / "1", 1, {})
    assert list(notes["weights"]) == [str(name) for name in [*range(49, 39, -1), *range(9, -1, -1)]]


@pytest.fixture
def ledger(tmp_path: Path) -> pl.DataFrame:
    """Two rounds of four rows of nine, and a row without a score."""
    frame = rows([6, 4], [1.0] * 6 + [2.5] * 3 + [None])
    found = both(frame, plan_of(8), tmp_path, [0.6, 0.4])
    reader: Any = Memory(found)
    result = SelectDrawn("select", 0, Resources(), plan_of(8)).apply(
        reader, {"round1.weights": tmp_path / "weights"}
    )
    assert result.notes["rounds"] == [{"drawn": 4, "clusters": 2}, {"drawn": 4, "clusters": 2}]
    return found.hstack(result.frame)


def test_ranks_go_round_by_round(ledger: pl.DataFrame) -> None:
    first = ledger.filter(pl.col(drawn(1)).is_not_null())
    assert first["rank"].to_list() == first[drawn(1)].to_list()
    second = ledger.filter(pl.col(drawn(2)).is_not_null())
    assert second["rank"].to_list() == (second[drawn(2)] + 4).to_list()
    assert ledger["rank"].count() == 8


def test_the_kept_are_told_their_round_cluster_and_weight(ledger: pl.DataFrame) -> None:
    reasons = ledger.filter(pl.col(drawn(2)).is_not_null() & (pl.col("cluster") == 0))["reason"]
    assert reasons.unique().to_list() == ["round 2 of 2, cluster 0 (weight 60%, 3 of the 4 rows left); q 1"]
    first = ledger.filter(pl.col(drawn(1)).is_not_null() & (pl.col("cluster") == 1))["reason"]
    assert first.unique().to_list() == ["round 1 of 2, cluster 1 (weight 50%, 2 of the 3 rows left); q 2.5"]


def test_the_dropped_are_told_what_their_cluster_got(ledger: pl.DataFrame) -> None:
    gone = ledger.filter(pl.col("rank").is_null())
    assert gone[DROP].to_list() == [
        "not drawn in 2 rounds, cluster 0: 5 of 6 rows drawn; q 1",
        "no score (score.q is null)",
    ]


def test_every_row_has_one_verdict(ledger: pl.DataFrame) -> None:
    assert (ledger["reason"].is_null() ^ ledger[DROP].is_null()).all()
    assert (ledger["reason"].is_null() == ledger["rank"].is_null()).all()


def test_a_round_tunes_on_all_that_was_drawn_so_far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame = rows([2, 2]).with_columns(
        pl.Series("input_ids", [[row] * 3 for row in range(4)], dtype=pl.List(pl.Int32)),
        pl.Series("supervised", [[False, True, True]] * 4),
        pl.Series(drawn(1), [0, None, None, None], dtype=pl.Int64),
        pl.Series(drawn(2), [None, None, 0, None], dtype=pl.Int64),
        pl.Series(drawn(3), [None, 0, None, None], dtype=pl.Int64),
    )
    seen: list[Any] = []
    monkeypatch.setattr(Tuning, "run", lambda tuning, *given: seen.append(given) or {})
    reader: Any = Memory(frame)
    tuning = Tuning(Train(), ModelHandle(ModelSpec(path="none")), 3)
    TuneDrawn("train", 0, Resources(), tuning, 2).write(
        Inputs(reader, {}, {}), tmp_path, tmp_path, lambda *far: None
    )
    ((given, draws, *_),) = seen
    assert [row.input_ids.tolist() for row in given] == [[0, 0, 0], [2, 2, 2]]
    assert sorted(draws.tolist()) == [0, 1]


def test_a_round_tunes_as_train_says() -> None:
    tuning = Tuning(
        Train(epochs=3, learning_rate=1e-3, save_at=(0.5,)), ModelHandle(ModelSpec(path="none")), 3
    )
    plain = round_tuning(tuning, 1, None)
    assert (plain.spec.epochs, plain.spec.learning_rate, plain.spec.save_at) == (3, 1e-3, ())
    assert round_tuning(tuning, 1, 1.0).spec.epochs == 1
    assert len({tuning.seed, plain.seed, round_tuning(tuning, 2, None).seed}) == 3


def test_identities_are_json() -> None:
    stages = [
        Draw("d", 0, Resources(), plan_of(8), 1),
        Reweigh("w", 0, Resources(), plan_of(8), 1, "r"),
        SelectDrawn("s", 0, Resources(), plan_of(8)),
    ]
    for stage in stages:
        json.dumps(stage.identity())
