"""What a reference is made from, for tests: a small model, target rows and a pool, without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from curate.model.load import LoadedModel
from curate.model.request import Readout, States, TokenRow, TokenSignals, View, union
from curate.model.signals import collect_states, compute_signals, mean_head_gradient
from curate.scorer import Numbers, PooledSignalScorer, Referenced, SignalScorer


@dataclass(frozen=True)
class ToyExamples:
    """As `scorer.Examples` promises."""

    language_model: Any
    target: Sequence[TokenRow]
    pool: Sequence[TokenRow] = ()
    folder: Path = Path("unused")
    seed: int = 0
    table: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def model(self) -> LoadedModel:
        return LoadedModel(self.language_model, None, "float32", "cpu", "toy")  # type: ignore[arg-type]

    @property
    def layers(self) -> int:
        return int(self.language_model.config.num_hidden_layers)

    def sample(self, rows: int) -> Sequence[TokenRow]:
        return self.pool[:rows]

    def sample_tokens(self, tokens: int) -> Sequence[TokenRow]:
        return self.pool

    def columns(self, names: Sequence[str], rows: NDArray[np.int64] | None = None) -> pl.DataFrame:
        return self.table.select(names) if rows is None else self.table.select(names)[rows]

    def signals(self, rows: Sequence[TokenRow], readouts: Sequence[Readout]) -> TokenSignals:
        return compute_signals(
            self.language_model, rows, {View.FULL: frozenset()}, 500, readouts={View.FULL: readouts}
        )

    def states(self, rows: Sequence[TokenRow], layer: int | None = None, attention_layers: int = 0) -> States:
        return collect_states(self.language_model, rows, 500, layer, attention_layers)

    def mean_head_gradient(self, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
        return mean_head_gradient(self.language_model, rows, 500)


def made(scorer: Referenced, examples: ToyExamples) -> Mapping[str, Any]:
    """The reference as a scorer is given it."""
    return {name: torch.from_numpy(np.array(value)) for name, value in scorer.refer(examples).items()}


def passed_score(
    scorer: SignalScorer | PooledSignalScorer,
    model: Any,
    rows: Sequence[TokenRow],
    reference: Mapping[str, Any] | None = None,
) -> Numbers:
    """The scores of rows by one pass, as the engine computes them."""
    readouts = dict.fromkeys(scorer.views, scorer.readouts(reference or {}))
    wanted = union([(scorer.signals, scorer.views)])
    tokens = compute_signals(model, rows, wanted, 300, readouts=readouts)
    if isinstance(scorer, SignalScorer):
        return scorer.score(tokens)
    return scorer.combine(scorer.measure(tokens), pl.DataFrame())["score"]


def against(
    scorer: Any, model: Any, target: Sequence[TokenRow], rows: Sequence[TokenRow], **others: Any
) -> Numbers:
    """The scores of rows against a target."""
    assert isinstance(scorer, Referenced)
    assert isinstance(scorer, SignalScorer | PooledSignalScorer)
    return passed_score(scorer, model, rows, made(scorer, ToyExamples(model, target, **others)))
