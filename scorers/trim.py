"""TRIM: rows whose tokens look, where attention goes, like the same tokens of a few target examples.

Formula: alpha_i = (Q_i + K_i)/2 of token i, the focus of its own attention and what it receives, over the last
    `attention_layers` layers and all heads (curate/model/attention.py). Fingerprint of token v of the target:
    f_v = normalise(sum over its occurrences of alpha_i h_i), h the L2-normalised last-layer state. Token j of a
    row: cos(h_j, f_{v_j}); a token that the target has not: `unseen_weight` times the cosine with the
    fingerprint of the nearest seen token in the embedding. Score: (mean over tokens + maximum) / 2.
Direction: high is better, at most 1.
Cost: 1 forward, shared by all scorers of the pass; O(T d) beside it, and one forward of the target's rows.
Source: Nagaraj et al., TRIM: Token-wise Attention-Derived Saliency for Data-Efficient Instruction Tuning, 2025
    (arXiv 2510.07118): 5 to 10 target examples.
Deviations: from the authors' description, without their warm-up of the model; Q, K and their normalisation are
    those of curate/model/attention.py. All tokens of a row count, template and prompt included, but for the
    opening that all target rows share (BOS, system message): its states are the same in every row, whose
    maximum would always be 1. A single target row has no opening.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curate.model.request import Readout, StateReadout, States, TokenRow, TokenSignals
from curate.scorer import Examples, Numbers, Reference, Referenced, SignalScorer


class Trim(SignalScorer, Referenced):
    """Attention-weighted token fingerprints of a target, matched token by token."""

    higher_is_better = True

    attention_layers: int = Field(default=4, gt=0, description="last layers whose attention weighs tokens")
    unseen_weight: float = Field(default=0.5, gt=0, le=1, description="weight of a token the target has not")

    def refer(self, examples: Examples) -> Mapping[str, NDArray[Any]]:
        """opening [s]; ids [m], vectors [m, d]; for every token of the vocabulary the place of its nearest in ids."""
        from curate.numerics.fingerprints import fingerprints, nearest_seen

        opening = _opening(examples.target)
        read = examples.states(examples.target, attention_layers=self.attention_layers)
        assert read.focus is not None
        assert read.received is not None
        counted, alpha = read.after(read.ids.new_tensor(opening)), (read.focus + read.received) / 2
        ids, vectors = fingerprints(read.hidden[counted].float(), read.ids[counted], alpha[counted])
        layer: Any = examples.model.model.get_input_embeddings()
        nearest = nearest_seen(layer.weight.detach().float(), ids.to(layer.weight.device))
        found = {"ids": ids, "vectors": vectors, "nearest": nearest}
        return {"opening": opening, **{name: values.cpu().numpy() for name, values in found.items()}}

    def readouts(self, reference: Reference) -> Sequence[Readout]:
        """Half the mean and half the maximum of the tokens' similarities; NaN for a row that is all opening."""
        from curate.numerics.fingerprints import match

        def read(states: States):  # type: ignore[no-untyped-def]
            fingerprints = (reference["ids"], reference["vectors"], reference["nearest"])
            similarity = match(states.hidden.float(), states.ids, *fingerprints, self.unseen_weight)
            counted = states.after(reference["opening"])
            mean = states.total(similarity * counted) / states.total(counted.float())
            return (mean + states.largest(similarity.masked_fill(~counted, -2))) / 2

        return [StateReadout("trim", read)]

    def score(self, tokens: TokenSignals) -> Numbers:
        """Float64 [examples], at most 1; null where a row has no supervised token."""
        return tokens.readings["trim"]


def _opening(rows: Sequence[TokenRow]) -> NDArray[np.int64]:
    """The tokens that all rows begin with, before any target, int64; none for a single row."""
    prompts = [row.input_ids[: int(row.supervised.argmax())].tolist() for row in rows]
    shared = [len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False)] if len(rows) > 1 else []
    return np.array(prompts[0][: [*shared, False].index(False)], dtype=np.int64)
