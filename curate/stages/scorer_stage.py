"""ScorerStage: what every stage that adds scores says of itself, from the scorers in it."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.scorer import Scorer
from curate.stage import Stage


@dataclass(frozen=True)
class ScorerStage(Stage, ABC):
    """Stands before RowStage or PoolStage among the bases of a stage. Each scorer's column is an output of its own."""

    max_null_fraction: float
    methods: tuple[Scorer, ...]

    @property
    def adds(self) -> frozenset[str]:
        """The columns of all scorers."""
        return frozenset(method.column for method in self.methods)

    @property
    def outputs(self) -> Mapping[str, frozenset[str]]:
        """One per scorer."""
        return {method.column: frozenset({method.column}) for method in self.methods}

    @property
    def null_limit(self) -> float | None:
        """As configured."""
        return self.max_null_fraction

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """Of the scorers that say so."""
        return frozenset(method.column for method in self.methods if method.allows_null)

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorers state."""
        return {method.column: method.higher_is_better for method in self.methods}

    def identity(self) -> dict[str, Any]:
        """All scorers."""
        return {"methods": [self.output_identity(output) for output in self.outputs]}

    def output_identity(self, output: str) -> dict[str, Any]:
        """The one scorer."""
        return self.scorer(output).identity()

    def scorer(self, output: str) -> Scorer:
        """The scorer of an output."""
        return next(method for method in self.methods if method.column == output)
