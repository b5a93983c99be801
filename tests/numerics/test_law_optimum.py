"""Resamples of the bootstrap: of enough different runs, also where they are hardly more than parameters."""

import numpy as np
import pytest

from curate.numerics.law_optimum import resampled


@pytest.mark.parametrize(("runs", "needed"), [(12, 7), (22, 21), (40, 39)])
def test_a_resample_has_as_many_different_runs_as_a_law_has_parameters(runs: int, needed: int) -> None:
    """Of 22 runs drawn with replacement 21 are different once in a million times: it does not wait for that."""
    generator = np.random.default_rng(0)
    points = np.arange(runs)
    for _ in range(5):
        drawn = resampled(points, needed, generator)
        assert len(drawn) == runs
        assert len(np.unique(drawn)) >= needed


def test_equal_runs_count_once() -> None:
    points = np.repeat(np.arange(22), 2)
    drawn = resampled(points, 22, np.random.default_rng(0))
    assert len(drawn) == 44
    assert len(np.unique(points[drawn])) == 22


def test_every_run_is_as_likely_where_some_are_certain() -> None:
    generator = np.random.default_rng(0)
    drawn = np.concatenate([resampled(np.arange(30), 29, generator) for _ in range(60)])
    counts = np.bincount(drawn, minlength=30)
    assert counts.min() > 40
    assert counts.max() < 80
