"""Map: rows on a plane where near means alike, by their embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.charts.style import GREY, NAMED, NO_COLOURS, WIDTH, largest, others, others_name, palette, values

COMPONENTS = 50
PERPLEXITY = 30
ITERATIONS = 500
FEWEST_FOR_TSNE = 4 * PERPLEXITY
"""Of fewer rows the two principal components are drawn."""
SHOWN = 6
"""Sources with a colour of their own."""
NUMBERED = 40
"""Clusters whose number is written on the map."""
TEXT_CHARACTERS = 160


def coordinates(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Places on a plane, float64 [rows, 2]: t-SNE of the first 50 principal components.

    embeddings: float32 [rows, d]. Of few rows, the two principal components alone. One thread, so that the same input
    gives the same places. 4,000 rows: about 10 s on one core.
    Source: van der Maaten, Accelerating t-SNE using tree-based algorithms, 2014; initialised by PCA, after Kobak and
    Berens, The art of using t-SNE for single-cell transcriptomics, 2019.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    rows = len(centred)
    if rows < 2 or not centred.any():
        return np.zeros((rows, 2))
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]

    width = min(COMPONENTS, *centred.shape)
    with threadpool_limits(1):
        reduced: NDArray[np.float64] = PCA(width, random_state=seed % 2**32).fit_transform(centred)
        start = np.zeros((rows, 2))
        start[:, : min(2, width)] = reduced[:, :2]
        if rows < FEWEST_FOR_TSNE:
            return start
        from sklearn.manifold import TSNE  # type: ignore[import-untyped]

        found: NDArray[np.float32] = TSNE(
            perplexity=PERPLEXITY,
            max_iter=ITERATIONS,
            init=start / start[:, 0].std() * 1e-4,
            random_state=seed % 2**32,
            n_jobs=1,
        ).fit_transform(reduced)
    return found.astype(np.float64)


def embedding_map(table: pl.DataFrame, colour: str, told: str) -> Any:
    """Rows at their places, kept ones larger and on top, with their texts on hover.

    table: x, y, id, source, kept (bool), prompt, response, score.*, and cluster where rows are clustered. colour:
    source, cluster, kept, or a column `score.*`. told: how the rows were drawn.
    """
    scores = [name for name in table.columns if name.startswith("score.")]
    fields = {name: name.replace(".", "_") for name in scores}
    clustered = "cluster" in table.columns
    frame = table.sort("kept").select(
        pl.col("x", "y").round(2),
        "id",
        "source",
        pl.when("kept").then(pl.lit("kept")).otherwise(pl.lit("dropped")).alias("kept"),
        *([pl.col("cluster").cast(pl.String).fill_null("none")] if clustered else []),
        *(_cut(name) for name in ("prompt", "response")),
        *(pl.col(name).cast(pl.Float64).round_sig_figs(4).alias(field) for name, field in fields.items()),
    )
    encodings, labels = _coloured(frame, colour, fields)
    if "group" in encodings:
        frame = frame.with_columns(encodings.pop("group"))
    axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False)
    scale = alt.Scale(zero=False, nice=False, padding=10)
    place = {
        "x": alt.X("x:Q", title=None, axis=axis, scale=scale),
        "y": alt.Y("y:Q", title=None, axis=axis, scale=scale),
    }
    points = (
        alt.Chart(values(frame))
        .mark_point(filled=True)
        .encode(
            **place,
            **encodings,
            size=alt.Size("kept:N", legend=None, scale=alt.Scale(domain=["kept", "dropped"], range=[40, 16])),
            opacity=alt.Opacity(
                "kept:N", legend=None, scale=alt.Scale(domain=["kept", "dropped"], range=[1, 0.5])
            ),
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("id", "source", "kept")),
                *([alt.Tooltip("cluster:N")] if clustered else []),
                *(alt.Tooltip(f"{name}:N") for name in ("prompt", "response")),
                *(alt.Tooltip(f"{field}:Q", title=name.removeprefix("score.")) for name, field in fields.items()),
            ],
        )
    )  # fmt: skip
    chart: Any = points
    if labels is not None:
        text = alt.Chart(values(labels)).mark_text(fontWeight="bold", fontSize=11).encode(
            **place, text="cluster:N"
        )  # fmt: skip
        chart = points + text
    title = alt.TitleParams(f"Rows by likeness, coloured by {colour.removeprefix('score.')}", subtitle=told)
    return chart.properties(
        width=WIDTH + 120, height=WIDTH, title=title, description=f"Map of {frame.height} rows: {told}"
    )


def _coloured(
    frame: pl.DataFrame, colour: str, fields: dict[str, str]
) -> tuple[dict[str, Any], pl.DataFrame | None]:
    """The encodings of a colour, and labels to write on the map."""
    if colour in fields:
        field = fields[colour]
        finite = frame[field].drop_nulls().drop_nans()
        finite = finite.filter(finite.is_finite())
        low, high = (finite.quantile(at, "linear") for at in (0.01, 0.99))
        scale = alt.Scale(scheme="viridis")
        if low is not None and high is not None and low < high:
            scale = alt.Scale(scheme="viridis", domain=[low, high], clamp=True)
        title = colour.removeprefix("score.")
        known = alt.Color(f"{field}:Q", scale=scale, title=title)
        return {"color": alt.condition(f"isValid(datum.{field})", known, alt.value(GREY))}, None
    if colour == "kept":
        names = ["kept", "dropped"]
        return _by_name("kept", names, known=NAMED), None
    if colour == "cluster":
        sizes = frame.group_by("cluster").agg(pl.len(), pl.col("x", "y").median())
        names = sorted(sizes["cluster"].to_list(), key=lambda name: (len(name), name))
        shown = sizes.sort("len", "cluster", descending=[True, False]).head(NUMBERED)
        encodings = _by_name("cluster", names)
        for each in encodings.values():
            each.legend = None
        return encodings, shown.select("x", "y", "cluster")
    sizes_of: dict[str, float] = dict(frame["source"].value_counts().iter_rows())
    named = largest(sizes_of, SHOWN)
    names = named if len(named) == len(sizes_of) else [*named, others_name(named, list(sizes_of))]
    group = others(pl.col("source"), named, list(sizes_of)).alias("shown")
    return {"group": group, **_by_name("shown", names, "source")}, None


def _by_name(
    field: str, names: Sequence[str], title: str | None = None, known: Mapping[str, str] = NO_COLOURS
) -> dict[str, Any]:
    colours, shapes = palette(names, known)
    return {
        "color": alt.Color(f"{field}:N", scale=colours, sort=list(names), title=title),
        "shape": alt.Shape(f"{field}:N", scale=shapes, sort=list(names), title=title),
    }


def _cut(name: str) -> pl.Expr:
    """The start of a text, on one line."""
    flat = pl.col(name).str.head(4 * TEXT_CHARACTERS).str.replace_all(r"\s+", " ").str.strip_chars()
    cut = pl.concat_str(flat.str.head(TEXT_CHARACTERS - 1), pl.lit("…"))
    return pl.when(flat.str.len_chars() > TEXT_CHARACTERS).then(cut).otherwise(flat).alias(name)
