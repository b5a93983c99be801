"""Stage: one step of a run. Frozen; says what it reads and adds; its work is pure.

A *row stage* maps over shards and resumes shard by shard. A *pool stage* sees whole columns of all
living rows (cluster, select, mix). An *artifact stage* writes files (an adapter, an evaluation).
All three declare `needs` and `adds`, checked before any work: names of columns, `artifact:<name>`,
or `rows:<name>` for an earlier set of rows. A stage that adds `drop_reason` drops the rows where it is not null.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import polars as pl

from curate.reader import Reader
from curate.runner import Task
from curate.settings import Resources
from curate.store import Entry, Shard

DROP = "drop_reason"

Artifacts = Mapping[str, Path]
"""The artifacts made so far: name -> folder."""


class Passes(NamedTuple):
    """Passes of a neural model for a row (of one turn, where a stage asks about each turn)."""

    forwards: float
    backwards: float


@dataclass(frozen=True)
class Stage(ABC):
    """What the engine knows of every stage.

    label: its name in the run and the store, e.g. `clean.near_duplicates`.
    entry: the index of the item of `stages:` that it came from; None for those that the engine adds.
    """

    label: str
    entry: int | None
    resources: Resources

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """Columns and artifacts that must exist before this stage."""

    @property
    @abstractmethod
    def adds(self) -> frozenset[str]:
        """Columns and artifacts that exist after it."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything beside the inputs that can change the result, as JSON values."""

    @property
    def outputs(self) -> Mapping[str, frozenset[str]]:
        """The outputs, by the label under which each is stored, and what each adds. One, but for row stages."""
        return {self.label: self.adds}

    def output_identity(self, output: str) -> dict[str, Any]:
        """As `identity`, for one output."""
        return self.identity()

    def output_needs(self, output: str) -> frozenset[str]:
        """As `needs`, for one output."""
        return self.needs

    @property
    def uses_model(self) -> bool:
        """Whether workers hold a neural model, and so get a GPU where there is one."""
        return False

    def passes(self, outputs: frozenset[str]) -> Passes:
        """What a row costs where these of its outputs are made together."""
        return Passes(0, 0)

    @property
    def reads_pool(self) -> bool:
        """Whether it depends on which rows live; False for one that reads earlier sets of rows (`rows:`) alone."""
        return True

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """For each score column that it adds, whether higher is better."""
        return {}

    @property
    def null_limit(self) -> float | None:
        """The share of nulls in a score column above which the run stops; None for no limit."""
        return None

    @property
    def null_is_a_verdict(self) -> frozenset[str]:
        """The score columns in which nulls are no failure."""
        return frozenset()

    @property
    def names_rows(self) -> tuple[str, ...]:
        """Names under which the rows that live after this stage are set aside (`rows:<name>`)."""
        return ()

    def expected_memory_bytes(self, rows: int, width: int) -> int | None:
        """What it will hold beside its input, where its method says so. width: of the embeddings."""
        return None

    def predicted_rows(self, rows: int) -> int | None:
        """How many of `rows` will be left after this stage; None where that is not known beforehand."""
        return rows


@dataclass(frozen=True)
class RowStage(Stage, ABC):
    """Looks at each row by itself.

    Its result may consist of several outputs (one per scorer) that are stored apart, so that
    adding a scorer to a list computes only that scorer.
    """

    @property
    def quarantines(self) -> bool:
        """Whether a dropped row counts as unreadable, not as rejected."""
        return False

    @property
    def min_shard_rows(self) -> int:
        """The smallest shard worth a file: small where a row is dear."""
        return 64 if self.uses_model else 4096

    def setup(self, artifacts: Artifacts) -> Any:
        """What a worker makes once and hands to every `apply`."""
        return None

    @abstractmethod
    def apply(self, rows: pl.DataFrame, state: Any, outputs: frozenset[str]) -> pl.DataFrame:
        """The columns of the named outputs for these rows, in their order. Pure."""

    def counts(self, state: Any) -> Mapping[str, float]:
        """What the last `apply` cost, for the ledger of its shard; sums over shards mean something."""
        return {}

    def notes(self, totals: Mapping[str, float]) -> Mapping[str, Any]:
        """What to say of the whole stage, as JSON values, from the sums of all that its shards counted."""
        return {}


@dataclass(frozen=True)
class SourceStage(Stage, ABC):
    """Reads rows from outside: its units are files, each of which becomes several shards."""

    @abstractmethod
    def units(self) -> Sequence[Any]:
        """What a worker reads at a time."""

    @abstractmethod
    def task(self, entry: Entry, finished: Mapping[str, Shard]) -> Task:
        """The work on a unit: write those of its shards that are not finished, return all new ones."""


@dataclass(frozen=True)
class PoolResult:
    """frame: one row per living row in pool order, the stage's columns; notes: JSON for the manifest."""

    frame: pl.DataFrame
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PoolStage(Stage, ABC):
    """Looks at columns of all living rows at once."""

    def rehearsal(self, share: float) -> Self:
        """The same for a pool of so small a share of the rows: what a probe tries before a run."""
        return self

    @abstractmethod
    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Pure: reads columns and artifacts, returns columns."""


@dataclass(frozen=True)
class Inputs:
    """What an artifact stage reads.

    pool: the living rows. artifacts: name -> folder. rows: earlier sets of rows by name, as they
    were when the engine set them aside (`all`: before rows were held out; `pool`: after).
    """

    pool: Reader
    artifacts: Mapping[str, Path]
    rows: Mapping[str, Reader]


Tell = Callable[[int, int, int], None]
"""(done, total, tokens so far): how far a long piece of work is."""


@dataclass(frozen=True)
class ArtifactStage(Stage, ABC):
    """Writes files."""

    unit: ClassVar[str] = "steps"
    """What `tell` counts."""

    def rehearsal(self) -> "ArtifactStage | None":
        """The same on little, to be tried on a sample before a run; None where it cannot be tried.

        Stages with equal rehearsals cost the same for a token, and are tried once.
        """
        return None

    def expected_tokens(self, sample: Inputs) -> int | None:
        """The tokens that it will read, from a sample of what `write` is given; None where time is not by tokens."""
        return None

    @abstractmethod
    def write(self, inputs: Inputs, out: Path, work: Path, tell: Tell) -> dict[str, Any]:
        """Write the artifact into the empty folder `out`; return notes (JSON) for the manifest.

        work: a folder for checkpoints that survives a kill.
        """
