"""Packing: the rows of an optimizer step, laid end to end without padding.

A micro-batch is one sequence [1, tokens] whose `position_ids` start again at 0 with each row. Under these
conditions transformers keeps the rows apart, each attending to itself alone: no attention mask is
given, no key-value cache is in use (`use_cache=False`), and the architecture hands `position_ids` to
`create_causal_mask` (sdpa, eager) or to the variable-length kernel (flash_attention_2). Not every
architecture does, recurrent ones cannot; `isolates_rows` asks the model itself.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.errors import DataError
from curate.model.request import TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Packed:
    """Rows laid end to end.

    input_ids, position_ids: int64 [1, tokens]; targets: int64 [supervised tokens], the places in the
    sequence of the tokens that the loss predicts, each from the place before it.
    """

    input_ids: Tensor
    position_ids: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Packed":
        """The same on a device."""
        return Packed(self.input_ids.to(device), self.position_ids.to(device), self.targets.to(device))


def steps(
    draws: NDArray[np.int64],
    epochs: float,
    batch_rows: int,
    max_steps: int | None,
    step_of: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """The rows of each optimizer step: the schedule, again and again, cut into steps.

    draws: int64 [draws], one epoch. The stream is exactly `round(epochs * len(draws))` draws long (at
    least 1) and an epoch goes over into the next within a step. Only the last step may be short.
    step_of: int64 [draws], ascending, the step of each draw: then these are the steps, `batch_rows` does not count,
    and `round(epochs * steps)` of them (at least 1) are made.
    """
    if step_of is None:
        total = max(1, round(epochs * len(draws)))
        stream = np.tile(draws, math.ceil(total / len(draws)))[:total]
        cut = [stream[start : start + batch_rows] for start in range(0, total, batch_rows)]
    else:
        once = np.split(draws, np.flatnonzero(np.diff(step_of)) + 1)
        cut = [once[step % len(once)] for step in range(max(1, round(epochs * len(once))))]
    return cut if max_steps is None else cut[:max_steps]


def equal_steps(tokens: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The step of each draw, int64 [draws], from 0, such that `count` steps in a row hold about equal tokens.

    tokens: int64 [draws], supervised tokens of each, above 0. A draw belongs where its middle token falls; a step that
    none falls into takes the next draw. Raises DataError for fewer draws than steps.
    """
    draws = len(tokens)
    if draws < count:
        raise DataError(
            f"training: {count} optimizer steps need at least {count} draws. Got {draws}; lower `steps_per_epoch`."
        )
    middle = np.cumsum(tokens) - tokens / 2
    wanted = np.minimum((middle * count / tokens.sum()).astype(np.int64), count - 1)
    place = np.arange(draws)
    latest = np.minimum(place, count - 1)  # a step cannot come before its number of draws
    earliest = np.maximum(count - (draws - place), 0)  # nor leave too few draws for the steps after it
    steps = np.maximum.accumulate(np.clip(wanted, earliest, latest))
    return np.asarray(place + np.minimum.accumulate(steps - place), dtype=np.int64)  # none is left out


def pack(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of rows that share a micro-batch of at most `batch_tokens`: best fit, longest first.

    Each row goes where the least room is left over, into the latest of equals; a longer one than
    `batch_tokens` goes alone. Depends on the lengths and their order alone. O(rows log rows): the
    micro-batches are kept by their room, of which there are at most `batch_tokens` different ones.
    """
    groups: list[list[int]] = []
    rooms: list[int] = []
    by_room: dict[int, list[list[int]]] = {}
    for index in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        place = bisect_left(rooms, lengths[index])
        if place == len(rooms):
            room, group = batch_tokens, list[int]()
            groups.append(group)
        else:
            room = rooms[place]
            group = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        group.append(index)
        room -= lengths[index]
        if room > 0:
            if room not in by_room:
                insort(rooms, room)
            by_room.setdefault(room, []).append(group)
    return groups


def check_rows(rows: Sequence[TokenRow], indices: Iterable[int], doing: str) -> None:
    """Raise DataError at the first row without a loss: no target, or one with nothing before it."""
    for index in indices:
        supervised = rows[index].supervised
        if not supervised.any() or supervised[0]:
            what = "its first token is a target" if supervised.any() else "it has no supervised token"
            raise DataError(f"{doing}: row {index} has no loss: {what}. Tokenise it again.")


def flatten(rows: Sequence[TokenRow]) -> Packed:
    """Rows laid end to end, in their order, on the CPU."""
    supervised = np.concatenate([row.supervised for row in rows])
    positions = np.concatenate([np.arange(len(row.input_ids)) for row in rows])
    tokens = np.concatenate([row.input_ids for row in rows]).astype(np.int64)
    return Packed(
        torch.from_numpy(tokens)[None],
        torch.from_numpy(positions)[None],
        torch.from_numpy(np.flatnonzero(supervised)),
    )


def micro_batches(rows: Sequence[TokenRow], batch_tokens: int, together: bool = True) -> list[Packed]:
    """All rows, packed; one row each where the model cannot keep rows apart (`together` False)."""
    if not together:
        return [flatten([row]) for row in rows]
    groups = pack([len(row.input_ids) for row in rows], batch_tokens)
    return [flatten([rows[index] for index in group]) for group in groups]


def token_losses(model: "PreTrainedModel", packed: Packed) -> Tensor:
    """Loss of each target, float32 [supervised tokens], nats, by the model's own forward pass.

    The head runs at the supervised places alone. Needs no labels: transformers' own loss would shift
    them within the packed sequence and divide by what it counts itself.
    """
    before = packed.targets - 1
    logits = model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        use_cache=False,
        logits_to_keep=before,
    ).logits
    if logits.shape[1] != len(before):  # an architecture without `logits_to_keep`
        logits = logits[:, before]
    targets = packed.input_ids[0, packed.targets]
    return torch.nn.functional.cross_entropy(logits[0].float(), targets, reduction="none")


@torch.no_grad()
def isolates_rows(model: "PreTrainedModel") -> bool:
    """Whether packed rows do not see each other: another first row must leave the second's logits alone.

    Two forward passes of 16 tokens.
    """
    embedding: Any = model.get_input_embeddings()
    vocabulary, device = embedding.weight.shape[0], embedding.weight.device
    generator = np.random.default_rng(0)
    first, other, second = generator.integers(0, vocabulary, size=(3, 8), dtype=np.int32)
    nothing = np.zeros(8, dtype=np.bool_)
    training = model.training
    model.train(False)
    logits = []
    for row in (first, other):
        packed = flatten([TokenRow(row, nothing), TokenRow(second, nothing)]).to(device)
        out = model(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False)
        logits.append(out.logits[0, 8:].float())
    model.train(training)
    scale = logits[0].abs().max().item()
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 2e-2
    return bool((logits[0] - logits[1]).abs().max().item() <= tolerance * scale)
