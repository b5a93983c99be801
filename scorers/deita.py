"""Deita: complexity of the instruction times quality of the response, as an instruct model rates them.

Formula: sum over turns of complexity · quality, each the expected rating from 1 to 6 of `deita_complexity` and
    `deita_quality`: 1 to 36 for a single turn.
Direction: higher is better; a conversation of more turns scores higher.
Cost: 2 forwards of the rater a turn, each with some 160 tokens of rubric; those that the other Deita scorers of
    the same list ask too are asked once. Nothing is generated.
Source: Liu et al., What Makes Good Data for Alignment? (Deita), ICLR 2024 (arXiv 2312.15685).
Deviations: those of `deita_complexity` and `deita_quality`: any instruct model in place of the authors' two
    tuned scorers. The score is theirs; their selection, by this order with a bound on the nearest neighbour's
    cosine, is a selector's work. A row with a prompt that the rater cannot hold is null.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from curate.scorer import Numbers, RatingScorer
from curate.settings import ModelSpec
from scorers._deita import complexity_prompts, quality_prompts


class Deita(RatingScorer):
    """Complexity of the instruction times quality of the response, summed over turns."""

    higher_is_better = True
    execution_fields: ClassVar[frozenset[str]] = frozenset({"rater"})  # its content counts, not its path

    rater: ModelSpec | None = Field(
        default=None, description="the instruct model that is asked; the run's own if absent"
    )

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The rater."""
        return (self.rater,)

    def prompts(self, turns: Sequence[tuple[str, str]]) -> Sequence[str]:
        """Of all turns the complexity, then of all the quality: word for word what the two scorers ask."""
        return [*complexity_prompts(turns), *quality_prompts(turns)]

    def rate(self, ratings: Numbers) -> float:
        """The sum of products, 1 to 36 a turn; null for a row without a turn to rate."""
        complexity, quality = ratings.reshape(2, -1)
        return float(complexity @ quality) if len(complexity) else float("nan")
