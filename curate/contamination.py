"""Contamination: the report of the stage `contamination`, contamination.json, with both texts of each match.

Its shape; numbers are counts of rows unless they say otherwise:

    {
      "words": 13, "max_prompts": 10, "min_share": 0.0, "similarity": null, "drop": false,   the settings
      "rows": 2999,              rows of the pool that were looked at
      "matched": 7,              of these, rows that match an evaluation row
      "kept": 2,                 of these, rows that are in the run's selection
      "half": 3,                 of `matched`, rows with half of the evaluation row's n-grams or more, or near to it
      "kinds": {"n-gram": 6, "embedding": 0, "both": 1},        `matched` by kind
      "evaluation": {            per source of evaluation rows (held out, `evaluate.sources`, `target`), in pool order
        "dev": {"rows": 300, "found": 5, "pool_rows": 7}        its rows; those matched; pool rows that match one
      },
      "unjudged": 0,             evaluation rows that consist of common n-grams alone: nothing can match them
      "kept_away": {             per source of the pool, what `hold_out` took out before: same prompt or conversation
        "math": {"rows": 2000, "pool_rows": 40}                 rows read and not held out; taken out of these
      },
      "common": [                phrases of evaluation rows that many prompts share, at most 20: not counted as matches
        {"rows": 812, "source": "dev", "id": "dev:3", "words": "translate the following …"}     pool rows with it
      ],
      "matches": [               the strongest 1,000, the strongest first, one per row of the pool
        {
          "id": "chat:17", "uid": "…", "source": "chat", "position": 17,       the row of the pool
          "kept": true,                                         whether it is in the selection
          "evaluation_id": "dev:4", "evaluation_source": "dev", "evaluation_position": 1099511627780,
          "others": 0,                                          further evaluation rows that it matches
          "kind": "n-gram",                                     or "embedding", or "both"
          "ngrams": 21, "share": 0.84,                          n-grams of the evaluation row that it has; their share
          "similarity": null,                                   cosine of the two, null where not near or not compared
          "part": "prompt",                                     of the pool's row: prompt, response or both; or null
          "words": "a train leaves …",                          the longest run of words that both have; or null
          "prompt": "…", "response": "…",                       texts, each cut at 2,000 characters
          "evaluation_prompt": "…", "evaluation_response": "…"
        }
      ],
      "warnings": ["7 of 2,999 rows …"]                          sentences
    }

There is no contamination.json where a run has no such stage (`check_contamination: false`, or nothing to leak into).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curate.stage import DROP
from curate.stages.hold_out import SHARED
from curate.stages.matches import INDEX, MATCHES
from curate.store import Manifest, write_json

MOST_MATCHES = 1000
CHARACTERS = 2000
TEXTS = ("prompt", "response")
SUSPECT_FRACTION = 0.5
"""Share of a source that `hold_out` kept away, above which the source is taken for an evaluation file itself."""


def write_contamination(
    folder: Path, store: Path, records: Sequence[Mapping[str, Any]], tell: Callable[[str], None]
) -> None:
    """Write contamination.json into a run's folder whose selection.parquet is there, and tell its warnings.

    Removes an older one, and writes none, where no stage looked for contamination.
    """
    target = folder / "contamination.json"
    judged = [record for record in records if MATCHES in record["adds"]]
    if not judged:
        target.unlink(missing_ok=True)
        return
    notes = judged[-1]["notes"]
    (index,) = [record for record in records if f"artifact:{INDEX}" in record["adds"]]
    evaluation = pl.read_parquet(store / index["folder"] / "files" / "rows.parquet")
    selected = pl.scan_parquet(folder / "selection.parquet").select("position", kept=pl.lit(True))
    matched = pl.scan_parquet(_shards(store, judged[-1])).filter(pl.col(MATCHES) > 0)
    matched = matched.join(selected, on="position", how="left").with_columns(pl.col("kept").fill_null(False))
    rows = pl.scan_parquet(_shards(store, records[0]))
    (hold_out,) = [record for record in records if "held_out" in record["adds"]]
    report = {
        **{name: notes[name] for name in ("words", "max_prompts", "min_share", "similarity", "drop")},
        **{name: notes[name] for name in ("rows", "matched", "half")},
        "kept": int(matched.select(pl.col("kept").sum()).collect().item()),
        **{name: notes[name] for name in ("kinds", "evaluation", "unjudged")},
        "kept_away": _kept_away(rows, pl.scan_parquet(_shards(store, hold_out))),
        "common": notes["common"],
        "matches": _matches(matched, rows, evaluation),
    }
    report["warnings"] = list(_warnings(report))
    write_json(target, report)
    for warned in report["warnings"]:
        tell(f"warning: {warned}")


def _matches(matched: pl.LazyFrame, rows: pl.LazyFrame, evaluation: pl.DataFrame) -> list[dict[str, Any]]:
    """The strongest matches, as contamination.json has them."""
    strength = pl.max_horizontal(pl.col("contamination.share"), pl.col("contamination.similarity"))
    order = (strength, pl.col("contamination.ngrams"), pl.col("position"))
    first = matched.sort(*order, descending=[True, True, False], nulls_last=True).head(MOST_MATCHES).collect()
    own = rows.filter(pl.col("position").is_in(first["position"].implode())).select(
        "position", "uid", "id", "source", *TEXTS
    )
    other = evaluation.select(pl.all().name.prefix("evaluation_"))
    told = (
        first.join(own.collect(), on="position", how="left", maintain_order="left")
        .join(
            other,
            left_on="contamination.position",
            right_on="evaluation_position",
            how="left",
            maintain_order="left",
        )
        .select(
            *("id", "uid", "source", "position", "kept", "evaluation_id", "evaluation_source"),
            pl.col("contamination.position").alias("evaluation_position"),
            (pl.col(MATCHES) - 1).alias("others"),
            pl.when(pl.col("contamination.ngrams").is_null())
            .then(pl.lit("embedding"))
            .when(pl.col("contamination.similarity").is_null())
            .then(pl.lit("n-gram"))
            .otherwise(pl.lit("both"))
            .alias("kind"),
            *(pl.col(f"contamination.{name}").alias(name) for name in ("ngrams", "share", "similarity")),
            *(pl.col(f"contamination.{name}").alias(name) for name in ("part", "words")),
            *(pl.col(name).str.head(CHARACTERS) for name in TEXTS),
            *(pl.col(f"evaluation_{name}").str.head(CHARACTERS) for name in TEXTS),
        )
    )
    return told.to_dicts()


def _kept_away(rows: pl.LazyFrame, held_out: pl.LazyFrame) -> dict[str, dict[str, int]]:
    """For each source of the pool that lost rows to `hold_out`: its rows not held out; those of them that it lost."""
    away = held_out.filter(~pl.col("held_out")).select("position", away=pl.col(DROP) == SHARED)
    table = (
        away.join(rows.select("position", "source"), on="position", how="left", maintain_order="left")
        .group_by("source", maintain_order=True)
        .agg(pl.len(), pl.col("away").fill_null(False).sum())
        .filter(pl.col("away") > 0)
    )
    return {source: {"rows": count, "pool_rows": lost} for source, count, lost in table.collect().iter_rows()}


def _warnings(report: Mapping[str, Any]) -> Iterator[str]:
    for source, counts in report["kept_away"].items():
        if counts["pool_rows"] > SUSPECT_FRACTION * counts["rows"]:
            yield (
                f"contamination: {counts['pool_rows']:,} of {counts['rows']:,} rows of source `{source}` have the "
                "prompt of a held-out row and were left out. Is it an evaluation file too?"
            )
    if report["matched"] and not report["drop"]:
        found = ", ".join(
            f"{counts['found']:,} of {counts['rows']:,} rows of `{source}`"
            for source, counts in report["evaluation"].items()
            if counts["found"]
        )
        yield (
            f"contamination: {report['matched']:,} of {report['rows']:,} rows of the pool match {found}; "
            f"{report['half']:,} have half of the evaluation row or more; "
            f"selected of these: {report['kept']:,}. Look at both texts in contamination.json; "
            "`- contamination: {drop: true}` in `stages` drops them."
        )


def _shards(store: Path, record: Mapping[str, Any]) -> list[Path]:
    entry = store / record["folder"]
    shards = Manifest.read(entry / "manifest.json").shards
    return [entry / shard.file for shard in shards if shard.file.endswith(".parquet")]
