"""Flow: the sample of a probe on its way through the stages: what it stands for, what is known, what drops out."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from curate.reader import Reader
from curate.sampled import WEIGHT, SampledRows, enlarged, total
from curate.stage import DROP, ArtifactStage, Inputs, PoolStage, RowStage, Stage
from curate.stages.clean import GroupDuplicates
from curate.stages.select import Select
from curate.view import View
from curate.workload import Step, Workload, columns_of, kept_by, stored, stored_work

COUNTS = frozenset({"tokens", "supervised_tokens"})


@dataclass
class Flow:
    """rows: the sample as it reaches the next stage, with `weight`, in order of position.

    begin: the last step whose verdicts are stored, -1 for none: the sample is of its survivors. at_most: whether fewer
    may come than the weights say. artifacts: what was made from the sample, name -> folder.
    """

    rows: pl.DataFrame
    begin: int
    at_most: bool = False
    artifacts: dict[str, Path] = field(default_factory=dict)
    _repeated: bool = False
    _named: dict[str, pl.DataFrame] = field(default_factory=dict)

    def work(self, step: Step) -> Workload:
        """What a step will read."""
        stage, missing = step.planned.stage, step.planned.missing()
        exact = stored_work(stage, step.view) if isinstance(stage, RowStage) and missing else None
        if exact is not None:
            return exact
        read, tokens = frozenset[str]().union(*(stage.output_needs(output) for output in missing)), None
        if isinstance(stage, RowStage) and "tokens" in read and "tokens" in self.rows.columns:
            tokens = round(float(self.rows["tokens"].to_numpy() @ self.rows[WEIGHT].to_numpy()))
        elif isinstance(stage, ArtifactStage) and missing:
            rehearsal = stage.rehearsal()
            if rehearsal is not None and self.rows.height and not self.lacking(rehearsal.needs, step.view):
                tokens = stage.expected_tokens(self.inputs(step))
        return Workload(round(total(self.rows)), tokens, self.at_most and stage.reads_pool)

    def inputs(self, step: Step) -> Inputs:
        """What an artifact stage is given: the sample; rows that were set aside whole, where they are stored."""
        needs, view = step.planned.stage.needs, step.view
        columns = columns_of(needs) | (COUNTS & view.columns.keys())
        found: dict[str, Reader] = {}
        for name in (need.removeprefix("rows:") for need in needs if need.startswith("rows:")):
            whole = [view.named_rows[name], *(view.columns[column] for column in columns)]
            is_stored = all(stored(place) for place in whole)
            found[name] = (
                view.reader(view.named_rows[name]) if is_stored else SampledRows.of(self._named[name])
            )
        return Inputs(SampledRows.of(self.rows), self.given(view), found)

    def given(self, view: View) -> dict[str, Path]:
        """The artifacts that are stored, or were made from the sample."""
        at_hand = {name: at.folder for name, at in view.artifacts.items() if stored(at)}
        return {**{name: at for name, at in self.artifacts.items() if name in view.artifacts}, **at_hand}

    def lacking(self, needs: frozenset[str], view: View) -> str | None:
        """Why what reads this cannot be tried; None where it can."""
        artifacts = {need.removeprefix("artifact:") for need in needs if need.startswith("artifact:")}
        if lacking := sorted(artifacts - self.given(view).keys()):
            return f"needs `{lacking[0]}`, which only the run makes"
        aside = [need.removeprefix("rows:") for need in needs if need.startswith("rows:")]
        wanted = (
            {name for name in columns_of(needs) if not stored(view.columns[name])}
            if aside
            else columns_of(needs)
        )
        known = set(self.rows.columns).union(*(self._named[name].columns for name in aside))
        if lacking := sorted(wanted - known):
            return f"needs `{lacking[0]}`, which only the run computes"
        return None

    def fetch(self, step: Step) -> None:
        """Read what is stored of the sample's rows, as far as a step reads it."""
        stage, view = step.planned.stage, step.view
        needs = frozenset[str]().union(*(stage.output_needs(output) for output in step.planned.missing()))
        names = columns_of(needs) | (COUNTS & view.columns.keys())
        wanted = sorted(name for name in names - set(self.rows.columns) if stored(view.columns[name]))
        if wanted and not self._repeated and self.rows.height:
            reader = Reader(Path(), {name: view.columns[name].folder for name in wanted})
            found = reader.at(wanted, self.rows["position"].to_numpy())
            self.rows = self.rows.hstack(found.drop("position"))

    def enlarge(self, wanted: int, generator: np.random.Generator) -> None:
        """Repeat the rows where there are fewer."""
        if self.rows.height < wanted:
            self.rows, self._repeated = enlarged(self.rows, wanted, generator), True

    def learn(self, found: pl.DataFrame) -> None:
        """Take in columns by `position`; of rows that are not in it, the others stand for them."""
        before = total(self.rows)
        if not self._repeated:
            for name, rows in self._named.items():
                new = [column for column in found.columns if column not in (*rows.columns, DROP)]
                fresh = found.select("position", *new)
                self._named[name] = rows.join(fresh, on="position", how="left", maintain_order="left")
        rows = self.rows.drop(set(found.columns) - {"position"}, strict=False)
        self.rows = rows.join(found, on="position", how="inner", maintain_order="left")
        self.scale(before)

    def leave(self, at: int, step: Step, tried: bool) -> None:
        """Drop what a step drops, as far as it was tried; else let fewer rows be what it predicts; set rows aside."""
        planned, entering = step.planned, round(total(self.rows))
        if DROP in planned.stage.adds:
            left = planned.stage.predicted_rows(entering)
            entry = kept_by(planned)
            manifest = None if entry is None else entry.manifest()
            if manifest is not None:
                left = manifest.kept
            elif at > self.begin and tried:
                whole = entering <= self.rows.height
                self.rows = self.rows.filter(pl.col(DROP).is_null())
                self.at_most |= isinstance(planned.stage, GroupDuplicates) and not whole
                left = left if isinstance(planned.stage, Select) else None
            elif isinstance(planned.stage, PoolStage):
                self.at_most |= left is None or left >= entering
            self.rows = self.rows.drop(DROP, strict=False)
            if left is not None:
                self.scale(float(left))
        for name in planned.stage.names_rows:
            self._named[name] = self.rows

    def scale(self, alive: float) -> None:
        """Let the sample stand for so many rows."""
        now = total(self.rows)
        if now > 0:
            self.rows = self.rows.with_columns(pl.col(WEIGHT) * (alive / now))


def tries(stage: Stage) -> Stage | None:
    """What is tried of a stage; None where it cannot be."""
    return stage.rehearsal() if isinstance(stage, ArtifactStage) else stage
