"""Training a TopK sparse autoencoder, as Gao et al. (2024, Scaling and evaluating sparse autoencoders) do.

Encoder and decoder start as the same random directions of unit length, b_pre as c, the states' geometric
median; the first reconstructions are scaled to the length of the states. The loss of a state is

    ||h - ĥ||^2 / max(||h - c||^2, m),   m the median of ||h - c||^2

Features that have not been active for a while (dead) learn to reconstruct what the others leave over (AuxK),
with weight 1/32. The decoder's directions keep unit length. Adam; the rate falls to zero over the last fifth
of the steps. Only the k active features of a state carry a gradient, so all but the first product of states
and encoder are sparse: a step costs about batch x features x width multiplications.

Deviation: Gao et al. scale every state to unit length, before training and ever after. Here a code grows with
its state, and the loss is divided instead, so that the few states of a language model's middle layers that
are a hundred times as long as the others (the first token's, above all) do not make up the loss.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from curate.errors import CurateError
from curate.model.autoencoder import SparseAutoencoder

_AUXILIARY_WEIGHT = 1 / 32
_ADAM_EPSILON = 6.25e-10
_SAMPLE = 1 << 14
"""States that initialise an autoencoder and that its explained variance is measured on, at most."""


@dataclass(frozen=True)
class AutoencoderDiagnostics:
    """How the training went.

    explained_variance: 1 - the sum of the losses of up to 16,384 states / that with c in place of each ĥ.
    dead_fraction: features that were active for no state of the last `dead_after_steps` steps, in [0, 1].
    losses: of each step, the mean over its batch.
    """

    explained_variance: float
    dead_fraction: float
    losses: tuple[float, ...]


def train_autoencoder(
    states: Tensor,
    features: int,
    k: int,
    steps: int = 2000,
    batch: int = 1024,
    learning_rate: float | None = None,
    seed: int = 0,
    auxiliary_k: int | None = None,
    dead_after_steps: int = 100,
    device: torch.device | str | None = None,
) -> tuple[SparseAutoencoder, AutoencoderDiagnostics]:
    """A sparse autoencoder of states, float32, and how well it does; the same for the same seed and machine.

    states: [n, width], floating, on any device; each epoch goes through them in a new order. features: entries
    of a code. k: active at most. batch: states a step. learning_rate: of Adam; None is 2e-4 / sqrt(features /
    16384) as Gao et al. find. auxiliary_k: dead features used at once; None is width / 2, 0 is none. device:
    where to train and where the result is; None is that of the states.
    Memory: about 40 bytes x features x width, and 4 x batch x features. Raises ValueError for states that
    are alike, not finite or none, or numbers out of range; CurateError if the loss diverges.
    """
    if states.ndim != 2 or len(states) == 0 or not 1 <= k <= features or min(steps, batch) < 1:
        raise ValueError(
            "states must be [n > 0, width], k from 1 to features, steps and batch above 0. "
            f"Got {list(states.shape)}, k {k} of {features}, steps {steps}, batch {batch}."
        )
    generator = torch.Generator().manual_seed(seed)
    place = torch.device(device) if device is not None else states.device
    with torch.inference_mode(False), torch.enable_grad():
        sample = _taken(states, torch.randperm(len(states), generator=generator)[:_SAMPLE], place)
        centre = _geometric_median(sample)
        typical = float((sample - centre).square().sum(1).median())
        rounding = 1e-12 * float(sample.square().sum(1).median())
        if not bool(sample.isfinite().all()) or typical <= rounding:
            raise ValueError(
                "states must be finite, and no more than half of them alike. "
                f"Got a median squared distance from their centre of {typical}."
            )
        scale = math.sqrt(typical / states.shape[1])
        run = _Training(sample / scale, centre / scale, features, k, generator)
        run.auxiliary_k = states.shape[1] // 2 if auxiliary_k is None else auxiliary_k
        run.dead_after_steps = min(dead_after_steps, steps)
        rate = 2e-4 / math.sqrt(features / (1 << 14)) if learning_rate is None else learning_rate
        losses = run.train(
            (_taken(states, rows, place) / scale for rows in _batches(len(states), batch, steps, generator)),
            rate,
            steps,
        )
    if not all(map(math.isfinite, losses)):
        raise CurateError(
            f"The autoencoder's loss must stay finite. It did not, at learning rate {rate}: lower it, "
            "or look for states that are not finite."
        )
    found = run.result(scale)
    squares = (sample - centre).square().sum(1)
    weights = 1 / squares.clamp(min=typical)
    blocks = torch.split(sample, 1024)
    left = torch.cat([(found.decode(found.encode(block)) - block).square().sum(1) for block in blocks])
    explained = 1 - float((weights * left).sum() / (weights * squares).sum())
    dead = float((run.idle >= run.dead_after_steps).double().mean())
    return found, AutoencoderDiagnostics(explained, dead, tuple(losses))


class _Training:
    """Parameters and their state. `coder` is [W_e | b_e], float32 [features, width + 1]."""

    auxiliary_k: int
    dead_after_steps: int

    def __init__(
        self, sample: Tensor, centre: Tensor, features: int, k: int, generator: torch.Generator
    ) -> None:
        self._k, self._centre = k, centre
        directions = torch.randn((features, sample.shape[1]), generator=generator).to(sample.device)
        self._decoder = nn.functional.normalize(directions)
        self._pre_bias = centre.clone()
        self._coder = nn.functional.pad(self._decoder, (0, 1))
        self.idle = torch.zeros(features, dtype=torch.int64, device=sample.device)
        centred, weights = sample[:1024] - centre, self._weights(sample[:1024])
        largest, places = (centred @ self._decoder.T).topk(k, sorted=False)
        first = _bags(places, self._decoder, largest.relu())
        products, squares = weights @ (centred * first).sum(1), weights @ first.square().sum(1)
        self._coder *= products / squares.clamp(min=1e-30)
        for parameter in (self._decoder, self._pre_bias, self._coder):
            parameter.requires_grad_()

    def train(self, batches: Iterator[Tensor], learning_rate: float, steps: int) -> list[float]:
        """One step of Adam a batch; the loss of each."""
        parameters = [self._coder, self._decoder, self._pre_bias]
        optimizer = torch.optim.Adam(parameters, lr=learning_rate, eps=_ADAM_EPSILON)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 5 * (1 - step / steps)))
        losses = []
        for states in batches:
            optimizer.zero_grad()
            loss, total = self._loss(states)
            total.backward()  # type: ignore[no-untyped-call]
            self._turn_only()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                self._decoder.copy_(nn.functional.normalize(self._decoder))
            losses.append(loss.detach())
        return [float(loss) for loss in torch.stack(losses).cpu()]

    def _weights(self, states: Tensor) -> Tensor:
        """What the squared error of each state counts, [n]; the median squared distance is the width, by scaling."""
        return 1 / (states - self._centre).square().sum(1).clamp(min=states.shape[1])

    def _loss(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and that with what the dead features are to learn."""
        weights = self._weights(states) / len(states)
        given = nn.functional.pad(states - self._pre_bias, (0, 1), value=1.0)
        with torch.no_grad():
            before = given @ self._coder.T
            largest, places = before.topk(self._k, sorted=False)
        values = _selected(given, self._coder, places, largest).relu()
        left = states - _bags(places, self._decoder, values) - self._pre_bias
        loss = weights @ left.square().sum(1)
        dead = self.idle >= self.dead_after_steps
        self.idle += 1
        self.idle[places[values > 0]] = 0
        used = min(self.auxiliary_k, int(dead.sum()))
        if used == 0:
            return loss, loss
        with torch.no_grad():
            largest, places = before.masked_fill_(~dead, -math.inf).topk(used, sorted=False)
        values = _selected(given, self._coder, places, largest).relu()
        target = left.detach()
        missed = weights @ (target - _bags(places, self._decoder, values)).square().sum(1)
        return loss, loss + _AUXILIARY_WEIGHT * missed / loss.detach().clamp(min=1e-30)

    def _turn_only(self) -> None:
        """Take from the decoder's gradient what would only change the length of a direction."""
        gradient = self._decoder.grad
        if gradient is not None:
            directions = self._decoder.detach()
            gradient -= (gradient * directions).sum(1, keepdim=True) * directions

    def result(self, scale: float) -> SparseAutoencoder:
        """The autoencoder of states `scale` times as long: a code grows with its state, so only biases change."""
        coder = self._coder.detach()
        return SparseAutoencoder(
            encoder=coder[:, :-1].contiguous(),
            encoder_bias=coder[:, -1] * scale,
            decoder=self._decoder.detach(),
            pre_bias=self._pre_bias.detach() * scale,
            k=self._k,
        )


