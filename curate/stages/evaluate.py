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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.component import Component
from curate.numerics.seeds import derive
from curate.reader import Reader
from curate.selector import Pool
from curate.settings import Fraction, SourceSpec
from curate.stage import ArtifactStage, Inputs, Tell
from curate.stages.models import ModelHandle
from curate.stages.rows import token_rows
from curate.stages.train import Tuning

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
        order = self._draw(pool, inputs)
        chosen, draws = np.unique(order, return_inverse=True)
        rows = pool.take(["input_ids", "supervised"], chosen)
        rows.select("position")[draws].write_parquet(out / "rows.parquet")
        whole = self.tuning.spec.model_copy(update={"epochs": 1.0, "max_steps": None})
        return replace(self.tuning, spec=whole).run(token_rows(rows), draws, out, work, tell)

    def _draw(self, pool: Reader, inputs: Inputs) -> NDArray[np.int64]:
        """What is trained on, from the first step to the last, int64 [draws], indices of the pool's rows."""
        from curate.numerics.baselines import length_matched, random_to_tokens, repeated_to_tokens, rounds
        from curate.training.packing import steps

        spec, drawn = self.tuning.spec, self.tuning.drawn(inputs)
        trained = np.concatenate(
            steps(drawn.draws, spec.epochs, spec.batch_rows, spec.max_steps, drawn.steps)
        )
        behind = [drawn.members[example] for example in trained[: len(drawn.draws)].tolist()]
        selected = inputs.pool.frame(["supervised_tokens"])["supervised_tokens"].to_numpy().astype(np.int64)
        candidates = Pool(pool.frame(["uid", "supervised_tokens"]), {}, self.tuning.seed)
        lengths, keys = candidates.counts("supervised_tokens"), candidates.keys("baseline", self.baseline)
        parts = []
        for rows, times in rounds(np.concatenate(behind)):
            if self.baseline == "random":
                chosen = random_to_tokens(lengths, keys, int(selected[rows].sum()))
            else:
                chosen = length_matched(lengths, selected[rows], keys)
            parts.append(np.tile(chosen, times))
        draws = np.concatenate(parts)
        order = np.random.default_rng(derive(self.tuning.seed, self.baseline)).permutation(len(draws))
        return repeated_to_tokens(lengths, draws[order], int(drawn.supervised_tokens[trained].sum()))


@dataclass(frozen=True)
class EvaluateHeldOut(ArtifactStage):
    """Writes `eval.json`: held-out loss of the base model, the tuned one, and each baseline.

    target: the source of the target examples; their loss stands apart, outside all means. None for none.
    """

    unit: ClassVar[str] = "models"
    spec: Evaluate
    model: ModelHandle
    target: str | None

    @property
    def uses_model(self) -> bool:
        """Yes."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """The held-out rows and the tuned models."""
        tuned = {f"artifact:{name}" for name in ("adapter", *self.spec.baselines)}
        columns = {"input_ids", "supervised", "supervised_tokens", "source", "held_out", "rows:all"}
        return frozenset(tuned | columns)

    @property
    def adds(self) -> frozenset[str]:
        """The evaluation."""
        return frozenset({"artifact:evaluation"})

    def identity(self) -> dict[str, Any]:
        """The base model; the tuned ones are inputs."""
        baselines = list(self.spec.baselines)
        return {"version": 2, "model": self.model.identity(), "baselines": baselines, "target": self.target}

    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """One forward pass over the held-out rows per model."""
        from curate.evaluate import held_out_losses, load_tuned

        everything = inputs.rows["all"]
        held = np.flatnonzero(everything.frame(["held_out"])["held_out"].to_numpy())
        frame = everything.take(["input_ids", "supervised", "source"], held)
        rows, sources = token_rows(frame), frame["source"].to_list()
        of_target = np.array([source == self.target for source in sources])
        models: Mapping[str, Path | None] = {
            "before": None,
            "selected": inputs.artifacts["adapter"],
            **{name: inputs.artifacts[name] for name in self.spec.baselines},
        }
        tokens = int(sum(len(ids) for ids in frame["input_ids"]))
        losses: dict[str, Any] = {}
        for number, (name, tuned) in enumerate(models.items()):
            tell(number, len(models), number * tokens)
            found = held_out_losses(load_tuned(self.model.load(), tuned), rows, sources)
            losses[name] = found.where(~of_target).as_dict()
            if of_target.any():
                losses[name]["target"] = asdict(found.by_source[sources[of_target.argmax()]])
        tell(len(models), len(models), len(models) * tokens)
        held_out_rows = int((~of_target).sum())
        report = {"held_out_rows": held_out_rows, "unit": "nats per supervised token", "losses": losses}
        (out / "eval.json").write_text(json.dumps(report, indent=1) + "\n")
        return report
