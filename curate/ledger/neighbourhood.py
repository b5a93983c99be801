"""Neighbourhood: the cluster of a row, and the rows whose embeddings are nearest to its own."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from curate.ledger.fates import others
from curate.ledger.stored import Stored, last, survivors
from curate.ledger.story import Cluster, Other
from curate.numerics.nearest import cosines


def cluster(stages: Sequence[Stored], position: int) -> Cluster | None:
    """The row's cluster in the last clustering; None where it has none."""
    stage = last(stages, "cluster", "cluster_distance")
    own = None if stage is None else stage.row(position, "cluster", "cluster_distance")
    if stage is None or own is None or own["cluster"] is None:
        return None
    labels = stage.scan("cluster").collect()
    members = labels.filter(pl.col("cluster") == own["cluster"])["position"].to_numpy()
    return Cluster(
        cluster=own["cluster"],
        clusters=labels["cluster"].n_unique() - (labels["cluster"].null_count() > 0),
        rows=len(members),
        kept=int(np.isin(members, survivors(stages)).sum()),
        distance=own["cluster_distance"],
    )


def neighbours(stages: Sequence[Stored], position: int, count: int) -> list[Other]:
    """The rows with the largest cosine to this one, nearest first, equal ones by position.

    None where the row was not embedded. Reads the embeddings shard by shard: memory is that of one shard.
    """
    stage = last(stages, "embedding")
    own = None if stage is None or not count else stage.row(position, "embedding")
    if stage is None or own is None or own["embedding"] is None:
        return []
    query = np.asarray(own["embedding"], dtype=np.float32)
    places, nearness = np.empty(0, dtype=np.int64), np.empty(0)
    for path in stage.run.shards(stage.record):
        shard = pl.read_parquet(path, columns=["position", "embedding"]).drop_nulls()
        shard = shard.filter(pl.col("position") != position)
        vectors = shard["embedding"].to_numpy()
        near = cosines(vectors, np.arange(len(vectors)), query)
        places = np.concatenate([places, shard["position"].to_numpy()])
        nearness = np.concatenate([nearness, near])
        best = np.lexsort((places, -nearness))[:count]
        places, nearness = places[best], nearness[best]
    return others(stages, dict(zip(places.tolist(), nearness.tolist(), strict=True)))
