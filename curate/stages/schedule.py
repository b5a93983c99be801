"""Schedule: what a training draws, read back from the store as token rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.model.request import TokenRow
from curate.stage import Inputs
from curate.stages.mix import COMPOSED, SCHEDULE
from curate.stages.rows import token_rows


@dataclass(frozen=True)
class Drawn:
    """One epoch of training.

    examples: the distinct token rows: whole rows, pieces of rows, composed examples.
    draws: int64 [draws], indices of `examples`, in the order of training.
    steps: int64 [draws], the optimizer step of each draw; None where the trainer cuts by `batch_rows`.
    members: for each example the living rows inside it, int64: the row itself, a piece's row, those of a composed one.
    is_piece: whether an example is a piece of a row, bool [examples].
    """

    examples: Sequence[TokenRow]
    draws: NDArray[np.int64]
    steps: NDArray[np.int64] | None
    members: Sequence[NDArray[np.int64]]
    is_piece: NDArray[np.bool_]

    def rows_behind(self, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        """The living rows that a baseline counts for some of the draws, int64, each as often as it counts.

        A row in pieces counts as often as the most drawn of its pieces.
        """
        examples, times = np.unique(draws, return_counts=True)
        whole = [
            np.repeat(self.members[e], n)
            for e, n in zip(examples, times, strict=True)
            if not self.is_piece[e]
        ]
        most: dict[int, int] = {}
        for example, count in zip(examples.tolist(), times.tolist(), strict=True):
            if self.is_piece[example]:
                row = int(self.members[example][0])
                most[row] = max(most.get(row, 0), count)
        cut = np.repeat(np.array(list(most), dtype=np.int64), list(most.values()))
        return np.concatenate([*whole, cut]).astype(np.int64)

    @cached_property
    def supervised_tokens(self) -> NDArray[np.int64]:
        """Of each example, int64 [examples]."""
        return np.array([row.supervised.sum() for row in self.examples], dtype=np.int64)


def every_row_once(inputs: Inputs, seed: int) -> Drawn:
    """Each living row once, shuffled."""
    rows = token_rows(inputs.pool.frame(["input_ids", "supervised"]))
    order = np.random.default_rng(seed).permutation(len(rows))
    nowhere = np.zeros(len(rows), dtype=np.bool_)
    return Drawn(rows, order, None, [np.array([row]) for row in range(len(rows))], nowhere)


def scheduled(inputs: Inputs, folder: Path) -> Drawn:
    """What the schedule in `folder` draws of the living rows."""
    table = pl.read_parquet(folder / SCHEDULE)
    what = ["position", "composed", "start", "length"]
    distinct = table.select(what).unique(maintain_order=True).with_row_index("example")
    draws = table.select(what).join(distinct, on=what, how="left", nulls_equal=True, maintain_order="left")
    rows = token_rows(inputs.pool.frame(["input_ids", "supervised"]))
    place = np.searchsorted(inputs.pool.positions, distinct["position"].fill_null(0).to_numpy())
    made, inside = _composed(inputs, folder)
    examples: list[TokenRow] = []
    members: list[NDArray[np.int64]] = []
    for row, composed, start, length in zip(
        place.tolist(), distinct["composed"], distinct["start"], distinct["length"], strict=True
    ):
        if composed is not None:
            examples.append(made[composed])
            members.append(inside[composed])
            continue
        examples.append(rows[row] if length is None else piece(rows[row], start, length))
        members.append(np.array([row]))
    steps = None if table["step"].null_count() else table["step"].to_numpy()
    is_piece = distinct["length"].is_not_null().to_numpy()
    return Drawn(examples, draws["example"].to_numpy().astype(np.int64), steps, members, is_piece)


def piece(row: TokenRow, start: int, length: int) -> TokenRow:
    """Tokens start to start + length of a row; the first is no target, for nothing in the piece stands before it."""
    supervised = row.supervised[start : start + length].copy()
    supervised[:1] = False
    return TokenRow(row.input_ids[start : start + length], supervised)


def _composed(inputs: Inputs, folder: Path) -> tuple[list[TokenRow], list[NDArray[np.int64]]]:
    if not (folder / COMPOSED).exists():
        return [], []
    table = pl.read_parquet(folder / COMPOSED)
    inside = [np.searchsorted(inputs.pool.positions, each.to_numpy()) for each in table["members"]]
    return token_rows(table), inside
