"""The one pass: every signal that the scorers of a run ask for, from one forward of each row.

A batch goes through the model without its output head; the head is then applied only where a target
follows, in chunks of bounded memory (head.py). Rows are cut after their last target, bucketed by
length and padded on the right, so no mask is needed: a causal model sees no later position.
The result of a row does not depend on the batch that it was in, beyond rounding.
"""

import logging
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from curate.model.batches import cheapest_batches, pad, run_with_backoff
from curate.model.head import HeadPass, OutputHead, last_hidden_states
from curate.model.request import PER_EXAMPLE, Signal, TokenRow, TokenSignals, View

HEAD_MEMORY_BYTES = 256 << 20

FORWARD_TOKENS = {False: 48, True: 4096}
"""What one more forward costs, as a number of tokens. On a CPU, measured: 25 ms of bf16 and 50 ms of float32
for SmolLM2-135M on two cores, which is 36 tokens of either. On a GPU, an estimate: 20 ms of launches."""

ATTENTION_BLOCK = 16
"""Below float32, batches are as wide as a multiple of this many tokens. Attention kernels round the tail
of a block differently from a whole one, and 30 layers make 1e-2 of it in the loss of a short response;
with whole blocks a row's scores were the same to the last bit in any batch (SmolLM2-135M, bf16, CPU)."""

_Found = tuple[dict[Signal, NDArray[np.float64]], dict[Signal, NDArray[np.float64]]]
_log = logging.getLogger(__name__)


@dataclass
class Throughput:
    """What passes have cost so far. tokens: forward, without padding; padded_tokens: with it."""

    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Sequence:
    """One forward: ids [n + 1], and the positions in it of the tokens to predict, all above 0."""

    ids: NDArray[np.int32]
    targets: NDArray[np.int64]


def compute_signals(
    model: nn.Module,
    rows: Sequence[TokenRow],
    signals: Mapping[View, Set[Signal]],
    batch_tokens: int,
    head_memory_bytes: int = HEAD_MEMORY_BYTES,
    throughput: Throughput | None = None,
) -> TokenSignals:
    """The signals asked for under each view, in the order of `rows`; nothing else is computed.

    model: a transformers causal language model in evaluation mode. signals: see `request.union`.
    batch_tokens: padded tokens of one forward; a longer row goes alone. head_memory_bytes: logits
    held at once. throughput: added to. Returns float64 arrays: View.FULL itself, the other views in
    `.views`; a row without a supervised token has no tokens, and NaN for a per-example signal.
    Raises ValueError for a model in training mode (dropout), CurateError for a head whose logits are
    scaled or capped (see OutputHead.of). Out of memory halves a batch, says so, and goes on (batches.py).
    """
    if model.training:
        raise ValueError("model must be in evaluation mode (dropout makes scores random). Call model.eval().")
    started = time.perf_counter()
    record = throughput if throughput is not None else Throughput()
    head = OutputHead.of(model)
    beginning = model.config.get_text_config().bos_token_id  # type: ignore[operator,union-attr]
    beginnings = set(np.atleast_1d([] if beginning is None else beginning).tolist())
    found: dict[View, TokenSignals] = {}
    for view, wanted in signals.items():
        sequences = [_sequence(row, view, beginnings) for row in rows]
        head_pass = HeadPass(head, wanted, head_memory_bytes)
        found[view] = _view_signals(model, head_pass, sequences, wanted, batch_tokens, record)
    record.rows += len(rows)
    record.seconds += time.perf_counter() - started
    full = found.pop(View.FULL, TokenSignals(np.zeros(len(rows) + 1, dtype=np.int64), {}))
    return TokenSignals(full.offsets, full.per_token, full.per_example, found)


