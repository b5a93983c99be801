"""Budget: how much a selector may keep, in rows, in tokens, or as a fraction of the pool."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

_SUFFIX = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_PATTERN = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s*([kKmMbB]?)\s*(%|tokens|rows)?\s*$")


@dataclass(frozen=True)
class Budget:
    """`500` rows, `"10%"` of the pool's rows, or `"2M tokens"` of supervised tokens."""

    amount: float
    unit: Literal["rows", "tokens", "fraction"]

    @classmethod
    def parse(cls, value: Any) -> "Budget":
        """Read a budget as a user writes it. Raises ValueError with what was expected."""
        expected = 'a budget must be rows (500), a share ("10%") or tokens ("2M tokens")'
        if isinstance(value, Budget):
            return value
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"{expected}. Got {value!r}.")
        match = _PATTERN.match(str(value))
        if match is None:
            raise ValueError(f"{expected}. Got {value!r}.")
        amount = float(match[1]) * _SUFFIX[match[2].lower()]
        unit = match[3] or "rows"
        if unit == "%":
            if not 0 < amount <= 100:
                raise ValueError(f"a share must be above 0% and at most 100%. Got {value!r}.")
            return cls(amount / 100, "fraction")
        if amount <= 0 or amount != int(amount):
            raise ValueError(f"{expected}, a whole number above 0. Got {value!r}.")
        return cls(amount, "tokens" if unit == "tokens" else "rows")

    def __str__(self) -> str:
        if self.unit == "fraction":
            return f"{self.amount * 100:g}%"
        return f"{int(self.amount)}" if self.unit == "rows" else f"{int(self.amount)} tokens"

    def rows(self, pool_rows: int) -> int:
        """The number of rows that this budget allows in a pool of `pool_rows`.

        A fraction keeps at least one row. Raises ValueError for a token budget, which only the
        token counts of the rows can resolve.
        """
        if self.unit == "tokens":
            raise ValueError("a token budget has no fixed number of rows")
        if self.unit == "fraction":
            return max(1, round(self.amount * pool_rows)) if pool_rows else 0
        return int(self.amount)

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
                {"type": "string", "pattern": r"^\s*[0-9]*\.?[0-9]+\s*[kKmMbB]?\s*(%|tokens|rows)?\s*$"},
            ],
            "description": 'rows (500), a share ("10%") or tokens ("2M tokens")',
        }
