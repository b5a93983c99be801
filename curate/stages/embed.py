"""Embed: a vector per row, from a sentence model or from the model's own states."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.component import Component
from curate.errors import DataError
from curate.stage import Artifacts, ArtifactStage, Inputs, Passes, RowStage, Tell
from curate.stages.models import ModelHandle
from curate.stages.references import target_positions

TARGET_EMBEDDING = "target_embedding"


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

    def passes(self, outputs: frozenset[str]) -> Passes:
        """One forward of the sentence model."""
        return Passes(1, 0)

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

    @property
    def width(self) -> int:
        """The numbers of an embedding, as the model's files say."""
        from curate.model.embed import width

        return width(self.model.folder)

    def setup(self, artifacts: Artifacts) -> Any:
        """Load the model."""
        from curate.model.embed import load_embedder, load_state_embedder

        if self.spec.model == "states":
            return load_state_embedder(self.model.load(), max_tokens=self.spec.max_tokens)
        return load_embedder(self.model.folder, max_tokens=self.spec.max_tokens)

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """Embed each row."""
        vectors = _vectors(self.spec, state, rows)
        column = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
        missing = pl.Series(np.isnan(vectors).any(axis=1))
        return pl.select(pl.when(missing).then(None).otherwise(column).alias("embedding"))


@dataclass(frozen=True)
class EmbedTarget(ArtifactStage):
    """The embeddings of the target's rows, by the same model: what similarity to a target compares with."""

    unit = "targets"

    rows: EmbedRows
    target: str

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def reads_pool(self) -> bool:
        """No: the target's rows alone."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """The same of the target's rows."""
        return self.rows.needs | {"rows:all", "source"}

    @property
    def adds(self) -> frozenset[str]:
        """The embeddings."""
        return frozenset({f"artifact:{TARGET_EMBEDDING}"})

    def identity(self) -> dict[str, Any]:
        """As of the pool's rows."""
        return {**self.rows.identity(), "target": self.target}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Embed the target. Raises DataError where none of its rows has an embedding."""
        places = target_positions(inputs, self.target)
        rows = inputs.rows["all"].take(self.rows.needs, places)
        vectors = _vectors(self.rows.spec, self.rows.setup({}), rows)
        vectors = vectors[~np.isnan(vectors).any(axis=1)]
        if not len(vectors):
            raise DataError(
                "target: none of its rows has an embedding: they hold no text that the model reads."
            )
        np.save(out / "embedding.npy", vectors)
        return {"rows": len(vectors)}


def load_target(folder: Path) -> NDArray[np.float32]:
    """The target's embeddings, float32 [target rows, d], unit length."""
    vectors: NDArray[np.float32] = np.load(folder / "embedding.npy")
    return vectors


def _vectors(spec: Embed, state: Any, rows: pl.DataFrame) -> NDArray[np.float32]:
    """float32 [rows, d], unit length; NaN where there is nothing to read."""
    if spec.model == "states":
        found = state.embed([np.asarray(ids, dtype=np.int32) for ids in rows["input_ids"]])
    elif spec.text != "prompt_response":
        found = state.embed(rows[spec.text].to_list())
    else:
        texts = rows.select(pl.concat_str("prompt", "response", separator="\n"))["prompt"].to_list()
        found = state.embed(texts)
    return np.asarray(found, dtype=np.float32)
