"""Upsampling at the end: an exact boundary, tokens and rows of each phase."""

from collections import Counter

import numpy as np
import pytest
from candidates import pool_of

from curate.errors import ConfigError
from curate.mixer import Schedule
from curate.mixers.upsample_end import UpsampleEnd

SOURCES = ["web"] * 80 + ["math"] * 20
POOL = pool_of({"source": SOURCES, "supervised_tokens": np.full(100, 10, dtype=np.int32)})
FINAL = {"web": 0, "math": 1}


def phase_sources(schedule: Schedule, name: str) -> dict[str, int]:
    rows = [row for row, phase in zip(schedule.draws, schedule.phases, strict=True) if phase == name]
    return dict(Counter(SOURCES[row] for row in rows))


@pytest.mark.parametrize(("fraction", "boundary"), [(0.2, 80), (0.1, 90), (0.155, 84)])
def test_the_boundary_is_exact(fraction: float, boundary: int) -> None:
    schedule = UpsampleEnd(weights=FINAL, fraction=fraction).mix(POOL)
    assert schedule.phases == ["main"] * boundary + ["final"] * (100 - boundary)


def test_each_phase_has_its_mixture() -> None:
    schedule = UpsampleEnd(weights={"web": 1, "math": 3}, fraction=0.2).mix(POOL)
    assert phase_sources(schedule, "main") == {"web": 64, "math": 16}
    assert phase_sources(schedule, "final") == {"web": 5, "math": 15}


def test_the_start_can_have_weights_of_its_own() -> None:
    schedule = UpsampleEnd(weights=FINAL, start_weights={"web": 1, "math": 0}, fraction=0.2).mix(POOL)
    assert phase_sources(schedule, "main") == {"web": 80}
    assert phase_sources(schedule, "final") == {"math": 20}


def test_the_final_phase_draws_unseen_rows_first() -> None:
    """16 of 20 math rows come in the first phase, 10 draws in the second: the other 4, then 6 again."""
    schedule = UpsampleEnd(weights={"web": 1, "math": 1}, fraction=0.2).mix(POOL)
    times = Counter(row for row in schedule.draws.tolist() if row >= 80)
    assert sorted(times.values()) == [1] * 14 + [2] * 6


def test_each_phase_is_shuffled() -> None:
    schedule = UpsampleEnd(weights={"web": 1, "math": 1}, fraction=0.4).mix(POOL)
    final = [SOURCES[row] for row in schedule.draws[60:]]
    assert final not in (sorted(final), sorted(final, reverse=True))


def test_tokens_count_both_phases() -> None:
    schedule = UpsampleEnd(weights=FINAL, fraction=0.25, draws="2k tokens").mix(POOL)
    assert Counter(schedule.phases) == {"main": 150, "final": 50}


def test_both_mixtures_must_name_all_groups() -> None:
    with pytest.raises(ConfigError, match="`start_weights` .* without a weight: math"):
        UpsampleEnd(weights=FINAL, start_weights={"web": 1}).mix(POOL)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_phase_without_draws_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        UpsampleEnd(weights=FINAL, fraction=fraction)
