"""Deita quality: how good an instruct model finds the response to its instruction, from 1 to 6.

Formula: mean over turns of sum_{k=1..6} k softmax(logits of the tokens "1" to "6")_k, read where the rater
    would begin its answer to a prompt that shows it the turn's instruction and response.
Direction: higher is better.
Cost: 1 forward of the rater a turn, of the turn and some 160 tokens of rubric; a prompt that another Deita
    scorer of the same list asks too is asked once. Nothing is generated.
Source: Liu et al., What Makes Good Data for Alignment? (Deita), ICLR 2024 (arXiv 2312.15685).
Deviations: the authors ask a scorer that was tuned on rankings by ChatGPT, in one sentence; any instruct model
    is asked here, and gets a rubric in our words. What it is worth is the rater's: look at `likeliest` and
    `rating_probability` in the run's notes. Of several turns the authors keep no mean; their sum is in `deita`.
    A missing rating token is an error, not 3.0. A row with a prompt that the rater cannot hold is null.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from curate.scorer import Numbers, RatingScorer
from curate.settings import ModelSpec
from scorers._deita import mean, quality_prompts


class DeitaQuality(RatingScorer):
    """How good an instruct model rates the response, 1 to 6."""

    higher_is_better = True
    execution_fields: ClassVar[frozenset[str]] = frozenset({"rater"})  # its content counts, not its path

    rater: ModelSpec | None = Field(
        default=None, description="the instruct model that is asked; the run's own if absent"
    )

    def models(self) -> tuple[ModelSpec | None, ...]:
        """The rater."""
        return (self.rater,)

    def prompts(self, turns: Sequence[tuple[str, str]]) -> Sequence[str]:
        """One a turn: its instruction and response."""
        return quality_prompts(turns)

    def rate(self, ratings: Numbers) -> float:
        """Their mean, 1 to 6; null for a row without a turn to rate."""
        return mean(ratings)
