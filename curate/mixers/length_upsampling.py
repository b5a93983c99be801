"""Length upsampling: rows repeated until each range of lengths has a given share of the tokens.

Formula: `shares` gives to an upper bound of lengths the share s_j of all trained tokens that the rows from there down
to the next lower bound shall have. With T_j tokens in range j, D = max_j T_j / s_j is the smallest training in which
they have it and every row is drawn. Range j goes round its rows, in random order, until its tokens are as near to
s_j · D as whole rows come: each row floor(d_j / n_j) or ceil(d_j / n_j) times. Rows stay whole; all draws are
shuffled. Phases name the range.

Cost: O(n log n) and two hashes per row.
Source: Fu et al., "Data engineering for scaling language models to 128K context", 2024, which upsamples long texts.
Deviations: over the whole pool, where the paper keeps each source's share of it; shares are given, not found.
"""

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curate.errors import DataError
from curate.mixer import Mixer, Schedule
from curate.mixers._deck import named, shuffle
from curate.numerics.ranking import ranked
from curate.pool import Pool

SLACK = 1e-6


class LengthUpsampling(Mixer):
    """Rows repeated until each range of lengths has a given share of the tokens."""

    shares: Mapping[Annotated[int, Field(gt=0)], Annotated[float, Field(gt=0, le=1)]] = Field(
        min_length=1,
        description="longest row of a range, in tokens -> share of all tokens; the shares sum to 1, e.g. "
        "{512: 0.2, 2048: 0.5, 8192: 0.3}",
    )
    max_times: float = Field(
        default=16.0, ge=1, description="a range that would be drawn more often than this is refused"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(self.shares.values())
        if abs(total - 1) > SLACK:
            raise ValueError(f"`shares` must sum to 1. Got {total:g}.")
        return self

    def needs(self) -> frozenset[str]:
        """The lengths."""
        return frozenset({"tokens"})

    def mix(self, pool: Pool) -> Schedule:
        """Repeat and shuffle. Raises DataError for a range without rows, a longer row, and too many repeats."""
        tokens = pool.counts("tokens")
        bounds = sorted(self.shares)
        shares = np.array([self.shares[bound] for bound in bounds])
        ranges = np.searchsorted(bounds, tokens)
        if pool.rows == 0 or ranges.max() == len(bounds):
            raise DataError(
                f"`shares` must have a bound for every selected row. The longest has {tokens.max(initial=0)} tokens, "
                f"the largest bound is {bounds[-1]}."
            )
        names = [f"{low + 1} to {high} tokens" for low, high in zip([0, *bounds], bounds, strict=False)]
        held = np.bincount(ranges, weights=tokens, minlength=len(bounds))
        if not held.all():
            empty = ", ".join(names[place] for place in np.flatnonzero(held == 0))
            raise DataError(f"`shares` asks for rows of {empty}, and there is none. Leave that bound out.")
        wanted = shares * (held / shares).max()
        times = wanted / held
        if times.max() > self.max_times:
            worst = int(times.argmax())
            raise DataError(
                f"the rows of {names[worst]} would be drawn {times[worst]:.1f} times each to have "
                f"{shares[worst]:g} of the tokens. Lower that share, or raise `max_times`, {self.max_times:g}."
            )
        order = ranked(pool.keys("mix"), highest=False)
        rows = np.concatenate(
            [_dealt(order[ranges[order] == place], tokens, wanted[place]) for place in range(len(bounds))]
        )
        draws = rows[shuffle(pool, rows, "mix")]
        drawn = np.bincount(ranges[draws], weights=tokens[draws], minlength=len(bounds))
        shares_of = {
            name: round(float(part), 6) for name, part in zip(names, drawn / drawn.sum(), strict=True)
        }
        return Schedule(draws, named(names, ranges[draws]), notes={"token_shares": shares_of})


def _dealt(rows: NDArray[np.int64], tokens: NDArray[np.int64], wanted: float) -> NDArray[np.int64]:
    """The rows again and again, in their order, until their tokens are nearest to `wanted`; each at least once."""
    sums = np.cumsum(tokens[rows])
    whole, rest = divmod(wanted, float(sums[-1]))
    more = int(np.abs(np.concatenate([[0], sums]) - rest).argmin())
    return np.concatenate([np.tile(rows, int(whole)), rows[:more]])
