"""Does the choice help? `python benchmarks/comparison.py POOL.parquet DEV.parquet`: `curate compare` on real rows.

POOL and DEV have the text columns `domain`, `prompt` and `response`. --rows rows of POOL, of each domain an equal share
as far as it goes, of 40 to --max-characters, one in five of them spoiled (the four kinds of `noise.py`, the truth
kept in `corruption`); --dev-rows clean rows of each domain of DEV are held out. Then `comparison.yaml`: five methods,
random, length-matched random and the pool as it is, at two budgets with three seeds: 72 trainings of equal supervised
tokens in equally many steps. Prints comparison.md of the run. What is stored is not computed again.
"""

import argparse
from pathlib import Path

import polars as pl
import yaml
from noise import sample, spoil, write

import curate


def main() -> None:
    """Make the pool, run the comparison, print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--dev-rows", type=int, default=8)
    parser.add_argument("--max-characters", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--runner", choices=("ray", "local"), default="ray")
    told = parser.parse_args()

    rows = sample(told.pool, told.rows, told.max_characters, told.seed).head(told.rows)
    pool = spoil(rows, told.rate, told.seed)
    dev = sample(told.dev, 10**9, told.max_characters, told.seed)
    data = told.runs / "comparison-data"
    config = yaml.safe_load((Path(__file__).parent / "comparison.yaml").read_text())
    config["sources"] = [
        {"name": name, "path": write(part, data / "pool" / f"{name}.jsonl"), "metadata": ["corruption"]}
        for (name,), part in pool.sort("domain", "row").group_by("domain", maintain_order=True)
    ]
    held_out = dev.sort("domain", "row").filter(pl.int_range(pl.len()).over("domain") < told.dev_rows)
    config["stages"][-1]["evaluate"]["sources"] = [
        {"name": f"dev_{name}", "path": write(part, data / "dev" / f"{name}.jsonl")}
        for (name,), part in held_out.group_by("domain", maintain_order=True)
    ]
    run = curate.run(config, runs=told.runs, runner=told.runner)
    print((run.path / "comparison.md").read_text())
    print(run.path)


if __name__ == "__main__":
    main()
