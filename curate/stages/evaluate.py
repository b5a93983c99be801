"""Evaluate: did the choice help? Held-out loss per source, before, after, and for honest baselines.

Each baseline is trained like the selection, on as many supervised tokens to within a row, drawn from the
whole pool as it was before any stage: `random`, and `length_matched_random` with the selection's own lengths.
What counts are the draws that training really uses, `epochs` and `max_steps` included. Where a schedule
repeats rows, so do the baselines: the rows drawn k times or more are a subset of the pool, and the baseline's
k-th round is drawn against that subset, by the same random numbers in each round; so there always is one.
Where training goes through the schedule several times, or not to its end, so does the baseline's. Where a schedule
cuts rows into pieces or composes several into one, the baseline draws whole rows, to the same number of tokens.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curate.component import Component
from curate.numerics.seeds import derive
from curate.pool import Pool
from curate.reader import Reader
from curate.sampled import weights
from curate.settings import Fraction, Resources, SourceSpec
from curate.stage import ArtifactStage, Inputs, Stage, Tell
from curate.stages.models import ModelHandle
from curate.stages.rows import token_rows
from curate.stages.train import PROBE_ROWS, TrainSelection, Tuning

LOSSES = "losses.parquet"
Baseline = Literal["random", "length_matched_random"]


class Evaluate(Component):
    """The `evaluate:` item of a configuration."""

    held_out: Fraction = Field(
        default=0.05, description="share of each source's rows to set aside, by group (5% or 0.05)"
    )
    sources: tuple[SourceSpec, ...] = Field(default=(), description="further files to evaluate on")
    baselines: tuple[Baseline, ...] = Field(
        default=("random", "length_matched_random"),
        description="subsets of equal tokens to train beside the selection",
    )


@dataclass(frozen=True)
class TuneBaseline(ArtifactStage):
    """Trains on a baseline; writes the tuned model and `rows.parquet`, the position of each draw, in order."""

    baseline: Baseline
    tuning: Tuning
    has_schedule: bool

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The rows that the selection trains on, and the pool to draw from."""
        schedule = {"artifact:schedule"} if self.has_schedule else set[str]()
        return frozenset({"input_ids", "supervised", "supervised_tokens", "uid", "rows:pool"} | schedule)

    @property
    def adds(self) -> frozenset[str]:
        """The tuned model."""
        return frozenset({f"artifact:{self.baseline}"})

    def identity(self) -> dict[str, Any]:
        """The subset and how it is trained."""
        return {"baseline": self.baseline, "version": 2, **self.tuning.identity()}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Draw, train on every draw."""
        pool = inputs.rows["pool"]
        order, step_of = self._draw(pool, inputs)
        chosen, draws = np.unique(order, return_inverse=True)
        rows = pool.take(["input_ids", "supervised"], chosen)
        rows.select("position")[draws].write_parquet(out / "rows.parquet")
        whole = self.tuning.spec.model_copy(update={"epochs": 1.0, "max_steps": None})
        return replace(self.tuning, spec=whole).run(token_rows(rows), draws, out, work, tell, step_of)

    def rehearsal(self) -> ArtifactStage | None:
        """That of the training on the selection: only the rows differ."""
        whole = TrainSelection(self.label, self.entry, self.resources, self.tuning, self.has_schedule)
        return whole.rehearsal()

    def expected_tokens(self, sample: Inputs) -> int | None:
        """As many supervised tokens as the selection, with as many others beside them as rows of the pool have."""
        pool = sample.rows["pool"]
        tokens, supervised = (
            weights(pool)
            @ pool.frame(["tokens", "supervised_tokens"]).select("tokens", "supervised_tokens").to_numpy()
        )
        return round(self.tuning.expected(sample)[1] * float(tokens / supervised)) if supervised else None

    def _draw(self, pool: Reader, inputs: Inputs) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """What is trained on, from the first step to the last, int64 [draws], indices of the pool's rows; their steps.

        The steps are None where the trainer cuts by `batch_rows`; else as many as the selection's.
        """
        from curate.numerics.baselines import length_matched, random_to_tokens, repeated_to_tokens, rounds
        from curate.training.packing import equal_steps, steps

        spec, drawn = self.tuning.spec, self.tuning.drawn(inputs)
        given = self.tuning.step_of(drawn)
        cut = steps(drawn.draws, spec.epochs, spec.batch_rows, spec.max_steps, given)
        trained = np.concatenate(cut)
        behind = drawn.rows_behind(trained[: len(drawn.draws)])
        selected = inputs.pool.frame(["supervised_tokens"])["supervised_tokens"].to_numpy().astype(np.int64)
        candidates = Pool(pool.frame(["uid", "supervised_tokens"]), {}, self.tuning.seed)
        lengths, keys = candidates.counts("supervised_tokens"), candidates.keys("baseline", self.baseline)
        parts = []
        for rows, times in rounds(behind):
            if self.baseline == "random":
                chosen = random_to_tokens(lengths, keys, int(selected[rows].sum()))
            else:
                chosen = length_matched(lengths, selected[rows], keys)
            parts.append(np.tile(chosen, times))
        draws = np.concatenate(parts)
        order = np.random.default_rng(derive(self.tuning.seed, self.baseline)).permutation(len(draws))
        found = repeated_to_tokens(lengths, draws[order], int(drawn.supervised_tokens[trained].sum()))
        return found, None if given is None else equal_steps(lengths[found], len(cut))


@dataclass(frozen=True)
class HeldOutLoss(ArtifactStage):
    """Writes `losses.parquet`: position, source, loss (nats, the mean over the row's supervised tokens), tokens.

    A model's losses are stored apart from the others', so that the base model's, say, is computed once for all
    selections. of: its name in the report. tuned: the artifact that was trained, None for the base model.
    most_rows: evaluate no more than these, spread over the held-out ones; for a probe.
    """

    unit: ClassVar[str] = "rows"
    of: str
    tuned: str | None
    model: ModelHandle
    most_rows: int | None = None

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def reads_pool(self) -> bool:
        """No: the held-out rows alone."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """The held-out rows and the tuned model."""
        tuned = set[str]() if self.tuned is None else {f"artifact:{self.tuned}"}
        return frozenset({"input_ids", "supervised", "source", "held_out", "rows:all"} | tuned)

    @property
    def adds(self) -> frozenset[str]:
        """The losses."""
        return frozenset({f"artifact:losses.{self.of}"})

    def identity(self) -> dict[str, Any]:
        """The base model; the tuned one is an input."""
        return {"version": 3, "model": self.model.identity()}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """One forward pass over the held-out rows."""
        from curate.evaluate import held_out_losses, load_tuned

        everything, held = self._held_out(inputs)
        if self.most_rows is not None and self.most_rows < len(held):
            held = held[np.linspace(0, len(held) - 1, self.most_rows).astype(np.int64)]
        frame = everything.take(["input_ids", "supervised", "source"], held)
        tuned = None if self.tuned is None else inputs.artifacts[self.tuned]
        found = held_out_losses(
            load_tuned(self.model.load(), tuned), token_rows(frame), frame["source"].to_list(), tell=tell
        )
        table = frame.select("position", "source").with_columns(
            loss=pl.Series(found.row_losses), tokens=pl.Series(found.row_tokens)
        )
        table.write_parquet(out / LOSSES)
        return {"rows": frame.height}

    def rehearsal(self) -> ArtifactStage:
        """Of 64 rows at most, of the base model, whatever the stage evaluates."""
        return HeldOutLoss("evaluate.before", None, self.resources, "before", None, self.model, PROBE_ROWS)

    def expected_tokens(self, sample: Inputs) -> int | None:
        """Those of the held-out rows."""
        everything, held = self._held_out(sample)
        tokens = everything.take(["tokens"], held)["tokens"].to_numpy()
        return round(float(weights(everything)[held] @ tokens))

    def _held_out(self, inputs: Inputs) -> tuple[Reader, NDArray[np.int64]]:
        """All rows, and the indices of those that are held out, int64."""
        everything = inputs.rows["all"]
        return everything, np.flatnonzero(everything.frame(["held_out"])["held_out"].to_numpy())


@dataclass(frozen=True)
class Evaluation(ArtifactStage):
    """Writes `eval.json`: held-out loss of the base model, the tuned one, and each baseline.

    models: the names of the losses, in order. target: the source of the target examples; their loss stands apart,
    outside all means. None for none.
    """

    unit: ClassVar[str] = "models"
    models: tuple[str, ...]
    target: str | None

    @property
    def reads_pool(self) -> bool:
        """No: the losses alone."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """The losses."""
        return frozenset(f"artifact:losses.{name}" for name in self.models)

    @property
    def adds(self) -> frozenset[str]:
        """The evaluation."""
        return frozenset({"artifact:evaluation"})

    def identity(self) -> dict[str, Any]:
        """Whose losses."""
        return {"version": 3, "models": list(self.models), "target": self.target}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Means per source and over them."""
        from curate.evaluate import Losses

        losses: dict[str, Any] = {}
        for name in self.models:
            table = pl.read_parquet(inputs.artifacts[f"losses.{name}"] / LOSSES)
            sources = tuple(table["source"].to_list())
            found = Losses(table["loss"].to_numpy(), table["tokens"].to_numpy(), sources)
            of_target = np.array([source == self.target for source in sources])
            losses[name] = found.where(~of_target).as_dict()
            if of_target.any():
                losses[name]["target"] = asdict(found.by_source[sources[of_target.argmax()]])
            rows = int((~of_target).sum())
        report = {"held_out_rows": rows, "unit": "nats per supervised token", "losses": losses}
        (out / "eval.json").write_text(json.dumps(report, indent=1) + "\n")
        return report

    def rehearsal(self) -> ArtifactStage:
        """Itself: it is quick."""
        return self


def evaluate_stages(
    spec: Evaluate, index: int, resources: Resources, model: ModelHandle, target: str | None
) -> list[Stage]:
    """The losses of each model, and what is made of them."""
    tuned: dict[str, str | None] = {"before": None, "selected": "adapter", **{b: b for b in spec.baselines}}
    losses = [
        HeldOutLoss(f"evaluate.{name}", index, resources, name, artifact, model)
        for name, artifact in tuned.items()
    ]
    return [*losses, Evaluation("evaluate", index, resources, tuple(tuned), target)]
