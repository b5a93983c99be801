"""Checkpoints: the Trainer writes them file by file; a seal, written last, says that one is whole.

The seal holds the size of each file and the digest of what is trained. A process killed in the middle of
a checkpoint leaves it without a seal, or with a file missing when the Trainer was deleting an old one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from curate.errors import CurateError

SEAL = "complete.json"


class SealCheckpoint(TrainerCallback):
    """Seals each checkpoint once the Trainer has written all of it.

    plan: digest of what is trained.
    """

    def __init__(self, plan: str) -> None:
        self.plan = plan

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by the Trainer after a checkpoint."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        seal(folder, self.plan)


def seal(folder: Path, plan: str) -> None:
    """Flush all files of a checkpoint to disk, then write its seal, atomically."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in files:
        _sync(file)
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in files}
    temporary = folder / f".{SEAL}"
    temporary.write_text(json.dumps({"plan": plan, "sizes": sizes}))
    _sync(temporary)
    temporary.rename(folder / SEAL)
    _sync(folder)


def last_complete(work: Path, plan: str) -> Path | None:
    """The latest whole checkpoint in `work`; broken ones are removed, for the Trainer would count them.

    Raises CurateError if a whole one belongs to another training.
    """
    found: list[tuple[int, Path]] = []
    for folder in work.glob("checkpoint-*"):
        sealed = _read_seal(folder)
        if sealed is None:
            shutil.rmtree(folder)
        elif sealed != plan:
            raise CurateError(
                f"{folder}: a checkpoint of another training (other rows, order, settings, seed or model). "
                f"Remove {work} or give this training a folder of its own."
            )
        else:
            found.append((int(folder.name.rpartition("-")[2]), folder))
    return max(found)[1] if found else None


def digest(identity: dict[str, Any], arrays: Iterable[NDArray[Any]]) -> str:
    """A name for what is trained: settings and arrays, in order."""
    state = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16)
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def _read_seal(folder: Path) -> str | None:
    file = folder / SEAL
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    for name, size in content["sizes"].items():
        part = folder / name
        if not part.exists() or part.stat().st_size != size:
            return None
    return str(content["plan"])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
