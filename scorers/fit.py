"""Fit: of several answers to one instruction, the one that the model to be tuned finds most its own.

Formula: mean over supervised tokens t of log p_t(y_t) under the run's model. Beside it, per instruction with
    at least two rows: `fit.place`, 1 for the row of highest fit, 2 for the next (ties by position).
Direction: high is better. Keep the best of each group by `threshold: {by: score.fit.place, max: 1}`, the best m
    by `max: m`; a row that is alone with its instruction, or has none, takes no part: its place is null.
Cost: 1 forward, shared by all scorers of the pass; O(n log n) for the places.
Source: Zhang et al., The Best Instruction-Tuning Data are Those That Fit (GRAPE), 2025 (arXiv 2502.04194).
Deviations: rows are of one instruction where their prompts are equal but for case and white space; a
    conversation's prompt is all before its last answer, while its fit is over all supervised turns.
"""

from collections.abc import Mapping

import polars as pl

from curate.model.request import Signal, TokenSignals
from curate.scorer import Numbers, PooledSignalScorer


class Fit(PooledSignalScorer):
    """Mean log-probability of the response, and its place among the answers to the same instruction."""

    signals = (Signal.LOG_PROBABILITY,)
    parts = ("log_probability",)
    pool_parts = ("place",)
    higher_is_better = True

    def pool_needs(self) -> frozenset[str]:
        """The instruction."""
        return frozenset({"prompt"})

    def measure(self, tokens: TokenSignals) -> Mapping[str, Numbers]:
        """Nats per token, float64 [examples], at most 0; null where a row has no supervised token."""
        return {"log_probability": tokens.mean(Signal.LOG_PROBABILITY)}

    def combine(self, parts: Mapping[str, Numbers], rows: pl.DataFrame) -> Mapping[str, Numbers]:
        """The score is the part; the place is 1, 2, … among two answers or more to an instruction, else null."""
        fit = parts["log_probability"]
        instruction = pl.col("prompt").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
        table = rows.select(instruction, fit=pl.Series(fit, dtype=pl.Float64).fill_nan(None))
        rank = pl.col("fit").rank("ordinal", descending=True).over("prompt")
        compared = (pl.col("fit").count().over("prompt") > 1) & (pl.col("prompt") != "")
        place = table.select(pl.when(compared).then(rank).cast(pl.Float64)).to_series()
        return {"score": fit, "place": place.fill_null(float("nan")).to_numpy()}
