"""Pruning for good, in a pool that grows: what an earlier run pruned stays pruned, what it knew stands first."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.data.storage import content_hash
from curate.errors import ConfigError
from curate.numerics.adaptive import members_of, prune
from curate.numerics.kmeans import unit_rows
from curate.pool import Pool

PRUNED = "pruned as redundant"
"""How the reason of a row that was pruned begins: an earlier run's ledger is read by it."""

TABLES = ("selection.parquet", "dropped.parquet")


def tables(run: Path) -> tuple[Path, Path]:
    """The tables of a run's folder. Raises ConfigError where it has none: it is no run, or not a finished one."""
    selection, dropped = (run / name for name in TABLES)
    for file in (selection, dropped):
        if not file.is_file():
            raise ConfigError(f"`earlier` must be the folder of a finished run. {run} has no {file.name}.")
    return selection, dropped


def fingerprint(run: Path) -> list[str]:
    """Hashes of the tables, whatever the folder is called."""
    return [content_hash(str(file)) for file in tables(run)]


def standing(run: Path, uids: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each row, by its uid: its standing, and whether it was pruned.

    Standing: int64 [rows], 0 where the run selected the row, 1 where it knew it, 2 where the row is new.
    Pruned: bool [rows], where the run pruned the row and all its exact copies that came to the same stage: a copy
    that an earlier stage dropped as a duplicate saves no row.
    """
    file, other_file = tables(run)
    selection = pl.read_parquet(file, columns=["uid"])
    dropped = pl.read_parquet(other_file, columns=["uid", "stage", "reason"])
    was_pruned = pl.col("reason").str.starts_with(PRUNED)
    gone = dropped.filter(was_pruned)
    beside = dropped.filter(~was_pruned).join(gone.select("stage").unique(), on="stage", how="semi")
    selected, known = _among(uids, selection), _among(uids, dropped)
    level = np.where(selected, 0, np.where(known, 1, 2))
    return level, _among(uids, gone) & ~selected & ~_among(uids, beside)


def _among(uids: pl.Series, table: pl.DataFrame) -> NDArray[np.bool_]:
    return uids.is_in(table["uid"].unique().implode()).to_numpy()


def pruned(
    pool: Pool, labels: NDArray[np.int64], count: int, share: float, earlier: Path | None
) -> tuple[NDArray[np.bool_], pl.Series, dict[str, Any]]:
    """Which rows are pruned, bool [rows]; why, String [rows], null for the others; and counts.

    labels: int64 [rows], the cluster of each row, -1 for none. share: of each cluster's rows that an earlier run has
    not pruned. A row without an embedding is not pruned.
    """
    gone, level = np.zeros(pool.rows, dtype=np.bool_), np.zeros(pool.rows, dtype=np.int64)
    if earlier is not None:
        level, gone = standing(earlier, pool.frame["uid"])
    gone &= labels >= 0
    texts = pl.select(pl.when(pl.Series(gone)).then(pl.lit(f"{PRUNED} by an earlier run"))).to_series()
    counts = {"pruned": 0, "pruned_earlier": int(gone.sum())}
    if not share:
        return gone, texts, counts
    vectors = unit_rows(pool.vectors("embedding"))
    live = np.where(gone | np.isnan(vectors).any(axis=1), -1, labels)
    place = np.empty(pool.rows, dtype=np.int64)
    place[np.lexsort((pool.keys("redundancy"), level))] = np.arange(pool.rows)
    found = prune(vectors, members_of(live, count), place, share)
    nearest = pl.DataFrame({"m": found.nearest, "to": pool.frame["id"].gather(np.maximum(found.to, 0))})
    text = pl.format(f"{PRUNED}: cosine {{}} to {{}}, of the same cluster", pl.col("m").round(4), "to")
    now = nearest.select(pl.when(pl.Series(found.is_pruned)).then(text)).to_series()
    return gone | found.is_pruned, texts.fill_null(now), {**counts, "pruned": int(found.is_pruned.sum())}
