"""What holds for every mixer: the ones that the registry finds, each in several settings."""

import importlib
import json
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from candidates import random_pool as plain_pool
from candidates import shuffled as plainly_shuffled
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, DataError
from curate.methods import read_method, write_method
from curate.mixer import Mixer, Schedule
from curate.pool import Pool, column_of
from curate.registry import Registry
from curate.stages.mix import schedule_table

SOURCES = {"chat": 1.0, "code": 2.0, "math": 0.0}
LAW_RUNS = str(Path(__file__).parent.parent / "mixers" / "mixture_runs.csv")

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "capped": [{"cap": 5}, {"cap": 5, "draws": 30}],
    "curriculum": [
        {"by": "good", "order": "ascending"},
        {"by": "mixed", "order": "descending", "groups": "source", "levels": 3},
        {"by": "mixed", "order": "ascending", "groups": "cluster", "arrangement": "blocked"},
        {"by": "good", "order": "random", "pacing": "linear"},
        {"by": "good", "order": "ascending", "pacing": "root", "draws": 40},
    ],
    "equal": [{}, {"by": "cluster", "draws": 77}, {"draws": "50% tokens"}],
    "laws": [
        {"runs": LAW_RUNS, "law": "exponential", "starts": 1, "resamples": 0, "extrapolate": True},
        {"runs": LAW_RUNS, "law": "exponential", "starts": 1, "resamples": 0, "draws": "50% tokens"},
    ],
    "length_buckets": [
        {"min_tokens": 4, "max_tokens": 16, "batch_tokens": 32, "cycles": 2},
        {
            "min_tokens": 8,
            "max_tokens": 32,
            "batch_tokens": 64,
            "curriculum": "shrink_p2",
            "remainder": "keep",
            "short_steps": "keep",
        },
    ],
    "length_upsampling": [{"shares": {"30": 0.3, "70": 0.7}}, {"shares": {"100": 1.0}}],
    "modular": [
        {},
        {"draws": "50% tokens"},
        {
            "on": "target",
            "budget": "9k tokens",
            "train": {"epochs": 2},
            "candidates": ["leave_one_out", SOURCES],
        },
    ],
    "mosaic": [{}, {"max_rows": 4, "max_tokens": 500, "strategies": ["permute"]}],
    "phases": [
        {"phases": [{"fraction": 0.8}, {"fraction": 0.2, "weights": SOURCES}]},
        {
            "phases": [{"fraction": "70%", "weights": SOURCES}, {"fraction": 0.3, "name": "last"}],
            "draws": "90% tokens",
        },
    ],
    "proportional": [{}, {"draws": 13}],
    "repeated_random": [
        {"budget": "30%", "rounds": 5},
        {"budget": "30%", "rounds": 5, "replacement": True},
    ],
    "repeats": [{"by": "good"}, {"by": "mixed", "order": "lowest", "times": [0, 1, 2.5]}],
    "smart": [{}, {"by": "cluster", "draws": 77, "tasks": 2}, {"draws": "50% tokens"}],
    "replay": [{"schedule": str(Path(__file__).parent / "replayed.csv")}],
    "temperature": [{"temperature": 2.0}, {"temperature": 5, "draws": "900 tokens"}],
    "weights": [{"weights": SOURCES}, {"weights": SOURCES, "draws": 50}],
}

OWN_COUNT = {"length_buckets", "length_upsampling", "repeats", "replay"}
"""Mixers whose number of draws comes from scores, lengths or a file: their own tests count them."""

REPEATING = OWN_COUNT | {"repeated_random"}
"""Mixers that repeat rows by another rule than the rounds of a group."""

CASES = [
    pytest.param({name: fields}, id=f"{name}-{index}")
    for name, several in SETTINGS.items()
    for index, fields in enumerate(several)
]
every_mixer = pytest.mark.parametrize("written", CASES)
ARTIFACTS: dict[str, Path] = {}
"""What the stages before a mixer leave to those that need it."""


