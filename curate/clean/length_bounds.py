"""Length bounds: drops rows whose text is too short or too long.

A word is a run of characters other than whitespace; a character is a Unicode code point. A row stays if
min ≤ length ≤ max for each bound that is set. Cost: one pass over the text.
"""

from collections.abc import Sequence
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from curate.cleaner import Filter, Part, text_of

Bound = int | None


class LengthBounds(Filter):
    """Keeps the rows whose text has a length within bounds, in words, in characters, or both."""

    of: Part = Field(default="response", description="what is measured: prompt, response, or both (row)")
    min_words: Bound = Field(default=None, ge=0, description="fewest words")
    max_words: Bound = Field(default=None, ge=0, description="most words")
    min_characters: Bound = Field(default=None, ge=0, description="fewest characters")
    max_characters: Bound = Field(default=None, ge=0, description="most characters")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for unit, low, high in self._bounds:
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{unit} must be at most max_{unit}. Got {low} and {high}.")
        if all(low is None and high is None for _, low, high in self._bounds):
            raise ValueError(
                "at least one of min_words, max_words, min_characters, max_characters must be set. Got none."
            )
        return self

    def judge(self, rows: pl.DataFrame) -> Sequence[str | None]:
        """The first bound that each row breaks: words before characters, too short before too long."""
        text = text_of(rows, self.of)
        lengths = {"words": text.str.count_matches(r"\S+"), "characters": text.str.len_chars()}
        reasons: list[str | None] = [None] * len(rows)
        for unit, low, high in self._bounds:
            if low is None and high is None:
                continue
            for index, length in enumerate(lengths[unit].to_list()):
                if reasons[index] is None:
                    reasons[index] = self._reason(unit, length, low, high)
        return reasons

    @property
    def _bounds(self) -> tuple[tuple[str, Bound, Bound], ...]:
        return (
            ("words", self.min_words, self.max_words),
            ("characters", self.min_characters, self.max_characters),
        )

    def _reason(self, unit: str, length: int, low: Bound, high: Bound) -> str | None:
        counted = f"{self.of} has {length} {unit.removesuffix('s') if length == 1 else unit}"
        if low is not None and length < low:
            return f"{counted}, at least {low} asked"
        if high is not None and length > high:
            return f"{counted}, at most {high} asked"
        return None
