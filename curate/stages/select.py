"""Select: keep some of the living rows, each with rank and reason; drop the others, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import polars as pl

from curate.budget import Budget
from curate.constraints import Constraints
from curate.errors import CurateError, DataError
from curate.pool import Pool, Target, column_of
from curate.reader import Reader
from curate.selector import Selector
from curate.stage import DROP, Artifacts, PoolResult, PoolStage
from curate.stages.embed import TARGET_EMBEDDING, load_target
from curate.stages.target_rows import TARGET_ROWS, load_target_rows

EXCLUDED = "excluded by the constraints"
ADMISSION = 2
"""Version of how constraints are kept (`curate.admission`)."""


@dataclass(frozen=True)
class Select(PoolStage):
    """Runs a selector and keeps its ledger. constraints: bounds beside it, None for none."""

    method: Selector
    seed: int
    higher_is_better: tuple[tuple[str, bool | None], ...]
    constraints: Constraints | None = None

    @property
    def needs(self) -> frozenset[str]:
        """What the selector and the constraints read, and what names a row."""
        own = self.method.needs() | {"uid", "source"}
        if self.constraints is None:
            return own
        bounded = {column_of(name) for name in (*self.constraints.max_per, *self.constraints.min_per)}
        every = [self.constraints.max_per, self.constraints.min_per]
        bounds = [each for some in every for each in some.values()]
        flat = [one for each in bounds for one in (each.values() if isinstance(each, Mapping) else [each])]
        return own | bounded | {"id"} | frozenset[str]().union(*(bound.needs() for bound in flat))

    @property
    def adds(self) -> frozenset[str]:
        """Rank (0 is the best) and reason of the kept, reason of the dropped."""
        return frozenset({DROP, "rank", "reason"})

    def expected_memory_bytes(self, rows: int, width: int) -> int | None:
        """As the selector says."""
        return self.method.expected_memory_bytes(rows, width)

    def predicted_rows(self, rows: int) -> int | None:
        """The budget, where it is one of rows."""
        return self.method.expected_rows(rows)

    def rehearsal(self, share: float) -> Self:
        """With so small a share of the budget."""
        budgets = {name: value for name, value in self.method if isinstance(value, Budget)}
        scaled = {name: budget.scaled(share) for name, budget in budgets.items()}
        return replace(self, method=self.method.model_copy(update=scaled))

    @cached_property
    def _limits(self) -> Constraints | None:
        return None if self.constraints is None else self.constraints.with_files()

    def identity(self) -> dict[str, Any]:
        """The selector, its seed, the constraints, and the directions of the scores that it reads."""
        read = {name: better for name, better in self.higher_is_better if name in self.method.needs()}
        limits: dict[str, Any] = {}
        if self._limits is not None:
            limits = {"constraints": self._limits.model_dump(mode="json"), "admission": ADMISSION}
        return {**self.method.identity(), "seed": self.seed, "higher_is_better": read, **limits}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Select, and check that what came back is a selection."""
        whole = pool.frame([name for name in self.needs if not name.startswith("artifact:")])
        excluded = _excluded(whole, self._limits)
        frame = whole.filter(~excluded)
        if not frame.height:
            raise DataError("exclude: it names every row of the pool. Nothing is left to select from.")
        given = {name: folder for name, folder in artifacts.items() if f"artifact:{name}" in self.needs}
        candidates = Pool(frame, dict(self.higher_is_better), self.seed, given, _target(given), self._limits)
        chosen = self.method.select(candidates)
        kept, rows = np.asarray(chosen.kept, dtype=np.int64), frame.height
        if len(np.unique(kept)) != len(kept) or (len(kept) and not 0 <= kept.min() <= kept.max() < rows):
            raise CurateError(f"selector `{self.method.name}` returned rows twice or outside the pool")
        if len(chosen.reasons) != len(kept) or len(chosen.dropped_reasons) != rows - len(kept):
            raise CurateError(f"selector `{self.method.name}` must give one reason per row, kept or dropped")
        rank = np.full(rows, -1, dtype=np.int64)
        rank[kept] = np.arange(len(kept))
        kept_reasons = pl.DataFrame({"index": kept, "reason": pl.Series(chosen.reasons, dtype=pl.String)})
        dropped_rows = np.flatnonzero(rank < 0)
        dropped = pl.DataFrame(
            {"index": dropped_rows, DROP: pl.Series(chosen.dropped_reasons, dtype=pl.String)}
        )
        if dropped[DROP].null_count():
            raise CurateError(f"selector `{self.method.name}` dropped a row without a reason")
        remarks = pl.DataFrame(
            {"index": list(candidates.remarks), "remark": list(candidates.remarks.values())},
            schema={"index": pl.Int64, "remark": pl.String},
        )
        ledger = (
            pl.DataFrame({"index": np.arange(rows), "rank": rank})
            .join(kept_reasons, on="index", how="left", maintain_order="left")
            .join(dropped, on="index", how="left", maintain_order="left")
            .join(remarks, on="index", how="left", maintain_order="left")
            .with_columns(pl.col("rank").replace(-1, None), text=_with_remark())
            .select(
                "rank",
                pl.when(pl.col("reason").is_not_null()).then("text").alias("reason"),
                pl.when(pl.col(DROP).is_not_null()).then("text").alias(DROP),
            )
        )
        notes = {"kept": len(kept), "of": rows, **chosen.notes}
        return PoolResult(_among(ledger, excluded), notes)


def _with_remark() -> pl.Expr:
    """The reason, and what the constraints did to the row."""
    return pl.concat_str(pl.coalesce("reason", DROP), "remark", separator="; ", ignore_nulls=True)


def _excluded(frame: pl.DataFrame, limits: Constraints | None) -> pl.Series:
    """Which rows must not be kept, Boolean [rows]. Ids that no row has, dropped before perhaps, exclude none."""
    nothing = pl.Series(np.zeros(frame.height, dtype=np.bool_))
    if limits is None or not limits.exclude:
        return nothing
    wanted = pl.Series(list(limits.exclude)).implode()
    return frame.select(pl.col("id").is_in(wanted) | pl.col("uid").is_in(wanted)).to_series()


def _among(ledger: pl.DataFrame, excluded: pl.Series) -> pl.DataFrame:
    """The ledger with the excluded rows at their places."""
    if not excluded.any():
        return ledger
    place = np.full(len(excluded), ledger.height, dtype=np.int64)
    place[~excluded.to_numpy()] = np.arange(ledger.height)
    last = pl.DataFrame({"rank": [None], "reason": [None], DROP: [EXCLUDED]}, schema=ledger.schema)
    return pl.concat([ledger, last])[place.tolist()]


def _target(artifacts: Artifacts) -> Target:
    return Target(
        load_target(artifacts[TARGET_EMBEDDING]) if TARGET_EMBEDDING in artifacts else None,
        load_target_rows(artifacts[TARGET_ROWS]) if TARGET_ROWS in artifacts else None,
    )


def directions(known: Mapping[str, bool | None]) -> tuple[tuple[str, bool | None], ...]:
    """Directions as a value that can be compared and pickled."""
    return tuple(sorted(known.items()))
