"""k-means quality: shares of clusters, and the law of the draw."""

from itertools import combinations

import numpy as np
import pytest
from candidates import pool_of

from curate.errors import ConfigError, DataError
from curate.pool import Pool
from curate.selectors.kmeans_quality import KmeansQuality


def pool(scores: list[float | None], clusters: list[int], seed: int = 0, better: bool | None = True) -> Pool:
    tokens = np.full(len(scores), 5, dtype=np.int32)
    columns = {"score.q": scores, "cluster": clusters, "supervised_tokens": tokens}
    return pool_of(columns, {"score.q": better}, seed)


def sizes(chosen_from: Pool, kept: np.ndarray) -> list[int]:
    return chosen_from.groups("cluster").sizes(kept).tolist()


def test_shares_are_proportional_to_the_clusters() -> None:
    candidates = pool([1.0] * 10, [0] * 6 + [1] * 3 + [2])
    assert sizes(candidates, KmeansQuality(by="q", budget=5).select(candidates).kept) == [3, 2, 0]


def test_rows_without_a_score_do_not_count_for_a_share() -> None:
    candidates = pool([1.0] * 2 + [None] * 4 + [1.0] * 2, [0] * 6 + [1] * 2)
    assert sizes(candidates, KmeansQuality(by="q", budget=2).select(candidates).kept) == [1, 1]


def pair_statistic(scores: list[float], weights: np.ndarray, better: bool, draws: int = 3000) -> float:
    """Chi-square of the pairs drawn from `draws` equal clusters of three rows.

    Against P({i, j}) = w_i w_j (1/(W - w_i) + 1/(W - w_j)) / W; two degrees of freedom.
    """
    rows = len(scores)
    candidates = pool(scores * draws, np.repeat(np.arange(draws), rows).tolist(), better=better)
    chosen = KmeansQuality(by="q", budget=2 * draws).select(candidates)
    pairs = np.sort(chosen.kept).reshape(draws, 2) % rows
    total = weights.sum()
    statistic = 0.0
    for i, j in combinations(range(rows), 2):
        chance = weights[i] * weights[j] * (1 / (total - weights[i]) + 1 / (total - weights[j])) / total
        seen = int((pairs == (i, j)).all(axis=1).sum())
        statistic += (seen - draws * chance) ** 2 / (draws * chance)
    return statistic


def test_positive_qualities_are_drawn_in_proportion() -> None:
    """13.8 is the 0.999 quantile of two degrees of freedom."""
    assert pair_statistic([1.0, 2.0, 5.0], np.array([1.0, 2.0, 5.0]), better=True) < 13.8


def test_a_zero_makes_it_the_softmax() -> None:
    assert pair_statistic([0.0, 1.0, 2.0], np.exp([0.0, 1.0, 2.0]), better=True) < 13.8


def test_lower_is_better_is_the_softmax_of_the_negative() -> None:
    assert pair_statistic([1.0, 2.0, 3.0], np.exp([-1.0, -2.0, -3.0]), better=False) < 13.8


def test_a_zero_anywhere_makes_it_the_softmax_everywhere() -> None:
    """Cluster 0 holds 1 and 9: the weight of 9 is e^8 times the other's, not 9 times."""
    kept = [
        KmeansQuality(by="q", budget=2).select(pool([1.0, 9.0, 0.0, 0.0], [0, 0, 1, 1], seed)).kept
        for seed in range(60)
    ]
    assert all(1 in rows for rows in kept)


def test_paper_draws_with_replacement_and_says_how_often() -> None:
    candidates = pool([1000.0, 1.0, 1.0, 1.0], [0] * 4)
    chosen = KmeansQuality(by="q", budget=4, variant="paper").select(candidates)
    assert chosen.kept[0] == 0
    assert chosen.reasons[0].endswith(", drawn 4 times")
    assert len(chosen.kept) == 1


def test_paper_draws_in_proportion() -> None:
    """One draw in each of 3,000 clusters of weights 1 and 3: 750 of the first, standard deviation 24."""
    candidates = pool([1.0, 3.0] * 3000, np.repeat(np.arange(3000), 2).tolist())
    chosen = KmeansQuality(by="q", budget=3000, variant="paper").select(candidates)
    assert abs(int((chosen.kept % 2 == 0).sum()) - 750) < 95


def test_code_gives_equal_shares_rounded_down_and_passes_nothing_on() -> None:
    candidates = pool([1.0] * 10, [0] * 6 + [1] * 3 + [2])
    chosen = KmeansQuality(by="q", budget=8, variant="code").select(candidates)
    assert sizes(candidates, chosen.kept) == [2, 2, 1]


def test_code_takes_the_softmax_of_positive_scores() -> None:
    """exp(1), exp(9): the second row practically always; in proportion it would be 9 times of 10."""
    kept = {
        int(KmeansQuality(by="q", budget=1, variant="code").select(pool([1.0, 9.0], [0, 0], seed)).kept[0])
        for seed in range(100)
    }
    assert kept == {1}


def test_code_needs_a_row_a_cluster() -> None:
    with pytest.raises(DataError, match="for each of 3 clusters. Budget: 2 rows"):
        KmeansQuality(by="q", budget=2, variant="code").select(pool([1.0] * 3, [0, 1, 2]))


def test_tokens_are_spent_in_proportion_to_the_clusters() -> None:
    candidates = pool([1.0] * 12, [0] * 8 + [1] * 4)
    chosen = KmeansQuality(by="q", budget="30 tokens").select(candidates)
    assert sizes(candidates, chosen.kept) == [4, 2]


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_variants_take_rows_only(variant: str) -> None:
    with pytest.raises(ValueError, match=f"`variant: {variant}` takes a budget in rows"):
        KmeansQuality(by="q", budget="30 tokens", variant=variant)


def test_reasons() -> None:
    chosen = KmeansQuality(by="q", budget=1).select(pool([1.0, 3.0, None], [7, 7, 7]))
    assert chosen.reasons[0].endswith("of its cluster's chance; cluster 7: 1 of 2 rows kept")
    assert chosen.dropped_reasons[-1] == "no score (score.q is null)"
    assert any(
        "3, 75.0% of its cluster's chance" in text for text in [*chosen.reasons, *chosen.dropped_reasons]
    )


def test_an_infinite_score_is_an_error() -> None:
    with pytest.raises(DataError, match="must be finite to draw by. 1 rows are not"):
        KmeansQuality(by="q", budget=1).select(pool([1.0, float("inf")], [0, 0]))


def test_a_score_without_direction_needs_an_order() -> None:
    with pytest.raises(ConfigError, match="`order: highest`"):
        KmeansQuality(by="q", budget=1).select(pool([1.0, 2.0], [0, 0], better=None))
