"""Forward: a batch of rows through the model, packed end to end or padded, to states laid end to end."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curate.errors import CurateError
from curate.model.attention import attention_statistics
from curate.model.batches import Indices, cheapest_batches, pad
from curate.model.head import decoder_of, last_hidden_states
from curate.model.request import States
from curate.model.views import Input

Layout = Literal["packed", "padded"]

FORWARD_TOKENS = {False: 48, True: 4096}
"""What one more forward costs, as a number of tokens. On a CPU, measured: 25 ms of bf16 and 50 ms of float32
for SmolLM2-135M on two cores, which is 36 tokens of either. On a GPU, an estimate: 20 ms of launches."""

ATTENTION_BLOCK = 16
"""Below float32, batches are as wide as a multiple of this many tokens. Attention kernels round the tail
of a block differently from a whole one, and 30 layers make 1e-2 of it in the loss of a short response;
with whole blocks a row's scores were the same to the last bit in any batch (SmolLM2-135M, bf16, CPU)."""


@dataclass(frozen=True)
class Batch:
    """Rows ready for the model, on its device.

    input_ids, position_ids (packed alone): int64 [rows, width]. tokens: int64, the place of each token of the
    rows in the flattened ids. before: int64 [targets], of the token before each target; target_ids: int64
    [targets]. lengths, counts: tokens and targets of each row. padded_tokens: of the forward.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    tokens: Tensor
    before: Tensor
    target_ids: Tensor
    lengths: list[int]
    counts: list[int]

    @property
    def padded_tokens(self) -> int:
        """Tokens of the forward, padding included."""
        return self.input_ids.numel()


@dataclass(frozen=True)
class Asked:
    """The states that scorers read beside the head's input: outputs of layers, statistics of attention."""

    layers: frozenset[int] = frozenset()
    attention_layers: int = 0


@dataclass(frozen=True)
class Outputs:
    """hidden: [targets, width], the head's input before each target; states: by layer, None for the last."""

    hidden: Tensor
    states: dict[int | None, States]


def choose_layout(model: nn.Module) -> Layout:
    """Packed where the attention kernel takes rows of any length end to end and the model keeps them apart.

    That is flash attention. Through sdpa a packed batch would need a block-diagonal mask of tokens x tokens.
    """
    from curate.training.packing import isolates_rows

    kernel = str(model.config._attn_implementation)  # type: ignore[union-attr]
    return "packed" if "flash" in kernel and isolates_rows(model) else "padded"  # type: ignore[arg-type]


def plan_batches(
    model: nn.Module, lengths: Sequence[int], batch_tokens: int, layout: Layout
) -> list[Indices]:
    """The rows of each forward, longest first: at most `batch_tokens` tokens, padding included."""
    if layout == "packed":
        from curate.training.packing import pack

        return [np.array(group, dtype=np.int64) for group in pack(lengths, batch_tokens)]
    widths = [width_of(model, length) for length in lengths]
    return cheapest_batches(widths, batch_tokens, FORWARD_TOKENS[_device(model).type == "cuda"])


def width_of(model: nn.Module, longest: int) -> int:
    """The width that a batch is padded to: below float32, whole blocks, as far as the model's positions go."""
    if model.dtype.itemsize >= 4:  # type: ignore[operator]
        return longest
    config = model.config.get_text_config()  # type: ignore[operator,union-attr]
    positions = getattr(config, "max_position_embeddings", None)
    blocks = longest + -longest % ATTENTION_BLOCK
    return blocks if positions is None else max(longest, min(blocks, positions))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def prepare(model: nn.Module, rows: Sequence[Input], layout: Layout, device: torch.device) -> Batch:
    """A batch on the device; on a GPU through pinned memory, so that the copy can overlap with work."""
    lengths = [len(row.ids) for row in rows]
    if layout == "packed":
        starts = np.cumsum([0, *lengths[:-1]])
        ids = torch.from_numpy(np.concatenate([row.ids for row in rows]).astype(np.int64))[None]
        positions = torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))[None]
    else:
        ids, _ = pad([row.ids for row in rows], pad_id=0)
        width = width_of(model, ids.shape[1])
        ids = nn.functional.pad(ids, (0, width - ids.shape[1]))
        starts, positions = np.arange(len(rows)) * width, None
    tokens = np.concatenate(
        [start + np.arange(length) for start, length in zip(starts, lengths, strict=True)]
    )
    before = np.concatenate([start + row.before for start, row in zip(starts, rows, strict=True)])
    targets = np.concatenate([row.target_ids for row in rows])

    def moved(array: Tensor) -> Tensor:
        return array.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else array.to(device)

    return Batch(
        moved(ids),
        None if positions is None else moved(positions),
        moved(torch.from_numpy(tokens.astype(np.int64))),
        moved(torch.from_numpy(before.astype(np.int64))),
        moved(torch.from_numpy(targets)),
        lengths,
        [len(row.before) for row in rows],
    )


