"""Batches of rows of like length under a token budget, padded on the right; smaller where memory ends.

For packing rows into one sequence without padding see training/packing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")
Indices = NDArray[np.int64]


def length_batches(lengths: Sequence[int] | NDArray[np.integer], batch_tokens: int) -> list[Indices]:
    """Places of rows of like length, int64, at most `batch_tokens` padded tokens a batch, longest first.

    lengths: int [rows], tokens of each. A row longer than the budget goes alone. Every row is in
    exactly one batch; equal lengths keep their order, so the batches follow from the lengths alone.
    The longest come first, so that what does not fit in memory shows at once. O(n log n).
    Raises ValueError for a budget below 1.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1. Got {batch_tokens}.")
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable").astype(np.int64)
    batches, first = [], 0
    while first < len(order):
        rows = max(1, batch_tokens // max(1, int(sizes[order[first]])))
        batches.append(order[first : first + rows])
        first += rows
    return batches


def cheapest_batches(
    lengths: Sequence[int] | NDArray[np.integer], batch_tokens: int, forward_tokens: int
) -> list[Indices]:
    """As `length_batches`, but split further where less padding saves more than another forward costs.

    forward_tokens: what one more forward costs beside its tokens, as a number of tokens. Of all ways to
    cut the rows, sorted by length, into batches of at most `batch_tokens`, the one with the fewest padded
    tokens plus `forward_tokens` a batch; exact, by dynamic programming, O(n x rows of a batch).
    Raises ValueError for a budget below 1.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1. Got {batch_tokens}.")
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").astype(np.int64)
    sizes = np.maximum(np.asarray(lengths, dtype=np.int64)[order], 1)
    cost = np.full(len(order) + 1, np.iinfo(np.int64).max)
    start = np.zeros(len(order) + 1, dtype=np.int64)
    cost[:1] = 0
    for first, size in enumerate(sizes.tolist()):
        rows = np.arange(1, min(max(1, batch_tokens // size), len(order) - first) + 1)
        total = cost[first] + forward_tokens + size * rows
        cheaper = total < cost[first + rows]
        cost[first + rows[cheaper]] = total[cheaper]
        start[first + rows[cheaper]] = first
    batches, end = [], len(order)
    while end:
        batches.append(order[start[end] : end])
        end = int(start[end])
    return batches[::-1]


def pad(
    rows: Sequence[Sequence[int] | NDArray[np.integer]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(input_ids, attention_mask), int64 [rows, longest]: padded on the right, mask 1 on tokens; on CPU."""
    import torch

    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    return torch.from_numpy(ids), torch.from_numpy(mask)


@dataclass(frozen=True)
class MemoryNotice:
    """A batch of `rows` rows did not fit in memory; it goes on in parts of at most `next_rows`."""

    rows: int
    next_rows: int
    error: str

    def __str__(self) -> str:
        return (
            f"out of memory with a batch of {self.rows} rows: going on with {self.next_rows} ({self.error})"
        )


def run_with_backoff(
    batch_fn: Callable[[Indices], Result],
    batches: Sequence[Indices],
    observe: Callable[[MemoryNotice], None],
    name_row: Callable[[int], str] = "row {}".format,
) -> Iterator[tuple[Indices, Result]]:
    """(places, result) of every batch, in order; a batch that memory cannot hold is halved and tried again.

    batch_fn: a pure function of the places. observe: told of each halving. name_row: how to name a row
    in an error. Out of memory is torch's OutOfMemoryError, its CPU allocator's RuntimeError ("can't
    allocate memory"), and MemoryError.
    Raises CurateError, naming the row, where a single row does not fit.
    """
    for batch in batches:
        waiting = [batch]
        while waiting:
            places = waiting.pop()
            result, error = _attempt(batch_fn, places)
            if error is None:
                yield places, result[0]
                continue
            _release()
            if len(places) == 1:
                raise CurateError(
                    f"{name_row(int(places[0]))} does not fit in memory by itself ({error}). Lower "
                    "max_tokens, take a smaller dtype, or a machine with more memory."
                )
            half = (len(places) + 1) // 2
            observe(MemoryNotice(len(places), half, error))
            waiting += [places[half:], places[:half]]


def _attempt(batch_fn: Callable[[Indices], Result], places: Indices) -> tuple[list[Result], str | None]:
    """([result], None), or ([], what ran out). Outside the handler the failed batch's tensors are freed."""
    import torch

    try:
        return [batch_fn(places)], None
    except (torch.OutOfMemoryError, MemoryError) as error:
        return [], _first_line(error)
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        return [], _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _release() -> None:
    """Give what the failed attempt held back to the GPU."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
