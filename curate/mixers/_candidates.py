"""Candidates: the mixtures among which a search chooses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from curate.errors import ConfigError

Named = Literal["subsets", "leave_one_out"]


@dataclass(frozen=True)
class Candidates:
    """What a user names: `subsets`, `leave_one_out`, or partition -> weight. most: how many may come of it."""

    given: Sequence[Named | Mapping[str, float]]
    most: int

    def identity(self) -> list[Any]:
        """As JSON values."""
        return [each if isinstance(each, str) else dict(each) for each in self.given]

    def weights(self, names: Sequence[str]) -> NDArray[np.float64]:
        """The candidates, float64 [candidates, partitions], each row with sum 1, none twice, in the order given.

        Subsets come by size, then in the order of the names. Raises ConfigError for unknown names, and for more
        candidates than `most`, before any is made.
        """
        count = sum(self._count(each, len(names)) for each in self.given)
        if count > self.most:
            raise ConfigError(
                f"candidates must be at most {self.most} (`max_candidates`). Got {count:,} for "
                f"{len(names)} partitions. Each costs a forward pass of the ranking rows: raise the limit, or write "
                "`leave_one_out`, or the mixtures themselves."
            )
        found: dict[bytes, NDArray[np.float64]] = {}
        for each in self.given:
            for weights in self._one(each, names):
                mixed = weights / weights.sum()
                found.setdefault(mixed.tobytes(), mixed)
        return np.array(list(found.values()))

    @staticmethod
    def _count(given: Named | Mapping[str, float], partitions: int) -> int:
        if given == "subsets":
            return int(2**partitions - 1)
        return partitions + 1 if given == "leave_one_out" else 1

    @staticmethod
    def _one(given: Named | Mapping[str, float], names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
        places = range(len(names))
        if isinstance(given, Mapping):
            unknown = [name for name in given if name not in names]
            if unknown:
                raise ConfigError(
                    f"candidates must name partitions of the selected rows ({', '.join(names)}). "
                    f"Got {', '.join(unknown)}."
                )
            yield np.array([given.get(name, 0.0) for name in names], dtype=np.float64)
        elif given == "subsets":
            for size in range(1, len(names) + 1):
                for chosen in combinations(places, size):
                    yield np.isin(places, chosen).astype(np.float64)
        else:
            yield np.ones(len(names))
            for left_out in places if len(names) > 1 else ():
                yield (np.arange(len(names)) != left_out).astype(np.float64)
