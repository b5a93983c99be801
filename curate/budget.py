"""Budget: how much a selector may keep: rows or supervised tokens, as a number or as a share of the pool."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

_SUFFIX = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_PATTERN = re.compile(
    r"^\s*([0-9]*\.?[0-9]+)\s*(?:([kKmMbB]?)\s*(rows|tokens)?|(%)\s*(?:(?:of\s+)?(rows|tokens))?)\s*$"
)
_EXPECTED = 'a budget must be rows (500), a share of them ("10%"), or tokens ("2M tokens", "10% tokens")'


@dataclass(frozen=True)
class Budget:
    """`500` rows, `"10%"` of the pool's rows, `"2M tokens"`, or `"10% tokens"`: of the pool's.

    Tokens are *supervised* tokens, the column `supervised_tokens`: those that training learns from.
    """

    amount: float
    unit: Literal["rows", "tokens", "fraction", "token_fraction"]

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
        amount = Decimal(number)
        if percent:
            if not 0 < amount <= 100:
                raise ValueError(f"a share must be above 0% and at most 100%. Got {value!r}.")
            return cls(float(amount / 100), "token_fraction" if share_unit == "tokens" else "fraction")
        amount *= _SUFFIX[suffix.lower()]
        if amount <= 0 or amount != int(amount):
            raise ValueError(f"{_EXPECTED}, a whole number above 0. Got {value!r}.")
        return cls(float(amount), "tokens" if unit == "tokens" else "rows")

    def __str__(self) -> str:
        match self.unit:
            case "rows":
                return f"{int(self.amount)}"
            case "tokens":
                return f"{int(self.amount)} tokens"
            case "fraction":
                return f"{self._percent}%"
            case "token_fraction":
                return f"{self._percent}% tokens"

    @property
    def _percent(self) -> str:
        return f"{(self._share * 100).normalize():f}"

    @property
    def _share(self) -> Decimal:
        """The amount as the decimal number that was written: 29% of 100 is 29, not 28.999…"""
        return Decimal(repr(self.amount))

    @property
    def in_tokens(self) -> bool:
        """Whether only the token counts of the rows say how many rows this is."""
        return self.unit in ("tokens", "token_fraction")

    @property
    def is_all(self) -> bool:
        """Whether it is 100%: all that can be chosen, however many that are."""
        return self.unit in ("fraction", "token_fraction") and self.amount == 1

    def needs(self) -> frozenset[str]:
        """The columns that the budget reads: `supervised_tokens`, or none."""
        return frozenset({"supervised_tokens"}) if self.in_tokens else frozenset()

    def rows(self, pool_rows: int) -> int:
        """The number of rows that this budget allows in a pool of `pool_rows`.

        A share is rounded to the nearest row (a half to the even one) and keeps at least one. Raises
        ValueError for a token budget, which only the token counts of the rows can resolve.
        """
        if self.in_tokens:
            raise ValueError("a token budget has no fixed number of rows")
        if self.unit == "fraction":
            return max(1, round(self._share * pool_rows)) if pool_rows else 0
        return int(self.amount)

    def tokens(self, pool_tokens: int) -> int:
        """The supervised tokens that this budget allows in a pool of `pool_tokens`; a share is rounded down.

        Raises ValueError for a budget in rows.
        """
        if not self.in_tokens:
            raise ValueError("a budget in rows has no fixed number of tokens")
        return int(self._share * pool_tokens) if self.unit == "token_fraction" else int(self.amount)

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
