"""Small pools and configurations for the tests of whole runs."""

import json
from pathlib import Path
from typing import Any

import toys

QUICK = [
    {"clean": ["exact_duplicates", {"near_duplicates": {"threshold": 0.8}}]},
    {"score": ["length"]},
    {"select": {"top": {"by": "length", "budget": 40, "order": "highest"}}},
]
"""Stages without a model."""

WHOLE = [
    {"clean": ["exact_duplicates", {"near_duplicates": {"threshold": 0.8}}]},
    {"score": ["length"]},
    {"select": {"threshold": {"by": "length", "min": 3}}},
    {"embed": {"model": "states"}},
    {"cluster": {"kmeans": {"k": 4}}},
    {"score": ["loss", "el2n", "ifd", {"donod": {"learning_rate": 0.001}}]},
    {"select": {"kmeans_quality": {"by": "donod", "budget": 48}}},
    {"mix": {"temperature": {"temperature": 2.0}}},
    {"train": {"adapter": {"lora": {"r": 2}}, "epochs": 1, "batch_rows": 8, "checkpoint_every_steps": 2}},
    {"evaluate": {"held_out": "5%"}},
]
"""Every kind of stage."""


def write_pool(folder: Path, rows: int = 200, seed: int = 0) -> Path:
    """Two sources: chat.jsonl (messages; an exact and a near duplicate) and pairs.jsonl (prompt/completion)."""
    folder.mkdir(parents=True, exist_ok=True)
    chat = toys.toy_rows(rows // 2, seed)
    copy = json.loads(json.dumps(chat[3])) | {"id": "copy-of-3"}
    near = json.loads(json.dumps(chat[5])) | {"id": "near-5"}
    near["messages"][-1]["content"] += " Indeed."
    write_jsonl(folder / "chat.jsonl", [*chat, copy, near])
    write_jsonl(folder / "pairs.jsonl", toys.toy_records(rows // 2, seed + 1)["prompt_completion"])
    return folder


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    """One record a line."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def configuration(pool: Path, stages: list[Any], model: Path | None = None, **more: Any) -> dict[str, Any]:
    """A configuration of the pool that `write_pool` made."""
    sources = [{"name": name, "path": str(pool / f"{name}.jsonl")} for name in ("chat", "pairs")]
    chosen = {} if model is None else {"model": {"path": str(model), "dtype": "float32"}}
    return {"name": "toy", "sources": sources, "stages": stages, **chosen, **more}


def outputs(run: Path) -> dict[str, bytes]:
    """The bytes of everything that a run leaves for its user, but for what holds times."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name not in ("run.json",)]
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(files)}
