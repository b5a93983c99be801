"""What each selector keeps of a pool: `python benchmarks/selections.py POOL.parquet DEV.parquet`.

Both have the text columns `domain`, `prompt` and `response`. The pool goes through an ordinary run without a model:
text scores, wordllama embeddings, k-means; the target is --target-rows rows of each of --domains of DEV. Then each
selector takes the same share, and of what it keeps is told:

  domains      how many of the pool's domains it has, and exp of the entropy of their shares
  clusters     the share of k = 1024 clusters (not those that selectors read, k = 256) with a row kept
  nearest      the mean cosine distance of a kept row to the nearest other one: high is diverse
  coverage     the mean cosine of a pool row to the nearest kept one: high is representative
  duplicates   the share of the kept rows with a cosine above 0.95 to an earlier kept one
  target       the share that is of the target's domains
  Jaccard      with the most similar other selector, and in the mean over all others
  seconds      of the selection alone, from the stored columns to the stored ledger

Scores stand for quality only by name: which of them is any good is another benchmark's question.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl

import curate
from curate.numerics.kmeans import assign, train

QUALITY = {"by": "compression_ratio", "order": "highest"}
SCORES = ["length", "compression_ratio", "type_token_ratio", "overlap"]
METHODS: dict[str, Any] = {
    "random": {"random": {}},
    "top": {"top": {**QUALITY}},
    "top, per cluster": {"top": {**QUALITY, "per": "cluster"}},
    "band": {"band": {"by": "compression_ratio", "low": 0.1, "high": 0.9}},
    "round_robin": {"round_robin": {**QUALITY, "per": "cluster"}},
    "gumbel_top": {"gumbel_top": {**QUALITY, "temperature": 0.1}},
    "stratified": {"stratified": {"by": "compression_ratio"}},
    "adaptive_clusters": {"adaptive_clusters": {"by": SCORES}},
    "kmeans_quality": {"kmeans_quality": {**QUALITY}},
    "closest_to_centroid": {"closest_to_centroid": {}},
    "facility_location": {"facility_location": {}},
    "facility_location, pruned": {"facility_location": {"kernel": "pruned"}},
    "graph_cut": {"graph_cut": {}},
    "log_determinant": {"log_determinant": {}},
    "smart": {"smart": {"per": "cluster"}},
    "deita": {"deita": {**QUALITY}},
    "k_center": {"k_center": {}},
    "leverage": {"leverage": {"draw": "sample"}},
    "transport": {"transport": {}},
    "test_centric": {"test_centric": {}},
    "round_robin_target": {"round_robin_target": {}},
    "importance_resampling": {"importance_resampling": {}},
}
DUPLICATE_COSINE = 0.95


def nearest_others(kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For unit rows: the cosine to the nearest other one, and whether an earlier one is a duplicate."""
    index = faiss.IndexFlatIP(kept.shape[1])
    index.add(kept)
    nearest = np.full(len(kept), -1.0)
    copies = np.zeros(len(kept), dtype=bool)
    for start in range(0, len(kept), 1024):
        block = kept[start : start + 1024] @ kept.T
        rows = np.arange(start, start + len(block))
        block[np.arange(len(block)), rows] = -1
        nearest[rows] = block.max(axis=1)
        copies[rows] = (np.where(np.arange(len(kept)) < rows[:, None], block, -1) > DUPLICATE_COSINE).any(
            axis=1
        )
    return nearest, copies


def coverage(pool: np.ndarray, kept: np.ndarray) -> float:
    """The mean cosine of a pool row to the nearest kept one."""
    index = faiss.IndexFlatIP(kept.shape[1])
    index.add(kept)
    similarity, _ = index.search(pool, 1)
    return float(similarity.mean())


def told(
    table: pl.DataFrame, vectors: np.ndarray, fine: np.ndarray, rows: np.ndarray, wanted: list[str]
) -> dict[str, Any]:
    """The figures of one selection."""
    domains = table["meta.domain"].gather(rows)
    shares = domains.value_counts()["count"].to_numpy() / len(rows)
    nearest, copies = nearest_others(vectors[rows])
    return {
        "domains": int(domains.n_unique()),
        "effective_domains": float(np.exp(-(shares * np.log(shares)).sum())),
        "clusters": len(np.unique(fine[rows])) / (fine.max() + 1),
        "nearest": float(1 - nearest.mean()),
        "coverage": coverage(vectors, vectors[rows]),
        "duplicates": float(copies.mean()),
        "target": float(domains.is_in(wanted).mean()),
    }


