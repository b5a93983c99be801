"""What is in a chart: the rows of its data, as the browser gets them."""

import json
from typing import Any


def spec(chart: Any) -> dict[str, Any]:
    """The chart as JSON. Fails on what JSON has no word for, and on what Vega-Lite's schema does not know."""
    text = chart.to_json()
    found: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest_fail(name))
    return found


def pytest_fail(name: str) -> Any:
    """No NaN and no Infinity in JSON."""
    raise AssertionError(f"{name} in a chart's JSON")


def rows(chart: Any, *fields: str) -> list[dict[str, Any]]:
    """The rows of all data of a chart that have these fields."""
    data = spec(chart)["datasets"].values()
    return [row for some in data for row in some if set(fields) <= set(row)]


def size(chart: Any) -> int:
    """Characters of its JSON."""
    return len(chart.to_json(indent=None))
