"""References of the scorers that compare rows with a target, made without a run, for score.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curate.model.autoencoder import SparseAutoencoder
from curate.model.load import LoadedModel
from curate.model.request import Readout, States, TokenRow, TokenSignals, View
from curate.model.signals import collect_states, compute_signals, mean_head_gradient


@dataclass(frozen=True)
class Target:
    """`scorer.Examples`, as far as rds, head_influence and trim read it: the target's rows and the model."""

    target: Sequence[TokenRow]
    model: LoadedModel
    batch_tokens: int

    def signals(self, rows: Sequence[TokenRow], readouts: Sequence[Readout]) -> TokenSignals:
        """A pass of the model over these rows."""
        wanted = {View.FULL: frozenset[Any]()}
        read = {View.FULL: readouts}
        return compute_signals(self.model.model, rows, wanted, self.batch_tokens, readouts=read)

    def states(self, rows: Sequence[TokenRow], layer: int | None = None, attention_layers: int = 0) -> States:
        """The states of these rows."""
        return collect_states(self.model.model, rows, self.batch_tokens, layer, attention_layers)

    def mean_head_gradient(self, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
        """The mean over rows of the head's gradient."""
        return mean_head_gradient(self.model.model, rows, self.batch_tokens)


def readouts_of(scorer: Any, target: Target) -> Sequence[Readout]:
    """What a scorer reads from the pass, its reference made from the target's rows; mona's as `_mona_arrays`."""
    device = target.model.model.device
    if scorer.name == "mona":
        made = _mona_arrays(scorer, target)
    else:
        made = {name: torch.from_numpy(array) for name, array in scorer.refer(target).items()}
    readouts: Sequence[Readout] = scorer.readouts({name: array.to(device) for name, array in made.items()})
    return readouts


def _mona_arrays(scorer: Any, target: Target) -> dict[str, torch.Tensor]:
    """An autoencoder of random weights, of the size that mona would train, and the target's mean code."""
    config = target.model.model.config.get_text_config()
    width, features = config.hidden_size, scorer.expansion * config.hidden_size
    encoder = torch.randn((features, width), generator=torch.Generator().manual_seed(0)) / width**0.5
    sae = SparseAutoencoder(encoder, torch.zeros(features), encoder, torch.zeros(width), scorer.active)
    layer = round(scorer.depth * (config.num_hidden_layers - 1))
    read = target.states(target.target, layer)
    codes = sae.to(read.hidden.device).mean_codes(read.hidden.float(), read.counts.tolist())
    arrays = {name: torch.from_numpy(array) for name, array in sae.arrays().items()}
    return {**arrays, "layer": torch.tensor(layer), "prototype": codes.mean(0)}
