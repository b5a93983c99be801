"""Similarity of token states and of sparse codes to a target's: TRIM's fingerprints, MONA's min-max.

Torch tensors in and out, on any one device; the sums run in float32 (float64 for float64 input), in an order
that follows from the input alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MEMORY_BYTES = 256 << 20


def fingerprints(states: Tensor, token_ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The fingerprint of each token id that occurs: (ids, vectors).

    f_v = normalise(sum over the occurrences of v of weight * state / ||state||)

    states: [tokens, d], all tokens of the target's examples laid end to end. token_ids: int64 [tokens].
    weights: [tokens], at or above 0; their scale changes nothing. Returns ids int64 [m], ascending, each once,
    and vectors [m, d] of unit length; 0 for an id whose weights (or states) are all 0.
    O(tokens x (d + log tokens)). Raises ValueError for lengths that differ or no token.
    """
    import torch

    if not len(states) == len(token_ids) == len(weights) > 0:
        raise ValueError(
            "states, token_ids and weights must have one length above 0. "
            f"Got {len(states)}, {len(token_ids)} and {len(weights)}."
        )
    order = token_ids.argsort(stable=True)
    ids, counts = token_ids[order].unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
    weighted = _unit(_wide(states))[order] * _wide(weights)[order, None]
    return ids, _unit(torch.segment_reduce(weighted, "sum", lengths=counts))


def nearest_seen(embedding: Tensor, ids: Tensor, memory_bytes: int = MEMORY_BYTES) -> Tensor:
    """For each token of the vocabulary the place in `ids` of the seen token nearest to it, int64 [vocabulary].

    By cosine in the model's input embedding [vocabulary, d]; ties go to the lowest place. A seen token's
    nearest is itself. ids: int64 [m >= 1], each once. memory_bytes: cosines held at once.
    O(vocabulary x m x d), once for a target. Raises ValueError without an id.
    """
    import torch

    if len(ids) == 0:
        raise ValueError("ids must have at least one token. Got none.")
    places = torch.arange(len(ids), device=ids.device)
    seen = _unit(_wide(embedding[ids])).T
    nearest = torch.empty(len(embedding), dtype=torch.int64, device=ids.device)
    step = max(1, memory_bytes // (len(ids) * seen.itemsize))
    for first in range(0, len(embedding), step):
        block = _unit(_wide(embedding[first : first + step]))
        nearest[first : first + step] = (block @ seen).argmax(1)
    nearest[ids] = places
    return nearest


def match(
    states: Tensor,
    token_ids: Tensor,
    ids: Tensor,
    vectors: Tensor,
    nearest: Tensor,
    unseen_weight: float = 0.5,
) -> Tensor:
    """Similarity of each token to the target's fingerprints, [tokens] in [-1, 1].

    cos(state, f_v) for a token v that the target has; for another one `unseen_weight` times the cosine to the
    fingerprint of the nearest token that it has. 0 for a state or fingerprint that is 0.

    states: [tokens, d]. token_ids: int64 [tokens]. ids [m], vectors [m, d]: see `fingerprints`. nearest:
    int64 [vocabulary], see `nearest_seen`. unseen_weight: in (0, 1]. O(tokens x d).
    Raises ValueError for lengths that differ or a weight outside its range.
    """
    import torch

    if len(states) != len(token_ids):
        raise ValueError(
            f"states and token_ids must have one length. Got {len(states)} and {len(token_ids)}."
        )
    if not 0 < unseen_weight <= 1:
        raise ValueError(f"unseen_weight must be above 0 and at most 1. Got {unseen_weight}.")
    places = nearest[token_ids]
    cosine = (_unit(_wide(states)) * vectors[places]).sum(1).clamp(-1, 1)
    return torch.where(ids[places] == token_ids, cosine, cosine * unseen_weight)


def min_max_similarity(codes: Tensor, prototype: Tensor) -> Tensor:
    """Generalised Jaccard similarity sum_f min(z, p) / sum_f max(z, p), [examples] in [0, 1].

    codes: [examples, features]; prototype: [features]. Negative entries count as 0, and 0/0 is 0.
    O(examples x features), in time and in memory. Raises ValueError for features that differ.
    """
    import torch

    if codes.shape[1:] != prototype.shape:
        raise ValueError(
            "codes must be [examples, features] and prototype [features]. "
            f"Got {tuple(codes.shape)} and {tuple(prototype.shape)}."
        )
    ours, theirs = _wide(codes).clamp(min=0), _wide(prototype).clamp(min=0)
    common = torch.minimum(ours, theirs).sum(1)
    either = torch.maximum(ours, theirs).sum(1)
    return torch.where(either > 0, common / either, 0.0)


def _wide(values: Tensor) -> Tensor:
    """As float64 if it is that, else as float32."""
    import torch

    return values.to(torch.promote_types(values.dtype, torch.float32))


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays. Scaled by the largest entry first, so that no square underflows."""
    import torch

    largest = rows.abs().amax(1, keepdim=True)
    scaled = rows / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / torch.where(length > 0, length, 1)
