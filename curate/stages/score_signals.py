"""One pass of one model for all scorers that read it: the union of what they ask, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.model.request import Readout, TokenSignals, View, union
from curate.numerics.seeds import uniform
from curate.scorer import FamilyScorer, PooledSignalScorer, Referenced, Scorer, SignalScorer
from curate.settings import TokenSpec
from curate.stage import Artifacts, Passes, RowStage
from curate.stages.columns import nullable
from curate.stages.models import ModelHandle
from curate.stages.references import artifact_of, batch_tokens, load_reference
from curate.stages.rows import SCORED, token_rows
from curate.stages.tokenize import Tokenize, encode_columns

if TYPE_CHECKING:
    from curate.model.load import LoadedModel
    from curate.model.signals import Throughput
    from curate.model.tokens import Encoder


@dataclass(frozen=True)
class Measure:
    """What one scorer takes from one model's pass. member: which of a family's models; None for no family."""

    method: Scorer
    member: int | None = None

    @property
    def label(self) -> str:
        """Under which it is stored."""
        if self.member is not None:
            return f"{self.method.column}.model_{self.member}"
        return (
            f"{self.method.column}.parts"
            if isinstance(self.method, PooledSignalScorer)
            else self.method.column
        )

    @property
    def columns(self) -> frozenset[str]:
        """What it adds."""
        if isinstance(self.method, PooledSignalScorer):
            return frozenset(f"{self.method.column}.{part}" for part in self.method.parts)
        return frozenset({self.label})

    @property
    def asks(self) -> SignalScorer | PooledSignalScorer | FamilyScorer:
        """The scorer, as one with signals and views."""
        assert isinstance(self.method, SignalScorer | PooledSignalScorer | FamilyScorer)
        return self.method

    @property
    def reference(self) -> str | None:
        """The artifact that it compares rows with."""
        return artifact_of(self.method) if isinstance(self.method, Referenced) else None

    @property
    def share(self) -> float:
        """The share of the rows that are scored."""
        return self.method.share() if isinstance(self.method, FamilyScorer) else 1.0

    def readouts(self, reference: Mapping[str, Any]) -> Sequence[Readout]:
        """What it reads from the model's states."""
        return () if isinstance(self.asks, FamilyScorer) else self.asks.readouts(reference)

    def take(self, tokens: TokenSignals) -> list[pl.Series]:
        """Its columns."""
        method = self.asks
        if isinstance(method, PooledSignalScorer):
            found = method.measure(tokens)
            return [nullable(f"{method.column}.{part}", values) for part, values in found.items()]
        values = method.score(tokens) if isinstance(method, SignalScorer) else method.measure(tokens)
        return [nullable(self.label, values)]


@dataclass
class _State:
    """What a worker holds. recorded: the throughput of the last shard; peak: operations a second, measured."""

    loaded: "LoadedModel"
    readouts: Mapping[str, Sequence[Readout]]
    encoder: "Encoder | None"
    peak: float
    recorded: "Throughput | None" = field(default=None)


