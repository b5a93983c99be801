"""Score: the stages of one `score:` list. All its scorers that read the run's model share a single pass of it."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.errors import ConfigError
from curate.scorer import (
    FamilyScorer,
    LearnedTextScorer,
    PooledSignalScorer,
    PoolScorer,
    RatingScorer,
    Referenced,
    Scorer,
    SignalScorer,
    TextScorer,
)
from curate.settings import ModelSpec, Resources, TokenSpec
from curate.stage import Artifacts, RowStage, Stage
from curate.stages.agreement import MeasureAgreement
from curate.stages.columns import nullable
from curate.stages.models import ModelHandle
from curate.stages.references import MakeReference, artifact_of, load_reference
from curate.stages.score_pool import CombineScores, CompareFamily, ScorePool
from curate.stages.score_ratings import ScoreRatings
from curate.stages.score_signals import Measure, ScoreSignals
from curate.stages.scorer_stage import ScorerStage


@dataclass(frozen=True)
class Scoring:
    """What all scoring stages of a run share. target: the source of the target's rows, None without one."""

    model: ModelHandle | None
    tokens: TokenSpec
    target: str | None
    max_null_fraction: float
    agreement_rows: int
    directions: tuple[tuple[str, bool | None], ...] = ()


def score_stages(
    methods: tuple[Scorer, ...], entry: int, resources: Resources, run: Scoring, seed: int
) -> list[Stage]:
    """The engine's stages for one `score:` list, in the order in which they can run.

    Raises ConfigError where a scorer needs a model or a target and the configuration has none.
    """
    missing = [m.name for m in methods if None in m.models() and run.model is None]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise ConfigError(f"score: {names} cannot be had without a model. Add `model:` to the configuration.")
    limit = run.max_null_fraction
    stages: list[Stage] = []
    for method in methods:
        if isinstance(method, Referenced):
            model = run.model if isinstance(method, SignalScorer | PooledSignalScorer) else None
            label = artifact_of(method)
            stages.append(MakeReference(label, entry, resources, method, model, run.target, seed))
    text = tuple(method for method in methods if isinstance(method, TextScorer))
    if text:
        stages.append(ScoreText("score.text", entry, resources, limit, text))
    stages += [
        ScoreLearnedText(method.column, entry, resources, limit, (method,))
        for method in methods
        if isinstance(method, LearnedTextScorer)
    ]
    stages += _model_stages(methods, entry, resources, run, seed)
    for method in methods:
        if isinstance(method, PooledSignalScorer):
            stages.append(CombineScores(method.column, entry, resources, limit, (method,)))
        elif isinstance(method, FamilyScorer):
            stages.append(CompareFamily(method.column, entry, resources, limit, (method,)))
    for method in methods:
        if isinstance(method, PoolScorer):
            known = {name: better for stage in stages for name, better in stage.directions.items()}
            directions = {**dict(run.directions), **known}
            method.check(directions)
            if method.reads_target and run.target is None:
                raise ConfigError(
                    f"score: `{method.name}` compares rows with a target, and there is none. Add `target:` to "
                    "the configuration."
                )
            ordered = tuple(sorted(directions.items()))
            stages.append(ScorePool(method.column, entry, resources, limit, (method,), ordered, seed))
    return stages


def _model_stages(
    methods: tuple[Scorer, ...], entry: int, resources: Resources, run: Scoring, seed: int
) -> list[Stage]:
    """The shared pass of the run's model, the passes of a family's other models, and ratings."""
    stages: list[Stage] = []
    limit = run.max_null_fraction
    own: list[Measure] = []
    apart: list[tuple[Measure, ModelSpec | None]] = []
    for method in methods:
        if isinstance(method, SignalScorer | PooledSignalScorer):
            own.append(Measure(method))
        elif isinstance(method, FamilyScorer):
            for index, spec in enumerate(method.models()):
                if spec is None and method.share() == 1:
                    own.append(Measure(method, index))
                else:
                    apart.append((Measure(method, index), spec))
    if own and run.model is not None:
        stages.append(ScoreSignals("score.model", entry, resources, limit, tuple(own), run.model, seed))
        if run.agreement_rows:
            checked = tuple(m.method for m in own if not isinstance(m.method, Referenced | FamilyScorer))
            if checked:
                stages.append(
                    MeasureAgreement(
                        "score.agreement", entry, resources, checked, run.model, run.agreement_rows, seed
                    )
                )
    for measure, spec in apart:
        handle = run.model if spec is None else ModelHandle(spec)
        if handle is not None:
            tokens = None if spec is None else run.tokens
            stages.append(
                ScoreSignals(measure.label, entry, resources, limit, (measure,), handle, seed, tokens)
            )
    ratings: dict[ModelSpec | None, list[RatingScorer]] = {}
    for method in methods:
        if isinstance(method, RatingScorer):
            ratings.setdefault(method.models()[0], []).append(method)
    for number, (spec, raters) in enumerate(ratings.items()):
        handle = run.model if spec is None else ModelHandle(spec)
        if handle is not None:
            label = "score.ratings" if number == 0 else f"score.ratings.{number}"
            stages.append(ScoreRatings(label, entry, resources, limit, tuple(raters), handle))
    return stages


@dataclass(frozen=True)
class ScoreText(ScorerStage, RowStage):
    """Scorers that read text alone."""

    methods: tuple[TextScorer, ...]

    @property
    def needs(self) -> frozenset[str]:
        """The union of what the scorers read."""
        return frozenset[str]().union(*(method.needs() for method in self.methods))

    def output_needs(self, output: str) -> frozenset[str]:
        """The one scorer's."""
        return next(method.needs() for method in self.methods if method.column == output)

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """Each asked scorer on the rows."""
        asked = [method for method in self.methods if method.column in outputs]
        return pl.DataFrame([nullable(method.column, method.score(rows)) for method in asked])


@dataclass(frozen=True)
class ScoreLearnedText(ScorerStage, RowStage):
    """A scorer that reads text by a classifier that was trained before."""

    methods: tuple[LearnedTextScorer]

    @property
    def needs(self) -> frozenset[str]:
        """The text and the classifier."""
        return self.methods[0].needs() | {f"artifact:{artifact_of(self.methods[0])}"}

    def setup(self, artifacts: Artifacts) -> Any:
        """Load the classifier."""
        return self.methods[0].load(load_reference(artifacts[artifact_of(self.methods[0])], None))

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """The scorer on the rows."""
        return pl.DataFrame([nullable(self.methods[0].column, self.methods[0].score(rows, state))])
