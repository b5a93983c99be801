"""Mixture search: a model tuned on each partition, and candidate mixtures ranked by the models' averages.

Two stages. The first tunes one model per partition, from one start and seed, on as much data each; a partition
that is finished is not trained again after a kill, and within one the trainer's checkpoints hold. The second
merges the models for each candidate (`training.merging`) and measures its loss on rows that none was tuned on.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.budget import Budget
from curate.errors import ConfigError, DataError
from curate.mixer import Preparation
from curate.mixers._candidates import Candidates
from curate.numerics.baselines import random_to_tokens
from curate.numerics.ranking import ranked
from curate.numerics.seeds import derive
from curate.pool import Pool
from curate.stage import ArtifactStage, Inputs, Stage, Tell
from curate.stages.models import ModelHandle
from curate.stages.rows import token_rows
from curate.stages.train import Tuning
from curate.store import write_json
from curate.training.adapters.lora import Lora
from curate.training.spec import Train

if TYPE_CHECKING:
    from curate.evaluate import Losses

Ranking = Literal["held_out", "target"]

PARTITIONS = "partitions"
SEARCH = "mixture_search"
"""The artifacts of the two stages."""
FOUND = "search.json"


def search_stages(
    given: Preparation,
    column: str,
    budget: Budget | None,
    train: Train | None,
    on: Ranking,
    candidates: Candidates,
) -> list[Stage]:
    """The two stages of one search. Raises ConfigError where model, training or ranking rows are missing."""
    spec = train or given.train
    if given.model is None:
        raise ConfigError(
            "mix: `modular` tunes models, and there is none. Add `model:` to the configuration."
        )
    if spec is None:
        raise ConfigError(
            "mix: `modular` needs to know how to tune. Give it `train`, or add a `train` stage."
        )
    if on == "held_out" and not given.holds_out:
        raise ConfigError(
            "mix: `modular` ranks by held-out rows, and none are held out. Add an `evaluate` stage, or write "
            "`on: target`."
        )
    if on == "target" and given.target is None:
        raise ConfigError("mix: `modular` ranks by a target, and there is none. Add `target:`.")
    adapter = spec.adapter
    if isinstance(adapter, Lora) and (adapter.use_dora or adapter.init in ("pissa", "olora")):
        raise ConfigError(
            "mix: `modular` averages updates B A beside untouched weights. Train without `use_dora`, and with "
            f"`init` default, gaussian or orthogonal. Got use_dora: {adapter.use_dora}, init: {adapter.init}."
        )
    tuning = Tuning(spec.model_copy(update={"save_at": ()}), given.model, derive(given.seed, "partitions"))
    return [
        TunePartitions("mix.partitions", given.entry, given.resources, column, budget, tuning, candidates),
        SearchMixtures(
            "mix.search", given.entry, given.resources, column, given.model, on, given.target, candidates
        ),
    ]


@dataclass(frozen=True)
class TunePartitions(ArtifactStage):
    """Writes `partitions.json` and, in a folder per partition, what tuning on it wrote.

    budget: rows or supervised tokens of each partition; None for as many rows as the smallest has.
    candidates: looked at first, so that what cannot be searched is not trained for.
    """

    column: str
    budget: Budget | None
    tuning: Tuning
    candidates: Candidates

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The stored tokens and what partitions the rows."""
        return frozenset({"input_ids", "supervised", "supervised_tokens", "uid", self.column})

    @property
    def adds(self) -> frozenset[str]:
        """The tuned models."""
        return frozenset({f"artifact:{PARTITIONS}"})

    def identity(self) -> dict[str, Any]:
        """The partitions and how each is trained."""
        budget = None if self.budget is None else str(self.budget)
        return {"version": 1, "by": self.column, "budget": budget, **self.tuning.identity()}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Tune on each partition in turn. Raises DataError where one has less than the budget."""
        from curate.training.packing import steps

        pool = Pool(inputs.pool.frame({"uid", "supervised_tokens", self.column}), {}, self.tuning.seed)
        names, drawn = self._draw(pool)
        self.candidates.weights(names)
        spec = self.tuning.spec
        lengths = [len(steps(rows, spec.epochs, spec.batch_rows, spec.max_steps)) for rows in drawn]
        partitions: dict[str, Any] = {}
        before = tokens = 0
        for number, (name, rows) in enumerate(zip(names, drawn, strict=True)):

            def told(done: int, total: int, seen: int, earlier: tuple[int, int] = (before, tokens)) -> None:
                tell(earlier[0] + done, sum(lengths), earlier[1] + seen)

            place = work / "finished" / f"{number:03d}"
            if not place.is_dir():
                self._tune(inputs, rows, place, work / "training" / f"{number:03d}", told)
            notes = json.loads((place / "notes.json").read_bytes())
            shutil.copytree(place / "tuned", out / place.name)
            before, tokens = before + lengths[number], tokens + notes["tokens"]
            partitions[name] = {"folder": place.name, **notes}
        tell(before, sum(lengths), tokens)
        folders = {name: notes["folder"] for name, notes in partitions.items()}
        write_json(out / "partitions.json", {"by": self.column, "folders": folders})
        return {"by": self.column, "trainings": len(names), "partitions": partitions}

    def _draw(self, pool: Pool) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
        """The partitions, and of each the rows that it is tuned on, int64, in a random order."""
        groups, counts, keys = pool.groups(self.column), pool.counts("supervised_tokens"), pool.keys("draw")
        members = [np.flatnonzero(groups.labels == label) for label in range(len(groups.names))]
        in_tokens = self.budget is not None and self.budget.unit == "tokens"
        has = [int(counts[rows].sum()) if in_tokens else len(rows) for rows in members]
        wanted = min(has) if self.budget is None else int(self.budget.amount)
        short = [f"{name} {size:,}" for name, size in zip(groups.names, has, strict=True) if size < wanted]
        if short:
            unit = "supervised tokens" if in_tokens else "rows"
            raise DataError(
                f"mix.modular: `budget` must be at most what each partition has. {wanted:,} {unit} are asked "
                f"for. Found {', '.join(short)}. Lower it, or drop these rows before."
            )
        if in_tokens:
            return groups.names, [
                rows[random_to_tokens(counts[rows], keys[rows], wanted)] for rows in members
            ]
        return groups.names, [rows[ranked(keys[rows], highest=False)[:wanted]] for rows in members]

    def _tune(self, inputs: Inputs, rows: NDArray[np.int64], place: Path, work: Path, tell: Tell) -> None:
        """Tune on these rows; `place` is there when all of it is: `tuned/` and `notes.json`."""
        made = work / "made"
        shutil.rmtree(made, ignore_errors=True)
        (made / "tuned").mkdir(parents=True)
        some = token_rows(inputs.pool.take({"input_ids", "supervised"}, rows))
        notes = self.tuning.run(some, np.arange(len(rows)), made / "tuned", work / "checkpoints", tell)
        write_json(made / "notes.json", notes)
        for file in (made / "tuned").rglob("*"):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        place.parent.mkdir(exist_ok=True)
        os.replace(made, place)
        shutil.rmtree(work)


@dataclass(frozen=True)
class SearchMixtures(ArtifactStage):
    """Writes `search.json`, the candidates from the best to the worst, and `candidates.parquet`, the same as a table.

    target: the source of the target examples: outside `on: held_out`. None for none.
    """

    unit: ClassVar[str] = "models"

    column: str
    model: ModelHandle
    on: Ranking
    target: str | None
    candidates: Candidates

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def reads_pool(self) -> bool:
        """No: the ranking rows alone."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """The tuned models and the rows that rank their averages."""
        columns = {"input_ids", "supervised", "source", "held_out", "rows:all"}
        return frozenset(columns | {f"artifact:{PARTITIONS}"})

    @property
    def adds(self) -> frozenset[str]:
        """The ranking."""
        return frozenset({f"artifact:{SEARCH}"})

    def identity(self) -> dict[str, Any]:
        """The candidates and the ranking rows; the models are inputs."""
        shown = {"on": self.on, "target": self.target, "candidates": self.candidates.identity()}
        return {"version": 1, "model": self.model.identity(), **shown}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Merge and measure each candidate. Those measured before a kill are not measured again."""
        partitions = inputs.artifacts[PARTITIONS]
        folders = json.loads((partitions / "partitions.json").read_bytes())["folders"]
        names = list(folders)
        weights = self.candidates.weights(names)
        frame = self._rows(inputs)
        tokens = int(frame["input_ids"].list.len().sum())
        tried: list[NDArray[np.float64] | None] = [None, *weights]  # the model as it is, first
        kept = work / "measured.json"
        measured: list[dict[str, Any]] = json.loads(kept.read_bytes()) if kept.exists() else []
        for number, candidate in enumerate(tried[len(measured) :], start=len(measured)):
            tell(number, len(tried), number * tokens)
            found = self._measure(candidate, [partitions / folders[name] for name in names], frame, work)
            measured.append({"source_mean": found.source_mean, "token_mean": found.token_mean})
            measured[-1]["sources"] = {name: each.loss for name, each in found.by_source.items()}
            write_json(kept, measured)
        tell(len(tried), len(tried), len(tried) * tokens)
        order = np.argsort([each["source_mean"] for each in measured[1:]], kind="stable").tolist()
        ranking = [
            {"weights": dict(zip(names, weights[place].tolist(), strict=True)), **measured[place + 1]}
            for place in order
        ]
        unit = "nats per supervised token"
        about = {"by": self.column, "on": self.on, "rows": frame.height, "unit": unit}
        write_json(out / FOUND, {**about, "before": measured[0], "candidates": ranking})
        _table(ranking).write_parquet(out / "candidates.parquet")
        return {
            **about,
            "candidates": len(ranking),
            "trainings": len(names),
            "before": measured[0]["source_mean"],
            "best": ranking[0],
        }

    def _rows(self, inputs: Inputs) -> pl.DataFrame:
        everything = inputs.rows["all"]
        flags = everything.frame(["held_out", "source"])
        of_target = pl.Series(flags["source"] == self.target) if self.target else flags["source"].is_in([])
        wanted = of_target if self.on == "target" else flags["held_out"] & ~of_target
        places = np.flatnonzero(wanted.to_numpy())
        if not len(places):
            raise DataError(f"mix.modular: there is no row to rank by (`on: {self.on}`).")
        return everything.take(["input_ids", "supervised", "source"], places)

    def _measure(
        self, weights: NDArray[np.float64] | None, folders: Sequence[Path], rows: pl.DataFrame, work: Path
    ) -> "Losses":
        from curate.evaluate import held_out_losses, load_tuned
        from curate.training.merging import merge

        merged = None if weights is None else work / "merged"
        if weights is not None and merged is not None:
            shutil.rmtree(merged, ignore_errors=True)
            merged.mkdir()
            merge(folders, weights.tolist(), merged)
        model = load_tuned(self.model.load(), merged)
        return held_out_losses(model, token_rows(rows), rows["source"].to_list())


def _table(ranking: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """rank (from 1), weight.<partition>, loss.<source>, mean_loss, perplexity."""
    return pl.DataFrame(
        [
            {
                "rank": rank,
                **{f"weight.{name}": weight for name, weight in each["weights"].items()},
                **{f"loss.{name}": loss for name, loss in each["sources"].items()},
                "mean_loss": each["source_mean"],
                "perplexity": float(np.exp(each["source_mean"])),
            }
            for rank, each in enumerate(ranking, start=1)
        ]
    )
