"""Predictive strength: PreSelect, as three stages before the first `mix` or `train` of the list, or at its end.

1. Score: how well the order of a family's abilities shows in how it compresses a row, on a sample of the rows.
2. Score: a classifier of texts, trained on the sample's best and worst, applied to every row.
3. Select: the rows that are most like the best, up to a budget in characters.

What stands before in the list (cleaning, cheap filters) narrows the pool first; the rest goes on with the selection.

Source: Shum et al., Predictive Data Selection: The Data That Predicts Is the Data That Teaches (PreSelect), 2025
(arXiv 2503.00808): a tenth of the characters is kept.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from curate.budget import Budget
from curate.engine import Engine
from curate.methods import MethodOf
from curate.pipeline import Pipeline
from curate.scorer import LearnedTextScorer
from curate.selectors.top import Top
from curate.settings import Fraction, ModelSpec
from curate.spec import Config, StageEntry
from curate.view import View
from pipelines.straight import Straight
from scorers.fasttext_quality import FasttextQuality
from scorers.predictive_strength import PredictiveStrength as Strength


class PredictiveStrength(Pipeline):
    """PreSelect: the straight list with a selection by predictive strength in it."""

    family: tuple[ModelSpec, ...] = Field(
        min_length=2, description="models of one family, the least able first: paths, or {path, adapter}"
    )
    sample: Fraction = Field(default=0.05, gt=0, description="share of the rows that the family reads")
    classifier: Annotated[LearnedTextScorer, MethodOf("scorers")] = Field(
        default=FasttextQuality(),
        description="what is trained on the sample, e.g. {fasttext_quality: {dim: 50}}",
    )
    budget: Budget = Field(
        default=Budget.parse("10% characters"),
        description='how much to keep: "20M characters", "10% characters", or as for any selector',
    )

    @model_validator(mode="after")
    def _learns_text(self) -> Self:
        if not isinstance(self.classifier, LearnedTextScorer):
            raise ValueError(
                f"classifier must be a scorer that is trained on text. Got {self.classifier.name}."
            )
        return self

    def expand(self, config: Config) -> Config:
        """The list with the three stages."""
        kinds = [entry.kind for entry in config.stages]
        first = min((kinds.index(kind) for kind in ("mix", "train") if kind in kinds), default=len(kinds))
        added = (
            StageEntry(kind="score", methods=(Strength(family=self.family, sample=self.sample),)),
            StageEntry(kind="score", methods=(self.classifier,)),
            StageEntry(kind="select", methods=(Top(by=self.classifier.name, budget=self.budget),)),
        )
        stages = (*config.stages[:first], *added, *config.stages[first:])
        return config.model_copy(update={"stages": stages})

    def run(self, config: Config, engine: Engine) -> View:
        """Run all stages, in order, once."""
        return Straight().run(config, engine)
