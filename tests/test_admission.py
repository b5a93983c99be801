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
from curate.selector import Pool

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
