"""The output head's part of the one pass: logits in bounded memory, and what the scorers read from them.

At supervised position t, head input h_t, logits l_t = W h_t (+ b),
p_t = softmax(l_t), target y_t, residual e_t = p_t - onehot(y_t). The gradient of the mean-token loss
with respect to the head is G = (1/T) sum_t e_t h_t^T (and, with a bias, g = (1/T) sum_t e_t), so

    ||G||^2   = (1/T^2) sum_{t,s} (e_t . e_s) (h_t . h_s)        [+ 1 in the second factor with a bias]
    <W, G>    = (1/T) sum_t e_t . l_t  =  mean loss - mean entropy

need no backward pass. The second line holds because e_t sums to zero, so l_t may be replaced by
log p_t, and then e_t . log p_t = -entropy_t - log p_t(y_t). Where input and output embeddings are
tied, this is the gradient through the output side only.

On a CPU the passes over [tokens, vocabulary] are what costs beside the matrix product, so they run
over a few rows at a time that stay in the processor's cache, and share one maximum and one exp.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curate.errors import CurateError
from curate.model.request import Signal

_CACHE_BYTES = 3 << 19
"""Float32 logits handled at a time on a CPU: 1.5 MiB, about one core's second-level cache."""

_NEUTRAL = {
    "final_logit_softcapping": (None,),
    "logit_softcapping": (None,),
    "output_logit_soft_cap": (None,),
    "logit_scale": (None, 1, 1.0),
    "logits_scaling": (None, 1, 1.0),
    "logits_scale": (None, 1, 1.0),
    "lm_head_multiplier": (None, 1, 1.0),
}
"""Fields of a model's configuration that change logits after the head, and values that do not."""


