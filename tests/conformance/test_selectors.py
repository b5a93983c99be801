"""What holds for every selector: the ones that the registry finds, each in several settings."""

import importlib
import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import random_pool, shuffled, uids
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.budget import Budget
from curate.constraints import Constraints
from curate.errors import ConfigError, DataError
from curate.methods import read_method, write_method
from curate.pool import Pool
from curate.registry import Registry
from curate.selector import Selection, Selector

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "adaptive_clusters": [
        {"by": ["good", "mixed"], "budget": "40%"},
        {"by": ["mixed"], "budget": "30% tokens", "prune": 0.3, "bins": 4},
        {"by": ["good", "mixed"], "budget": "100%", "prune": 0, "low": 0, "high": 1},
    ],
    "band": [
        {"by": "mixed", "low": 0.2, "high": 0.9},
        {"by": "mixed", "low": 0.1, "budget": "30%"},
        {"by": "mixed", "high": 0.8, "budget": "30% tokens"},
    ],
    "closest_to_centroid": [{"budget": "40%"}, {"budget": "40% tokens", "allocation": "equal"}],
    "deita": [
        {"by": "good", "budget": "30%"},
        {"by": "mixed", "order": "lowest", "budget": "30% tokens", "max_similarity": 0.7},
        {"by": "good", "budget": "100%", "max_similarity": 0.5},
    ],
    "facility_location": [
        {"budget": "40%"},
        {"budget": "40% tokens", "kernel": "sparse", "neighbours": 5},
        {"budget": "30%", "greedy": "stochastic", "epsilon": 0.3},
    ],
    "graph_cut": [
        {"budget": "40%"},
        {"budget": "40% tokens", "redundancy": 2.0, "kernel": "sparse", "neighbours": 5},
    ],
    "gumbel_top": [
        {"by": "good", "budget": "40%", "temperature": 0.2},
        {"by": "mixed", "order": "lowest", "budget": "40% tokens", "temperature": 3},
    ],
    "importance_resampling": [
        {"budget": "40%"},
        {"budget": "40% tokens", "draw": "top", "per_ngram": True, "smoothing": "add_one", "ngrams": 1},
    ],
    "k_center": [{"budget": "40%"}, {"budget": "40% tokens", "first": "random"}],
    "kmeans_quality": [
        {"by": "good", "budget": "40%"},
        {"by": "good", "budget": "40% tokens"},
        {"by": "mixed", "budget": "40%", "order": "lowest"},
        {"by": "good", "budget": "40%", "variant": "paper"},
        {"by": "good", "budget": "40%", "variant": "code"},
    ],
    "length_matched_random": [
        {"like": {"top": {"by": "good", "budget": "40%"}}},
        {"like": {"random": {"budget": 2}}, "bins": 2},
    ],
    "leverage": [
        {"budget": "40%"},
        {"budget": "40% tokens", "components": 3},
        {"budget": "40%", "draw": "sample"},
    ],
    "log_determinant": [{"budget": "40%"}, {"budget": "40% tokens", "greedy": "stochastic"}],
    "random": [{"budget": "40%"}, {"budget": "40% tokens"}, {"budget": 3, "per": "source"}],
    "round_robin": [
        {"by": "good", "budget": "40%"},
        {"by": "mixed", "order": "lowest", "budget": "40% tokens", "per": "cluster", "max": 0.8},
    ],
    "round_robin_target": [{"budget": "40%"}, {"budget": "40% tokens"}],
    "smart": [
        {"budget": "40%"},
        {"budget": "40% tokens", "per": "cluster"},
        {"budget": "20%", "per": "cluster", "tasks": 2, "max_memory_gib": 1e-5, "neighbours": 4},
        {"budget": "100%"},
    ],
    "stratified": [
        {"by": "mixed", "budget": "40%"},
        {"by": "good", "budget": "40% tokens", "bins": 7, "low": 0},
        {"by": "supervised_tokens", "budget": "100%"},
    ],
    "test_centric": [
        {"budget": "40%"},
        {"budget": "40% tokens", "arrangement": "nearest"},
        {"budget": "40%", "arrangement": "furthest"},
        {"budget": "40%", "arrangement": "random"},
    ],
    "threshold": [{"by": "good", "min": 0.4}, {"by": "supervised_tokens", "min": 5, "max": 50}],
    "top": [
        {"by": "good", "budget": "40%"},
        {"by": "mixed", "order": "highest", "budget": "30% tokens"},
        {"by": "good", "budget": "40%", "per": "source"},
        {"by": "good", "budget": "40% characters"},
        {"by": "good", "budget": "30% tokens", "per": "cluster", "allocation": "equal"},
        {"by": "good", "budget": "100%"},
    ],
    "transport": [{"budget": "40%"}, {"budget": "30% tokens", "epsilon": 0.03, "max_memory_gib": 0.001}],
}

