"""Constraints beside a selector: what they let through, what they say, and what cannot be met."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import pool_of
from memory import Memory
from pydantic import ValidationError

from curate.budget import Budget
from curate.constraints import Constraints
from curate.errors import ConfigError, DataError
from curate.pool import Pool
from curate.selector import Selector
from curate.selectors.top import Top
from curate.settings import Resources
from curate.stages.select import Select

SOURCES = ["chat"] * 5 + ["code"] * 3 + ["math"] * 2


def candidates(written: dict[str, Any]) -> Pool:
    """Ten rows, the best first: scores 10 to 1, tokens 10 each; constrained."""
    pool = pool_of(
        {
            "source": SOURCES,
            "id": [f"row-{n}" for n in range(10)],
            "score.good": np.arange(10, 0, -1.0),
            "group": ["a", "a", "b", "c", "d", "e", "f", "g", "h", "i"],
            "supervised_tokens": np.full(10, 10, dtype=np.int32),
        },
        {"score.good": True},
    )
    return replace(pool, constraints=Constraints.model_validate(written))


def top(budget: int | str) -> Top:
    return Top(by="good", budget=Budget.parse(budget))


def kept(written: dict[str, Any], budget: int | str = 4) -> list[int]:
    return top(budget).select(candidates(written)).kept.tolist()


def budgets(written: dict[str, Any]) -> dict[str, Any]:
    """The bounds as budgets."""
    return {
        key: {
            column: {name: Budget.parse(each) for name, each in bound.items()}
            if isinstance(bound, dict)
            else Budget.parse(bound)
            for column, bound in value.items()
        }
        if key in ("max_per", "min_per")
        else value
        for key, value in written.items()
    }


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"max_per": {"source": {"chat": 2}}}, [0, 1, 5, 6]),
        ({"max_per": {"source": 2}}, [0, 1, 5, 6]),
        ({"max_per": {"source": "25%"}}, None),
        ({"max_per": {"source": "50%"}}, [0, 1, 5, 6]),
        ({"max_per": {"group": 1}}, [0, 2, 3, 4]),
        ({"max_per": {"group": 1, "source": {"chat": 2}}}, [0, 2, 5, 6]),
        ({"min_per": {"source": {"math": 1}}}, [0, 1, 2, 8]),
        ({"min_per": {"source": 1}}, [0, 1, 5, 8]),
        ({"min_per": {"source": {"math": "50%"}}}, [0, 1, 8, 9]),
        ({"include": ["row-9"]}, [0, 1, 2, 9]),
        ({"include": ["row-9"], "max_per": {"source": {"chat": 1}}}, [0, 5, 6, 9]),
        ({"max_per": {"source": {"chat": "20 tokens"}}}, [0, 1, 5, 6]),
    ],
)
def test_the_best_rows_within_the_bounds(written: dict[str, Any], expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(DataError, match=r"budget of 4 \(4 rows\) has 3 that can be chosen"):
            kept(budgets(written))
    else:
        assert kept(budgets(written)) == expected


def test_a_share_of_a_budget_in_tokens_is_one_of_tokens() -> None:
    assert kept(budgets({"max_per": {"source": "50%"}}), "40 tokens") == [0, 1, 5, 6]


def test_a_minimum_is_filled_before_a_budget_in_tokens_is_spent() -> None:
    assert kept(budgets({"min_per": {"source": {"math": 2}}}), "30 tokens") == [0, 8, 9]


def test_reasons_say_what_the_constraints_did() -> None:
    pool = candidates(
        budgets(
            {"max_per": {"source": {"chat": 1}}, "min_per": {"source": {"math": 1}}, "include": ["row-7"]}
        )
    )
    assert top(4).select(pool).kept.tolist() == [0, 5, 7, 8]
    assert pool.remarks[7] == "must be included"
    assert pool.remarks[8] == "for min_per of source math (1)"
    assert pool.remarks[1] == "barred by max_per of source chat (1)"
    assert 0 not in pool.remarks


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"min_per": {"source": {"math": 3}}}, r"min_per of source math \(3\) has 2 that can be chosen"),
        (
            {"min_per": {"source": {"chat": 3, "code": 2}}},
            r"min_per of source chat \(3\), min_per of source code \(2\) are 5 rows together, more than the budget",
        ),
        (
            {"max_per": {"source": {"chat": 1, "code": 1, "math": 1}}},
            r"budget of 4 \(4 rows\) has 3 .* at their maximum: max_per of source chat \(1\)",
        ),
        ({"include": ["nobody"]}, "nobody not among the 10 rows"),
        ({"include": [f"row-{n}" for n in range(5)]}, "5 rows to be included must fit into the budget of 4"),
        (
            {"include": ["row-0", "row-1"], "max_per": {"source": {"chat": 1}}},
            r"row `row-1` would bring max_per of source chat \(1\) above its bound",
        ),
    ],
)
def test_what_cannot_be_met_is_named(written: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        kept(budgets(written))


def test_a_group_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"max_per\.source: no row of the pool has cod; there are chat, code"
    ):
        kept(budgets({"max_per": {"source": {"cod": 1}}}))


def test_a_share_needs_a_budget() -> None:
    with pytest.raises(ConfigError, match="is a share of the selection's budget, and there is none"):
        kept(budgets({"max_per": {"source": "50%"}}), "100%")


@pytest.mark.parametrize("written", [{}, {"include": ["a"], "exclude": ["a"]}])
def test_nothing_and_contradictions_are_refused(written: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Constraints.model_validate(written)


def stage_of(constraints: Constraints, method: Selector | None = None) -> Select:
    return Select("select.top", 0, Resources(), method or top(3), 0, (("score.good", True),), constraints)


def ledger(constraints: Constraints) -> pl.DataFrame:
    pool: Any = Memory(candidates({"include": ["row-0"]}).frame)
    return stage_of(constraints).apply(pool, {}).frame


def test_excluded_rows_are_dropped_with_their_reason() -> None:
    found = ledger(Constraints(exclude=("row-0", "row-2")))
    assert found["drop_reason"].to_list()[0] == "excluded by the constraints"
    assert found["rank"].to_list()[:5] == [None, 0, None, 1, 2]


def test_a_remark_follows_the_reason() -> None:
    found = ledger(Constraints(max_per={"source": {"chat": Budget.parse(1)}}))
    assert found["drop_reason"][1].endswith("; barred by max_per of source chat (1)")
    assert found["reason"][5].startswith("good 5, rank 6 of 10")


def test_ids_may_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("row-0\n\nrow-1\n")
    found = ledger(Constraints(exclude_file=tmp_path / "ids.txt", include=("row-9",)))
    assert found["rank"].drop_nulls().len() == 3
    assert found["rank"].to_list()[:2] == [None, None]
    assert found["rank"][9] is not None


def test_the_ids_of_a_file_are_in_the_identity_and_its_name_is_not(tmp_path: Path) -> None:
    identities = []
    for name, text in (("a.txt", "row-0"), ("b.txt", "row-0"), ("c.txt", "row-1")):
        (tmp_path / name).write_text(text)
        identities.append(stage_of(Constraints(exclude_file=tmp_path / name)).identity())
    assert identities[0] == identities[1]
    assert identities[0] != identities[2]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone.txt must be a text file with an id a line"):
        ledger(Constraints(include_file=tmp_path / "gone.txt"))
