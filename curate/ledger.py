"""Ledger: all that a run knows of one row, and why it was kept or dropped."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.data.rows import FILE_BITS
from curate.errors import ConfigError
from curate.stage import DROP
from curate.stages.mix import draws_of

if TYPE_CHECKING:
    from curate.runs import Run

LOOKED_AT = 20_000
"""Ids among which the nearest to an unknown one is looked for."""


@dataclass(frozen=True)
class Ledger:
    """One row's story. scores: column -> (value, percentile among all scored rows, 0-100).

    verdicts: (stage, what it said of the row), in order; fate: selected, dropped, held out or quarantined.
    copies: how many other rows of the run have the same id or content.
    """

    id: str
    uid: str | None
    source: str
    file: str
    line: int | None
    fate: str
    prompt: str = ""
    response: str = ""
    scores: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    cluster: int | None = None
    tokens: int | None = None
    verdicts: Sequence[tuple[str, str]] = ()
    rank: int | None = None
    draws: Sequence[int] = ()
    copies: int = 0

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        lines = [f"{self.id}  ({self.fate})", f"  from      {place}, source {self.source}, uid {self.uid}"]
        if self.copies:
            lines.append(f"  copies    {self.copies} more rows with this id or content; this is the first")
        if self.prompt or self.response:
            lines += [f"  prompt    {_short(self.prompt)}", f"  response  {_short(self.response)}"]
        if self.tokens is not None:
            lines.append(f"  tokens    {self.tokens}")
        for name, (value, percentile) in self.scores.items():
            text = "null" if value is None else f"{value:.4g}"
            at = "" if percentile is None else f"  (higher than {percentile:.0f} % of the scored rows)"
            lines.append(f"  {name.removeprefix('score.'):<9} {text}{at}")
        if self.cluster is not None:
            lines.append(f"  cluster   {self.cluster}")
        lines += [f"  {stage}: {verdict}" for stage, verdict in self.verdicts]
        if self.draws:
            lines.append(f"  trained   at draw {', '.join(str(draw) for draw in self.draws[:8])} of an epoch")
        return "\n".join(lines)


def ledger(run: "Run", id: str) -> Ledger:
    """The ledger of the row with this id or uid; the first, where there are several.

    Raises ConfigError for an id that the run does not know.
    """
    found = run.rows.filter((pl.col("id") == id) | (pl.col("uid") == id)).collect()
    if not found.height:
        return _quarantined(run, id)
    row = found.row(0, named=True)
    position = row["position"]
    here = pl.col("position") == position
    verdicts, fate = [], "selected"
    rank = cluster = tokens = None
    draws: list[int] = []
    for stage in run.stages[1:]:
        added = set(stage["adds"])
        if "artifact:schedule" in added:
            draws = draws_of(run.path).filter(here).collect()["draw"].to_list()
            verdicts.append((stage["name"], f"drawn {len(draws)} times in an epoch"))
        wanted = sorted(added & {DROP, "reason", "rank", "cluster", "tokens"})
        if not wanted:
            continue
        entry = pl.scan_parquet(run.shards(stage)).filter(here).select(wanted).collect()
        if not entry.height:
            break
        values = entry.row(0, named=True)
        cluster = values.get("cluster", cluster)
        tokens = values.get("tokens", tokens)
        if DROP in added:
            gone = values[DROP]
            if gone is not None:
                verdicts.append((stage["name"], f"dropped: {gone}"))
                fate = (
                    "quarantined"
                    if stage["quarantined"]
                    else gone
                    if gone == "held out"
                    else f"dropped by {stage['name']}"
                )
                break
            rank = values.get("rank", rank)
            verdicts.append((stage["name"], f"kept: {values['reason']}" if values.get("reason") else "kept"))
    return Ledger(
        id=row["id"],
        uid=row["uid"],
        source=row["source"],
        file=run.info["files"][position >> FILE_BITS],
        line=row["line"],
        fate=fate,
        prompt=row["prompt"],
        response=row["response"],
        scores=_scores(run, position),
        cluster=cluster,
        tokens=tokens,
        verdicts=tuple(verdicts),
        rank=rank,
        draws=tuple(draws),
        copies=found.height - 1,
    )


def _scores(run: "Run", position: int) -> dict[str, tuple[float | None, float | None]]:
    if not (run.path / "scores.parquet").exists():
        return {}
    table = run.scores
    names = [name for name in table.collect_schema().names() if name.startswith("score.")]
    mine = table.filter(pl.col("position") == position).select(names).collect()
    if not mine.height:
        return {}
    values = mine.row(0, named=True)
    below = table.select(
        (pl.col(name) < value).sum() / pl.col(name).count() * 100
        if value is not None
        else pl.lit(None).alias(name)
        for name, value in values.items()
    ).collect()
    return {name: (value, below[name][0]) for name, value in values.items()}


def _quarantined(run: "Run", id: str) -> Ledger:
    mine: list[Any] = run.quarantine.filter(pl.col("id") == id).collect().rows(named=True)
    if not mine:
        known = run.rows.select("id").head(LOOKED_AT).collect()["id"].to_list()
        near = difflib.get_close_matches(id, known, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"Ids look like `{known[0]}`; see `run.rows`."
        raise ConfigError(f"{run.name}: unknown row id `{id}`. {hint}")
    row = mine[0]
    return Ledger(
        id=id,
        uid=None,
        source=row["source"],
        file=row["file"],
        line=row["line"],
        fate="quarantined",
        response=row["record"],
        verdicts=(("ingest", f"quarantined: {row['cause']}"),),
    )


def _short(text: str, limit: int = 200) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}…"
