"""MONA: rows that light up the same features of a model as the target does.

Formula: sum_f min(z, z_t) / sum_f max(z, z_t), in [0, 1], 0/0 is 0; z the TopK sparse code of a layer's states
    (curate/model/autoencoder.py), mean over the row's tokens; z_t the mean of the target rows' z.
Direction: high is better.
Cost: 1 forward, shared by all scorers of the pass; O(T d F) beside it for F features; 1 forward of the target.
    Training the autoencoder: `steps` batches of 1024 states, about 0.7 s each on two cores at F = 18,432.
Source: Model-Oriented Neuron Activation selection (MONA), 2025.
Deviations: the mean over tokens, for a sum grows with length; every token counts, template included.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.model.request import Readout, StateReadout, States, TokenSignals
from curate.scorer import Examples, Numbers, Reference, Referenced, SignalScorer


class Mona(SignalScorer, Referenced):
    """Generalised Jaccard similarity of mean sparse codes to the target's."""

    higher_is_better = True
    dimension_fields = ("expansion",)

    autoencoder: str | None = Field(default=None, description="folder with one, kept as is; null: train one")
    depth: float = Field(default=0.5, ge=0, le=1, description="which layer is read: 0 the first, 1 the last")
    active: int = Field(default=192, gt=0, description="entries of a code that are kept (K)")
    expansion: int = Field(default=32, gt=0, description="features per number of a state")
    steps: int = Field(default=2000, gt=0, description="training steps of the autoencoder")
    training_tokens: int = Field(default=100_000, gt=0, description="states of the pool that train it")

    def identity(self) -> dict[str, Any]:
        """The content of a given autoencoder, not its place; `expansion` is of one that is trained."""
        from curate.model.autoencoder import content_files
        from curate.model.folders import file_hash

        if self.autoencoder is None:
            return super().identity()
        files = [file_hash(file) for file in content_files(Path(self.autoencoder))]
        return {**super().identity(), "expansion": None, "autoencoder": files}

    def refer(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        """The autoencoder's arrays, the layer, and the prototype [features]."""
        from curate.model.autoencoder import SparseAutoencoder
        from curate.model.autoencoder_training import train_autoencoder

        layer = round(self.depth * (examples.layers - 1))
        read = examples.states(examples.target, layer)
        if self.autoencoder is None:
            states = examples.states(examples.sample_tokens(self.training_tokens), layer).hidden.float()
            size = (self.expansion * states.shape[1], self.active, self.steps)
            sae, _ = train_autoencoder(states, *size, seed=examples.seed)
            sae.save(examples.folder / "autoencoder")
        else:
            sae = SparseAutoencoder.load(Path(self.autoencoder)).to(read.hidden.device)
        prototype = sae.mean_codes(read.hidden.float(), read.counts.tolist()).mean(0).cpu().numpy()
        return {**sae.arrays(), "layer": np.array(layer), "prototype": prototype}

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """The similarity of the mean code to the prototype."""
        from curate.model.autoencoder import SparseAutoencoder
        from curate.numerics.fingerprints import min_max_similarity

        sae = SparseAutoencoder.of_arrays(reference)

        def read(states: States):  # type: ignore[no-untyped-def]
            mean = sae.mean_codes(states.hidden.float(), states.counts.tolist())
            return min_max_similarity(mean, reference["prototype"])

        return [StateReadout("mona", read, layer=int(reference["layer"]))]

    def score(self, tokens: TokenSignals) -> Numbers:
        """Float64 [examples], in [0, 1]; null where a row has no supervised token."""
        return tokens.readings["mona"]
