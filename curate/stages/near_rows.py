"""Near rows: which evaluation rows a row of the pool is near to, by embeddings. Part of `contamination`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.numerics.near_pairs import near_pairs
from curate.stage import Artifacts, ArtifactStage, Inputs, RowStage, Tell
from curate.stages.columns import listed, numbers
from curate.stages.embed import EmbedRows
from curate.stages.hold_out import held_out_rows

EMBEDDING = "contamination.embedding"
NEAR, COSINES = "contamination.near", "contamination.cosines"
MOST = 16
"""Evaluation rows, the nearest, that are noted of a row."""


@dataclass(frozen=True)
class EmbedEvaluation(ArtifactStage):
    """Writes the embedding of each evaluation row, float32 [evaluation rows, d], unit length; zeros for no text."""

    unit = "evaluation rows"

    embed: EmbedRows

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def reads_pool(self) -> bool:
        """No: the evaluation rows alone."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """What the model reads, of the evaluation rows."""
        return self.embed.needs | {"held_out", "rows:all"}

    @property
    def adds(self) -> frozenset[str]:
        """The embeddings."""
        return frozenset({f"artifact:{EMBEDDING}"})

    def identity(self) -> dict[str, Any]:
        """As of the pool's rows."""
        return {"evaluation": 1, **self.embed.identity()}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Embed them, in pool order."""
        rows = held_out_rows(inputs, self.embed.needs)
        vectors = _vectors(self.embed.apply(rows, self.embed.setup({}), frozenset()))
        np.save(out / "embedding.npy", vectors)
        return {"rows": rows.height}


@dataclass(frozen=True)
class NearRows(RowStage):
    """Adds `contamination.near`, list of uint32: the evaluation rows near to a row; `contamination.cosines`, float64.

    stored: whether the pool has its embeddings already; else each row is embedded here. least: cosine, above 0.
    """

    embed: EmbedRows
    stored: bool
    least: float

    @property
    def uses_model(self) -> bool:
        """Where it embeds."""
        return not self.stored

    @property
    def min_shard_rows(self) -> int:
        """As `embed`."""
        return self.embed.min_shard_rows

    @property
    def needs(self) -> frozenset[str]:
        """Both embeddings."""
        pool = frozenset({"embedding"}) if self.stored else self.embed.needs
        return pool | {f"artifact:{EMBEDDING}"}

    @property
    def adds(self) -> frozenset[str]:
        """The evaluation rows, and the cosines."""
        return frozenset({NEAR, COSINES})

    def identity(self) -> dict[str, Any]:
        """The model, and the threshold."""
        return {"near": 1, "least": self.least, "most": MOST, **self.embed.identity()}

    def setup(self, artifacts: Artifacts) -> Any:
        """The evaluation rows' embeddings, and the model where it embeds."""
        others = np.load(artifacts[EMBEDDING] / "embedding.npy")
        return others, None if self.stored else self.embed.setup(artifacts)

    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """Compare each row with each evaluation row."""
        others, model = state
        vectors = _vectors(rows if self.stored else self.embed.apply(rows, model, frozenset()))
        owner, near, cosine = near_pairs(vectors, others, self.least, MOST)
        return pl.DataFrame(
            {
                NEAR: listed(near, owner, rows.height, pl.UInt32),
                COSINES: listed(cosine, owner, rows.height, pl.Float64),
            }
        )


def _vectors(rows: pl.DataFrame) -> NDArray[np.float32]:
    """float32 [rows, d]; zeros where there is no embedding."""
    vectors: NDArray[np.float32] = np.nan_to_num(numbers(rows["embedding"]))
    return vectors