class _Selected(torch.autograd.Function):
    """Selected entries of states @ coder.T, [n, k], with gradients that touch these alone."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, coder: Tensor, places: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(states, coder, places)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states, coder, places = ctx.saved_tensors
        with torch.enable_grad():
            leaf = coder.detach().requires_grad_()
            sums = _bags(places, leaf, gradient.detach())
            (of_coder,) = torch.autograd.grad(sums, leaf, states)
        return sums.detach(), of_coder, None, None


def _selected(states: Tensor, coder: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Values [n, k] of states @ coder.T at places [n, k], found without gradients, as a function with them."""
    found: Tensor = _Selected.apply(states, coder, places, values)  # type: ignore[no-untyped-call]
    return found


def _bags(places: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Sum of values [n, k] times the rows at places [n, k], of rows [features, width]: [n, width]."""
    return nn.functional.embedding_bag(places, rows, per_sample_weights=values, mode="sum")


def _taken(states: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    return states[rows.to(states.device)].to(device, torch.float32)


def _batches(n: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of each step: a new order every epoch, without its incomplete last batch."""
    order, first = torch.randperm(n, generator=generator), 0
    for _ in range(steps):
        if first + min(batch, n) > n:
            order, first = torch.randperm(n, generator=generator), 0
        yield order[first : first + batch]
        first += batch


def _geometric_median(points: Tensor) -> Tensor:
    """The point nearest to all in sum, by 32 of Weiszfeld's steps from the mean."""
    centre = points.mean(0)
    for _ in range(32):
        near = 1 / torch.linalg.vector_norm(points - centre, dim=1).clamp(min=1e-6)
        centre = (near / near.sum()) @ points
    return centre