def forward(model: nn.Module, batch: Batch, asked: Asked | None) -> Outputs:
    """The batch through the decoder. asked: None where no scorer reads states.

    Raises CurateError where the decoder has no layer of a number asked for.
    """
    layers = asked.layers if asked else frozenset[int]()
    with ExitStack() as stack:
        captured = stack.enter_context(_layer_outputs(model, layers))
        found = None
        if asked and asked.attention_layers:
            found = stack.enter_context(attention_statistics(model, asked.attention_layers, batch.lengths))
        last = last_hidden_states(model, batch.input_ids, batch.position_ids)
    hidden = last.flatten(0, 1)[batch.before]
    if asked is None:
        return Outputs(hidden, {})
    device = last.device
    counts = torch.tensor(batch.lengths, device=device)
    predicts = torch.zeros(batch.padded_tokens, dtype=torch.bool, device=device)
    predicts[batch.before] = True
    common: dict[str, Any] = {
        "ids": batch.input_ids.flatten()[batch.tokens],
        "example": torch.repeat_interleave(torch.arange(len(counts), device=device), counts),
        "place": torch.cat([torch.arange(length, device=device) for length in batch.lengths]),
        "counts": counts,
        "predicts": predicts[batch.tokens],
    }
    if found is not None:
        common["focus"] = found.focus.flatten()[batch.tokens]
        common["received"] = found.received.flatten()[batch.tokens]
    captured[None] = last
    states = {
        layer: States(hidden=values.flatten(0, 1)[batch.tokens], **common)
        for layer, values in captured.items()
    }
    return Outputs(hidden, states)


@contextmanager
def _layer_outputs(model: nn.Module, layers: frozenset[int]) -> Iterator[dict[int | None, Tensor]]:
    """The outputs of decoder layers, by the number asked for, once a forward is done."""
    found: dict[int | None, Tensor] = {}
    if not layers:
        yield found
        return
    blocks = getattr(decoder_of(model), "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        raise CurateError(f"{type(model).__name__}: its decoder has no list `layers` to read states from.")
    hooks = []
    for number in layers:
        if not -len(blocks) <= number < len(blocks):
            raise CurateError(f"layer must be below the model's {len(blocks)} layers. Got {number}.")

        def keep(module: nn.Module, inputs: Any, output: Any, number: int = number) -> None:
            found[number] = output[0] if isinstance(output, tuple) else output

        hooks.append(blocks[number].register_forward_hook(keep))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class Prefetch:
    """Prepares the next batch in a thread while the model works on this one. For a GPU; on a CPU it only prepares."""

    def __init__(
        self, model: nn.Module, rows: Sequence[Input], batches: Sequence[Indices], layout: Layout
    ) -> None:
        self._model, self._rows, self._layout = model, rows, layout
        self._device = _device(model)
        self._order = {batch.tobytes(): place for place, batch in enumerate(batches)}
        self._batches = batches
        self._pool = ThreadPoolExecutor(1) if self._device.type == "cuda" else None
        self._next: tuple[int, Future[Batch]] | None = None

    def take(self, places: NDArray[np.int64]) -> Batch:
        """The batch of these rows; a part of a planned batch, which did not fit in memory, is prepared now."""
        place = self._order.get(places.tobytes())
        ready = self._next if self._next and self._next[0] == place else None
        batch = ready[1].result() if ready else self._make(places)
        if self._pool is not None and place is not None and place + 1 < len(self._batches):
            self._next = (place + 1, self._pool.submit(self._make, self._batches[place + 1]))
        return batch

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _make(self, places: NDArray[np.int64]) -> Batch:
        return prepare(
            self._model, [self._rows[place] for place in places.tolist()], self._layout, self._device
        )
