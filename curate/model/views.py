"""What goes through the model for a row under a view, and which tokens are predicted in it."""

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.model.request import TokenRow, View


@dataclass(frozen=True)
class Input:
    """One row under a view.

    ids: int32 [tokens] to forward. before: int64 [targets], the place in `ids` before each target, ascending;
    target_ids: int64 [targets]. A row without targets has no tokens.
    """

    ids: NDArray[np.int32]
    before: NDArray[np.int64]
    target_ids: NDArray[np.int64]


def input_of(row: TokenRow, view: View, beginnings: Set[int], whole: bool) -> Input:
    """A row under a view. beginnings: the model's BOS tokens. whole: also what stands after the last target.

    A row without a rejected answer has no targets under REJECTED. Raises ValueError where tokens and mask differ
    in length.
    """
    if len(row.input_ids) != len(row.supervised):
        raise ValueError(
            f"input_ids and supervised must have one length. Got {len(row.input_ids)} and {len(row.supervised)}."
        )
    supervised = np.flatnonzero(row.supervised)
    match view:
        case View.FULL:
            return _cut(row.input_ids, supervised[supervised > 0], whole)
        case View.REJECTED:
            other = row.rejected
            return _NOTHING if other is None else input_of(other, View.FULL, beginnings, whole)
        case View.PROMPT_ONLY:
            prompt = row.input_ids[: supervised[0]] if len(supervised) else row.input_ids
            return _cut(prompt, np.arange(1, len(prompt), dtype=np.int64), whole)
        case View.RESPONSE_ONLY:
            if len(supervised) == 0 or supervised[0] <= 1:
                return _NOTHING
            opens = int(row.input_ids[0]) in beginnings
            kept = int(opens and np.count_nonzero(row.input_ids == row.input_ids[0]) == 1)
            ids = np.concatenate([row.input_ids[:kept], row.input_ids[supervised]])
            return _cut(ids, np.arange(1, len(ids), dtype=np.int64), whole)


_NOTHING = Input(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def _cut(ids: NDArray[np.int32], targets: NDArray[np.int64], whole: bool) -> Input:
    if not len(targets):
        return _NOTHING
    end = len(ids) if whole else int(targets[-1])
    return Input(ids[:end], targets - 1, ids[targets].astype(np.int64))
