"""TRIM: rows whose tokens look, where attention goes, like the same tokens of a few target examples.

Formula: alpha_i = (Q_i + K_i)/2 of token i, the focus of its own attention and what it receives, over the last
    `attention_layers` layers and all heads (curate/model/attention.py). Fingerprint of token v of the target:
    f_v = normalise(sum over its occurrences of alpha_i h_i), h the L2-normalised last-layer state. Token j of a
    row: cos(h_j, f_{v_j}); a token that the target has not: `unseen_weight` times the cosine with the
    fingerprint of the nearest seen token in the embedding. Score: (mean over tokens + maximum) / 2.
Direction: high is better, at most 1.
Cost: 1 forward, shared by all scorers of the pass; O(T d) beside it, and one forward of the target's rows.
Source: Token-Relevance via Interpretable Multi-layer Attention (TRIM), 2025: 5 to 10 target examples.
Deviations: from the authors' description; Q, K and their normalisation are those of curate/model/attention.py.
    All tokens of a row count, template and prompt included.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from pydantic import Field

from curate.model.request import Readout, StateReadout, States, TokenSignals
from curate.scorer import Examples, Numbers, Reference, Referenced, SignalScorer


class Trim(SignalScorer, Referenced):
    """Attention-weighted token fingerprints of a target, matched token by token."""

    higher_is_better = True

    attention_layers: int = Field(
        default=4, gt=0, description="last layers whose attention weighs the tokens"
    )
    unseen_weight: float = Field(default=0.5, gt=0, le=1, description="weight of a token the target has not")

    def refer(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        """ids [m], vectors [m, d] and, for every token of the vocabulary, the place of its nearest in ids."""
        from curate.numerics.fingerprints import fingerprints, nearest_seen

        read = examples.states(examples.target, attention_layers=self.attention_layers)
        assert read.focus is not None
        assert read.received is not None
        ids, vectors = fingerprints(read.hidden.float(), read.ids, (read.focus + read.received) / 2)
        layer: Any = examples.model.model.get_input_embeddings()
        embedding = layer.weight.detach().float()
        nearest = nearest_seen(embedding, ids.to(embedding.device))
        return {"ids": ids.cpu().numpy(), "vectors": vectors.cpu().numpy(), "nearest": nearest.cpu().numpy()}

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """Half the mean and half the maximum of the tokens' similarities."""
        from curate.numerics.fingerprints import match

        def read(states: States):  # type: ignore[no-untyped-def]
            fingerprints = (reference["ids"], reference["vectors"], reference["nearest"])
            similarity = match(states.hidden.float(), states.ids, *fingerprints, self.unseen_weight)
            return (states.total(similarity) / states.counts + states.largest(similarity)) / 2

        return [StateReadout("trim", read)]

    def score(self, tokens: TokenSignals) -> Numbers:
        """Float64 [examples], at most 1; null where a row has no supervised token."""
        return tokens.readings["trim"]
