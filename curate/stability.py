"""Stability: how much of a selection stays when what should not matter is changed (see `variations`).

The list up to its last `select` is run once as it is and once for each variation; what a variation does not change
comes from the store, and so does all of it when the command is given again. Of each variation, against the base:

- same: the rows that both kept, as a share of the larger selection; jaccard: of the rows that either kept; overlap: of
  the smaller selection. Rows are told apart by their place in the pool.
- what two random selections of the same sizes would share, each drawn from what its last `select` chose from: of M
  candidates in common, M · (a / A) · (b / B), for a of A and b of B rows; `jaccard_by_chance` is the ratio of the
  expectations.
- tokens_same: the supervised tokens of the shared rows, as a share of the base's.
- rank_spearman: over the shared rows; scores: Spearman of each score over the rows that have it in both.

A verdict for each axis goes by its least alike variation and k = (same - chance) / (1 - chance), both as shares of the
larger selection: 1 "does not depend"; from 0.9 "hardly depends"; from 0.5 "depends in part"; from 0.1 "depends
strongly"; below "no more alike than random".

Source: chance-corrected agreement after Cohen, A coefficient of agreement for nominal scales, 1960; the thresholds are
this project's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.overlap import LEAST_ROWS, score_correlations
from curate.progress import Observer, Silent
from curate.runs import Run
from curate.spec import Config
from curate.start import RunnerName, start
from curate.store import write_json
from curate.variations import AXES, variations

FILE, TABLE = "stability.json", "stability.md"
HEAD = (
    "varied", "rows", "shared", "same", "Jaccard", "by chance", "overlap", "tokens", "ranks", "scores",
)  # fmt: skip
"""Columns of the table. by chance: the Jaccard of random selections; ranks, scores: Spearman."""
PRINTED = ("varied", "rows", "same", "Jaccard", "by chance", "ranks", "scores")
"""Those that fit a terminal; of the scores the least alike."""
HARDLY, PARTLY, STRONGLY = 0.9, 0.5, 0.1
"""Least agreement beyond chance of a verdict."""


@dataclass(frozen=True)
class Likeness:
    """A variation's selection beside the base's; see the module. Correlations of fewer than 3 rows are None."""

    rows: int
    candidates: int
    shared: int
    same: float
    same_by_chance: float
    jaccard: float
    jaccard_by_chance: float
    overlap: float
    tokens_same: float | None
    rank_spearman: float | None
    scores: Mapping[str, float]


def stability(
    config: Config,
    runs: Path,
    runner: RunnerName = "ray",
    observer: Observer | None = None,
    seeds: Sequence[int] | None = None,
    proxies: Sequence[str] = (),
) -> Run:
    """Run the base and every variation; write stability.json and stability.md into the base's folder, and open it.

    The files are written after each variation, so that an interruption leaves what is known. Raises as `variations`
    and `start`.
    """
    told = observer or Silent()
    wanted = variations(config, seeds, proxies)
    told.note("stability: as it is")
    base = start(wanted.base, runs, runner, told)
    mine = chosen(base)
    kept = int(mine["rank"].is_not_null().sum())
    found: list[dict[str, Any]] = []
    for number, each in enumerate(wanted.found, start=1):
        told.note(f"stability: {each.label} ({number} of {len(wanted.found)})")
        other = start(each.config, runs, runner, told)
        alike = likeness(mine, chosen(other), score_correlations(base, other))
        named = {"axis": each.axis, "varied": each.label, "was": each.was, "value": each.value}
        found.append({**named, "run": other.name, **asdict(alike)})
        report = {
            "base": {"run": base.name, "rows": kept, "candidates": mine.height},
            "variations": found,
            "left_out": dict(wanted.left_out),
            "verdicts": [
                verdict(axis, inside)
                for axis in AXES
                if (inside := [one for one in found if one["axis"] == axis])
            ],
        }
        write_json(base.path / FILE, report)
        (base.path / TABLE).write_text(markdown(report))
    return base


def chosen(run: Run) -> pl.DataFrame:
    """What the last `select` of a run chose from: position, rank (null where dropped), supervised_tokens (null where
    nothing was tokenised)."""
    last = [record for record in run.stages if "rank" in record["adds"]][-1]
    table = pl.scan_parquet(run.shards(last)).select("position", "rank")
    made = [record for record in run.stages if "supervised_tokens" in record["adds"]]
    if not made:
        return table.with_columns(pl.lit(None, dtype=pl.Int64).alias("supervised_tokens")).collect()
    tokens = pl.scan_parquet(run.shards(made[-1])).select("position", "supervised_tokens")
    return table.join(tokens, on="position", how="left").collect()


def likeness(base: pl.DataFrame, other: pl.DataFrame, scores: Mapping[str, float]) -> Likeness:
    """Compare two selections from one pool, as `chosen` gives them; tokens are counted as in the base."""
    kept, theirs = base.drop_nulls("rank"), other.drop_nulls("rank")
    both = kept.join(theirs, on="position", suffix=".other")
    common = base.join(other, on="position", how="semi").height
    first, second, shared = kept.height, theirs.height, both.height
    by_chance = common * (first / base.height) * (second / other.height)
    tokens = int(kept["supervised_tokens"].sum())
    rho = (
        both.select(pl.corr("rank", "rank.other", method="spearman")).item() if shared >= LEAST_ROWS else None
    )
    return Likeness(
        rows=second,
        candidates=other.height,
        shared=shared,
        same=shared / max(first, second),
        same_by_chance=by_chance / max(first, second),
        jaccard=shared / (first + second - shared),
        jaccard_by_chance=by_chance / (first + second - by_chance),
        overlap=shared / min(first, second),
        tokens_same=int(both["supervised_tokens"].sum()) / tokens if tokens else None,
        rank_spearman=None if rho is None else float(rho),
        scores=scores,
    )


def verdict(axis: str, inside: Sequence[Mapping[str, Any]]) -> str:
    """What the variations of an axis say, in a sentence."""
    worst = min(inside, key=lambda each: float(each["same"]))
    same, chance = worst["same"], worst["same_by_chance"]
    if same == 1:
        return f"{axis}: the selection does not depend on it: all rows are the same."
    beyond = (same - chance) / (1 - chance)
    rows = f"{_share(same)} of the rows the same with {worst['varied']}; random selections would share {_share(chance)}"
    if beyond < STRONGLY:
        return f"{axis}: the selections are no more alike than random ones: {rows}."
    depends = (
        "hardly depends on it"
        if beyond >= HARDLY
        else "depends on it in part"
        if beyond >= PARTLY
        else "depends strongly on it"
    )
    return f"{axis}: the selection {depends}: {rows}."


def markdown(told: Mapping[str, Any]) -> str:
    """The report as a table and sentences."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(cells(each))} |" for each in told["variations"]]
    return "\n".join([*lines, "", *(f"- {each}" for each in sentences(told)), ""])


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What was compared with, the verdicts, and what was not varied."""
    base = told["base"]
    return [
        f"As it is, {base['rows']:,} of {base['candidates']:,} rows are kept.",
        *told["verdicts"],
        *(f"{axis}: not varied: {cause}." for axis, cause in told["left_out"].items()),
    ]


def cells(each: Mapping[str, Any]) -> list[str]:
    """A variation as a line of a table under HEAD."""
    scores = ", ".join(f"{name} {rho:.3f}" for name, rho in _whole(each["scores"]))
    return [
        each["varied"],
        f"{each['rows']:,}",
        f"{each['shared']:,}",
        _share(each["same"]),
        f"{each['jaccard']:.3f}",
        f"{each['jaccard_by_chance']:.3f}",
        f"{each['overlap']:.3f}",
        "-" if each["tokens_same"] is None else _share(each["tokens_same"]),
        "-" if each["rank_spearman"] is None else f"{each['rank_spearman']:.3f}",
        scores or "-",
    ]


def least_alike(each: Mapping[str, Any]) -> str:
    """The score that changed most, with its Spearman."""
    found = _whole(each["scores"])
    if not found:
        return "-"
    name, rho = min(found, key=lambda one: one[1])
    return f"{name} {rho:.3f}"


def _whole(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Scores without their parts."""
    return [(name, rho) for name, rho in scores.items() if "." not in name]


def _share(value: float) -> str:
    """`97.3 %`; what is not all is never rounded to 100 %."""
    return f"{min(value, 0.999) if value < 1 else value:.1%}"
