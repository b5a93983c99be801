"""Plotted: the tables and values that a run's charts show."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.errors import CurateError
from curate.health import health
from curate.numerics.seeds import derive, uniform
from curate.stage import DROP
from curate.stages.hold_out import HELD_OUT
from curate.stages.mix import COMPOSED, SCHEDULE, draws_of

if TYPE_CHECKING:
    from curate.charts.pool import Passed
    from curate.runs import Run

TOKENS = "supervised tokens"
CURVE = "curve.jsonl"


def score_names(run: "Run") -> list[str]:
    """The columns `score.*` of a run, in order. Raises CurateError where nothing was scored."""
    return [name for name in run.scores.collect_schema().names() if name.startswith("score.")]


def scored(run: "Run", names: Sequence[str]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Scores of all scored rows, and `kept`, whether to the end; and for each score how many rows it was asked of."""
    kept = _kept(run)
    table = run.scores.select(*names, pl.col("position").is_in(kept.implode()).alias("kept")).collect()
    asked = {name: stage["rows"] for stage in run.stages for name in stage["adds"]}
    return table, {name: asked[name] for name in names}


def health_of(run: "Run") -> Mapping[str, Any]:
    """health.json; of a run from before it was written, the same from its scores."""
    if (run.path / "health.json").exists() or not (run.path / "scores.parquet").exists():
        return run.health
    rows = {name: stage["rows"] for stage in run.stages for name in stage["adds"]}
    return health(run.scores, rows).as_dict()


def pool(run: "Run") -> pl.LazyFrame:
    """position, source and response of the rows that could be read and were not held out."""
    rows = _first(run).select("position", "source", "response")
    for stage in run.stages:
        gone = pl.col(DROP).is_not_null() if stage["quarantined"] else None
        if "held_out" in stage["adds"]:
            gone = pl.col("held_out")
        if gone is not None:
            out = pl.scan_parquet(run.shards(stage)).filter(gone).select("position")
            rows = rows.join(out, on="position", how="anti", maintain_order="left")
    return rows


def measured(run: "Run") -> tuple[pl.DataFrame, str]:
    """length and selected of each row of the pool; and what the length is in."""
    kept = _kept(run)
    chosen = pl.col("position").is_in(kept.implode()).alias("selected")
    tokenised = _last(run, "tokens")
    if tokenised is None:
        characters = pl.col("response").str.len_chars().alias("length")
        return pool(run).select(characters, chosen).collect(), "characters of the response"
    lengths = pl.scan_parquet(run.shards(tokenised)).select("position", pl.col("tokens").alias("length"))
    rows = pool(run).select("position").join(lengths, on="position", how="left")
    return rows.select("length", chosen).collect(), "tokens"


def mixed(run: "Run") -> tuple[pl.DataFrame, list[str]]:
    """at, source, rows and, with a model, supervised tokens: what each source has at each point; and the units."""
    tokenised = _last(run, "supervised_tokens")
    rows = pool(run).select("position", "source")
    units = ["rows"]
    if tokenised is not None:
        units.append(TOKENS)
        tokens = pl.scan_parquet(run.shards(tokenised)).select(
            "position", pl.col("supervised_tokens").alias(TOKENS)
        )
        rows = rows.join(tokens, on="position", how="left")
    table = rows.with_columns(rows=1).collect().lazy()
    parts = {"read": table}
    if (run.path / "scores.parquet").exists():
        parts["scored"] = table.join(run.scores.select("position"), on="position", how="semi")
    parts["selected"] = table.filter(pl.col("position").is_in(_kept(run).implode()))
    if (run.path / SCHEDULE).exists():
        parts["trained"] = _drawn(run, table, tokenised)
    elif _last(run, "artifact:adapter") is not None:
        parts["trained"] = parts["selected"]
    sums = [
        part.group_by("source")
        .agg(pl.col(units).sum())
        .sort("source")
        .select(pl.lit(at).alias("at"), "source", *units)
        for at, part in parts.items()
    ]
    return pl.concat([part.cast(dict.fromkeys(units, pl.Float64)) for part in sums]).collect(), units


