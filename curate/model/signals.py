"""The one pass: every signal that the scorers of a run ask for, from one forward of each row and view.

A batch goes through the model without its output head; the head is then applied only where a target
follows, in chunks of bounded memory (head_pass.py). Rows are cut after their last target, unless a scorer
reads states. Where the attention kernel takes rows packed end to end (flash attention) there is no padding;
elsewhere rows are bucketed by length and padded on the right, so that no mask is needed: a causal model sees
no later position. The result of a row does not depend on the batch that it was in, beyond rounding.
"""

import logging
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curate.errors import CurateError
from curate.model.batches import MemoryNotice, run_with_backoff
from curate.model.cost import forward_flops
from curate.model.forward import (
    Asked,
    Batch,
    Layout,
    Outputs,
    Prefetch,
    choose_layout,
    forward,
    plan_batches,
)
from curate.model.head import OutputHead
from curate.model.head_pass import HeadPass
from curate.model.request import (
    PER_EXAMPLE,
    HeadProduct,
    Readout,
    Signal,
    StateReadout,
    States,
    TokenRow,
    TokenSignals,
    View,
)
from curate.model.views import Input, input_of

HEAD_MEMORY_BYTES = 256 << 20

_Found = tuple[
    dict[Signal, NDArray[np.float64]], dict[Signal, NDArray[np.float64]], dict[str, NDArray[np.float64]]
]
_log = logging.getLogger(__name__)


@dataclass
class Throughput:
    """What passes have cost so far. tokens: forward, without padding; padded_tokens: with it.

    flops: of matrix products, as cost.py counts them. packed_tokens: of those forward, in packed batches.
    """

    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    packed_tokens: int = 0
    supervised_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0


def compute_signals(
    model: nn.Module,
    rows: Sequence[TokenRow],
    signals: Mapping[View, Set[Signal]],
    batch_tokens: int,
    head_memory_bytes: int = HEAD_MEMORY_BYTES,
    throughput: Throughput | None = None,
    readouts: Mapping[View, Sequence[Readout]] | None = None,
    head_gradient: Tensor | None = None,
    layout: Layout | None = None,
) -> TokenSignals:
    """The signals asked for under each view, in the order of `rows`; nothing else is computed.

    model: a transformers causal language model in evaluation mode. signals: see `request.union`.
    batch_tokens: padded tokens of one forward; a longer row goes alone. head_memory_bytes: logits
    held at once. throughput: added to. readouts: what scorers read from states, for views in `signals`.
    head_gradient: float32 (float64 for a float64 head) [vocabulary, width], one column more where the head has a
    bias; the sum of the examples' gradients under FULL is added to it. layout: None chooses (forward.py).
    Returns float64 arrays: View.FULL itself, the other views in `.views`; a row without a supervised token
    has no tokens, and NaN for what is per example. Raises ValueError for a model in training mode (dropout),
    CurateError for a head whose logits are scaled or capped (see OutputHead.of). Out of memory halves a
    batch, says so, and goes on (batches.py).
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
        read = (readouts or {}).get(view, ())
        states = [readout for readout in read if isinstance(readout, StateReadout)]
        products = [readout for readout in read if isinstance(readout, HeadProduct)]
        inputs = [input_of(row, view, beginnings, whole=bool(states)) for row in rows]
        gradient = head_gradient if view is View.FULL else None
        head_pass = HeadPass(head, wanted, head_memory_bytes, products, gradient)
        chosen = layout or choose_layout(model)
        if any(readout.attention_layers for readout in states):
            chosen = "padded"  # the statistics are taken over rows of a padded batch
        one = _ViewPass(model, head_pass, states, chosen, record)
        found[view] = one.run(inputs, wanted, batch_tokens)
    record.rows += len(rows)
    record.seconds += time.perf_counter() - started
    characters = np.array([row.characters for row in rows], dtype=np.int64)
    full = found.pop(View.FULL, TokenSignals(np.zeros(len(rows) + 1, dtype=np.int64), {}))
    return TokenSignals(full.offsets, full.per_token, full.per_example, found, full.readings, characters)


class _ViewPass:
    """The pass over the rows under one view."""

    def __init__(
        self,
        model: nn.Module,
        head_pass: HeadPass,
        readouts: Sequence[StateReadout],
        layout: Layout,
        record: Throughput,
    ) -> None:
        self._model, self._head_pass, self._readouts = model, head_pass, readouts
        self._layout, self._record = layout, record
        self._asked: Asked | None = None
        if readouts:
            depths = {readout.attention_layers for readout in readouts} - {0}
            if len(depths) > 1:
                raise ValueError(
                    f"attention statistics must be of one number of layers. Got {sorted(depths)}."
                )
            layers = frozenset(readout.layer for readout in readouts if readout.layer is not None)
            self._asked = Asked(layers, max(depths, default=0))

    def run(self, inputs: Sequence[Input], wanted: Set[Signal], batch_tokens: int) -> TokenSignals:
        offsets = np.cumsum([0, *(len(each.before) for each in inputs)], dtype=np.int64)
        per_token = {signal: np.full(offsets[-1], np.nan) for signal in wanted - PER_EXAMPLE}
        per_example = {signal: np.full(len(inputs), np.nan) for signal in wanted & PER_EXAMPLE}
        readings: dict[str, NDArray[np.float64]] = {}
        scored = np.flatnonzero(np.diff(offsets))
        live = [inputs[index] for index in scored.tolist()]
        batches = plan_batches(self._model, [len(each.ids) for each in live], batch_tokens, self._layout)
        prefetch = Prefetch(self._model, live, batches, self._layout)

        def tell(notice: MemoryNotice) -> None:
            _log.warning("%s", notice)

        def forwarded(places: NDArray[np.int64]) -> tuple[Batch, Outputs]:
            batch = prefetch.take(places)
            return batch, self._forward(batch)

        def one(places: NDArray[np.int64]) -> _Found:
            return self._read(*forwarded(places))

        results = run_with_backoff(one, batches, tell)
        if self._head_pass.sums_gradients:  # no batch may be added twice, so only its forward is tried again
            tried = run_with_backoff(forwarded, batches, tell)
            results = ((places, self._read(*outputs)) for places, outputs in tried)
        try:
            for places, (tokens, examples, read) in results:
                batch = scored[places]
                taken = np.concatenate(
                    [np.arange(offsets[index], offsets[index + 1]) for index in batch.tolist()]
                )
                for signal, values in tokens.items():
                    per_token[signal][taken] = values
                for signal, values in examples.items():
                    per_example[signal][batch] = values
                for name, values in read.items():
                    if name not in readings:
                        readings[name] = np.full((len(inputs), *values.shape[1:]), np.nan, dtype=values.dtype)
                    readings[name][batch] = values
        finally:
            prefetch.close()
        for name in self._head_pass.product_names:
            readings.setdefault(name, np.full(len(inputs), np.nan))
        for each in self._readouts:
            shape = (len(inputs),) if each.width is None else (len(inputs), each.width)
            readings.setdefault(each.name, np.full(shape, np.nan))
        return TokenSignals(offsets, per_token, per_example, readings=readings)

    @torch.inference_mode()
    def _forward(self, batch: Batch) -> Outputs:
        return forward(self._model, batch, self._asked)

    @torch.inference_mode()
    def _read(self, batch: Batch, outputs: Outputs) -> _Found:
        """Signals and readouts of a batch's rows, laid end to end."""
        tokens, examples, read = self._head_pass.run(outputs.hidden, batch.target_ids, batch.counts)
        for readout in self._readouts:
            read[readout.name] = _on_host(readout.read(outputs.states[readout.layer]))
        self._count(batch)
        return tokens, examples, read

    def _count(self, batch: Batch) -> None:
        record = self._record
        targets = len(batch.target_ids) if self._head_pass.reads_logits else 0
        record.tokens += sum(batch.lengths)
        record.padded_tokens += batch.padded_tokens
        record.packed_tokens += sum(batch.lengths) if self._layout == "packed" else 0
        record.supervised_tokens += len(batch.target_ids)
        record.flops += forward_flops(self._model, batch.lengths, targets)


