"""A reader of rows in memory, for stages that are tested by themselves."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Memory:
    """Stands for a `curate.reader.Reader`; whole: all columns, position among them."""

    whole: pl.DataFrame

    @property
    def positions(self) -> Any:
        return self.whole["position"].to_numpy()

    def frame(self, names: Iterable[str]) -> pl.DataFrame:
        return self.whole.select("position", *sorted(names))

    def take(self, names: Iterable[str], indices: Any) -> pl.DataFrame:
        return self.frame(names)[np.asarray(indices)]