@dataclass(frozen=True)
class ScoreSignals(RowStage):
    """Scorers that read one model's signals: the union of what they ask, computed once.

    tokens: how rows are encoded for a model that is not the run's own, by its own tokenizer; None reads the
    stored tokens, the same that the trainer reads.
    """

    max_null_fraction: float
    measures: tuple[Measure, ...]
    model: ModelHandle
    seed: int
    tokens: TokenSpec | None = None

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """Tokens, and the references of the scorers."""
        return frozenset[str]().union(*(self.output_needs(each.label) for each in self.measures))

    @property
    def adds(self) -> frozenset[str]:
        """The columns of all scorers."""
        return frozenset[str]().union(*(each.columns for each in self.measures))

    @property
    def outputs(self) -> Mapping[str, frozenset[str]]:
        """One per scorer."""
        return {each.label: each.columns for each in self.measures}

    def passes(self, outputs: frozenset[str]) -> Passes:
        """A forward for each view that one of them asks for; gradients are those of the head, without a backward."""
        asked = [self._measure(output) for output in outputs]
        views = {view for each in asked for view in each.asks.views}
        return Passes(len(views) * min(each.share for each in asked), 0)

    @property
    def null_limit(self) -> float | None:
        """As configured."""
        return self.max_null_fraction

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """Of scorers that say so, and of those that score a sample."""
        columns = [each.columns for each in self.measures if each.method.allows_null or each.share < 1]
        return frozenset[str]().union(*columns)

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """As the scorers state; a part has no direction of its own."""
        found: dict[str, bool | None] = {}
        for each in self.measures:
            found |= dict.fromkeys(each.columns)
            if each.member is None:
                found[each.method.column] = each.method.higher_is_better
        return found

    def identity(self) -> dict[str, Any]:
        """All scorers and the model."""
        return {"outputs": [self.output_identity(each.label) for each in self.measures]}

    def output_identity(self, output: str) -> dict[str, Any]:
        """The one scorer and the model. Of a family, what decides of one model's measurement."""
        each = self._measure(output)
        found: dict[str, Any] = {"model": self.model.identity()}
        if each.member is None:
            return {**each.method.identity(), **found}
        if each.share < 1:
            found |= {"share": each.share, "seed": self.seed}
        if self.tokens is not None:
            found["encoded"] = Tokenize("", None, self.resources, self.model, self.tokens).identity()
        return {"measure": each.method.name, "version": each.method.version, **found}

    def output_needs(self, output: str) -> frozenset[str]:
        """Tokens, or what they are made of, and the scorer's reference."""
        each = self._measure(output)
        tokens = SCORED if self.tokens is None else frozenset({"messages", "tools", "rejected"})
        reference = frozenset[str]() if each.reference is None else frozenset({f"artifact:{each.reference}"})
        return tokens | reference | (frozenset({"uid"}) if each.share < 1 else frozenset())

    def _measure(self, output: str) -> Measure:
        return next(each for each in self.measures if each.label == output)

    def setup(self, artifacts: Artifacts) -> _State:
        """Load the model and the references, once per worker; of references that do not exist yet (a plan), none."""
        from curate.model.cost import matrix_peak_flops
        from curate.model.load import load_tokenizer
        from curate.model.tokens import Encoder, TokenOptions

        loaded = self.model.load()
        readouts = {
            each.label: each.readouts(
                {} if each.reference is None else load_reference(artifacts[each.reference], loaded.device)
            )
            for each in self.measures
            if each.reference is None or each.reference in artifacts
        }
        encoder = None
        if self.tokens is not None:
            options = TokenOptions(self.tokens.max_tokens, self.tokens.over_long, self.tokens.train_on)
            encoder = Encoder(load_tokenizer(self.model.folder, self.model.spec.trust_remote_code), options)
        peak = matrix_peak_flops(loaded.model.device, loaded.model.dtype)
        return _State(loaded, readouts, encoder, peak)

    def apply(self, rows: pl.DataFrame, state: _State, outputs: frozenset[str]) -> pl.DataFrame:
        """One pass for the asked scorers."""
        from curate.model.signals import Throughput, compute_signals

        asked = [each for each in self.measures if each.label in outputs]
        share = min(each.share for each in asked)
        scored = np.ones(rows.height, dtype=np.bool_)
        if share < 1:
            scored = uniform(self.seed, rows["uid"].to_list()) < share
        chosen = rows.filter(pl.Series(scored))
        if state.encoder is not None:
            chosen = encode_columns(chosen, state.encoder)
            encoded = chosen["input_ids"].is_not_null()
            scored[scored] = encoded.to_numpy()
            chosen = chosen.filter(encoded)
        wanted = union((each.asks.signals, each.asks.views) for each in asked)
        readouts: dict[View, list[Readout]] = {}
        for each in asked:
            for view in each.asks.views:
                readouts.setdefault(view, []).extend(state.readouts[each.label])
        budget = self.resources.batch_tokens or batch_tokens(state.loaded.device)
        state.recorded = Throughput()
        tokens = compute_signals(
            state.loaded.model,
            token_rows(chosen),
            wanted,
            batch_tokens=budget,
            throughput=state.recorded,
            readouts=readouts,
        )
        found = pl.DataFrame([series for each in asked for series in each.take(tokens)])
        taken = found.with_columns(row=pl.Series(np.flatnonzero(scored), dtype=pl.Int64))
        every = pl.DataFrame({"row": pl.int_range(rows.height, eager=True, dtype=pl.Int64)})
        return every.join(taken, on="row", how="left", maintain_order="left").drop("row")

    def counts(self, state: _State) -> Mapping[str, float]:
        """Tokens forward, padding, matrix operations, and how many the device could have done meanwhile."""
        if state.recorded is None:
            return {}
        done = state.recorded
        return {
            "forward_tokens": done.tokens,
            "padded_tokens": done.padded_tokens,
            "packed_tokens": done.packed_tokens,
            "forward_seconds": done.seconds,
            "matrix_flops": done.flops,
            "peak_flops": state.peak * done.seconds,
        }

    def notes(self, totals: Mapping[str, float]) -> Mapping[str, Any]:
        """How the rows were laid out, tokens a second, and the fraction of the device's matrix peak."""
        tokens, seconds = totals.get("forward_tokens", 0), totals.get("forward_seconds", 0)
        if not tokens or not seconds:
            return {}
        packed = totals["packed_tokens"] == tokens
        return {
            "layout": "packed end to end" if packed else "padded, rows of like length together",
            "padding_fraction": round(1 - tokens / totals["padded_tokens"], 4),
            "tokens_per_second": round(tokens / seconds, 1),
            "matrix_peak_fraction": round(totals["matrix_flops"] / totals["peak_flops"], 4),
        }


def in_precision(model: ModelHandle, dtype: str) -> ModelHandle:
    """The same model in another precision."""
    return replace(model, spec=model.pinned.model_copy(update={"dtype": dtype}))
