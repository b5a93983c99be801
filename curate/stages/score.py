"""Score: the one pass. All scorers of a `score:` list that read the model share a single run of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import ConfigError
from curate.model.request import TokenSignals, union
from curate.reader import Reader
from curate.scorer import PooledSignalScorer, Scorer, SignalScorer, TextScorer
from curate.spec import Resources
from curate.stage import PoolResult, PoolStage, RowStage, Stage
from curate.stages.models import ModelHandle
from curate.stages.rows import token_rows

BATCH_TOKENS = 4096
BATCH_TOKENS_GPU = 32_768


def score_stages(
    methods: tuple[Scorer, ...],
    entry: int,
    resources: Resources,
    model: ModelHandle | None,
    max_null_fraction: float,
) -> list[Stage]:
    """The engine's stages for one `score:` list: text, the pass, and what compares rows over the pool."""
    text = tuple(method for method in methods if isinstance(method, TextScorer))
    signal = tuple(method for method in methods if isinstance(method, SignalScorer | PooledSignalScorer))
    stages: list[Stage] = []
    if text:
        stages.append(ScoreText("score.text", entry, resources, max_null_fraction, text))
    if signal:
        if model is None:
            names = ", ".join(f"`{method.name}`" for method in signal)
            raise ConfigError(
                f"score: {names} cannot be had without a model. Add `model:` to the configuration."
            )
        stages.append(ScoreSignals("score.model", entry, resources, max_null_fraction, signal, model))
    stages += [
        CombineScores(f"score.{method.name}", entry, resources, max_null_fraction, method)
        for method in signal
        if isinstance(method, PooledSignalScorer)
    ]
    return stages


def _label(method: Scorer) -> str:
    return f"score.{method.name}.parts" if isinstance(method, PooledSignalScorer) else f"score.{method.name}"


def _columns(method: Scorer) -> frozenset[str]:
    if isinstance(method, PooledSignalScorer):
        return frozenset(f"{method.column}.{part}" for part in method.parts)
    return frozenset({method.column})


def _nullable(name: str, values: NDArray[np.float64]) -> pl.Series:
    return pl.Series(name, np.asarray(values, dtype=np.float64)).fill_nan(None)


@dataclass(frozen=True)
class ScoreText(RowStage):
    """Scorers that read text alone."""

    max_null_fraction: float
    methods: tuple[TextScorer, ...]

    @property
    def needs(self) -> frozenset[str]:
        """The union of what the scorers read."""
        return frozenset[str]().union(*(method.needs() for method in self.methods))

    @property
    def adds(self) -> frozenset[str]:
        """`score.<name>` of each."""
        return frozenset(method.column for method in self.methods)

    @property
    def outputs(self) -> Mapping[str, frozenset[str]]:
        """One per scorer."""
        return {_label(method): _columns(method) for method in self.methods}

    @property
    def null_limit(self) -> float | None:
        """As configured."""
        return self.max_null_fraction

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorers state."""
        return {method.column: method.higher_is_better for method in self.methods}

    def identity(self) -> dict[str, Any]:
        """All scorers."""
        return {"methods": [method.identity() for method in self.methods]}

    def output_identity(self, output: str) -> dict[str, Any]:
        """The one scorer."""
        return next(method.identity() for method in self.methods if _label(method) == output)

    def output_needs(self, output: str) -> frozenset[str]:
        """The one scorer's."""
        return next(method.needs() for method in self.methods if _label(method) == output)

    def setup(self) -> None:
        """Nothing to prepare."""

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """Each asked scorer on the rows."""
        asked = [method for method in self.methods if _label(method) in outputs]
        return pl.DataFrame([_nullable(method.column, method.score(rows)) for method in asked])


@dataclass(frozen=True)
class ScoreSignals(RowStage):
    """Scorers that read the model's signals: the union of what they ask, computed once."""

    max_null_fraction: float
    methods: tuple[SignalScorer | PooledSignalScorer, ...]
    model: ModelHandle

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The stored tokens: the same that the trainer reads."""
        return frozenset({"input_ids", "supervised", "tokens"})

    @property
    def adds(self) -> frozenset[str]:
        """The columns of all scorers."""
        return frozenset[str]().union(*(_columns(method) for method in self.methods))

    @property
    def outputs(self) -> Mapping[str, frozenset[str]]:
        """One per scorer."""
        return {_label(method): _columns(method) for method in self.methods}

    @property
    def null_limit(self) -> float | None:
        """As configured."""
        return self.max_null_fraction

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorers state; a part has no direction of its own."""
        found: dict[str, bool | None] = {}
        for method in self.methods:
            found |= dict.fromkeys(_columns(method))
            found[method.column] = method.higher_is_better
        return found

    def identity(self) -> dict[str, Any]:
        """All scorers and the model."""
        return {"methods": [method.identity() for method in self.methods], "model": self.model.identity()}

    def output_identity(self, output: str) -> dict[str, Any]:
        """The one scorer and the model."""
        method = next(method for method in self.methods if _label(method) == output)
        return {**method.identity(), "model": self.model.identity()}

    def setup(self) -> Any:
        """Load the model, once per worker."""
        return self.model.load()

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """One pass for the asked scorers."""
        from curate.model.signals import compute_signals

        asked = [method for method in self.methods if _label(method) in outputs]
        wanted = union((method.signals, method.views) for method in asked)
        budget = self.resources.batch_tokens or (
            BATCH_TOKENS_GPU if state.device.startswith("cuda") else BATCH_TOKENS
        )
        tokens = compute_signals(state.model, token_rows(rows), wanted, batch_tokens=budget)
        return pl.DataFrame([series for method in asked for series in _scores(method, tokens)])


def _scores(method: SignalScorer | PooledSignalScorer, tokens: TokenSignals) -> list[pl.Series]:
    if isinstance(method, PooledSignalScorer):
        return [
            _nullable(f"{method.column}.{part}", values) for part, values in method.measure(tokens).items()
        ]
    return [_nullable(method.column, method.score(tokens))]


@dataclass(frozen=True)
class CombineScores(PoolStage):
    """The last step of a scorer that compares rows over the pool."""

    max_null_fraction: float
    method: PooledSignalScorer

    @property
    def needs(self) -> frozenset[str]:
        """The scorer's parts."""
        return _columns(self.method)

    @property
    def adds(self) -> frozenset[str]:
        """The score."""
        return frozenset({self.method.column})

    @property
    def null_limit(self) -> float | None:
        """As configured."""
        return self.max_null_fraction

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorer states."""
        return {self.method.column: self.method.higher_is_better}

    def identity(self) -> dict[str, Any]:
        """The scorer's."""
        return self.method.identity()

    def apply(self, pool: Reader) -> PoolResult:
        """Combine the parts of all living rows."""
        frame = pool.frame(self.needs)
        prefix = f"{self.method.column}."
        parts = {
            name.removeprefix(prefix): frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            for name in frame.columns
            if name != "position"
        }
        return PoolResult(pl.DataFrame([_nullable(self.method.column, self.method.combine(parts))]))
