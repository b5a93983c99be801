"""Select: keep some of the living rows, each with rank and reason; drop the others, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.errors import CurateError
from curate.reader import Reader
from curate.selector import Pool, Selector
from curate.stage import DROP, Artifacts, PoolResult, PoolStage


@dataclass(frozen=True)
class Select(PoolStage):
    """Runs a selector and keeps its ledger."""

    method: Selector
    seed: int
    higher_is_better: tuple[tuple[str, bool | None], ...]

    @property
    def needs(self) -> frozenset[str]:
        """What the selector reads, and what names a row."""
        return self.method.needs() | {"uid", "source"}

    @property
    def adds(self) -> frozenset[str]:
        """Rank (0 is the best) and reason of the kept, reason of the dropped."""
        return frozenset({DROP, "rank", "reason"})

    def predicted_rows(self, rows: int) -> int | None:
        """The budget, where it is one of rows."""
        return self.method.expected_rows(rows)

    def identity(self) -> dict[str, Any]:
        """The selector, its seed, and the directions of the scores that it reads."""
        read = {name: better for name, better in self.higher_is_better if name in self.method.needs()}
        return {**self.method.identity(), "seed": self.seed, "higher_is_better": read}

    def apply(self, pool: Reader, artifacts: Artifacts) -> PoolResult:
        """Select, and check that what came back is a selection."""
        frame = pool.frame(self.needs)
        chosen = self.method.select(Pool(frame, dict(self.higher_is_better), self.seed))
        kept = np.asarray(chosen.kept, dtype=np.int64)
        rows = frame.height
        if len(np.unique(kept)) != len(kept) or (len(kept) and not 0 <= kept.min() <= kept.max() < rows):
            raise CurateError(f"selector `{self.method.name}` returned rows twice or outside the pool")
        if len(chosen.reasons) != len(kept) or len(chosen.dropped_reasons) != rows - len(kept):
            raise CurateError(f"selector `{self.method.name}` must give one reason per row, kept or dropped")
        rank = np.full(rows, -1, dtype=np.int64)
        rank[kept] = np.arange(len(kept))
        alive = rank >= 0
        kept_reasons = pl.DataFrame({"index": kept, "reason": pl.Series(chosen.reasons, dtype=pl.String)})
        dropped = pl.DataFrame(
            {"index": np.flatnonzero(~alive), DROP: pl.Series(chosen.dropped_reasons, dtype=pl.String)}
        )
        if dropped[DROP].null_count():
            raise CurateError(f"selector `{self.method.name}` dropped a row without a reason")
        ledger = (
            pl.DataFrame({"index": np.arange(rows), "rank": rank})
            .join(kept_reasons, on="index", how="left", maintain_order="left")
            .join(dropped, on="index", how="left", maintain_order="left")
            .select(pl.col("rank").replace(-1, None), "reason", DROP)
        )
        return PoolResult(ledger, {"kept": len(kept), "of": rows})


def directions(known: Mapping[str, bool | None]) -> tuple[tuple[str, bool | None], ...]:
    """Directions as a value that can be compared and pickled."""
    return tuple(sorted(known.items()))