def _sequence(row: TokenRow, view: View, beginnings: Set[int]) -> _Sequence:
    """What is forwarded for a row under a view: nothing after the last target."""
    if len(row.input_ids) != len(row.supervised):
        raise ValueError(
            f"input_ids and supervised must have one length. Got {len(row.input_ids)} and {len(row.supervised)}."
        )
    supervised = np.flatnonzero(row.supervised)
    nothing = _Sequence(row.input_ids[:0], supervised[:0])
    if view is View.FULL:
        targets = supervised[supervised > 0]
        return _Sequence(row.input_ids[: targets[-1] + 1], targets) if len(targets) else nothing
    opens = len(row.input_ids) > 0 and int(row.input_ids[0]) in beginnings and not row.supervised[0]
    if len(supervised) == 0 or supervised[0] <= 1:
        return nothing
    kept = int(opens and np.count_nonzero(row.input_ids == row.input_ids[0]) == 1)
    ids = np.concatenate([row.input_ids[:kept], row.input_ids[supervised]])
    return _Sequence(ids, np.arange(1, len(ids), dtype=np.int64))


def _view_signals(
    model: nn.Module,
    head_pass: HeadPass,
    sequences: Sequence[_Sequence],
    wanted: Set[Signal],
    batch_tokens: int,
    record: Throughput,
) -> TokenSignals:
    offsets = np.cumsum([0, *(len(sequence.targets) for sequence in sequences)], dtype=np.int64)
    per_token = {signal: np.full(offsets[-1], np.nan) for signal in wanted - PER_EXAMPLE}
    per_example = {signal: np.full(len(sequences), np.nan) for signal in wanted & PER_EXAMPLE}
    scored = np.flatnonzero(np.diff(offsets))
    widths = [_width(model, len(sequences[index].ids) - 1) for index in scored.tolist()]
    batches = cheapest_batches(widths, batch_tokens, FORWARD_TOKENS[head_pass.device.type == "cuda"])

    def forward(places: NDArray[np.int64]) -> _Found:
        return _forward(model, head_pass, [sequences[index] for index in scored[places].tolist()], record)

    for places, (tokens, examples) in run_with_backoff(
        forward, batches, lambda notice: _log.warning("%s", notice)
    ):
        batch = scored[places]
        taken = np.concatenate([np.arange(offsets[index], offsets[index + 1]) for index in batch.tolist()])
        for signal, values in tokens.items():
            per_token[signal][taken] = values
        for signal, values in examples.items():
            per_example[signal][batch] = values
    return TokenSignals(offsets, per_token, per_example)


def _width(model: nn.Module, longest: int) -> int:
    """The width that a batch is padded to: below float32, whole blocks, as far as the model's positions go."""
    if model.dtype.itemsize >= 4:  # type: ignore[operator]
        return longest
    config = model.config.get_text_config()  # type: ignore[operator,union-attr]
    positions = getattr(config, "max_position_embeddings", None)
    blocks = longest + -longest % ATTENTION_BLOCK
    return blocks if positions is None else max(longest, min(blocks, positions))


def _forward(model: nn.Module, head_pass: HeadPass, batch: Sequence[_Sequence], record: Throughput) -> _Found:
    """One batch through the model and the head: signals of its rows laid end to end."""
    ids, _ = pad([sequence.ids[:-1] for sequence in batch], pad_id=0)
    width = _width(model, ids.shape[1])
    ids = nn.functional.pad(ids, (0, width - ids.shape[1]))
    counts = [len(sequence.targets) for sequence in batch]
    at = np.concatenate([place * width + sequence.targets - 1 for place, sequence in enumerate(batch)])
    targets = np.concatenate([sequence.ids[sequence.targets] for sequence in batch]).astype(np.int64)
    device = head_pass.device
    with torch.inference_mode():
        states = last_hidden_states(model, ids.to(device))
        hidden = states.flatten(0, 1)[torch.from_numpy(at).to(device)]
        found = head_pass.run(hidden, torch.from_numpy(targets).to(device), counts)
    record.tokens += sum(len(sequence.ids) - 1 for sequence in batch)
    record.padded_tokens += ids.numel()
    record.supervised_tokens += len(targets)
    return found
