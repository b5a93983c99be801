"""Iterative: the last `select` of the list, k-means quality, made in rounds in which the model has a say.

Formula: w_j = 1/k for each cluster. Each of N rounds draws b/N rows from what is left: over the clusters by w
(largest remainder; what a cluster cannot take is passed on), inside a cluster with probability ∝ quality, without
replacement, as `kmeans_quality` does. After each round but the last, the base model is tuned on all rows drawn so
far and answers, greedily, those of the round; S = score(row's own answer) - score(generated answer), s_j is the mean
of S over cluster j, and w_j <- s_j w_j, normalised; softmax(s)_j in the place of s_j where any is at most 0. A cluster
without a score keeps its weight. score = log PPL, so that S = -log(PPL of the generated / PPL of the row's own), or
what a rater says. The rows of all rounds are the selection; the rest of the list goes on with it as with any.

Cost: beside the straight list, N - 1 trainings, on 1/N, 2/N … of the budget; for (N - 1)/N of it an answer, and 2
    forwards of each or 2 questions to the rater.
Source: Yu et al., Diversify and Conquer: Diversity-Centric Data Selection with Iterative Refinement, 2024 (arXiv
    2409.11378): Algorithm 1, equations 4 to 7, and their code.
Deviations: the prompts of a round are answered; in Algorithm 1 those of all rounds are, each time (`answer: chosen`).
    Perplexities are of the answer given the prompt; in the paper of both laid end to end, where a long prompt, the
    same in both, hides the difference. The paper does not say whose perplexities they are; the code takes the tuned
    model, as here (`judge`), and of the row's own answer alone. Weights are normalised (equation 6 leaves their sum
    open). Nothing is answered after the last round: no draw follows that would read the weights. The paper tunes for
    one epoch in a round (`epochs`); here, as `train` says. Its best rater, a reward model, is not asked; a scorer
    that reads ratings off an instruct model is (`rater`).
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from curate.engine import Engine
from curate.errors import ConfigError, Problem
from curate.items import entry_error
from curate.methods import MethodOf
from curate.pipeline import Pipeline
from curate.scorer import RatingScorer
from curate.selectors.kmeans_quality import KmeansQuality
from curate.settings import TokenSpec
from curate.spec import Config
from curate.stage import Stage
from curate.stages.answers import Generate, PerplexityGap, RatingGap
from curate.stages.select import Select
from curate.stages.tokenize import Tokenize
from curate.stages.train import TrainSelection, Tuning
from curate.view import View
from pipelines._lessons import Reweigh, TuneDrawn, round_tuning
from pipelines._rounds import Draw, Plan, SelectDrawn, drawn
from pipelines.straight import Straight


class Iterative(Pipeline):
    """Diversify and Conquer: draw from the clusters, tune, answer, move the clusters' weights, again."""

    rounds: int = Field(default=3, ge=2, description="draws; the model is tuned and asked between them")
    epochs: float | None = Field(
        default=None, gt=0, description="passes over the rows so far in a round; default: those of `train`"
    )
    answer: Literal["round", "chosen"] = Field(
        default="round", description="which prompts a round answers: of the rows it drew, or of all so far"
    )
    max_new_tokens: int = Field(default=512, ge=1, description="longest generated answer")
    judge: Literal["tuned", "base"] | None = Field(
        default=None,
        description="whose perplexities are compared: of the round's tuned model (default) or of the base",
    )
    rater: Annotated[RatingScorer, MethodOf("scorers")] | None = Field(
        default=None,
        description="compare ratings in the place of perplexities, by a scorer that asks a rater, e.g. deita_quality",
    )

    @model_validator(mode="after")
    def _one_score(self) -> Self:
        if self.rater is None:
            return self
        if not isinstance(self.rater, RatingScorer):
            raise ValueError(
                f"rater must be a scorer that asks a rater, as deita_quality. Got {self.rater.name}."
            )
        if self.judge is not None:
            raise ValueError(
                "`judge` says whose perplexities are compared; with a `rater` none are. Remove one."
            )
        return self

    def arrange(self, stages: Sequence[Stage]) -> Sequence[Stage]:
        """The stages with the rounds in the place of the last `select`."""
        selects = [index for index, stage in enumerate(stages) if isinstance(stage, Select)]
        trainings = [stage for stage in stages if isinstance(stage, TrainSelection)]
        tokens = [stage.tokens for stage in stages if isinstance(stage, Tokenize)]
        if not selects or not trainings:
            kind = "train" if selects else "select: kmeans_quality"
            message = f"iterative: needs a `{kind}` item in `stages`. There is none; add it."
            raise ConfigError(problems=[Problem(("pipeline",), message)])
        place = selects[-1]
        select = stages[place]
        assert isinstance(select, Select)
        return [*stages[:place], *self._rounds(select, trainings[0], tokens[0]), *stages[place + 1 :]]

    def _rounds(self, select: Select, training: TrainSelection, tokens: TokenSpec) -> list[Stage]:
        """What takes the place of the select stage. Raises ConfigError where it cannot be made in rounds."""
        method = select.method
        if not isinstance(method, KmeansQuality) or method.variant != "default":
            got = (
                f"{method.name}, variant {method.variant}"
                if isinstance(method, KmeansQuality)
                else method.name
            )
            raise entry_error(
                select.entry,
                f"iterative: the last `select` must be kmeans_quality in its default variant. Got {got}.",
            )
        if select.constraints is not None:
            raise entry_error(
                select.entry,
                "iterative: the draws of its rounds keep no `constraints`. Remove them from this select.",
            )
        plan = Plan(method, select.seed, select.higher_is_better, self.rounds)
        stages: list[Stage] = []
        for number in range(1, self.rounds + 1):
            stages.append(Draw(f"round{number}.draw", select.entry, select.resources, plan, number))
            if number < self.rounds:
                stages += self._lesson(number, plan, select, training, tokens)
        return [*stages, SelectDrawn(select.label, select.entry, select.resources, plan)]

    def _lesson(
        self, number: int, plan: Plan, select: Select, training: TrainSelection, tokens: TokenSpec
    ) -> list[Stage]:
        """What follows the draw of a round: tune, answer, compare, reweigh."""
        tuned, answers, reward = (f"round{number}.{name}" for name in ("model", "answers", "reward"))
        tuning: Tuning = round_tuning(training.tuning, number, self.epochs)
        first = number if self.answer == "round" else 1
        marks = tuple(drawn(each) for each in range(first, number + 1))
        entry, resources, model = select.entry, select.resources, tuning.model
        compare: Stage
        if self.rater is None:
            judge = None if self.judge == "base" else tuned
            compare = PerplexityGap(reward, entry, resources, model, answers, reward, judge)
        else:
            compare = RatingGap(reward, entry, resources, model, answers, reward, self.rater, tokens)
        return [
            TuneDrawn(f"round{number}.train", entry, training.resources, tuning, number),
            Generate(answers, entry, resources, model, tuned, marks, answers, self.max_new_tokens),
            compare,
            Reweigh(f"round{number}.weights", entry, resources, plan, number, reward),
        ]

    def run(self, config: Config, engine: Engine) -> View:
        """Run all stages, in order, once: the rounds are among them."""
        return Straight().run(config, engine)
