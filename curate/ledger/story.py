"""Story: what a ledger holds, as plain values that can be written as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Other:
    """Another row of the run. similarity: to the row that it is listed for; None where it cannot be had."""

    id: str
    source: str
    fate: str
    similarity: float | None


@dataclass(frozen=True)
class DuplicateGroup:
    """The rows that a stage took for one. rows: how many, the survivor included.

    survivor: None where it is the row itself. similarity: of the row to it. dropped: the first few of the others that
    went in the survivor's favour, with their similarity to it.
    """

    stage: str
    rows: int
    survivor: Other | None
    similarity: float | None
    dropped: Sequence[Other]


@dataclass(frozen=True)
class Score:
    """value: None where it is null. percentile: the share of the scored rows with a lower value, 0 to 100.

    scored: how many rows have a value. higher_is_better: None where the scorer states no direction.
    """

    value: float | None
    percentile: float | None
    scored: int
    higher_is_better: bool | None


@dataclass(frozen=True)
class Cluster:
    """rows: those of the cluster; kept: how many of them no stage has dropped; distance: to the centroid."""

    cluster: int
    clusters: int
    rows: int
    kept: int
    distance: float


@dataclass(frozen=True)
class Standing:
    """Where a row stands among the candidates of a `select`, by the column that it ranks by.

    place: from 1, ties by position, None where the value is null. of: how many have a value. highest_first: how
    places are counted; a rule without a direction counts from the lowest.
    """

    column: str
    value: float | None
    place: int | None
    of: int
    highest_first: bool


@dataclass(frozen=True)
class LastKept:
    """The row that a `select` kept last, in the row's own group where it chooses per group.

    rank: from 0. value: what the rule ranks by, None where that is no single column.
    """

    id: str
    group: str | None
    rank: int
    value: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What a stage that drops rows said of the row. rule: its method and fields. rows, kept: of how many, how many.

    reason: the rule, the bound and the value in words; None where the stage keeps without one.
    last_kept: for a row that a budget left out.
    """

    stage: str
    kept: bool
    reason: str | None
    rule: Mapping[str, Any]
    rows: int
    rows_kept: int
    standing: Standing | None = None
    last_kept: LastKept | None = None


@dataclass(frozen=True)
class Piece:
    """A part of a row that is drawn alone, in tokens."""

    start: int
    length: int


@dataclass(frozen=True)
class Placement:
    """When the row is trained on. draws: its places in an epoch, from 0; epoch_draws: of how many.

    steps: its optimizer steps over the whole training, from 0; training_steps: of how many. trainings: how often it
    was trained on. These are None where no training is done. phases: those of its draws, as the mixer names them.
    pieces: of the draws, where they are parts of rows. composed: the examples that it is a part of.
    """

    draws: Sequence[int]
    epoch_draws: int
    phases: Sequence[str] = ()
    pieces: Sequence[Piece] = ()
    composed: Sequence[int] = ()
    epochs: float | None = None
    steps: Sequence[int] | None = None
    training_steps: int | None = None
    trainings: int | None = None


@dataclass(frozen=True)
class Losses:
    """The row's loss, nats, the mean over its supervised tokens. of: model -> loss; before: of the base model.

    origin: where they come from, or why there are none.
    """

    of: Mapping[str, float]
    origin: str


@dataclass(frozen=True)
class Ledger:
    """One row's story; what the run does not hold is None or empty.

    file, line: where it was read; line is None where the file has no lines. address: names the row where its id does
    not. fate: selected, dropped by STAGE, duplicate, quarantined, held out; kept so far where the run is not done.
    copies: how many other rows have the same content. rank: in the last selection, from 0. repeats: draws of an epoch.
    scores: by column. neighbours: the nearest rows by the cosine of their embeddings. cause: of a quarantined row.
    """

    id: str
    uid: str | None
    source: str
    address: str
    file: str
    line: int | None
    fate: str
    prompt: str = ""
    response: str = ""
    cause: str | None = None
    copies: int = 0
    tokens: int | None = None
    supervised_tokens: int | None = None
    duplicates: Sequence[DuplicateGroup] = ()
    scores: Mapping[str, Score] = field(default_factory=dict)
    cluster: Cluster | None = None
    neighbours: Sequence[Other] = ()
    verdicts: Sequence[Verdict] = ()
    rank: int | None = None
    repeats: int | None = None
    schedule: Placement | None = None
    losses: Losses | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __rich__(self) -> "RenderableType":
        from curate.ledger.layout import as_rich

        return as_rich(self)

    def __str__(self) -> str:
        from curate.ledger.layout import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from curate.ledger.layout import as_html

        return as_html(self)
