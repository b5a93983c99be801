"""Connected components of a graph on rows, and who stands for each of them.

A component is named by its smallest member, so the naming depends on the graph alone: not on the order
of the edges, nor on how they were found.
"""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def connect(labels: Labels, left: NDArray[np.integer], right: NDArray[np.integer]) -> Labels:
    """The components after adding edges left[i] — right[i] to those that `labels` describes.

    labels: int64 [rows], the smallest member of each row's component (np.arange(rows) for no edges).
    Returns new labels of the same form. Hooking to the smaller root and pointer jumping (Shiloach and
    Vishkin 1982): about log(rows) rounds of O(rows + edges).
    """
    parent = labels.copy()
    while len(left):
        a, b = parent[left], parent[right]
        apart = a != b
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(jumped := parent[parent], parent):
            parent = jumped
    return parent


def components(rows: int, left: NDArray[np.integer], right: NDArray[np.integer]) -> Labels:
    """The smallest member of each row's component in the graph of these edges, int64 [rows]."""
    return connect(np.arange(rows, dtype=np.int64), left, right)


def survivors(labels: Labels, preference: NDArray[np.float64]) -> Labels:
    """For each row the row that stands for its component, int64 [rows].

    It is the member with the highest preference, float64 [rows]; ties go to the first; NaN (no score)
    loses to every number.
    """
    # lexsort puts NaN last, as the lowest preference must be; -0.0 and 0.0 are equal to it.
    order = np.lexsort((np.arange(len(labels)), -preference, labels))
    first = np.flatnonzero(np.diff(labels[order], prepend=-1))
    best = np.zeros(len(labels), dtype=np.int64)
    best[labels[order[first]]] = order[first]
    return best[labels]
