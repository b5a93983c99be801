"""Adaptive clusters: equal shares, the score of each cluster, pruning for good."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of, unit

from curate.pool import Pool
from curate.selector import Selection
from curate.selectors.adaptive_clusters import AdaptiveClusters

EVEN, HEAPED = np.linspace(0, 1, 40), np.r_[np.zeros(39), 1.0]


def pool(clusters: Sequence[int | None], vectors: np.ndarray | None = None, **columns: Any) -> Pool:
    rows = len(clusters)
    points = unit(np.random.default_rng(0).normal(size=(rows, 4))) if vectors is None else vectors
    filled = {
        "id": [f"id-{row}" for row in range(rows)],
        "cluster": clusters,
        "embedding": pl.Series(points, dtype=pl.Array(pl.Float32, points.shape[1])),
        "supervised_tokens": [5] * rows,
        "score.a": np.linspace(0, 1, rows),
        **columns,
    }
    return pool_of(filled)


def sizes(candidates: Pool, chosen: Selection) -> list[int]:
    return candidates.groups("cluster").sizes(chosen.kept).tolist()


def test_clusters_share_equally_and_a_deficit_is_passed_on() -> None:
    candidates = pool([0] * 20 + [1] * 2 + [2] * 10)
    chosen = AdaptiveClusters(by=["a"], budget=12, prune=0).select(candidates)
    assert sizes(candidates, chosen) == [5, 2, 5]


def test_what_is_left_over_goes_to_the_largest() -> None:
    candidates = pool([0] * 5 + [1] * 20)
    chosen = AdaptiveClusters(by=["a"], budget=5, prune=0).select(candidates)
    assert sizes(candidates, chosen) == [2, 3]
    assert candidates.frame["cluster"][int(chosen.kept[0])] == 1


def test_tokens_are_shared_by_rows() -> None:
    candidates = pool([0] * 20 + [1] * 20)
    assert sizes(candidates, AdaptiveClusters(by=["a"], budget="30 tokens", prune=0).select(candidates)) == [
        3,
        3,
    ]


def test_each_cluster_is_covered_by_its_own_score() -> None:
    """Where a score is heaped up, all but one of its rows are in one stratum."""
    columns = {"score.a": np.r_[EVEN, HEAPED], "score.b": np.r_[HEAPED, EVEN]}
    candidates = pool([0] * 40 + [1] * 40, **columns)
    method = AdaptiveClusters(by=["a", "b"], budget=16, prune=0, bins=8, low=0, high=1)
    chosen = method.select(candidates)
    for cluster, column in ((0, "score.a"), (1, "score.b")):
        rows = chosen.kept[candidates.frame["cluster"].gather(chosen.kept).to_numpy() == cluster]
        assert np.histogram(candidates.values(column)[rows], 8, (0, 1))[0].tolist() == [1] * 8
    assert chosen.notes["clusters_by_score"] == {"a": 1, "b": 1}


def test_the_share_is_of_what_is_left_after_pruning() -> None:
    candidates = pool([0] * 10 + [1] * 30)
    chosen = AdaptiveClusters(by=["a"], budget="100%", prune=0.5, low=0, high=1).select(candidates)
    assert sizes(candidates, chosen) == [5, 15]
    assert chosen.notes["pruned"] == 20


def test_the_tails_of_each_cluster_are_out() -> None:
    candidates = pool([0] * 21 + [1] * 21)
    chosen = AdaptiveClusters(by=["a"], budget="100%", prune=0).select(candidates)
    assert sorted(chosen.kept.tolist()) == [*range(1, 20), *range(22, 41)]


def test_an_exact_duplicate_is_pruned_first_and_the_reason_names_its_copy() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(10, 4)))
    vectors[7] = vectors[2]
    chosen = AdaptiveClusters(by=["a"], budget="100%", prune=0.1, low=0, high=1).select(
        pool([0] * 10, vectors)
    )
    assert set(range(10)) - set(chosen.kept.tolist()) in ({2}, {7})
    assert chosen.dropped_reasons[0] in {
        "pruned as redundant: cosine 1.0 to id-2, of the same cluster",
        "pruned as redundant: cosine 1.0 to id-7, of the same cluster",
    }


def test_reasons() -> None:
    candidates = pool([0] * 5 + [None, 0], **{"score.a": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None]})
    chosen = AdaptiveClusters(by=["a"], budget=1, prune=0, bins=2, low=0.25, high=1).select(candidates)
    assert "by the widest spread in its cluster (2.32 bits); cluster 0: 1 of 4 rows kept" in chosen.reasons[0]
    assert chosen.dropped_reasons[0] == "a 0, outside its cluster's quantiles (1 to 4)"
    assert chosen.dropped_reasons[-2:] == ["no cluster", "no score (a, which its cluster uses, is null)"]
    assert chosen.dropped_reasons[1].endswith("1 of 4 rows kept, not drawn")


def run_folder(
    folder: Path, selected: list[int], pruned: list[int], other: list[int], copies: Sequence[int] = ()
) -> Path:
    """As a run leaves it. copies: rows that a stage before the selection dropped."""
    folder.mkdir()
    pl.DataFrame({"uid": [f"uid-{row}" for row in selected]}).write_parquet(folder / "selection.parquet")
    reasons = ["pruned as redundant: cosine 1.0 to id-9, of the same cluster; must not"] * len(pruned)
    dropped = {
        "uid": [f"uid-{row}" for row in [*pruned, *other, *copies]],
        "stage": ["select"] * len(pruned + other) + ["clean"] * len(copies),
        "reason": reasons + ["a 1, not drawn"] * len(other) + ["exact duplicate"] * len(copies),
    }
    pl.DataFrame(dropped, schema=dict.fromkeys(dropped, pl.String)).write_parquet(folder / "dropped.parquet")
    return folder


def test_what_an_earlier_run_pruned_stays_pruned(tmp_path: Path) -> None:
    earlier = run_folder(tmp_path / "run", [0], [1, 2], [3])
    method = AdaptiveClusters(by=["a"], budget="100%", prune=0, low=0, high=1, earlier=earlier)
    chosen = method.select(pool([0] * 6))
    assert sorted(chosen.kept.tolist()) == [0, 3, 4, 5]
    assert chosen.dropped_reasons == ["pruned as redundant by an earlier run"] * 2
    assert chosen.notes["pruned_earlier"] == 2


def test_a_copy_of_a_row_that_was_not_pruned_is_not_either(tmp_path: Path) -> None:
    """A kept row and its pruned copy have one uid; the copy is redundant again, the row is not."""
    earlier = run_folder(tmp_path / "run", [0], [0, 1], [1])
    method = AdaptiveClusters(by=["a"], budget="100%", prune=0, low=0, high=1, earlier=earlier)
    assert len(method.select(pool([0] * 6)).kept) == 6


def test_a_copy_that_a_cleaner_dropped_does_not_save_a_pruned_row(tmp_path: Path) -> None:
    earlier = run_folder(tmp_path / "run", [0], [1], [], copies=[1])
    method = AdaptiveClusters(by=["a"], budget="100%", prune=0, low=0, high=1, earlier=earlier)
    assert sorted(method.select(pool([0] * 6)).kept.tolist()) == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("known", ["selected", "dropped"])
@pytest.mark.parametrize("seed", range(6))
def test_of_an_old_row_and_its_new_copy_the_new_one_is_pruned(tmp_path: Path, known: str, seed: int) -> None:
    vectors = unit(np.random.default_rng(seed).normal(size=(10, 4)))
    vectors[2] = vectors[7]
    earlier = run_folder(tmp_path / "run", *(([7], [], []) if known == "selected" else ([], [], [7])))
    method = AdaptiveClusters(by=["a"], budget="100%", prune=0.1, low=0, high=1, earlier=earlier)
    assert set(range(10)) - set(method.select(pool([0] * 10, vectors)).kept.tolist()) == {2}


def test_the_fingerprint_is_of_the_earlier_run_content_not_its_place(tmp_path: Path) -> None:
    folders = [
        run_folder(tmp_path / name, [0], [1], other) for name, other in (("x", [2]), ("y", [2]), ("z", [3]))
    ]
    same, too, different = (AdaptiveClusters(budget=1, earlier=folder).identity() for folder in folders)
    assert same == too != different


def test_earlier_must_be_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder of a finished run.*has no selection\.parquet"):
        AdaptiveClusters(budget=1, earlier=tmp_path)


def test_without_pruning_no_embedding_is_needed() -> None:
    assert "embedding" not in AdaptiveClusters(budget=1, prune=0).needs()
    assert "embedding" in AdaptiveClusters(budget=1).needs()
