"""Clusterer: groups rows by their embeddings; adds `cluster` and `cluster_distance`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from curate.component import Component


@dataclass(frozen=True)
class Clusters:
    """labels: int32 [rows]; distance: float32 [rows] to the own centroid; centroids: float32 [k, d].

    diagnostics: what was tried and found (silhouette per k), as JSON values.
    """

    labels: NDArray[np.int32]
    distance: NDArray[np.float32]
    centroids: NDArray[np.float32]
    diagnostics: Mapping[str, object] = field(default_factory=dict)


class Clusterer(Component, ABC):
    """Embeddings -> Clusters."""

    @abstractmethod
    def cluster(self, embeddings: NDArray[np.float32], seed: int) -> Clusters:
        """Cluster float32 [rows, d] embeddings. Deterministic for a seed."""
