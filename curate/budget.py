"""Budget: how much a selector may keep: rows, supervised tokens or characters, as a number or a share of the pool's."""

import re
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any, Literal, cast, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

Unit = Literal["rows", "tokens", "characters"]

_SUFFIX = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_UNITS = "|".join(get_args(Unit))
_PATTERN = re.compile(
    rf"^\s*([0-9]*\.?[0-9]+)\s*(?:([kKmMbB]?)\s*({_UNITS})?|(%)\s*(?:(?:of\s+)?({_UNITS}))?)\s*$"
)
_EXPECTED = (
    'a budget must be rows (500), a share of them ("10%"), tokens ("2M tokens", "10% tokens"), or characters '
    '("20M characters", "10% characters")'
)


@dataclass(frozen=True)
class Budget:
    """`500` rows, `"10%"` of the pool's rows; `"2M tokens"`, `"10% tokens"` of the pool's; the same of characters.

    Tokens and characters are *supervised* ones, the columns `supervised_tokens` and `supervised_characters`:
    those that training learns from. amount: so many units, or, where `is_share`, that fraction of the pool's.
    """

    amount: float
    unit: Unit = "rows"
    is_share: bool = False

    @classmethod
    def parse(cls, value: Any) -> "Budget":
        """Read a budget as a user writes it. Raises ValueError with what was expected."""
        if isinstance(value, Budget):
            return value
        readable = isinstance(value, int | str) and not isinstance(value, bool)
        match = _PATTERN.match(str(value)) if readable else None
        if match is None:
            raise ValueError(f"{_EXPECTED}. Got {value!r}.")
        number, suffix, unit, percent, share_unit = match.groups()
        counted = cast(Unit, unit or share_unit or "rows")
        amount = Decimal(number)
        if percent:
            if not 0 < amount <= 100:
                raise ValueError(f"a share must be above 0% and at most 100%. Got {value!r}.")
            return cls(float(amount / 100), counted, is_share=True)
        amount *= _SUFFIX[suffix.lower()]
        if amount <= 0 or amount != int(amount):
            raise ValueError(f"{_EXPECTED}, a whole number above 0. Got {value!r}.")
        return cls(float(amount), counted)

    def __str__(self) -> str:
        amount = f"{(self._exact * 100).normalize():f}%" if self.is_share else f"{int(self.amount)}"
        return amount if self.unit == "rows" else f"{amount} {self.unit}"

    @property
    def _exact(self) -> Decimal:
        """The amount as the decimal number that was written: 29% of 100 is 29, not 28.999…"""
        return Decimal(repr(self.amount))

    @property
    def column(self) -> str | None:
        """The column whose sum over the rows is limited; None where rows themselves are counted."""
        return None if self.unit == "rows" else f"supervised_{self.unit}"

    @property
    def is_all(self) -> bool:
        """Whether it is 100%: all that can be chosen, however many that are."""
        return self.is_share and self.amount == 1

    def needs(self) -> frozenset[str]:
        """The columns that the budget reads: its `column`, or none."""
        return frozenset() if self.column is None else frozenset({self.column})

    def rows(self, pool_rows: int) -> int:
        """The number of rows that this budget allows in a pool of `pool_rows`.

        A share is rounded to the nearest row (a half to the even one) and keeps at least one. Raises
        ValueError for a budget in tokens or characters, which only the counts of the rows can resolve.
        """
        if self.column is not None:
            raise ValueError(f"a budget in {self.unit} has no fixed number of rows")
        if self.is_share:
            return max(1, round(self._exact * pool_rows)) if pool_rows else 0
        return int(self.amount)

    def limit(self, pool_total: int) -> int:
        """The tokens or characters that this budget allows in a pool of `pool_total`; a share is rounded down.

        Raises ValueError for a budget in rows.
        """
        if self.column is None:
            raise ValueError("a budget in rows has no fixed number of tokens or characters")
        return int(self._exact * pool_total) if self.is_share else int(self.amount)

    def share_of(self, amount: int, up: bool = False) -> int:
        """This share of an amount, in its unit, rounded down, or up. Raises ValueError where it is no share."""
        if not self.is_share:
            raise ValueError(f"must be a share. Got {self}.")
        exact = self._exact * amount
        return ceil(exact) if up else int(exact)

    def scaled(self, share: float) -> "Budget":
        """The same budget for so small a share of a pool: an amount in proportion, at least 1; a share as it is."""
        if self.is_share or share >= 1:
            return self
        return Budget(float(max(1, round(self.amount * share))), self.unit)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": _PATTERN.pattern},
            ],
            "description": _EXPECTED.removeprefix("a budget must be "),
        }


EVERYTHING = Budget(1.0, is_share=True)
"""All that can be chosen."""
