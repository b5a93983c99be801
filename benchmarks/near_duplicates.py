"""Near duplicates: ours beside Data-Juicer and datasketch, on the same rows, in one run.

    python benchmarks/near_duplicates.py POOL.parquet --threshold 0.7 --peer-python VENV/bin/python

POOL has the text columns `prompt` and `response`; the text of a row is the two joined by a newline,
lower-cased, cut into words at whitespace, five words a shingle, 128 hashes for us and for datasketch, 256
(its default) for Data-Juicer. Data-Juicer needs an environment of its own: `pip install py-data-juicer
aiohttp` (1.6.1 imports aiohttp, which it does not require). Seconds are from the texts in memory to the
list of survivors; of `--repeats` runs the fastest.

Quality is measured on the first `--exact-rows` rows, against all pairs. A true pair has exact Jaccard
similarity ≥ threshold. Found: true pairs of which at least one row is dropped. Justified: dropped rows that
are in a true pair.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.clean.near_duplicates import NearDuplicates
from curate.cleaner import FrameColumns
from curate.numerics.components import components
from curate.numerics.shingles import normalise

NGRAM = 5
BATCH_ROWS = 8192

DATA_JUICER = """
import json, sys, time
from datasets import disable_progress_bars
disable_progress_bars()
from data_juicer.core.data import NestedDataset
from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
import pandas
path, threshold, processes, out = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
frame = pandas.read_parquet(path)
dataset = NestedDataset.from_pandas(frame)
method = DocumentMinhashDeduplicator(
    tokenization="space", window_size=5, lowercase=True, jaccard_threshold=threshold
)
start = time.perf_counter()
signed = dataset.map(method.compute_hash, num_proc=processes, load_from_cache_file=False)
middle = time.perf_counter()
kept, _ = method.process(signed)
end = time.perf_counter()
json.dump({"sign": middle - start, "group": end - middle, "kept": list(kept["row"])}, open(out, "w"))
"""


@dataclass(frozen=True)
class Outcome:
    """Seconds of the two steps, and the rows that survive, int64, ascending."""

    sign: float
    group: float
    kept: NDArray[np.int64]


def ours(rows: pl.DataFrame, threshold: float) -> Outcome:
    """Sign in batches of a shard's size, then group."""
    method = NearDuplicates(threshold=threshold, ngram=NGRAM)
    start = time.perf_counter()
    parts = [method.sign(rows[first : first + BATCH_ROWS]) for first in range(0, len(rows), BATCH_ROWS)]
    signed = rows.hstack(pl.concat(parts))
    middle = time.perf_counter()
    survivor = method.group(FrameColumns(signed)).survivor
    return Outcome(middle - start, time.perf_counter() - middle, np.unique(survivor))


def datasketch(rows: pl.DataFrame, threshold: float) -> Outcome:
    """MinHashLSH as in its documentation; groups are the components of its candidates, the first survives."""
    from datasketch import MinHash, MinHashLSH

    start = time.perf_counter()
    sets = [[gram.encode() for gram in shingles(text)] for text in texts_of(rows)]
    sketches = MinHash.bulk(sets, num_perm=128)
    middle = time.perf_counter()
    index = MinHashLSH(threshold=threshold, num_perm=128)
    edges: list[tuple[int, int]] = []
    for row, sketch in enumerate(sketches):
        edges.extend((other, row) for other in index.query(sketch))
        index.insert(row, sketch, check_duplication=False)
    left, right = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    kept = np.unique(components(len(rows), left, right))
    return Outcome(middle - start, time.perf_counter() - middle, kept)


