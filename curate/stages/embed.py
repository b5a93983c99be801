"""Embed: a vector per row, from a sentence model or from the model's own states."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from curate.component import Component
from curate.stage import RowStage
from curate.stages.models import ModelHandle


class Embed(Component):
    """The `embed:` item of a configuration."""

    model: str = Field(
        description="sentence model: hub id, folder or package:NAME; `states` for the run's own model: "
        "the mean of its last hidden states"
    )
    text: Literal["prompt_response", "prompt", "response"] = Field(
        default="prompt_response", description="which text of the row is embedded"
    )
    max_tokens: int = Field(default=256, gt=0, description="tokens of each text that are read")


@dataclass(frozen=True)
class EmbedRows(RowStage):
    """Adds `embedding`, float32 [d] of unit length."""

    spec: Embed
    model: ModelHandle

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def min_shard_rows(self) -> int:
        """A sentence model is quick."""
        return 512

    @property
    def needs(self) -> frozenset[str]:
        """The text, or the tokens for the model's own states."""
        return frozenset({"input_ids", "tokens"} if self.spec.model == "states" else {"prompt", "response"})

    @property
    def adds(self) -> frozenset[str]:
        """The embedding."""
        return frozenset({"embedding"})

    def identity(self) -> dict[str, Any]:
        """The model's content and which text it reads."""
        return {**self.spec.identity(), "model": self.model.identity()}

    def setup(self) -> Any:
        """Load the model."""
        from curate.model.embed import load_embedder, load_state_embedder

        if self.spec.model == "states":
            return load_state_embedder(self.model.load(), max_tokens=self.spec.max_tokens)
        return load_embedder(self.model.folder, max_tokens=self.spec.max_tokens)

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """Embed each row."""
        if self.spec.model == "states":
            vectors = state.embed([np.asarray(ids, dtype=np.int32) for ids in rows["input_ids"]])
        else:
            vectors = state.embed(self._texts(rows))
        column = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
        missing = pl.Series(np.isnan(vectors).any(axis=1))
        return pl.select(pl.when(missing).then(None).otherwise(column).alias("embedding"))

    def _texts(self, rows: pl.DataFrame) -> list[str]:
        if self.spec.text != "prompt_response":
            return rows[self.spec.text].to_list()
        return rows.select(pl.concat_str("prompt", "response", separator="\n"))["prompt"].to_list()
