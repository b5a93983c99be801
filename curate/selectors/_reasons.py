"""Reasons of a million rows at once: text built by columns, never row by row."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.pool import Groups, Pool, label_of


def no_score(column: str) -> str:
    """Why a row without the value was never a candidate."""
    return f"no score ({column} is null)"


def rank_texts(pool: Pool, column: str, order: NDArray[np.int64], highest: bool) -> pl.Series:
    """Texts like "el2n 0.83, rank 17 of 500 (highest first)", String [rows]; `no_score` outside `order`."""
    first = "highest" if highest else "lowest"
    text = pl.format(
        f"{{}} {{}}, rank {{}} of {len(order)} ({first} first)", pl.lit(label_of(column)), "value", "place"
    )
    return _placed(pool, order, text, no_score(column), pool.texts(column))


def place_texts(pool: Pool, order: NDArray[np.int64]) -> pl.Series:
    """Texts like "random place 17 of 500", String [rows]."""
    return _placed(pool, order, pl.format(f"random place {{}} of {len(order)}", "place"), "", None)


def _placed(
    pool: Pool, order: NDArray[np.int64], text: pl.Expr, otherwise: str, values: pl.Series | None
) -> pl.Series:
    place = np.zeros(pool.rows, dtype=np.int64)
    place[order] = np.arange(1, len(order) + 1)
    frame = pl.DataFrame({"place": place}).with_columns(
        pl.lit(None).alias("value") if values is None else values.alias("value")
    )
    return frame.select(pl.when(pl.col("place") > 0).then(text).otherwise(pl.lit(otherwise))).to_series()


def share_texts(
    texts: pl.Series, kept: NDArray[np.int64], order: NDArray[np.int64], groups: Groups, per: str
) -> pl.Series:
    """The texts, each of `order` followed by "; source chat: 40 of 200 rows kept", String [rows].

    texts: String [rows]. per: the name of the column behind `groups`.
    """
    of, sizes = groups.sizes(kept), groups.sizes(order)
    shares = pl.Series(
        [
            f"; {per} {name}: {of[index]} of {sizes[index]} rows kept"
            for index, name in enumerate(groups.names)
        ],
        dtype=pl.String,
    )
    inside = np.zeros(len(texts), dtype=np.bool_)
    inside[order] = True
    frame = pl.DataFrame({"text": texts, "share": shares.gather(groups.labels), "inside": inside})
    whole = pl.when("inside").then(pl.concat_str("text", "share")).otherwise("text")
    return frame.select(whole).to_series()


def after(texts: pl.Series, rows: NDArray[np.bool_], more: str | pl.Series) -> pl.Series:
    """The texts with `more` (one text, or String [rows]) appended where `rows` is true, String [rows]."""
    frame = pl.DataFrame({"text": texts, "rows": rows}).with_columns(
        more=pl.lit(more) if isinstance(more, str) else more
    )
    whole = pl.when("rows").then(pl.concat_str("text", "more")).otherwise("text")
    return frame.select(whole).to_series()


def mask(rows: int, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True at the chosen rows, bool [rows]."""
    flags = np.zeros(rows, dtype=np.bool_)
    flags[chosen] = True
    return flags
