"""Ingest of a million rows: rows a second on one core, and peak memory.

    python benchmarks/ingest.py                   # 1,000,000 rows, JSONL
    python benchmarks/ingest.py --rows 200000 --suffix jsonl.zst

Reads chunk by chunk, as the ingest stage does in one worker, and drops each frame. The target is at least
30,000 rows/s on one core for JSONL, and a peak below 2 GiB for any container.
"""

import argparse
import gzip
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from curate.data.ingest import read_shard
from curate.data.sources import open_source
from curate.settings import SourceSpec

WORDS = [
    "the",
    "river",
    "answers",
    "every",
    "simple",
    "question",
    "with",
    "a",
    "small",
    "green",
    "stone",
    "under",
    "warm",
    "light",
]
CHUNK_ROWS = 8192


def records(rows: int) -> Iterator[dict[str, object]]:
    """Two-turn conversations of about 700 characters."""
    generator = random.Random(0)
    pool = [" ".join(generator.choices(WORDS, k=40)) for _ in range(1000)]
    for index in range(rows):
        texts = (f"{index} {generator.choice(pool)}", f"{generator.choice(pool)} {generator.choice(pool)}")
        roles = ("user", "assistant")
        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        yield {"id": f"row-{index}", "messages": turns}


def write(path: Path, rows: int) -> None:
    """Write the rows into the container that the suffix names."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(records(rows))), path)
        return
    opened = {".gz": gzip.open, ".zst": zstandard.open}.get(path.suffix, open)
    array = ".json" in path.suffixes
    with opened(path, "wt") as stream:
        stream.write("[" if array else "")
        for index, record in enumerate(records(rows)):
            stream.write((",\n" if array and index else "") + json.dumps(record) + ("" if array else "\n"))
        stream.write("]" if array else "")


def main() -> None:
    """Generate, read, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--suffix", default="jsonl", help="jsonl, jsonl.zst, jsonl.gz, json, parquet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{options.suffix}"
        write(path, options.rows)
        spec = SourceSpec(name="s", path=str(path), format="messages")
        process, peak, rows = psutil.Process(), 0, 0
        wall, cpu = time.perf_counter(), time.process_time()
        for chunk in open_source(spec)[0].chunks(CHUNK_ROWS):
            frame, _ = read_shard(chunk, spec, 0)
            rows += frame.height
            peak = max(peak, process.memory_info().rss)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{options.suffix}: {rows:,} rows, {path.stat().st_size / 2**20:,.0f} MiB: {wall:.1f} s "
            f"({rows / wall:,.0f} rows/s), {cpu:.1f} s of processor ({rows / cpu:,.0f} rows/s), "
            f"peak {peak / 2**20:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