def collect_states(
    model: nn.Module,
    rows: Sequence[TokenRow],
    batch_tokens: int,
    layer: int | None = None,
    attention_layers: int = 0,
) -> States:
    """The states of a few rows, all at once, of all their tokens; see `StateReadout`. O(tokens x width) memory.

    In the order of the rows, whatever the batches; rows without a supervised token have none and are no
    example. Raises as `compute_signals`, and CurateError where no row has one.
    """
    kept: list[States] = []
    firsts = [0]

    def keep(states: States) -> Tensor:
        kept.append(states)
        firsts.append(firsts[-1] + len(states.counts))
        return torch.arange(firsts[-2], firsts[-1])

    readout = StateReadout("states", keep, layer, attention_layers)
    wanted: dict[View, frozenset[Signal]] = {View.FULL: frozenset()}
    read = compute_signals(model, rows, wanted, batch_tokens, readouts={View.FULL: [readout]})
    numbers = read.readings["states"]
    order = torch.from_numpy(numbers[~np.isnan(numbers)].astype(np.int64))
    if not len(order):
        raise CurateError("no row has a supervised token, so there are no states to collect")
    device = kept[0].counts.device
    counts = torch.cat([part.counts for part in kept]).cpu()
    lengths = counts[order]
    shift = (counts.cumsum(0) - counts)[order] - (lengths.cumsum(0) - lengths)
    tokens = (torch.arange(int(lengths.sum())) + shift.repeat_interleave(lengths)).to(device)

    def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
        present = [part for part in parts if part is not None]
        return torch.cat(present)[tokens] if present else None

    return States(
        hidden=torch.cat([part.hidden for part in kept])[tokens],
        ids=torch.cat([part.ids for part in kept])[tokens],
        example=torch.arange(len(order)).repeat_interleave(lengths).to(device),
        place=torch.cat([part.place for part in kept])[tokens],
        counts=lengths.to(device),
        predicts=torch.cat([part.predicts for part in kept])[tokens],
        focus=joined([part.focus for part in kept]),
        received=joined([part.received for part in kept]),
    )


def mean_head_gradient(model: nn.Module, rows: Sequence[TokenRow], batch_tokens: int) -> NDArray[np.float32]:
    """The mean over rows of the gradient of their mean-token loss with respect to the output head.

    float32 [vocabulary, width], one column more where the head has a bias. Rows without a supervised token do
    not count. O(T V d) operations, V d numbers of memory.
    """
    head = OutputHead.of(model)
    vocabulary, width = head.weight.shape
    wide = torch.promote_types(head.weight.dtype, torch.float32)
    total = torch.zeros((vocabulary, width + (head.bias is not None)), dtype=wide, device=head.weight.device)
    found = compute_signals(model, rows, {View.FULL: frozenset()}, batch_tokens, head_gradient=total)
    counted = max(1, int(np.count_nonzero(found.counts)))
    return (total / counted).float().cpu().numpy()


def _on_host(values: Tensor) -> NDArray[Any]:
    """float64 where there is one number per example, float32 where there are several."""
    return (values.double() if values.ndim == 1 else values.float()).cpu().numpy()
