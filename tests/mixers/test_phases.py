"""Phases: exact boundaries, rows and tokens of each phase, rows not yet seen first."""

from collections import Counter

import numpy as np
import pytest
from candidates import pool_of

from curate.errors import ConfigError
from curate.mixer import Schedule
from curate.mixers.phases import Phase, Phases
from curate.training.packing import steps

SOURCES = ["web"] * 80 + ["math"] * 20
POOL = pool_of({"source": SOURCES, "supervised_tokens": np.where(np.arange(100) < 80, 10, 30)})
MATH = {"web": 0, "math": 1}


def upsampled(fraction: float, weights: dict[str, float], **more: object) -> Phases:
    """The groups' sizes, then other weights for the last fraction."""
    return Phases(
        phases=(Phase(fraction=1 - fraction), Phase(fraction=fraction, weights=weights, name="final")), **more
    )


def of_phase(schedule: Schedule, name: str) -> dict[str, int]:
    """The draws of each source in one phase."""
    rows = [row for row, phase in zip(schedule.draws, schedule.phases, strict=True) if phase == name]
    return dict(Counter(SOURCES[row] for row in rows))


@pytest.mark.parametrize(("fraction", "boundary"), [(0.2, 80), (0.1, 90), (0.155, 84)])
def test_the_boundary_is_exact(fraction: float, boundary: int) -> None:
    schedule = upsampled(fraction, MATH).mix(POOL)
    assert schedule.phases == ["phase 1 of 2"] * boundary + ["final"] * (100 - boundary)
    assert schedule.notes == {"first_draw_of_phase": {"phase 1 of 2": 0, "final": boundary}}


def test_the_optimizer_step_of_the_boundary() -> None:
    """80 of 100 draws, 16 a step: the first five steps see the first phase alone, the sixth the second."""
    schedule = upsampled(0.2, MATH).mix(POOL)
    phases = np.array(schedule.phases)
    cut = steps(np.arange(100), 1.0, 16, None)
    assert [set(phases[step]) for step in cut] == [{"phase 1 of 2"}] * 5 + [{"final"}] * 2


def test_each_phase_has_its_mixture() -> None:
    schedule = upsampled(0.2, {"web": 1, "math": 3}).mix(POOL)
    assert of_phase(schedule, "phase 1 of 2") == {"web": 64, "math": 16}
    assert of_phase(schedule, "final") == {"web": 5, "math": 15}


def test_the_tokens_of_each_phase() -> None:
    """64 rows of 10 and 16 of 30 tokens; then 5 of 10 and 15 of 30."""
    schedule = upsampled(0.2, {"web": 1, "math": 3}).mix(POOL)
    tokens = POOL.counts("supervised_tokens")[schedule.draws]
    final = np.array(schedule.phases) == "final"
    assert (tokens[~final].sum(), tokens[final].sum()) == (64 * 10 + 16 * 30, 5 * 10 + 15 * 30)


def test_any_number_of_phases() -> None:
    phases = (
        Phase(fraction=0.5, weights={"web": 1, "math": 0}),
        Phase(fraction=0.3),
        Phase(fraction=0.2, weights=MATH),
    )
    schedule = Phases(phases=phases).mix(POOL)
    assert [of_phase(schedule, f"phase {n} of 3") for n in (1, 2, 3)] == [
        {"web": 50},
        {"web": 24, "math": 6},
        {"math": 20},
    ]


def test_a_later_phase_draws_unseen_rows_first() -> None:
    """16 of 20 math rows come in the first phase, 10 draws in the second: the other 4, then 6 again."""
    schedule = upsampled(0.2, {"web": 1, "math": 1}).mix(POOL)
    first, final = (schedule.draws[part] for part in (slice(80), slice(80, None)))
    math = set(range(80, 100))
    unseen = math - set(first.tolist())
    assert len(unseen) == 4
    assert unseen < set(final.tolist())
    assert max(Counter(final.tolist()).values()) == 1


def test_one_phase_is_proportional() -> None:
    assert sorted(Phases(phases=(Phase(fraction=1),)).mix(POOL).draws.tolist()) == list(range(100))


def test_each_phase_is_shuffled() -> None:
    schedule = upsampled(0.4, {"web": 1, "math": 1}).mix(POOL)
    final = [SOURCES[row] for row in schedule.draws[60:]]
    assert final not in (sorted(final), sorted(final, reverse=True))


def test_tokens_count_all_phases() -> None:
    """Three draws in four cost 10 or 30 tokens, 14 in the mean, the last quarter 30: 18 in the mean."""
    schedule = upsampled(0.25, MATH, draws="1800 tokens").mix(POOL)
    assert Counter(schedule.phases) == {"phase 1 of 2": 75, "final": 25}


def test_every_mixture_must_name_all_groups() -> None:
    with pytest.raises(ConfigError, match=r"`phases\[1\].weights` .* without a weight: math"):
        upsampled(0.2, {"web": 1}).mix(POOL)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        (({"fraction": 0.8}, {"fraction": 0.1}), "must sum to 1. Got 0.9"),
        (({"fraction": 0.0}, {"fraction": 1.0}), "greater than 0"),
        (
            ({"fraction": 0.5, "name": "a"}, {"fraction": 0.5, "name": "a"}),
            "names of the phases must differ",
        ),
        ((), "at least 1"),
    ],
)
def test_phases_that_are_no_whole_are_refused(phases: tuple[dict[str, object], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phases(phases=phases)


def test_thirds_are_a_whole() -> None:
    Phases(phases=tuple(Phase(fraction=each) for each in (0.333333, 0.333333, 0.333334)))