def _drawn(run: "Run", table: pl.LazyFrame, tokenised: Mapping[str, Any] | None) -> pl.LazyFrame:
    """As `table`, a row for each draw: of a piece its own supervised tokens, of a composed example equal parts."""
    draws = draws_of(run.path)
    found = draws.join(table, on="position", how="inner")
    if tokenised is None:
        return found
    pieces = run.schedule.filter(pl.col("start").is_not_null()).select("draw", "position", "start", "length")
    marks = pl.scan_parquet(run.shards(tokenised)).select("position", "supervised")
    inside = pl.col("supervised").list.slice("start", "length").list.sum().cast(pl.Float64)
    own = pieces.join(marks, on="position", how="inner").select("draw", inside.alias("own"))
    if (run.path / COMPOSED).exists():
        made = pl.scan_parquet(run.path / COMPOSED).with_row_index("composed")
        part = pl.col("supervised").list.sum().cast(pl.Float64) / pl.col("members").list.len()
        parts = made.select(pl.col("composed").cast(pl.Int64), part.alias("own"))
        whole = run.schedule.filter(pl.col("composed").is_not_null()).select("draw", "composed")
        own = pl.concat([own, whole.join(parts, on="composed").select("draw", "own")])
    return found.join(own, on="draw", how="left").with_columns(
        pl.coalesce(pl.col("own"), pl.col(TOKENS).cast(pl.Float64)).alias(TOKENS)
    )


def passed(run: "Run") -> "list[Passed]":
    """What each stage that may drop rows left and took out; at the end, the rows that the schedule never draws."""
    from curate.charts.pool import Passed, masked

    stages = _stages(run)
    found, causes = [], Counter[tuple[str, str]]()
    for stage in stages[1:]:
        if DROP not in stage["adds"]:
            continue
        gone = pl.scan_parquet(run.shards(stage)).select(DROP).drop_nulls()
        held = pl.col(DROP) == HELD_OUT
        counts = (
            gone.group_by(masked(pl.col(DROP)).alias("reason"), held.alias("held")).agg(pl.len()).collect()
        )
        lost = Counter[tuple[str, str]]()
        for reason, is_held, rows in counts.iter_rows():
            kind = "quarantined" if stage["quarantined"] else "held out" if is_held else "dropped"
            lost[kind, reason] += rows
        if stage["quarantined"]:
            causes += lost
        found.append(Passed(stage["name"], stage["kept"], lost))
    unread = run.quarantine.select(masked(pl.col("cause")).alias("cause")).collect()["cause"].to_list()
    first = stages[0]
    at_first = Counter(("quarantined", cause) for cause in unread) - causes
    found.insert(0, Passed(first["name"], first["kept"], at_first))
    if (run.path / SCHEDULE).exists() and (run.path / "selection.parquet").exists():
        repeats = run.selected.select("repeats").collect()["repeats"]
        never = int((repeats == 0).sum())
        lost_at_last = {("not drawn", "in no draw of the schedule"): never} if never else {}
        found.append(Passed("schedule", len(repeats) - never, lost_at_last))
    return found


def curves(run: "Run") -> tuple[dict[str, pl.DataFrame], dict[str, float]]:
    """The training curves of the selection and its baselines; the held-out losses (mean over sources), if known."""
    found = {}
    for stage in _stages(run):
        name = "selected" if "artifact:adapter" in stage["adds"] else stage["name"].removeprefix("train.")
        if name == "selected" or (name != stage["name"] and f"artifact:{name}" in stage["adds"]):
            found[name] = _curve(run.store / stage["folder"] / "files" / CURVE)
    if not found:
        raise run.lacks("has no training", "Its configuration has no `train`.")
    if not (run.path / "eval.json").exists():
        return found, {}
    return found, {name: each["source_mean"] for name, each in run.evaluation["losses"].items()}


def _curve(path: Path) -> pl.DataFrame:
    if not path.exists():
        raise CurateError(f"{path}: is gone from the store. Run the configuration again to compute it.")
    return pl.read_ndjson(path)


