"""Length: what is counted where."""

import numpy as np
import polars as pl
import pytest

from scorers.length import Length

ROWS = pl.DataFrame(
    {
        "prompt": ["Why not?", "", None],
        "response": ["Because — of\tthe\nsnow, π.", "", "one"],
        "tokens": [20, 3, None],
        "supervised_tokens": [8, 1, 2],
    }
)


@pytest.mark.parametrize(
    ("unit", "part", "expected"),
    [
        ("words", "response", [6, 0, 1]),
        ("words", "prompt", [2, 0, np.nan]),
        ("words", "all", [8, 0, np.nan]),
        ("characters", "response", [25, 0, 3]),
        ("characters", "prompt", [8, 0, np.nan]),
        ("characters", "all", [33, 0, np.nan]),
        ("tokens", "response", [8, 1, 2]),
        ("tokens", "prompt", [12, 2, np.nan]),
        ("tokens", "all", [20, 3, np.nan]),
    ],
)
def test_counts(unit: str, part: str, expected: list[float]) -> None:
    scorer = Length.model_validate({"unit": unit, "part": part})
    found = scorer.score(ROWS.select(sorted(scorer.needs())))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_only_tokens_need_a_model() -> None:
    assert Length().needs() == {"response"}
    assert Length(unit="tokens", part="prompt").needs() == {"tokens", "supervised_tokens"}
