"""Mixture search: the straight list, its mixture found by data ablation by merging before anything is mixed.

The mixer `modular` brings the two stages that it needs: tune a model on each partition, rank the candidates
by the models' averages. This shape puts it into a list without a `mix`, before the first `train`, or at the end.

Source: Na et al. 2024, Scalable Data Ablation Approximations for Language Models through Modular Training and
Merging (arXiv 2410.15661).
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from curate.engine import Engine
from curate.errors import ConfigError
from curate.items import entry_error
from curate.methods import MethodOf
from curate.mixer import Mixer
from curate.mixers.modular import Modular
from curate.pipeline import Pipeline
from curate.spec import Config, StageEntry
from curate.view import View
from pipelines.straight import Straight


class MixtureSearch(Pipeline):
    """The straight list with a search for the mixture in it."""

    search: Annotated[Mixer, MethodOf("mixers")] = Field(
        default=Modular(),
        description="the search, where the list has no `mix` of its own, e.g. {modular: {on: target}}",
    )

    @model_validator(mode="after")
    def _searches(self) -> Self:
        if not isinstance(self.search, Modular):
            raise ValueError(f"search must be the mixer modular. Got {self.search.name}.")
        return self

    def expand(self, config: Config) -> Config:
        """The list with `mix: modular` in it. Raises ConfigError where it mixes otherwise."""
        kinds = [entry.kind for entry in config.stages]
        if "mix" in kinds:
            place = kinds.index("mix")
            own = config.stages[place].methods[0]
            if not isinstance(own, Modular):
                raise entry_error(
                    place,
                    f"the pipeline `mixture_search` finds the mixture itself. Got `mix: {own.name}`; remove it, "
                    "or write `mix: modular`.",
                )
            if "search" in self.model_fields_set:
                raise ConfigError(
                    "pipeline: `mixture_search` was given a `search`, and the list has a `mix: modular` too. "
                    "Remove one of them."
                )
            return config
        first = kinds.index("train") if "train" in kinds else len(kinds)
        added = StageEntry(kind="mix", methods=(self.search,))
        stages = (*config.stages[:first], added, *config.stages[first:])
        return config.model_copy(update={"stages": stages})

    def run(self, config: Config, engine: Engine) -> View:
        """Run all stages, in order, once."""
        return Straight().run(config, engine)
