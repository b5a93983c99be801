"""What every cleaner promises, over all that the registry finds."""

import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest

from curate.cleaner import Deduplicator, Filter, FrameColumns
from curate.component import Component
from curate.registry import Registry

EXAMPLES: dict[str, dict[str, Any]] = {"length_bounds": {"min_words": 3, "max_words": 40}}
"""Fields of the methods that cannot be made without any."""

NAMES = Registry().names("cleaners")


def make(name: str) -> Component:
    return Registry().get("cleaners", name)(**EXAMPLES.get(name, {}))


FILTERS = [name for name in NAMES if isinstance(make(name), Filter)]
DEDUPLICATORS = [name for name in NAMES if isinstance(make(name), Deduplicator)]


@pytest.fixture
def rows() -> pl.DataFrame:
    """60 rows, a third of them equal to another, a third nearly so."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(90)])
    base = [list(words[random.integers(0, 90, random.integers(1, 60))]) for _ in range(20)]
    texts = [*base, *base, *[[*text, "indeed"] for text in base]]
    order = random.permutation(60)
    responses = [" ".join(texts[i]) for i in order]
    prompts = ["caf\u00e9 \u4e2d\u6587 \U0001f600" if i % 2 else "" for i in order]
    uids = [f"{hash((p, r)) % 2**64:032x}" for p, r in zip(prompts, responses, strict=True)]
    return pl.DataFrame({"prompt": prompts, "response": responses, "uid": uids})


def group(method: Deduplicator, rows: pl.DataFrame) -> Any:
    return method.group(FrameColumns(rows.hstack(method.sign(rows))))


def test_every_cleaner_is_a_filter_or_a_deduplicator() -> None:
    assert sorted([*FILTERS, *DEDUPLICATORS]) == NAMES
    assert FILTERS and DEDUPLICATORS


@pytest.mark.parametrize("name", NAMES)
def test_pickles_to_an_equal_cleaner(name: str) -> None:
    assert pickle.loads(pickle.dumps(make(name))) == make(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_described(name: str) -> None:
    assert all(field.description for field in type(make(name)).model_fields.values())


@pytest.mark.parametrize("name", NAMES)
def test_reads_only_the_columns_that_it_declares(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    if isinstance(method, Filter):
        method.judge(rows.select(sorted(method.needs())))
    if isinstance(method, Deduplicator):
        signed = method.sign(rows.select(sorted(method.needs())))
        declared = sorted(method.group_needs() | set(method.signature))
        method.group(FrameColumns(rows.hstack(signed).select(declared)))


@pytest.mark.parametrize("name", FILTERS)
def test_a_row_is_judged_by_itself(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Filter)
    alone = [method.judge(rows[index : index + 1])[0] for index in range(len(rows))]
    assert list(method.judge(rows)) == alone
    assert None in alone and any(reason for reason in alone)


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_the_signature_has_the_declared_columns(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    assert dict(method.sign(rows).schema) == dict(method.signature)
    assert dict(method.sign(rows[:0]).schema) == dict(method.signature)
    assert all(column.startswith(f"{name}.") for column in method.signature)


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_the_signature_does_not_depend_on_the_batch(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    assert method.sign(rows).equals(pl.concat([method.sign(rows[:1]), method.sign(rows[1:])]))


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_signing_leaves_its_input_alone(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    before = rows.clone()
    method.sign(rows)
    assert rows.equals(before)


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_something_is_dropped_and_something_kept(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    kept = np.unique(group(method, rows).survivor)
    assert 0 < len(kept) < len(rows)


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_survivors_stand_for_themselves_and_alone_lack_a_similarity(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    found = group(method, rows)
    survives = found.survivor == np.arange(len(rows))
    assert np.array_equal(found.survivor[found.survivor], found.survivor)
    assert np.array_equal(np.isnan(found.similarity), survives)
    assert ((found.similarity[~survives] >= 0) & (found.similarity[~survives] <= 1)).all()


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_dropping_twice_drops_nothing_more(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    kept = rows[np.unique(group(method, rows).survivor)]
    assert np.array_equal(group(method, kept).survivor, np.arange(len(kept)))


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_another_order_gives_the_same_groups(name: str, rows: pl.DataFrame) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    order = np.random.default_rng(1).permutation(len(rows))
    here, there = group(method, rows).survivor, group(method, rows[order]).survivor
    together = here[order][:, None] == here[order][None, :]
    assert np.array_equal(there[:, None] == there[None, :], together)


@pytest.mark.parametrize("name", DEDUPLICATORS)
def test_the_reason_names_the_survivor(name: str) -> None:
    method = make(name)
    assert isinstance(method, Deduplicator)
    assert "chat:17" in method.reason("chat:17", 0.9)