def base(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration up to the selection."""
    work = arguments.runs / "selectors-data"
    work.mkdir(parents=True, exist_ok=True)
    dev = pl.read_parquet(arguments.dev, columns=["domain", "prompt", "response"]).drop_nulls()
    dev = dev.filter(dev["domain"].is_in(arguments.domains)).sample(fraction=1, shuffle=True, seed=0)
    dev.filter(pl.int_range(pl.len()).over("domain") < arguments.target_rows).write_ndjson(
        work / "target.jsonl"
    )
    pool = pl.read_parquet(arguments.pool, columns=["domain", "prompt", "response"]).drop_nulls()
    if arguments.rows:
        pool = pool.sample(arguments.rows, seed=0)
    pool.write_parquet(work / "pool.parquet")
    columns = {"prompt": "prompt", "response": "response"}
    source = {"format": "prompt_completion", "columns": columns}
    return {
        "name": "selectors",
        "sources": [{"name": "pool", "path": str(work / "pool.parquet"), "metadata": ["domain"], **source}],
        "target": {"path": str(work / "target.jsonl"), **source},
        "stages": [
            {"score": SCORES},
            {"embed": {"model": arguments.embedder}},
            {"cluster": {"kmeans": {"k": 256}}},
            {"select": {"random": {"budget": arguments.budget}}},
        ],
    }


def stored(run: curate.Run, column: str) -> pl.DataFrame:
    """position and a column, of every row, from the store."""
    (stage,) = [each for each in run.stages if column in each["adds"]]
    return pl.read_parquet(run.shards(stage), columns=["position", column])


def main() -> None:
    """Select by each method, print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pool", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--budget", default="5%")
    parser.add_argument("--rows", type=int, help="a random part of the pool")
    parser.add_argument("--domains", nargs="+", default=["math", "code"])
    parser.add_argument("--target-rows", type=int, default=100)
    parser.add_argument("--embedder", default="package:wordllama")
    parser.add_argument("--only", nargs="+", choices=list(METHODS))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    first = curate.run(base(arguments), runs=arguments.runs, runner="local")
    table = first.rows.select("position", "meta.domain").collect()
    embedded = table.join(stored(first, "embedding"), on="position", how="inner", maintain_order="left")
    vectors = np.ascontiguousarray(embedded["embedding"].to_numpy())
    fine, _ = assign(vectors, train(vectors[:: max(1, len(vectors) // 60_000)], 1024, 10, 1, True, 1), True)
    found: dict[str, dict[str, Any]] = {}
    kept: dict[str, set[int]] = {}
    for name, method in METHODS.items():
        if arguments.only and name not in arguments.only:
            continue
        ((kind, fields),) = method.items()
        begun = time.monotonic()
        run = first.select({kind: {**fields, "budget": arguments.budget}})
        seconds = run.stages[-1]["seconds"]
        rows = np.flatnonzero(embedded["position"].is_in(run.selected.collect()["position"].implode()))
        kept[name] = set(rows.tolist())
        found[name] = {**told(embedded, vectors, fine, rows, arguments.domains), "seconds": seconds}
        print(f"{name}: {time.monotonic() - begun:.1f} s {json.dumps(found[name])}", flush=True)
    print(markdown(found, kept))


def markdown(found: Mapping[str, Mapping[str, Any]], kept: Mapping[str, set[int]]) -> str:
    """The table."""
    lines = [
        "| selector | domains (effective) | clusters | nearest | coverage | duplicates | target "
        "| Jaccard: nearest, mean | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        others = {
            other: len(kept[name] & kept[other]) / len(kept[name] | kept[other])
            for other in found
            if other != name
        }
        most = max(others, key=lambda other: others[other], default=None)
        alike = "-" if most is None else f"{others[most]:.2f} {most}, {np.mean(list(others.values())):.2f}"
        cells = [
            f"{row['domains']} ({row['effective_domains']:.1f})",
            f"{row['clusters']:.0%}",
            f"{row['nearest']:.3f}",
            f"{row['coverage']:.3f}",
            f"{row['duplicates']:.1%}",
            f"{row['target']:.1%}",
            alike,
            f"{row['seconds']:.1f}",
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
