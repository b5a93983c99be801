"""Budgets as users write them."""

import pytest
from pydantic import BaseModel, ValidationError

from curate.budget import Budget


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        (500, 500, "rows"),
        ("500", 500, "rows"),
        ("1.5k rows", 1500, "rows"),
        ("2M tokens", 2_000_000, "tokens"),
        ("2.3M tokens", 2_300_000, "tokens"),
        ("20M characters", 20_000_000, "characters"),
    ],
)
def test_read(written: object, amount: float, unit: str) -> None:
    assert Budget.parse(written) == Budget(amount, unit)


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        ("10%", 0.1, "rows"),
        ("12.5% of rows", 0.125, "rows"),
        ("25% tokens", 0.25, "tokens"),
        ("25% of tokens", 0.25, "tokens"),
        ("10% characters", 0.1, "characters"),
    ],
)
def test_read_a_share(written: object, amount: float, unit: str) -> None:
    assert Budget.parse(written) == Budget(amount, unit, is_share=True)


@pytest.mark.parametrize(
    "written", [0, -3, 0.1, True, None, "ten", "1.5", "0%", "101%", "10k%", "5 apples", "5 of tokens", ""]
)
def test_refused_with_what_was_found(written: object) -> None:
    with pytest.raises(ValueError, match=f"Got {written!r}"):
        Budget.parse(written)


@pytest.mark.parametrize(
    "written", [7, "33.33333333%", "0.1%", "29% tokens", "1234567 tokens", "5k characters"]
)
def test_text_reads_back_as_the_same_budget(written: object) -> None:
    budget = Budget.parse(written)
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("share", "pool", "rows"), [("10%", 500, 50), ("10%", 3, 1), ("29%", 100, 29), ("10%", 0, 0)]
)
def test_a_share_of_rows_is_rounded_and_keeps_at_least_one(share: str, pool: int, rows: int) -> None:
    assert Budget.parse(share).rows(pool) == rows


def test_a_share_of_tokens_is_rounded_down() -> None:
    assert Budget.parse("29% tokens").limit(100) == 29
    assert Budget.parse("10% characters").limit(99) == 9


@pytest.mark.parametrize("unit", ["tokens", "characters"])
def test_rows_of_another_budget_are_refused(unit: str) -> None:
    with pytest.raises(ValueError, match=f"a budget in {unit} has no fixed number of rows"):
        Budget.parse(f"10 {unit}").rows(5)


def test_tokens_of_a_row_budget_are_refused() -> None:
    with pytest.raises(ValueError, match="no fixed number of tokens"):
        Budget.parse("10").limit(5)


@pytest.mark.parametrize(
    ("written", "column"),
    [
        ("10%", set()),
        ("10% tokens", {"supervised_tokens"}),
        ("20M characters", {"supervised_characters"}),
    ],
)
def test_what_is_counted_needs_its_column(written: str, column: set[str]) -> None:
    assert Budget.parse(written).needs() == column


class Holder(BaseModel):
    """A model with a budget."""

    budget: Budget


def test_json_is_what_a_user_writes() -> None:
    assert Holder(budget="10%").model_dump(mode="json") == {"budget": "10%"}


def test_validation_error_says_what_was_expected() -> None:
    with pytest.raises(ValidationError, match="a budget must be rows"):
        Holder(budget="ten")


def test_schema_accepts_number_or_text() -> None:
    kinds = Holder.model_json_schema()["properties"]["budget"]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["integer", "string"]
