"""Small pools for the tests of selectors and mixers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from curate.pool import Pool, Target

WORDS = [
    "add",
    "two",
    "numbers",
    "write",
    "a",
    "poem",
    "about",
    "the",
    "sea",
    "in",
    "french",
    "sort",
    "this",
    "list",
    "of",
    "names",
]


def pool_of(
    columns: Mapping[str, Any], better: Mapping[str, bool | None] | None = None, seed: int = 0
) -> Pool:
    """A pool of the given columns, all of one length; uid, source and position are added where missing."""
    rows = len(next(iter(columns.values())))
    filled = {
        "position": np.arange(rows),
        "uid": [f"uid-{row}" for row in range(rows)],
        "source": ["only"] * rows,
        **columns,
    }
    return Pool(pl.DataFrame(filled, strict=False), better or {}, seed)


def random_pool(rows: int, seed: int = 0, duplicates: bool = False, nulls: bool = False) -> Pool:
    """Rows of three sources and four clusters, with two scores (`good`: high is better; `mixed`: two-sided).

    Each has texts and an embedding of 8 numbers and unit length; the target has five rows of both.
    duplicates: some rows share their uid. nulls: some rows have no score.
    """
    rng = np.random.default_rng(seed)
    scores = {name: rng.permutation(rows) / max(rows, 1) + 0.01 for name in ("good", "mixed")}
    missing = rng.random(rows) < (0.2 if nulls else 0.0)
    if rows:
        missing[0] = False
    uids = rng.integers(0, max(rows // 2, 1), rows) if duplicates else np.arange(rows)
    vectors = unit(rng.normal(size=(rows, 8)))
    words = rng.choice(WORDS, (rows, 6)).tolist()
    pool = pool_of(
        {
            "uid": [f"uid-{number}" for number in uids],
            "id": [f"id-{row}" for row in range(rows)],
            "source": rng.choice(["chat", "code", "math"], rows, p=[0.6, 0.1, 0.3]).tolist(),
            "cluster": rng.integers(0, 4, rows).astype(np.int32),
            "supervised_tokens": (counts := rng.integers(1, 60, rows).astype(np.int32)),
            "supervised_characters": counts * 3 + 1,
            "cluster_distance": rng.random(rows).astype(np.float32),
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 8)),
            "prompt": [" ".join(some[:3]) for some in words],
            "response": [" ".join(some[3:]) for some in words],
            **{
                f"score.{name}": [
                    None if gone else value for value, gone in zip(values, missing, strict=True)
                ]
                for name, values in scores.items()
            },
        },
        {"score.good": True, "score.mixed": None},
        seed,
    )
    texts = [" ".join(some) for some in rng.choice(WORDS[:6], (5, 3)).tolist()]
    target = Target(unit(rng.normal(size=(5, 8))), pl.DataFrame({"prompt": texts, "response": texts}))
    return replace(pool, target=target)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32 [rows, d]."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def shuffled(pool: Pool, seed: int = 1) -> Pool:
    """The same rows in another order, at new positions."""
    order = np.random.default_rng(seed).permutation(pool.rows)
    frame = pool.frame[order.tolist()].with_columns(position=np.arange(pool.rows))
    return replace(pool, frame=frame, remarks={})


def uids(pool: Pool, rows: np.ndarray) -> list[str]:
    """The uids of rows, in their order."""
    return pool.frame["uid"].gather(rows).to_list()
