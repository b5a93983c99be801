"""Admission: the order in which rows are admitted under a budget and constraints."""

import json
from dataclasses import replace

import numpy as np
import pytest
from candidates import pool_of

from curate.admission import Admission
from curate.budget import Budget
from curate.constraints import Constraints
from curate.errors import DataError
from curate.pool import Pool

POOL = pool_of({"source": ["chat", "chat", "code", "chat", "code"], "supervised_tokens": [4, 4, 4, 4, 4]})


def limited(pool: Pool, **written: object) -> Pool:
    return replace(
        pool, constraints=Constraints.model_validate_json(json.dumps(written), strict=True), remarks={}
    )


def test_the_best_rows_that_waited_for_a_minimum_come_before_worse_ones() -> None:
    pool = limited(POOL, min_per={"source": {"code": 1}})
    kept = pool.admission(Budget(2)).walk(np.arange(5))
    assert kept.tolist() == [0, 2]


def test_a_minimum_met_by_the_last_row_of_the_order() -> None:
    pool = limited(POOL, min_per={"source": {"code": 1}})
    kept = pool.admission(Budget(3)).walk(np.array([1, 0, 3, 4]))
    assert kept.tolist() == [1, 0, 4]


def test_lacking_ends_when_the_minimum_is_met() -> None:
    admission = Admission(limited(POOL, min_per={"source": {"code": 1}}), Budget(2))
    assert admission.lacking
    admission.add(2)
    assert not admission.lacking


def test_a_budget_that_does_not_hold_the_first_row() -> None:
    admission = POOL.admission(Budget(3, "tokens"))
    assert admission.verdict(0) == "never"
    assert admission.spent
    with pytest.raises(DataError, match="must hold the first row"):
        admission.check()


def test_a_share_that_is_no_token() -> None:
    admission = POOL.admission(Budget.parse("1% tokens"))
    assert admission.spent
    with pytest.raises(DataError, match="must hold the first row"):
        admission.check()


def test_a_minimum_share_is_rounded_up_and_a_maximum_down() -> None:
    least, most = (limited(POOL, **{kind: {"source": {"code": "40%"}}}) for kind in ("min_per", "max_per"))
    assert least.admission(Budget(3)).walk(np.array([0, 1, 3, 2, 4])).tolist() == [0, 2, 4]
    assert most.admission(Budget(3)).walk(np.array([2, 4, 0, 1])).tolist() == [2, 0, 1]


def test_a_share_that_is_whole_stays() -> None:
    pool = limited(POOL, min_per={"source": {"code": "50%"}})
    assert pool.admission(Budget(2)).walk(np.arange(5)).tolist() == [0, 2]


LEVELS = pool_of({"source": ["chat"] * 5, "meta.level": ["easy", None, "easy", None, None]})


def test_rows_without_a_value_are_no_group_that_one_bound_caps() -> None:
    pool = limited(LEVELS, max_per={"meta.level": 1})
    assert pool.admission(Budget(4)).walk(np.arange(5)).tolist() == [0, 1, 3, 4]


def test_rows_without_a_value_are_no_group_that_one_minimum_asks_for() -> None:
    pool = limited(LEVELS, min_per={"meta.level": 1})
    assert pool.admission(Budget(1)).walk(np.array([1, 0])).tolist() == [0]


def test_rows_without_a_value_are_bound_by_name() -> None:
    pool = limited(LEVELS, max_per={"meta.level": {"null": 1}})
    assert pool.admission(Budget(3)).walk(np.arange(5)).tolist() == [0, 1, 2]


def test_a_minimum_in_characters_is_not_added_up_with_a_budget_in_tokens() -> None:
    frame = POOL.frame.with_columns(supervised_characters=np.full(5, 100))
    pool = limited(replace(POOL, frame=frame), min_per={"source": {"code": "100 characters"}})
    assert pool.admission(Budget(8, "tokens")).walk(np.arange(5)).tolist() == [0, 2]


def test_the_counts_are_read_once_however_many_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    counts = Pool.counts

    def counted(pool: Pool, column: str) -> np.ndarray:
        read.append(column)
        return counts(pool, column)

    monkeypatch.setattr(Pool, "counts", counted)
    pool = limited(POOL, max_per={"source": "8 tokens"}, min_per={"source": "4 tokens"})
    assert pool.admission(Budget(3)).walk(np.arange(5)).tolist() == [0, 1, 2]
    assert read == ["supervised_tokens"]