CASES = [
    pytest.param({name: fields}, id=f"{name}-{index}")
    for name, several in SETTINGS.items()
    for index, fields in enumerate(several)
]
every_selector = pytest.mark.parametrize("written", CASES)
pools = st.builds(
    random_pool, st.integers(1, 60), st.integers(0, 10**6), duplicates=st.booleans(), nulls=st.booleans()
)


def made(written: dict[str, Any]) -> Selector:
    selector = read_method("selectors", written, Registry())
    assert isinstance(selector, Selector)
    return selector


def selection_or_none(selector: Selector, pool: Pool) -> Selection | None:
    """The selection; None where the pool cannot meet the budget, which must be said with a DataError."""
    try:
        return selector.select(pool)
    except DataError:
        return None


def chosen_or_none(selector: Selector, pool: Pool) -> np.ndarray | None:
    """The kept rows of `selection_or_none`."""
    selection = selection_or_none(selector, pool)
    return None if selection is None else selection.kept


def test_every_selector_is_under_test() -> None:
    assert sorted(SETTINGS) == Registry().names("selectors")


@every_selector
@settings(max_examples=10, deadline=None)
@given(pool=pools)
def test_kept_and_dropped_are_the_pool(written: dict[str, Any], pool: Pool) -> None:
    selection = selection_or_none(made(written), pool)
    if selection is None:
        return
    kept = set(selection.kept.tolist())
    assert len(kept) == len(selection.kept) == len(selection.reasons) > 0
    assert kept <= set(range(pool.rows))
    assert len(selection.dropped_reasons) == pool.rows - len(kept)
    assert all(isinstance(reason, str) and reason for reason in selection.reasons)
    assert all(isinstance(reason, str) and reason for reason in selection.dropped_reasons)


@every_selector
@settings(max_examples=10, deadline=None)
@given(pool=pools)
def test_the_budget_holds(written: dict[str, Any], pool: Pool) -> None:
    selector = made(written)
    kept = chosen_or_none(selector, pool)
    budget = getattr(selector, "budget", None)
    if kept is None or not isinstance(budget, Budget) or budget.is_all:
        return
    if budget.column is not None:
        counts = pool.counts(budget.column)
        assert counts[kept].sum() <= budget.limit(int(counts.sum()))
    elif getattr(selector, "variant", "default") == "default":
        assert len(kept) == budget.rows(pool.rows)
    else:
        assert len(kept) <= budget.rows(pool.rows)


@every_selector
def test_the_budget_is_met_on_a_pool_that_is_large_enough(written: dict[str, Any]) -> None:
    """The other tests pass over pools that cannot meet a budget; this one may not."""
    assert chosen_or_none(made(written), random_pool(60, seed=3)) is not None


@every_selector
@settings(max_examples=6, deadline=None)
@given(pool=pools)
def test_rows_without_a_score_are_never_kept(written: dict[str, Any], pool: Pool) -> None:
    selector = made(written)
    kept = chosen_or_none(selector, pool)
    column = f"score.{getattr(selector, 'by', '')}"
    if kept is not None and column in pool.frame.columns:
        assert not np.isnan(pool.values(column)[kept]).any()


@every_selector
@settings(max_examples=6, deadline=None)
@given(pool=pools)
def test_same_seed_same_selection(written: dict[str, Any], pool: Pool) -> None:
    first, second = (chosen_or_none(made(written), pool) for _ in range(2))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.tolist() == second.tolist()


