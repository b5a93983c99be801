"""Ledger: all that a run knows of one row. Each part (duplicates, scores, cluster, verdicts …) is a file of its own,
a function from the run's stages and the row's position to plain values; `gather` puts them together.
"""

from curate.ledger.gather import ledger
from curate.ledger.story import Ledger

__all__ = ["Ledger", "ledger"]
