"""Run: open a finished or a running one, read its tables, ask it why."""

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.errors import ConfigError, CurateError
from curate.ledger import Ledger, ledger
from curate.store import Manifest

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped]
    import pyarrow as pa  # type: ignore[import-untyped]

    from curate.data.export import Exported, ExportFormat
    from curate.explore import Exploration
    from curate.plot import Plot

NAMED = 8
"""Runs that are named where a folder is none."""


@dataclass(frozen=True)
class Run:
    """A run's folder. Tables are polars LazyFrames: nothing is read before `collect`.

    Raises CurateError where the folder is no run, or the run has not come far enough for what is asked.
    """

    path: Path

    def __post_init__(self) -> None:
        if not (self.path / "run.json").is_file():
            place, near = "in", list(runs_in(self.path))
            if not near:
                place, near = "beside", list(runs_in(self.path.parent))
            names = ", ".join(run.name for run in near[-NAMED:]) or "none"
            newest = f", the newest {NAMED} of {len(near)}" if len(near) > NAMED else ""
            raise ConfigError(
                f"{self.path}: must be the folder of a run, with a run.json. Runs {place} it{newest}: {names}."
            )

    @property
    def info(self) -> Mapping[str, Any]:
        """run.json as it is now: name, configuration, versions, status, stages."""
        return json.loads((self.path / "run.json").read_bytes())  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """The folder's name, e.g. `demo-4f1c9a2b`."""
        return self.path.name

    @property
    def status(self) -> str:
        """running, done, failed or interrupted."""
        return str(self.info["status"])

    @property
    def stages(self) -> Sequence[Mapping[str, Any]]:
        """One record per finished stage, in order."""
        return self.info["stages"]  # type: ignore[no-any-return]

    @property
    def store(self) -> Path:
        """The store that this run shares with those beside it."""
        return self.path.parent / "store"

    @property
    def rows(self) -> pl.LazyFrame:
        """Every row that could be read: position, uid, id, source, group, messages, prompt, response, record …"""
        if not self.stages:
            raise self.lacks("has read no rows")
        return pl.scan_parquet(self.shards(self.stages[0]))

    @property
    def scores(self) -> pl.LazyFrame:
        """position, uid, id, source, score.* of every row that was scored."""
        return self._table("scores.parquet", "Its configuration has no `score`.")

    @property
    def selected(self) -> pl.LazyFrame:
        """The rows that were kept to the end: uid, id, source, rank, repeats, reason, scores, prompt, response."""
        texts = self.rows.select("position", "prompt", "response")
        return self._table("selection.parquet").join(texts, on="position", how="left", maintain_order="left")

    @property
    def schedule(self) -> pl.LazyFrame:
        """What is trained, in order: draw, position, uid, phase, start, length, step, composed (see stages.mix.Mix)."""
        return self._table("schedule.parquet", "Its configuration has no `mix`.")

    @property
    def dropped(self) -> pl.LazyFrame:
        """The rows that a stage rejected: uid, id, source, stage, reason."""
        return self._table("dropped.parquet")

    @property
    def quarantine(self) -> pl.LazyFrame:
        """What could not be read: file, line, ordinal, id, source, cause, record."""
        path = self.path / "quarantine.jsonl"
        columns = dict.fromkeys(("file", "id", "source", "cause", "record"), pl.String)
        schema = {**columns, "line": pl.Int64, "ordinal": pl.Int64}
        if not path.exists() or not path.stat().st_size:
            return pl.LazyFrame(schema=schema)
        return pl.scan_ndjson(path, schema=schema)

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """eval.json: held-out losses before and after, and of the baselines."""
        return self._json("eval.json", "Its configuration has no `evaluate`.")

    @property
    def health(self) -> Mapping[str, Any]:
        """health.json: distribution, length correlation and likeness of the scores (see curate.health.Health)."""
        return self._json("health.json", "Its configuration has no `score`.")

    @property
    def contamination(self) -> Mapping[str, Any]:
        """contamination.json: rows of the pool that match evaluation rows, both texts (see curate.contamination)."""
        return self._json(
            "contamination.json",
            "Its configuration has no `evaluate` and no `target`, or `check_contamination: false`.",
        )

    @property
    def stability(self) -> Mapping[str, Any]:
        """stability.json: how much of the selection stays under other seeds, precisions … (see curate.stability)."""
        return self._json("stability.json", "`curate compare CONFIG --stability` makes it.")

    @property
    def comparison(self) -> Mapping[str, Any]:
        """comparison.json: summaries, verdicts and outcomes (see curate.comparison.report)."""
        return self._json("comparison.json", "Its `pipeline` is no `compare`, or no cell of it is done.")

    @property
    def plot(self) -> "Plot":
        """Charts: `run.plot.scores("el2n")`, `run.plot.map()` … (see curate.plot.Plot)."""
        from curate.plot import Plot

        return Plot(self)

    def dataset(self) -> "datasets.Dataset":
        """The selected rows, in pool order, in their original schema."""
        from curate.data.export import dataset

        return dataset(self._originals(), self._schemas())

    def export(self, to: str | Path, format: "ExportFormat" = "jsonl") -> "Exported":
        """Write the selected rows, in pool order, in their original schema: jsonl, parquet or hf.

        Lines of untouched JSONL sources come out byte for byte. Raises ConfigError for a folder that
        is not empty.
        """
        from curate.data.export import export

        return export(self._originals(), self._schemas(), Path(to), format)

    def report(self, to: str | Path | None = None) -> Path:
        """Write the report, one HTML file that needs no network; return its path.

        to: the file, `report.html` in the run's folder unless told. Raises ConfigError where it is a folder.
        """
        from curate.report import write_report

        return write_report(self, None if to is None else Path(to))

    def why(self, id: str, losses: bool = False, neighbours: int = 5) -> Ledger:
        """The ledger of one row: where it came from, its duplicates, scores, cluster and nearest neighbours, the rule
        that kept or dropped it, when it is trained on, its losses.

        id: the row's id, its uid, or `<source>:<record number>`. losses: load the model and compute the row's loss
        before and after tuning, where the run does not hold it. Raises ConfigError for an id that is not in the run,
        or that several rows have; CurateError where there is no tuned model for `losses`.
        """
        return ledger(self, id, losses, neighbours)

    def explore(self, colour: str = "source", sample: int = 4000, seed: int = 0) -> "Exploration":
        """The map of `plot.map` as a widget in Jupyter: its `.selection` is the rows within the rectangle drawn on it.

        colour, sample, seed: as of `Plot.map`. Raises ConfigError where the extra `notebook` is not installed.
        """
        from curate.explore import explore

        return explore(self, colour, sample, seed)

    def select(self, method: Mapping[str, Any] | str, runs: Path | None = None) -> "Run":
        """Select again from the same scores: this run with its last `select` replaced, up to there.

        No score is computed again. method: as in YAML, `{"top": {"by": "el2n", "budget": "20%"}}`.
        Mixing, training and evaluation are not run. Raises ConfigError where this run has no `select`.
        """
        from curate.config import read_config
        from curate.start import start

        config = json.loads(json.dumps(self.info["config"]))
        places = [index for index, entry in enumerate(config["stages"]) if "select" in entry]
        if not places:
            raise ConfigError(f"{self.path}: has no `select` stage that could be replaced")
        config["stages"][places[-1]] = {"select": method}
        config["stop_after"] = places[-1] + 1
        return start(read_config(config).config, runs or self.path.parent, "local")

    def shards(self, record: Mapping[str, Any]) -> list[Path]:
        """The Parquet files of a stage's entry in the store."""
        folder = self.store / record["folder"]
        return [folder / s.file for s in self.manifest(record).shards if s.file.endswith(".parquet")]

    def manifest(self, record: Mapping[str, Any]) -> Manifest:
        """What a stage's entry in the store holds. Raises CurateError where the store has lost it, or a shard of it."""
        folder = self.store / record["folder"]
        if not (folder / "manifest.json").exists():
            raise CurateError(f"{folder}: is gone from the store. Run the configuration again to compute it.")
        found = Manifest.read(folder / "manifest.json")
        lost = [shard.file for shard in found.shards if not (folder / shard.file).exists()]
        if lost:
            raise CurateError(
                f"{folder / lost[0]}: is gone from the store. Run the configuration again to compute it."
            )
        return found

    def summary(self) -> pl.DataFrame:
        """The stages: name, rows, left, seconds, cached."""
        columns = ("name", "rows", "kept", "quarantined", "tokens", "seconds", "cached")
        return pl.DataFrame([{name: stage[name] for name in columns} for stage in self.stages])

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status}, {len(self.stages)} stages)"

    def _repr_html_(self) -> str:
        from curate.card import card

        return card(self)

    def _originals(self) -> Iterator[tuple[str, str]]:
        """(record, source) of the selected rows, in pool order, shard by shard."""
        kept = self._table("selection.parquet").select("position").sort("position").collect()["position"]
        for shard in self.shards(self.stages[0]):
            rows = pl.scan_parquet(shard).filter(pl.col("position").is_in(kept.implode()))
            yield from rows.select("record", "source").collect().iter_rows()

    def _schemas(self) -> dict[str, "pa.Schema | None"]:
        """For each source of the pool its Arrow schema, None for JSON."""
        import pyarrow as pa

        return {
            source: None if text is None else pa.ipc.read_schema(pa.py_buffer(b64decode(text)))
            for source, text in self.info["schemas"].items()
        }

    def lacks(self, what: str, why: str = "") -> CurateError:
        """The error for something that this run does not have, with how far the run came.

        what: "has no health.json". why: the reason where the run is done, as a sentence.
        """
        info, done = self.info, f"{len(self.stages)} stages"
        stop = info["config"].get("stop_after")
        progress = {
            "done": f"the run is done. {why}"
            if stop is None
            else f"the run ends after item {stop} (`stop_after`)",
            "running": f"the run is running, {done} done",
            "interrupted": f"the run was interrupted after {done}",
            "failed": f"the run failed after {done}: {info.get('error')}",
        }[self.status]
        return CurateError(f"{self.path}: {what}; {progress.strip().rstrip('.')}.")

    def _json(self, file: str, why: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self._file(file, why).read_bytes())
        return found

    def _table(self, file: str, why: str = "") -> pl.LazyFrame:
        return pl.scan_parquet(self._file(file, why))

    def _file(self, file: str, why: str) -> Path:
        if not (self.path / file).exists():
            raise self.lacks(f"has no {file}", why)
        return self.path / file


def runs_in(folder: Path) -> Iterator[Run]:
    """The runs of a folder, oldest first."""
    files = sorted(folder.glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return (Run(path.parent) for path in files)
