"""Store: content-addressed shards. Atomic, checksummed, locked, resumable.

`<root>/<stage>-<fingerprint>/` holds the output of one stage for one input:

    shard-00000.parquet …   logical row ranges, each written to a temporary name, synced and renamed
    shard-00000.json …      its record (rows, range, checksum), written after it; gone once sealed
    kept.npy                where the stage drops rows: positions of those that survive, int64
    files/…                 where the stage writes an artifact (an adapter, a report)
    manifest.json           written last; its presence means that the entry is complete

Only plain files and atomic renames are used, so a network file system serves. A lock keeps two runs
from computing one entry twice; were it not honoured, both would still write the same bytes.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from curate.errors import CurateError

ROWS_PER_GROUP = 65_536
KEPT = "kept.npy"


@dataclass(frozen=True)
class Shard:
    """A finished file of an entry. `first` and `last` are positions (-1 for an empty shard)."""

    file: str
    rows: int
    first: int
    last: int
    bytes: int
    checksum: str
    stats: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a complete entry holds and where it came from."""

    stage: str
    fingerprint: str
    identity: Mapping[str, Any]
    inputs: Mapping[str, Any]
    shards: Sequence[Shard]
    rows: int
    kept: int | None
    kept_checksum: str | None
    quarantined: int
    nulls: Mapping[str, int]
    tokens: int
    seconds: float
    peak_memory_bytes: int
    notes: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest. Raises CurateError where the file is not one."""
        try:
            data = json.loads(path.read_bytes())
            return cls(**{**data, "shards": tuple(Shard(**shard) for shard in data["shards"])})
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise CurateError(
                f"{path}: not a manifest ({error}). Delete its folder and run again."
            ) from error


@dataclass(frozen=True)
class Entry:
    """One folder of the store."""

    root: Path
    stage: str
    fingerprint: str

    @property
    def folder(self) -> Path:
        """Where the entry lives."""
        return self.root / f"{self.stage}-{self.fingerprint[:12]}"

    @property
    def work(self) -> Path:
        """A folder for checkpoints of an unfinished artifact; it survives a kill, and is removed at the end."""
        return self.root / f".work-{self.stage}-{self.fingerprint[:12]}"

    @property
    def files(self) -> Path:
        """Where an artifact stage keeps its files."""
        return self.folder / "files"

    def manifest(self) -> Manifest | None:
        """The manifest of a complete entry, None for one that is not."""
        path = self.folder / "manifest.json"
        return Manifest.read(path) if path.exists() else None

    def finished(self) -> dict[str, Shard]:
        """The finished shards by file name, each checked against its checksum.

        A damaged or missing one is removed and left out, and the entry loses its manifest, so that
        it is computed again; its neighbours stay. O(bytes of the entry).
        """
        manifest = self.manifest()
        if manifest is not None:
            shards = list(manifest.shards)
        else:
            records = sorted(self.folder.glob("*.json")) if self.folder.exists() else []
            shards = [
                Shard(**json.loads(path.read_bytes())) for path in records if path.name != "manifest.json"
            ]
        sound = {
            shard.file: shard for shard in shards if _checksum(self.folder / shard.file) == shard.checksum
        }
        kept = manifest.kept_checksum if manifest is not None else None
        damaged = len(sound) < len(shards) or (kept is not None and _checksum(self.folder / KEPT) != kept)
        if manifest is not None and damaged:
            for shard in sound.values():
                self._record(shard)
            (self.folder / "manifest.json").unlink()
        for shard in shards:
            if shard.file not in sound:
                (self.folder / shard.file).unlink(missing_ok=True)
                self._record_path(shard.file).unlink(missing_ok=True)
        return sound

    def write_shard(
        self, file: str, frame: pl.DataFrame, stats: Mapping[str, float], record: bool = True
    ) -> Shard:
        """Write a frame with an ascending `position` column as one shard, atomically.

        record: whether it is finished by itself, and not only with all the others of the entry.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / file) as temporary:
            frame.write_parquet(temporary, compression="zstd", row_group_size=ROWS_PER_GROUP, statistics=True)
        first, last = (int(frame["position"][0]), int(frame["position"][-1])) if frame.height else (-1, -1)
        return self._finish(file, frame.height, first, last, stats, record)

    def write_bytes(self, file: str, data: bytes, stats: Mapping[str, float]) -> Shard:
        """Write a file that is no table, atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / file) as temporary:
            temporary.write_bytes(data)
        return self._finish(file, 0, -1, -1, stats)

    def adopt_files(self, temporary: Path) -> list[Shard]:
        """Make a folder written elsewhere in the store this entry's `files/`, and record each file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.files.exists():
            shutil.rmtree(self.files)
        for path in temporary.rglob("*"):
            if path.is_file():
                _sync(path)
        os.replace(temporary, self.files)
        paths = sorted(path for path in self.files.rglob("*") if path.is_file())
        return [
            self._finish(str(path.relative_to(self.folder)), 0, -1, -1, {}, record=False) for path in paths
        ]

    def write_kept(self, positions: NDArray[np.int64]) -> str | None:
        """Write the positions of the rows that survive this entry, ascending; return the checksum."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / KEPT) as temporary, temporary.open("wb") as stream:
            np.save(stream, positions)
        return _checksum(self.folder / KEPT)

    def seal(self, manifest: Manifest) -> None:
        """Write the manifest, last, and remove the shards' own records and the work folder."""
        write_json(self.folder / "manifest.json", asdict(manifest))
        for shard in manifest.shards:
            self._record_path(shard.file).unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)

    @contextmanager
    def lock(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold this entry against other runs; `waiting` is told its name once if another run holds it."""
        name = f".lock-{self.stage}-{self.fingerprint[:12]}"
        with hold(self.root / name, lambda: waiting(self.folder.name)):
            yield

    def _finish(
        self, file: str, rows: int, first: int, last: int, stats: Mapping[str, float], record: bool = True
    ) -> Shard:
        path = self.folder / file
        checksum = _checksum(path)
        if checksum is None:
            raise CurateError(f"{path}: vanished while it was written. Is something else cleaning the store?")
        shard = Shard(file, rows, first, last, path.stat().st_size, checksum, dict(stats))
        if record:
            self._record(shard)
        return shard

    def _record(self, shard: Shard) -> None:
        write_json(self._record_path(shard.file), asdict(shard))

    def _record_path(self, file: str) -> Path:
        """Beside a shard; of a file of an artifact, under a name that no artifact's file has."""
        if "/" not in file and file.endswith(".parquet"):
            return (self.folder / file).with_suffix(".json")
        return self.folder / f"{file}.record.json"


@contextmanager
def hold(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file against other processes; `waiting` is called once if another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    told = False
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except filelock.Timeout:
            if not told:
                waiting()
            told = True
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, synced, when the block ends without error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def kept_positions(folder: Path) -> NDArray[np.int64]:
    """Positions of the rows that survive the entry of this folder, int64 [rows], ascending, memory-mapped."""
    positions: NDArray[np.int64] = np.load(folder / KEPT, mmap_mode="r")
    return positions


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, keys in the order given."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")


def fingerprint(data: Any) -> str:
    """A 128-bit hexadecimal fingerprint of JSON data, the same for any order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _checksum(path: Path) -> str | None:
    if not path.is_file():
        return None
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
