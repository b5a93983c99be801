"""curate: choose which data a language model is tuned on, mix it, tune, and prove that the choice helped.

    import curate
    run = curate.run("configs/demo.yaml")          # or curate.open("runs/demo-4f1c9a2b")
    run.selected, run.scores, run.dropped          # polars LazyFrames
    run.why("row-17")                              # the ledger of one row

The public names are loaded when they are first used, so that importing a part (`curate.model`,
`curate.numerics`) costs no more than that part needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.api import open, run
    from curate.budget import Budget
    from curate.cleaner import Deduplicator, Filter
    from curate.clusterer import Clusterer
    from curate.errors import ConfigError, CurateError, DataError
    from curate.ledger import Ledger
    from curate.mixer import Mixer, Schedule
    from curate.pipeline import Pipeline
    from curate.pool import Pool
    from curate.runs import Run
    from curate.scorer import PooledSignalScorer, Scorer, SignalScorer, TextScorer
    from curate.selector import Selection, Selector

_HOME = {
    "open": "curate.api",
    "run": "curate.api",
    "Budget": "curate.budget",
    "Clusterer": "curate.clusterer",
    "ConfigError": "curate.errors",
    "CurateError": "curate.errors",
    "DataError": "curate.errors",
    "Deduplicator": "curate.cleaner",
    "Filter": "curate.cleaner",
    "Ledger": "curate.ledger",
    "Mixer": "curate.mixer",
    "Pipeline": "curate.pipeline",
    "Pool": "curate.pool",
    "PooledSignalScorer": "curate.scorer",
    "Run": "curate.runs",
    "Schedule": "curate.mixer",
    "Scorer": "curate.scorer",
    "Selection": "curate.selector",
    "Selector": "curate.selector",
    "SignalScorer": "curate.scorer",
    "TextScorer": "curate.scorer",
}

__all__ = [
    "Budget",
    "Clusterer",
    "ConfigError",
    "CurateError",
    "DataError",
    "Deduplicator",
    "Filter",
    "Ledger",
    "Mixer",
    "Pipeline",
    "Pool",
    "PooledSignalScorer",
    "Run",
    "Schedule",
    "Scorer",
    "Selection",
    "Selector",
    "SignalScorer",
    "TextScorer",
    "open",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `curate` has no attribute `{name}`")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
