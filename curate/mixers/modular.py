"""Modular: the mixture that data ablation by merging finds best.

Formula: one model is tuned on each partition D_j of the selected rows, all from one start theta_0, by one
training setting, on as much data each. The model that a mixture w would give is taken to be near the average
theta_w = sum_j w_j theta_j; for a set S of partitions w is uniform on S. Candidates are ranked by the loss of
theta_w on held-out rows, or on the target's; draws are in proportion to the best w.

Which rows rank them: with `on: held_out`, the same that `evaluate` reports afterwards, so that its loss is that
of the best of several, a little too good. `on: target` keeps the two apart.

Cost: k trainings of one partition's budget each, in place of one for each of up to 2^k - 1 candidates; and one
forward of the ranking rows per candidate.
Source: Na et al. 2024, Scalable Data Ablation Approximations for Language Models through Modular Training and
Merging (arXiv 2410.15661), which pre-trains whole models on equally sized partitions.
Deviations: what is averaged are the updates of adapters, where adapters are trained; ranked by the mean loss over
sources, each counting the same, the logarithm of the geometric mean of their perplexities.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from curate.budget import Budget
from curate.mixer import Mixer, Preparation, Schedule
from curate.mixers._candidates import Candidates, Named
from curate.mixers._deck import DRAWS, Deck, mixture
from curate.mixers.weights import Weight
from curate.pool import Pool, column_of
from curate.stage import Stage
from curate.stages.mixture_search import FOUND, SEARCH, search_stages
from curate.training.spec import Train


class Modular(Mixer):
    """The best mixture by merged models, one tuned on each partition."""

    by: str = Field(default="source", description="column whose values are the partitions")
    budget: Budget | None = Field(
        default=None,
        description="what each partition's model is tuned on: rows, or supervised tokens (20k tokens); as many "
        "rows as the smallest partition has when left out",
    )
    train: Train | None = Field(
        default=None, description="how it is tuned; as the list's `train` stage when left out"
    )
    on: Literal["held_out", "target"] = Field(
        default="held_out", description="the rows whose loss ranks the candidates"
    )
    candidates: tuple[Named | Mapping[str, Weight], ...] = Field(
        default=("subsets",),
        min_length=1,
        description="mixtures to rank: subsets (every set of partitions, uniform), leave_one_out (all, and all but "
        "each), and given weights, e.g. [leave_one_out, {chat: 2, math: 1}], where who is left out has 0",
    )
    max_candidates: int = Field(
        default=64, ge=1, description="more candidates than this are refused before anything is trained"
    )
    draws: Budget | None = Field(default=None, description=f"{DRAWS}; as many as selected rows when left out")

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.budget is not None and (self.budget.is_share or self.budget.unit == "characters"):
            raise ValueError(
                f"budget must be rows (500) or supervised tokens (20k tokens), the same for each. Got {self.budget}."
            )
        for given in self.candidates:
            if not isinstance(given, str) and not any(given.values()):
                raise ValueError("candidates must have a weight above 0 each. Got one without.")
        return self

    def needs(self) -> frozenset[str]:
        """The partitions, the search's result, and what `draws` counts."""
        counted = self.draws.needs() if self.draws else frozenset[str]()
        return frozenset({column_of(self.by), f"artifact:{SEARCH}"}) | counted

    def prepare(self, given: Preparation) -> Sequence[Stage]:
        """Tune each partition's model; rank the candidates."""
        candidates = Candidates(self.candidates, self.max_candidates)
        return search_stages(given, column_of(self.by), self.budget, self.train, self.on, candidates)

    def mix(self, pool: Pool) -> Schedule:
        """Draw and shuffle; phases are the partitions."""
        found = json.loads((pool.artifacts[SEARCH] / FOUND).read_bytes())
        deck = Deck.of(pool, column_of(self.by))
        weights = deck.weights(found["candidates"][0]["weights"], "the best mixture")
        notes = {"mixture": found["candidates"][0]["weights"], "ranking": found["candidates"]}
        return replace(mixture(deck, weights, self.draws, pool.rows), notes=notes)