@every_selector
@settings(max_examples=6, deadline=None)
@given(rows=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_another_order_of_the_pool_gives_the_same_rows(written: dict[str, Any], rows: int, seed: int) -> None:
    # Up to as many rows as dimensions have the leverage 1 each, and equal ones go by their position.
    assume("leverage" not in written or rows > 8)
    pool = random_pool(rows, seed, nulls=True)
    other = shuffled(pool, seed + 1)
    here, there = chosen_or_none(made(written), pool), chosen_or_none(made(written), other)
    assert (here is None) == (there is None)
    if here is not None and there is not None:
        assert set(uids(pool, here)) == set(uids(other, there))


@every_selector
def test_the_frame_is_left_as_it_was(written: dict[str, Any]) -> None:
    pool = random_pool(50, seed=3)
    before = pool.frame.clone()
    made(written).select(pool)
    assert pool.frame.equals(before)


@every_selector
def test_only_the_columns_it_needs_are_read(written: dict[str, Any]) -> None:
    pool, selector = random_pool(50, seed=3), made(written)
    columns = {name for name in selector.needs() if not name.startswith("artifact:")} - {"source"}
    narrow = pool.frame.select("position", "uid", "source", *sorted(columns))
    kept = selector.select(replace(pool, frame=narrow, remarks={})).kept
    assert kept.tolist() == selector.select(pool).kept.tolist()


@every_selector
def test_nan_is_read_as_null(written: dict[str, Any]) -> None:
    """The kept rows are the same whether a missing score is null or NaN."""
    pool = random_pool(50, seed=3, nulls=True)
    scores = pl.col("score.good", "score.mixed")
    other = replace(pool, frame=pool.frame.with_columns(scores.fill_null(float("nan"))), remarks={})
    assert made(written).select(pool).kept.tolist() == made(written).select(other).kept.tolist()


@every_selector
def test_pickles(written: dict[str, Any]) -> None:
    selector = made(written)
    assert pickle.loads(pickle.dumps(selector)) == selector


@every_selector
def test_reads_back_what_it_writes(written: dict[str, Any]) -> None:
    selector = made(written)
    assert read_method("selectors", write_method(selector), Registry()) == selector


CONSTRAINTS = st.fixed_dictionaries(
    {},
    optional={
        "max_per": st.sampled_from([{"source": "60%"}, {"cluster": 9, "source": 12}, {"uid": 1}]),
        "min_per": st.sampled_from([{"source": {"chat": 3}}, {"cluster": 2}]),
        "include": st.sampled_from([["id-0"], ["id-0", "id-5"]]),
        "exclude": st.just(["id-3"]),
    },
).filter(bool)


@every_selector
@settings(max_examples=15, deadline=None)
@given(written_constraints=CONSTRAINTS, seed=st.integers(0, 10**6))
def test_constraints_hold(written: dict[str, Any], written_constraints: dict[str, Any], seed: int) -> None:
    """In what is kept; or a DataError says which cannot be met."""
    selector = made(written)
    if not selector.takes_constraints:
        return
    limits = Constraints.model_validate_json(json.dumps(written_constraints), strict=True)
    pool = random_pool(60, seed, duplicates="uid" in limits.max_per)
    free = replace(
        pool, frame=pool.frame.filter(~pl.col("id").is_in(list(limits.exclude))), constraints=limits
    )
    try:
        selection = selector.select(free)
    except DataError as error:
        assert "constraints" in str(error) or "include" in str(error) or "budget" in str(error)
        return
    except ConfigError as error:  # a share of a budget that is everything
        assert "share" in str(error)
        return
    kept = free.frame[selection.kept.tolist()]
    assert set(limits.include) <= set(kept["id"])
    for column, bound in limits.max_per.items():
        if not bound.is_share:
            assert kept[column].value_counts()["count"].max() <= bound.amount
    for column, bounds in limits.min_per.items():
        sizes = dict(kept[column].cast(pl.String).value_counts().iter_rows())
        wanted = bounds if isinstance(bounds, dict) else dict.fromkeys(free.groups(column).names, bounds)
        assert all(sizes.get(name, 0) >= bound.amount for name, bound in wanted.items())


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_documented(name: str) -> None:
    cls = Registry().get("selectors", name)
    text = importlib.import_module(cls.__module__).__doc__ or ""
    assert "Cost:" in text
    assert "Source:" in text
    assert cls.__doc__
    assert vars(cls)["select"].__doc__
    assert all(field.description for field in cls.model_fields.values())
