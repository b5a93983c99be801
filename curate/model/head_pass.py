"""The output head's part of the one pass: logits in bounded memory, and what the scorers read from them.

The formulas are those of head.py. On a CPU the passes over [tokens, vocabulary] are what costs beside the
matrix product, so they run over a few rows at a time that stay in the processor's cache, and share one
maximum and one exp.
"""

from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curate.model.head import OutputHead
from curate.model.request import HeadProduct, Signal

_CACHE_BYTES = 3 << 19
"""Float32 logits handled at a time on a CPU: 1.5 MiB, about one core's second-level cache."""

_FROM_LOGITS = (
    Signal.LOG_PROBABILITY,
    Signal.ENTROPY,
    Signal.ERROR_NORM,
    Signal.MARGIN,
    Signal.TARGET_RANK,
)

Numbers = NDArray[np.float64]


class HeadPass:
    """Applies a head to hidden states in chunks and computes the signals asked for, and no others.

    memory_bytes: logits and residuals held at once. The buffer is allocated once and reused.
    products: see `request.HeadProduct`. gradient: [vocabulary, width], one column more with a bias; the sum
    over the examples of the gradient of their mean-token loss is added to it.
    Raises ValueError if the memory cannot hold the logits of one token, or a shape does not fit.
    """

    def __init__(
        self,
        head: OutputHead,
        signals: Set[Signal],
        memory_bytes: int,
        products: Sequence[HeadProduct] = (),
        gradient: Tensor | None = None,
    ) -> None:
        vocabulary, width = head.weight.shape
        shape = (vocabulary, width + (head.bias is not None))
        for tensor in [*(product.direction for product in products), gradient]:
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(
                    f"a direction of the head must be of shape {shape}. Got {tuple(tensor.shape)}."
                )
        self._products, self._sum = tuple(products), gradient
        self._head, self._signals, self._memory_bytes = head, signals, memory_bytes
        self._wide = torch.promote_types(head.weight.dtype, torch.float32)
        self._gradient = Signal.HEAD_GRADIENT_NORM in signals
        self._product = Signal.HEAD_WEIGHT_GRADIENT_PRODUCT in signals
        self._in_place = head.weight.dtype == self._wide
        self._keep = self._gradient or bool(products) or gradient is not None
        self._idle = not self._keep and not signals - {Signal.HEAD_WEIGHT_NORM}
        self._extra = self._keep and not self._in_place
        on_cpu = head.weight.device.type == "cpu"
        wide_copies = self._extra + (0 if on_cpu else 2 - self._in_place)
        token_bytes = vocabulary * (head.weight.itemsize + self._wide.itemsize * wide_copies)
        if memory_bytes < token_bytes:
            raise ValueError(
                f"head_memory_bytes must be at least {token_bytes} (one token of {vocabulary} logits). "
                f"Got {memory_bytes}."
            )
        self._rows = memory_bytes // token_bytes
        self._block = max(1, _CACHE_BYTES // (4 * vocabulary)) if on_cpu else self._rows
        self._logits = head.weight.new_empty((0, vocabulary))
        self._residuals = self._logits.to(self._wide)
        self._weight_norm = head.norm() if Signal.HEAD_WEIGHT_NORM in signals else None

    @property
    def device(self) -> torch.device:
        """Where hidden states and targets must be."""
        return self._head.weight.device

    @property
    def sums_gradients(self) -> bool:
        """Whether a run adds to a sum, and so must not be repeated."""
        return self._sum is not None

    @property
    def reads_logits(self) -> bool:
        """Whether the head is applied at all."""
        return not self._idle

    @property
    def product_names(self) -> tuple[str, ...]:
        """The names of the products that it computes."""
        return tuple(product.name for product in self._products)

    def run(
        self, hidden: Tensor, targets: Tensor, counts: Sequence[int]
    ) -> tuple[dict[Signal, Numbers], dict[Signal, Numbers], dict[str, Numbers]]:
        """Signals of examples laid end to end.

        hidden: [tokens, width], the head's input at the position before each target; targets: int64
        [tokens]; counts: tokens of each example, all above 0. Returns per-token signals, float64
        [tokens], per-example signals, float64 [examples], and the products by name, float64 [examples].
        Where nothing is asked of the logits, there are none.
        """
        per_token = {
            signal: torch.empty(len(targets), dtype=self._wide, device=hidden.device)
            for signal in _FROM_LOGITS
            if signal in self._signals or (self._product and signal in _FROM_LOGITS[:2])
        }
        norms: list[Tensor] = []
        normalisers = torch.empty(len(targets), dtype=self._wide, device=hidden.device)
        shares = torch.tensor(np.repeat(1 / np.array(counts), counts), dtype=self._wide, device=hidden.device)
        products = {product.name: torch.empty_like(normalisers) for product in self._products}
        chunks = () if self._idle else _chunks(counts, self._rows, whole_examples=self._gradient)
        for tokens, lengths in chunks:
            for start in range(tokens.start, tokens.stop, self._rows):
                part = slice(start, min(start + self._rows, tokens.stop))
                out = {signal: values[part] for signal, values in per_token.items()}
                self._measure(hidden[part], targets[part], normalisers[part], out)
                self._project(
                    hidden[part], shares[part], {name: into[part] for name, into in products.items()}
                )
            if not self._gradient:
                continue
            states = self._bordered(hidden[tokens])
            if tokens.stop - tokens.start > self._rows:
                norms.append(self._long_norm(hidden[tokens], states, targets[tokens], normalisers[tokens]))
                continue
            residuals = self._kept()
            ends = np.cumsum(lengths)
            for length, end in zip(lengths, ends, strict=True):
                norms.append(gradient_norm(residuals[end - length : end], states[end - length : end]))
        arrays = {signal: values.double().cpu().numpy() for signal, values in per_token.items()}
        per_example: dict[Signal, NDArray[np.float64]] = {}
        if self._gradient:
            per_example[Signal.HEAD_GRADIENT_NORM] = torch.stack(norms).cpu().numpy()
        if self._product:
            terms = -arrays[Signal.LOG_PROBABILITY] - arrays[Signal.ENTROPY]
            per_example[Signal.HEAD_WEIGHT_GRADIENT_PRODUCT] = _means(terms, counts)
        if self._weight_norm is not None:
            per_example[Signal.HEAD_WEIGHT_NORM] = np.full(len(counts), self._weight_norm)
        asked = {signal: arrays[signal] for signal in arrays if signal in self._signals}
        sums = {name: _means(values.double().cpu().numpy(), counts) for name, values in products.items()}
        return asked, per_example, sums

    def _kept(self) -> Tensor:
        """The buffer that holds the residuals of the last chunk."""
        return self._logits if self._in_place else self._residuals

    def _project(self, hidden: Tensor, shares: Tensor, products: Mapping[str, Tensor]) -> None:
        """e_t . (D h_t) of the chunk's tokens for each direction; the sum of the gradients."""
        if not self._products and self._sum is None:
            return
        states, residuals = self._bordered(hidden), self._kept()[: len(hidden)]
        for product in self._products:
            direction = product.direction.to(self._wide)
            products[product.name].copy_(torch.linalg.vecdot(residuals @ direction, states))
        if self._sum is not None:
            self._sum.addmm_(residuals.T, states * shares[:, None])

    def _measure(
        self, hidden: Tensor, targets: Tensor, normalisers: Tensor, out: dict[Signal, Tensor]
    ) -> None:
        """Fill `out` and the log normalisers of one chunk; leave its residuals in the buffer if asked."""
        tokens = len(targets)
        logits = self._chunk_logits(hidden)
        need_residuals = self._keep or Signal.ERROR_NORM in out
        for start in range(0, tokens, self._block):
            rows = slice(start, min(start + self._block, tokens))
            target = targets[rows, None]
            maximum = logits[rows].amax(-1, keepdim=True).to(self._wide)
            shifted = (
                logits[rows].sub_(maximum) if self._in_place else logits[rows].to(self._wide).sub_(maximum)
            )
            powers = shifted.exp()
            total = powers.sum(-1, keepdim=True)
            log_total = total.log()
            normalisers[rows] = (maximum + log_total)[:, 0]
            if Signal.MARGIN in out or Signal.TARGET_RANK in out:
                self._compare(
                    shifted, target, total, {signal: values[rows] for signal, values in out.items()}
                )
            if Signal.LOG_PROBABILITY in out:
                out[Signal.LOG_PROBABILITY][rows] = (shifted.gather(-1, target) - log_total)[:, 0]
            if Signal.ENTROPY in out:
                weighted = torch.linalg.vecdot(powers, shifted) / total[:, 0]
                out[Signal.ENTROPY][rows] = log_total[:, 0] - weighted
            if not need_residuals:
                continue
            kept = shifted if self._in_place else self._residuals[rows] if self._keep else powers
            residuals = torch.div(powers, total, out=kept)
            residuals.scatter_add_(-1, target, torch.full_like(total, -1))
            if Signal.ERROR_NORM in out:
                out[Signal.ERROR_NORM][rows] = torch.linalg.vecdot(residuals, residuals).sqrt_()

    @staticmethod
    def _compare(shifted: Tensor, target: Tensor, total: Tensor, out: dict[Signal, Tensor]) -> None:
        """Where the target stands among all tokens. shifted: logits less their maximum, left as they were."""
        own = shifted.gather(-1, target)
        if Signal.TARGET_RANK in out:
            out[Signal.TARGET_RANK].copy_((shifted > own).sum(-1))
        if Signal.MARGIN in out:
            others = shifted.scatter_(-1, target, float("-inf")).amax(-1, keepdim=True)
            out[Signal.MARGIN].copy_(((own.exp() - others.exp()) / total)[:, 0])
            shifted.scatter_(-1, target, own)

    def _chunk_logits(self, hidden: Tensor) -> Tensor:
        tokens, vocabulary = len(hidden), len(self._head.weight)
        if tokens > len(self._logits):
            self._logits = self._logits.new_empty((tokens, vocabulary))
            if self._extra:
                self._residuals = self._residuals.new_empty((tokens, vocabulary))
        logits = torch.mm(hidden, self._head.weight.T, out=self._logits[:tokens])
        return logits if self._head.bias is None else logits.add_(self._head.bias)

    def _bordered(self, hidden: Tensor) -> Tensor:
        """The head's input in the wide dtype, with a column of ones where the head has a bias."""
        states = hidden.to(self._wide)
        return states if self._head.bias is None else nn.functional.pad(states, (0, 1), value=1)

    def _long_norm(self, hidden: Tensor, states: Tensor, targets: Tensor, normalisers: Tensor) -> Tensor:
        """||G|| of one example too long to hold: its logits once more, by slices of the vocabulary."""
        weight, bias = self._head.weight, self._head.bias
        tokens, width = states.shape
        value_bytes = weight.itemsize + self._wide.itemsize * (not self._in_place)
        step = max(1, self._memory_bytes // (tokens * value_bytes))
        total = states.new_zeros((tokens, tokens) if tokens <= width else ())
        for start in range(0, len(weight), step):
            part = None if bias is None else bias[start : start + step]
            logits = nn.functional.linear(hidden, weight[start : start + step], part)
            residuals = logits.to(self._wide).sub_(normalisers[:, None]).exp_()
            inside = ((targets >= start) & (targets < start + step)).nonzero()[:, 0]
            residuals[inside, targets[inside] - start] -= 1
            if tokens <= width:
                total.addmm_(residuals, residuals.T)
            else:
                total += (residuals.T @ states).square().sum()
        if tokens <= width:
            total = total.mul_(states @ states.T).sum(dtype=torch.float64)
        return total.double().clamp_min(0).sqrt() / tokens


def gradient_norm(residuals: Tensor, states: Tensor, gram: bool | None = None) -> Tensor:
    """||(1/T) sum_t e_t h_t^T||_F, a float64 scalar.

    residuals e: [tokens, vocabulary]; states h: [tokens, width], both float32 or wider. gram: by the
    tokens x tokens Gram matrices, or by the vocabulary x width product in slices; both are exact, and
    the cheaper one is taken unless told. O(T V min(T, d)) operations.
    """
    tokens, width = states.shape
    if tokens <= width if gram is None else gram:
        squares = (residuals @ residuals.T).mul_(states @ states.T).sum(dtype=torch.float64)
    else:
        squares = states.new_zeros((), dtype=torch.float64)
        for part in torch.split(residuals, 8192, dim=1):
            squares += (part.T @ states).square_().sum(dtype=torch.float64)
    return squares.clamp_min(0).sqrt() / tokens


def _means(values: Numbers, counts: Sequence[int]) -> Numbers:
    """The mean over each example's tokens, float64 [examples]."""
    means: Numbers = np.add.reduceat(values, np.cumsum([0, *counts[:-1]])) / np.array(counts)
    return means


def _chunks(counts: Sequence[int], rows: int, whole_examples: bool) -> Iterator[tuple[slice, list[int]]]:
    """Token ranges of at most `rows`, or, if examples must stay whole, of the examples that fit.

    An example longer than `rows` is a range of its own. Without `whole_examples` there is one range.
    """
    if not whole_examples:
        yield slice(0, sum(counts)), list(counts)
        return
    start, lengths = 0, list[int]()
    for count in counts:
        if lengths and sum(lengths) + count > rows:
            yield slice(start, start + sum(lengths)), lengths
            start, lengths = start + sum(lengths), []
        lengths.append(count)
    if lengths:
        yield slice(start, start + sum(lengths)), lengths