def data_juicer(python: Path, processes: int) -> Callable[[pl.DataFrame, float], Outcome]:
    """Data-Juicer's DocumentMinhashDeduplicator, in the environment of that interpreter."""

    def run(rows: pl.DataFrame, threshold: float) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            texts, out = Path(folder) / "texts.parquet", Path(folder) / "out.json"
            pl.DataFrame({"text": texts_of(rows), "row": np.arange(len(rows))}).write_parquet(texts)
            command = [str(python), "-c", DATA_JUICER, str(texts), str(threshold), str(processes), str(out)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"Data-Juicer failed in {python}:\n{done.stderr[-2000:]}")
            found = json.loads(out.read_text())
        return Outcome(found["sign"], found["group"], np.array(found["kept"], dtype=np.int64))

    return run


def texts_of(rows: pl.DataFrame) -> list[str]:
    """The text of each row."""
    return rows.select(pl.concat_str("prompt", "response", separator="\n")).to_series().to_list()


def shingles(text: str) -> set[str]:
    """Five-grams of words; a shorter text is its own."""
    words = normalise(text).split()
    return {" ".join(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))}


def true_pairs(rows: pl.DataFrame, threshold: float) -> NDArray[np.int64]:
    """All pairs of rows with similarity ≥ threshold, int64 [pairs, 2], by counting common shingles."""
    sets = [shingles(text) for text in texts_of(rows)]
    sizes = np.array([len(grams) for grams in sets])
    postings: dict[str, list[int]] = {}
    found: list[tuple[int, int]] = []
    for row, grams in enumerate(sets):
        met = [postings.setdefault(gram, []) for gram in grams]
        common = np.bincount([other for holders in met for other in holders], minlength=row)
        alike = common >= threshold * (sizes[row] + sizes[: len(common)] - common)
        found.extend((int(other), row) for other in np.flatnonzero(alike))
        for holders in met:
            holders.append(row)
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def quality(outcome: Outcome, rows: int, pairs: NDArray[np.int64]) -> tuple[float, float]:
    """(found, justified), see above; NaN where nothing could be found or was dropped."""
    dropped = np.ones(rows, dtype=np.bool_)
    dropped[outcome.kept] = False
    paired = np.zeros(rows, dtype=np.bool_)
    paired[pairs.ravel()] = True
    found = dropped[pairs].any(axis=1).mean() if len(pairs) else np.nan
    return float(found), float(paired[dropped].mean()) if dropped.any() else np.nan


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path, help="Parquet file with the columns prompt and response")
    parser.add_argument("--rows", type=int, default=40_000, help="rows of the timing, from the first")
    parser.add_argument("--exact-rows", type=int, default=8_000, help="rows of the comparison with all pairs")
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with Data-Juicer")
    parser.add_argument("--processes", type=int, default=2, help="processes that Data-Juicer may use")
    asked = parser.parse_args()

    rows = pl.read_parquet(asked.pool, columns=["prompt", "response"], n_rows=asked.rows)
    few = rows[: asked.exact_rows]
    pairs = true_pairs(few, asked.threshold)
    systems = {"curate": ours, "datasketch": datasketch}
    if asked.peer_python is None:
        print("Data-Juicer: not run; give --peer-python.", file=sys.stderr)
    else:
        systems["Data-Juicer"] = data_juicer(asked.peer_python, asked.processes)
    print(
        f"{len(rows)} rows, Jaccard ≥ {asked.threshold}; quality on {len(few)} rows, {len(pairs)} true pairs"
    )
    print(f"{'':12} {'sign s':>8} {'group s':>8} {'total s':>8} {'dropped':>8} {'found':>8} {'justified':>9}")
    for name, system in systems.items():
        runs = [system(rows, asked.threshold) for _ in range(asked.repeats)]
        best = min(runs, key=lambda outcome: outcome.sign + outcome.group)
        found, justified = quality(system(few, asked.threshold), len(few), pairs)
        seconds = f"{best.sign:8.2f} {best.group:8.2f} {best.sign + best.group:8.2f}"
        dropped = len(rows) - len(best.kept)
        print(f"{name:12} {seconds} {dropped:8d} {found:8.1%} {justified:9.1%}", flush=True)


if __name__ == "__main__":
    main()
