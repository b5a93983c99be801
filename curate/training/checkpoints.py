"""Checkpoints: the Trainer writes them file by file; a seal, written last, says that one is whole.

Beside them, the adapters that a user asked to keep (`save_at`), which are part of the result.

The seal holds the size of each file and the digest of what is trained. A process killed in the middle of
a checkpoint leaves it without a seal, or with a file missing when the Trainer was deleting an old one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
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


class KeepAdapter(TrainerCallback):
    """Keeps the adapter as it is after some steps, in `folder/step-000012`, each whole or absent.

    steps: numbers of steps, from 1. save: writes the adapter into an existing folder. A step that is computed
    again, after a kill, is kept again.
    """

    def __init__(self, steps: Sequence[int], folder: Path, save: Callable[[Path], None]) -> None:
        self.steps, self.folder, self.save = frozenset(steps), folder, save

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by the Trainer after each optimizer step, before its own checkpoint of that step."""
        if state.global_step not in self.steps:
            return
        place = self.folder / step_name(state.global_step)
        temporary = place.with_name(f".{place.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.save(temporary)
        for file in temporary.iterdir():
            _sync(file)
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
        _sync(self.folder)


def steps_at(shares: Iterable[float], steps: int) -> list[int]:
    """The numbers of the steps at these shares of a training, ascending, each once: to the nearest, at least 1."""
    return sorted({max(1, round(share * steps)) for share in shares})


def step_name(step: int) -> str:
    """`step-000012`."""
    return f"step-{step:06d}"


def adopt_kept(steps: Iterable[int], kept: Path, out: Path) -> None:
    """Copy the adapters of these steps into `out`. Raises CurateError where one is gone."""
    for step in steps:
        place = kept / step_name(step)
        if not place.is_dir():
            raise CurateError(
                f"{place}: the adapter of step {step} is gone, and later steps are not. Remove {kept.parent}, "
                "and train again."
            )
        shutil.copytree(place, out / place.name)


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
