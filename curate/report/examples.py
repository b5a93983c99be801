"""Examples: the rows at either end of each score, and what lies nearest to some of the selected rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.errors import CurateError

if TYPE_CHECKING:
    from curate.runs import Run

ENDS = 10
"""Rows at either end of a score."""
CHARACTERS = 300
"""Of a text that are shown."""
ASKED = 12
"""Selected rows whose neighbours are shown: half of them the most redundant ones."""
NEAR = 3
AMONG = 100_000
"""Rows among which the nearest are looked for."""
KEPT = 10_000
"""Selected rows that are compared with each other."""
REDUNDANT = 0.95
"""Cosine from which two rows are counted as saying the same."""


@dataclass(frozen=True)
class Example:
    """A row as it is shown. fate: kept, or the stage that dropped it; value: what it is shown for, of a score."""

    id: str
    source: str
    fate: str
    prompt: str
    response: str
    value: float | None = None


@dataclass(frozen=True)
class Extremes:
    """The rows at the ends of a score. better: which end is good by the method's own word, or None for neither."""

    score: str
    better: bool | None
    highest: list[Example]
    lowest: list[Example]


@dataclass(frozen=True)
class Neighbourhood:
    """A selected row and its nearest other rows, the nearest first; their `value` is the cosine."""

    row: Example
    near: list[Example]


@dataclass(frozen=True)
class Redundancy:
    """How near the selected rows are to each other.

    median: of the cosine of a kept row to its nearest other kept one; redundant: the share of those from REDUNDANT on.
    kept, among: how many kept rows were compared with each other, and how many rows the shown ones were compared with.
    """

    median: float
    redundant: float
    kept: int
    among: int
    shown: list[Neighbourhood]


def extremes(run: "Run") -> list[Extremes]:
    """The ends of each score, but for the parts of scores. Raises CurateError where the run has no scores."""
    scores = run.scores
    names = [
        name
        for name in scores.collect_schema().names()
        if name.startswith("score.") and "." not in name.removeprefix("score.")
    ]
    better = _directions(run)
    ends: dict[str, tuple[list[tuple[int, float]], list[tuple[int, float]]]] = {}
    for name in names:
        table = scores.select("position", name).drop_nulls().collect().sort(name, "position")
        few = min(ENDS, table.height // 2)
        ends[name] = (table.tail(few).reverse().rows(), table.head(few).rows())
    wanted = {position for each in ends.values() for end in each for position, _ in end}
    shown = _examples(run, sorted(wanted))

    def rows(end: list[tuple[int, float]]) -> list[Example]:
        return [replace(shown[position], value=value) for position, value in end]

    return [
        Extremes(name.removeprefix("score."), better.get(name), rows(highest), rows(lowest))
        for name, (highest, lowest) in ends.items()
    ]


def redundancy(run: "Run") -> Redundancy:
    """What lies nearest to the selected rows. Raises CurateError where nothing was embedded, or one row is kept."""
    from curate.numerics.diversity import nearest_other

    stages = [stage for stage in run.stages if "embedding" in stage["adds"]]
    if not stages:
        raise CurateError("No row was embedded. An `embed` stage adds the embeddings.")
    table = pl.scan_parquet(run.shards(stages[-1])).select("position", "embedding").drop_nulls()
    positions = table.select("position").collect()["position"].to_numpy()
    selected = run.selected.select("position").collect()["position"].to_numpy()
    kept = _spread(selected[np.isin(selected, positions)], KEPT)
    if len(kept) < 2:
        raise CurateError(f"Of the selected rows {len(kept)} are embedded; neighbours need two.")
    among = np.union1d(_spread(positions, AMONG), kept)
    found = table.filter(pl.col("position").is_in(pl.Series(among).implode())).sort("position").collect()
    vectors = found["embedding"].to_numpy()
    mine = vectors[np.searchsorted(among, kept)]
    nearest = nearest_other(mine)
    asked = _asked(mine, nearest)
    near = [_nearest(vectors, among, mine[index], kept[index]) for index in asked]
    shown = _examples(
        run, sorted({*kept[asked].tolist(), *(position for each in near for position, _ in each)})
    )
    return Redundancy(
        median=float(np.median(nearest)),
        redundant=float((nearest >= REDUNDANT).mean()),
        kept=len(kept),
        among=len(among),
        shown=[
            Neighbourhood(
                shown[int(kept[index])], [replace(shown[position], value=cosine) for position, cosine in each]
            )
            for index, each in zip(asked, near, strict=True)
        ],
    )


def cut(text: str, characters: int = CHARACTERS) -> str:
    """The beginning of a text, white space run together."""
    flat = " ".join(text[: 4 * characters].split())
    return flat if len(flat) <= characters and len(text) <= 4 * characters else f"{flat[:characters]}…"


def _asked(vectors: NDArray[np.float32], nearest: NDArray[np.float32]) -> list[int]:
    """Half the rows that are nearest to another, none redundant with one before it, then others evenly by rank."""
    few = min(ASKED, len(nearest))
    redundant: list[int] = []
    for index in np.argsort(-nearest, kind="stable").tolist():
        if len(redundant) == (few + 1) // 2:
            break
        if not (vectors[redundant] @ vectors[index] >= REDUNDANT).any():
            redundant.append(index)
    others = [index for index in range(len(nearest)) if index not in set(redundant)]
    return [*redundant, *_spread(np.array(others, dtype=np.int64), few - len(redundant)).tolist()]


def _nearest(
    vectors: NDArray[np.float32], positions: NDArray[np.int64], query: NDArray[np.float32], own: int
) -> list[tuple[int, float]]:
    """(position, cosine) of the rows nearest to a query, without the row itself."""
    cosines = vectors @ query
    cosines[np.searchsorted(positions, own)] = -np.inf
    order = np.argsort(-cosines, kind="stable")[: min(NEAR, len(vectors) - 1)]
    return [(int(positions[index]), float(cosines[index])) for index in order]


def _spread(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most so many of the values, evenly spaced, in their order."""
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).round().astype(np.int64)]


def _examples(run: "Run", positions: list[int]) -> dict[int, Example]:
    """The rows at these positions."""
    here = pl.col("position").is_in(positions)
    fates = dict(run.dropped.filter(here).select("position", "stage").collect().iter_rows())
    rows = run.rows.filter(here).select("position", "id", "source", "prompt", "response").collect()
    return {
        position: Example(
            id,
            source,
            f"dropped by {fates[position]}" if position in fates else "kept",
            cut(prompt),
            cut(response),
        )
        for position, id, source, prompt, response in rows.iter_rows()
    }


def _directions(run: "Run") -> Mapping[str, bool | None]:
    """Score column -> whether higher is better, as the stages of the run's configuration say."""
    from curate.config import read_config
    from curate.pipeline import build

    stages = build(read_config(json.loads(json.dumps(run.info["config"]))).config)
    return {name: better for stage in stages for name, better in stage.directions.items()}