@dataclass(frozen=True)
class OutputHead:
    """The last linear map of a language model: weight [vocabulary, width], bias [vocabulary] or None."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, model: nn.Module) -> "OutputHead":
        """The head of a transformers causal language model.

        Raises CurateError if the head is not a plain linear layer in a floating dtype, or if the
        model scales, caps or otherwise changes logits after it: the formulas above would be wrong.
        """
        kind = type(model).__name__
        layer = model.get_output_embeddings()  # type: ignore[operator]
        if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
            raise CurateError(
                f"{kind}: the output head must be a torch.nn.Linear with a floating-point weight. "
                f"Got {type(layer).__name__}. Load the model with an unquantised, unadapted head."
            )
        config = model.config.get_text_config().to_dict()  # type: ignore[operator,union-attr]
        for name, neutral in _NEUTRAL.items():
            if config.get(name) not in neutral:
                raise CurateError(
                    f"{kind}: `{name}` must be unset, because scores of the output head are computed from "
                    f"unscaled, uncapped logits. Got {config[name]}. Score with another model."
                )
        head = cls(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())
        head._check(model)
        return head

    def _check(self, model: nn.Module) -> None:
        ids = torch.arange(min(4, len(self.weight)), device=self.weight.device)[None]
        with torch.inference_mode():
            ours = nn.functional.linear(last_hidden_states(model, ids), self.weight, self.bias)
            theirs = model(input_ids=ids, use_cache=False).logits
        if not torch.allclose(
            ours.to(theirs.dtype), theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max())
        ):
            raise CurateError(
                f"{type(model).__name__}: logits must be the output head applied to the decoder's last "
                "hidden states. Got others: the model changes them in between. Score with another model."
            )

    def norm(self) -> float:
        """Frobenius norm of the weight (and bias), accumulated in float64."""
        parts = [self.weight] if self.bias is None else [self.weight, self.bias]
        norms = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]
        return float(torch.stack(norms).norm())


def last_hidden_states(model: nn.Module, input_ids: Tensor) -> Tensor:
    """The input of the output head at every position, [batch, length, width], without logits.

    input_ids: int64 [batch, length], padded on the right. No mask is needed: in a causal model no
    position sees a later one. Raises CurateError if the decoder cannot be found.
    """
    decoder = model.get_decoder()  # type: ignore[operator]
    if decoder is model:
        raise CurateError(
            f"{type(model).__name__}: no decoder without its head was found. Use a causal model."
        )
    states: Tensor = decoder(input_ids=input_ids, use_cache=False).last_hidden_state
    return states


class HeadPass:
    """Applies a head to hidden states in chunks and computes the signals asked for, and no others.

    memory_bytes: logits and residuals held at once. The buffer is allocated once and reused.
    Raises ValueError if it cannot hold the logits of one token.
    """

    def __init__(self, head: OutputHead, signals: Set[Signal], memory_bytes: int) -> None:
        vocabulary, self._width = head.weight.shape
        self._head, self._signals, self._memory_bytes = head, signals, memory_bytes
        self._wide = torch.promote_types(head.weight.dtype, torch.float32)
        self._gradient = Signal.HEAD_GRADIENT_NORM in signals
        self._product = Signal.HEAD_WEIGHT_GRADIENT_PRODUCT in signals
        self._in_place = head.weight.dtype == self._wide
        self._extra = self._gradient and not self._in_place
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

    def run(
        self, hidden: Tensor, targets: Tensor, counts: Sequence[int]
    ) -> tuple[dict[Signal, NDArray[np.float64]], dict[Signal, NDArray[np.float64]]]:
        """Signals of examples laid end to end.

        hidden: [tokens, width], the head's input at the position before each target; targets: int64
        [tokens]; counts: tokens of each example, all above 0. Returns per-token signals, float64
        [tokens], and per-example signals, float64 [examples].
        """
        per_token = {
            signal: torch.empty(len(targets), dtype=self._wide, device=hidden.device)
            for signal in (Signal.LOG_PROBABILITY, Signal.ENTROPY, Signal.ERROR_NORM)
            if signal in self._signals or (self._product and signal is not Signal.ERROR_NORM)
        }
        norms: list[Tensor] = []
        normalisers = torch.empty(len(targets), dtype=self._wide, device=hidden.device)
        for tokens, lengths in _chunks(counts, self._rows, whole_examples=self._gradient):
            for start in range(tokens.start, tokens.stop, self._rows):
                part = slice(start, min(start + self._rows, tokens.stop))
                out = {signal: values[part] for signal, values in per_token.items()}
                self._measure(hidden[part], targets[part], normalisers[part], out)
            if not self._gradient:
                continue
            states = self._bordered(hidden[tokens])
            if tokens.stop - tokens.start > self._rows:
                norms.append(self._long_norm(hidden[tokens], states, targets[tokens], normalisers[tokens]))
                continue
            residuals = self._logits if self._in_place else self._residuals
            ends = np.cumsum(lengths)
            for length, end in zip(lengths, ends, strict=True):
                norms.append(gradient_norm(residuals[end - length : end], states[end - length : end]))
        arrays = {signal: values.double().cpu().numpy() for signal, values in per_token.items()}
        per_example: dict[Signal, NDArray[np.float64]] = {}
        if self._gradient:
            per_example[Signal.HEAD_GRADIENT_NORM] = torch.stack(norms).cpu().numpy()
        if self._product:
            terms = -arrays[Signal.LOG_PROBABILITY] - arrays[Signal.ENTROPY]
            starts = np.cumsum([0, *counts[:-1]])
            per_example[Signal.HEAD_WEIGHT_GRADIENT_PRODUCT] = np.add.reduceat(terms, starts) / np.array(
                counts
            )
        if self._weight_norm is not None:
            per_example[Signal.HEAD_WEIGHT_NORM] = np.full(len(counts), self._weight_norm)
        return {signal: arrays[signal] for signal in arrays if signal in self._signals}, per_example

    def _measure(
        self, hidden: Tensor, targets: Tensor, normalisers: Tensor, out: dict[Signal, Tensor]
    ) -> None:
        """Fill `out` and the log normalisers of one chunk; leave its residuals in the buffer if asked."""
        tokens = len(targets)
        logits = self._chunk_logits(hidden)
        need_residuals = self._gradient or Signal.ERROR_NORM in out
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
            if Signal.LOG_PROBABILITY in out:
                out[Signal.LOG_PROBABILITY][rows] = (shifted.gather(-1, target) - log_total)[:, 0]
            if Signal.ENTROPY in out:
                weighted = torch.linalg.vecdot(powers, shifted) / total[:, 0]
                out[Signal.ENTROPY][rows] = log_total[:, 0] - weighted
            if not need_residuals:
                continue
            kept = shifted if self._in_place else self._residuals[rows] if self._gradient else powers
            residuals = torch.div(powers, total, out=kept)
            residuals.scatter_add_(-1, target, torch.full_like(total, -1))
            if Signal.ERROR_NORM in out:
                out[Signal.ERROR_NORM][rows] = torch.linalg.vecdot(residuals, residuals).sqrt_()

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