def costs(run: "Run") -> list[dict[str, Any]]:
    """name, outputs, cached, seconds, rows and tokens of each stage; apart, what was stored and what computed of it."""
    groups: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for record in _stages(run):
        groups.setdefault((record.get("stage", record["name"]), record["cached"]), []).append(record)
    labels = [label for label, _ in groups]
    return [
        {
            "name": label if labels.count(label) == 1 else f"{label} ({'stored' if cached else 'computed'})",
            "outputs": ", ".join(record["name"] for record in records),
            "cached": cached,
            **{field: max(record[field] for record in records) for field in ("seconds", "rows", "tokens")},
        }
        for (label, cached), records in groups.items()
    ]


def mapped(run: "Run", sample: int, seed: int) -> pl.DataFrame:
    """position, x, y, kept, id, source, prompt, response, cluster and scores of a sample of the embedded rows.

    Up to half of the sample are kept rows. Raises CurateError where the run embedded nothing.
    """
    places = _places(run.path, tuple(stage["folder"] for stage in run.stages), sample, seed)
    rows = places.lazy().join(
        _first(run).select("position", "id", "source", "prompt", "response"), on="position", how="left"
    )
    clustered = _last(run, "cluster")
    if clustered is not None:
        clusters = pl.scan_parquet(run.shards(clustered)).select("position", "cluster")
        rows = rows.join(clusters, on="position", how="left")
    if (run.path / "scores.parquet").exists():
        rows = rows.join(run.scores.select("position", *score_names(run)), on="position", how="left")
    return rows.sort("position").collect()


@lru_cache(maxsize=8)
def _places(path: Path, folders: tuple[str, ...], sample: int, seed: int) -> pl.DataFrame:
    """position, kept, x and y of a sample. folders: of the run's stages, so that a run that has grown is seen."""
    from curate.charts.map import coordinates
    from curate.runs import Run

    run = Run(path)
    kept = pl.col("position").is_in(_kept(run).implode()).alias("kept")
    rows = _embeddings(run).select("position", kept).collect()
    if rows.is_empty():
        raise CurateError(f"{run.path}: has no embeddings: no row that came to `embed` could be embedded.")
    keys = rows["position"].cast(pl.String).to_list()
    ordered = rows.with_columns(draw=uniform(derive(seed, "map"), keys)).sort("draw", "position")
    chosen, dropped = ordered.filter("kept"), ordered.filter(~pl.col("kept"))
    of_kept = min(chosen.height, max(sample // 2, sample - dropped.height))
    drawn = pl.concat([chosen.head(of_kept), dropped.head(sample - of_kept)]).sort("position")
    table = (
        _embeddings(run)
        .filter(pl.col("position").is_in(drawn["position"].implode()))
        .select("position", "embedding")
        .sort("position")
        .collect()
    )
    places = coordinates(table["embedding"].to_numpy(), seed)
    return drawn.select("position", "kept").with_columns(
        x=pl.Series(places[:, 0], dtype=pl.Float64), y=pl.Series(places[:, 1], dtype=pl.Float64)
    )


def _embeddings(run: "Run") -> pl.LazyFrame:
    stage = _last(run, "embedding")
    if stage is None:
        raise run.lacks("has no embeddings", "Its configuration has no `embed`.")
    return pl.scan_parquet(run.shards(stage)).filter(pl.col("embedding").is_not_null())


def _stages(run: "Run") -> Sequence[Mapping[str, Any]]:
    if not run.stages:
        raise CurateError(f"{run.path}: no stage is done; the run is {run.status}.")
    return run.stages


def _first(run: "Run") -> pl.LazyFrame:
    _stages(run)
    return run.rows


def _last(run: "Run", column: str) -> Mapping[str, Any] | None:
    """The last stage that added a column or an artifact."""
    return next((stage for stage in reversed(_stages(run)) if column in stage["adds"]), None)


def _kept(run: "Run") -> pl.Series:
    """Positions of the rows that were kept to the end."""
    _stages(run)
    return run.selected.select("position").collect()["position"]