@pytest.fixture(scope="module", autouse=True)
def _artifacts(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = ARTIFACTS["mixture_search"] = tmp_path_factory.mktemp("mixture_search")
    best = {"weights": {"chat": 0.75, "code": 0.25, "math": 0.0}, "source_mean": 2.0}
    (folder / "search.json").write_text(json.dumps({"candidates": [best]}))


def random_pool(rows: int, seed: int, duplicates: bool = False) -> Pool:
    """With tokens (five of the prompt, then the supervised ones) and the conversation."""
    pool = plain_pool(rows, seed, duplicates)
    counts = pool.frame["supervised_tokens"].to_list()
    frame = pool.frame.with_columns(
        tokens=pl.col("supervised_tokens") + 5,
        supervised=pl.Series([[False] * 5 + [True] * count for count in counts], dtype=pl.List(pl.Boolean)),
        messages=pl.Series([conversation(row) for row in pool.frame.iter_rows(named=True)], dtype=pl.String),
        tools=pl.lit(None, dtype=pl.String),
    )
    return replace(pool, frame=frame, artifacts=ARTIFACTS)


def conversation(row: dict[str, Any]) -> str:
    """One exchange; of every fifth row, two."""
    once = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
    return orjson.dumps(once * (2 if row["id"].endswith(("0", "5")) else 1)).decode()


def story(schedule: Schedule, pool: Pool) -> list[tuple[Any, ...]]:
    """What is trained, draw by draw, without the places of rows in the pool."""
    names, drawn = pool.frame["uid"].to_list(), []
    for place, draw in enumerate(schedule.draws.tolist()):
        made = schedule.composed[draw - pool.rows] if draw >= pool.rows else None
        rows = [draw] if made is None else made.members.tolist()
        numbers = [
            None if each is None else int(each[place])
            for each in (schedule.starts, schedule.lengths, schedule.steps)
        ]
        text = None if made is None else orjson.dumps(list(made.messages))
        drawn.append((tuple(names[row] for row in rows), text, schedule.phases[place], *numbers))
    return drawn


def trained_rows(schedule: Schedule, pool: Pool) -> np.ndarray:
    """The rows of each draw, those inside composed examples too; of a row in pieces, each piece."""
    composed = [schedule.composed[draw - pool.rows].members for draw in schedule.draws if draw >= pool.rows]
    return np.concatenate([schedule.draws[schedule.draws < pool.rows], *composed]).astype(np.int64)


def shuffled(pool: Pool, seed: int) -> Pool:
    return replace(plainly_shuffled(pool, seed), artifacts=ARTIFACTS)


pools = st.builds(random_pool, st.integers(1, 60), st.integers(0, 10**6), duplicates=st.booleans())


def made(written: dict[str, Any]) -> Mixer:
    mixer = read_method("mixers", written, Registry())
    assert isinstance(mixer, Mixer)
    return mixer


def mixed_or_none(mixer: Mixer, pool: Pool) -> Schedule | None:
    """The schedule; None where the pool lacks a group or a token budget holds no row, which must be said."""
    try:
        return mixer.mix(pool)
    except (ConfigError, DataError):
        return None


def test_every_mixer_is_under_test() -> None:
    assert sorted(SETTINGS) == Registry().names("mixers")


@every_mixer
def test_a_pool_that_is_large_enough_is_mixed(written: dict[str, Any]) -> None:
    """The other tests pass over pools that cannot be mixed; this one may not."""
    assert mixed_or_none(made(written), random_pool(60, seed=3)) is not None


@every_mixer
@settings(max_examples=10, deadline=None)
@given(pool=pools)
def test_draws_are_rows_of_the_pool_each_with_a_phase(written: dict[str, Any], pool: Pool) -> None:
    schedule = mixed_or_none(made(written), pool)
    if schedule is not None:
        assert len(schedule.draws) == len(schedule.phases) > 0
        assert 0 <= schedule.draws.min() <= schedule.draws.max() < pool.rows + len(schedule.composed)
        assert all(isinstance(phase, str) and phase for phase in schedule.phases)
        assert schedule_table(schedule, pool.frame).height == len(schedule.draws)
        json.dumps(schedule.notes)


@every_mixer
@settings(max_examples=10, deadline=None)
@given(pool=pools)
def test_a_piece_lies_within_its_row_and_holds_a_target(written: dict[str, Any], pool: Pool) -> None:
    schedule = mixed_or_none(made(written), pool)
    if schedule is None or schedule.starts is None or schedule.lengths is None:
        return
    masks = pool.frame["supervised"].to_list()
    for row, start, length in zip(schedule.draws, schedule.starts, schedule.lengths, strict=True):
        assert 0 <= start < start + length <= len(masks[row])
        assert any(masks[row][start + 1 : start + length])


@every_mixer
@settings(max_examples=10, deadline=None)
@given(pool=pools)
def test_members_of_composed_examples_are_rows_of_the_pool(written: dict[str, Any], pool: Pool) -> None:
    schedule = mixed_or_none(made(written), pool)
    for each in schedule.composed if schedule is not None else ():
        assert len(set(each.members.tolist())) == len(each.members) > 0
        assert 0 <= each.members.min() <= each.members.max() < pool.rows


@every_mixer
@settings(max_examples=10, deadline=None)
@given(pool=pools)
def test_draws_are_as_many_as_asked(written: dict[str, Any], pool: Pool) -> None:
    mixer = made(written)
    schedule = mixed_or_none(mixer, pool)
    draws = getattr(mixer, "draws", None)
    if schedule is None:
        return
    if draws is not None and draws.column is not None:
        counts = pool.counts(draws.column)
        assert counts[schedule.draws].sum() <= draws.limit(int(counts.sum()))
    elif draws is not None:
        assert len(schedule.draws) == draws.rows(pool.rows)
    elif mixer.name == "capped":
        assert max(Counter(schedule.phases).values()) <= 5
    elif mixer.name == "repeated_random":
        assert set(Counter(schedule.phases).values()) == {max(1, round(0.3 * pool.rows))}
    elif mixer.name not in OWN_COUNT:
        assert (
            sorted(trained_rows(schedule, pool).tolist()) == list(range(pool.rows))
            or len(schedule.draws) == pool.rows
        )


@every_mixer
@settings(max_examples=10, deadline=None)
@given(pool=pools)
def test_no_row_repeats_more_than_its_group_needs(written: dict[str, Any], pool: Pool) -> None:
    """At most ceil(d_j / n_j) times; a paced curriculum draws with replacement and is exempt."""
    mixer = made(written)
    schedule = mixed_or_none(mixer, pool)
    if schedule is None or getattr(mixer, "pacing", "none") != "none" or mixer.name in REPEATING:
        return
    groups = pool.groups(
        column_of(getattr(mixer, "by", "source")) if mixer.name != "curriculum" else "source"
    )
    trained = trained_rows(schedule, pool)
    drawn = np.bincount(groups.labels[trained], minlength=len(groups.names))
    allowed = np.ceil(drawn / groups.sizes(np.arange(pool.rows)))
    times = np.bincount(trained, minlength=pool.rows)
    assert (times <= allowed[groups.labels]).all()


@every_mixer
@settings(max_examples=6, deadline=None)
@given(rows=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_another_order_of_the_pool_gives_the_same_sequence(
    written: dict[str, Any], rows: int, seed: int
) -> None:
    pool = random_pool(rows, seed)
    other = shuffled(pool, seed + 1)
    here, there = mixed_or_none(made(written), pool), mixed_or_none(made(written), other)
    assert (here is None) == (there is None)
    if here is not None and there is not None:
        assert story(here, pool) == story(there, other)


@every_mixer
def test_same_seed_same_schedule(written: dict[str, Any]) -> None:
    pool = random_pool(50, seed=3)
    first, second = (made(written).mix(pool) for _ in range(2))
    assert story(first, pool) == story(second, pool)


@every_mixer
def test_the_frame_is_left_as_it_was(written: dict[str, Any]) -> None:
    pool = random_pool(50, seed=3)
    before = pool.frame.clone()
    made(written).mix(pool)
    assert pool.frame.equals(before)


@every_mixer
def test_only_the_columns_it_needs_are_read(written: dict[str, Any]) -> None:
    pool, mixer = random_pool(50, seed=3), made(written)
    columns = [need for need in sorted(mixer.needs() - {"source"}) if not need.startswith("artifact:")]
    narrow = pool.frame.select("position", "uid", "source", *columns)
    again = mixer.mix(replace(pool, frame=narrow))
    assert story(again, pool) == story(mixer.mix(pool), pool)


@every_mixer
def test_pickles(written: dict[str, Any]) -> None:
    mixer = made(written)
    assert pickle.loads(pickle.dumps(mixer)) == mixer


@every_mixer
def test_reads_back_what_it_writes(written: dict[str, Any]) -> None:
    mixer = made(written)
    assert read_method("mixers", write_method(mixer), Registry()) == mixer


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_documented(name: str) -> None:
    cls = Registry().get("mixers", name)
    text = importlib.import_module(cls.__module__).__doc__ or ""
    assert "Cost:" in text
    assert "Source:" in text
    assert cls.__doc__
    assert vars(cls)["mix"].__doc__
    assert all(field.description for field in cls.model_fields.values())
