"""The plan states the memory of a selector that holds more than a few numbers a row."""

from pathlib import Path
from typing import Any

import pytest
from pools import configuration, write_pool

from curate.config import read_config
from curate.plan import plan


def stated(pool: Path, select: dict[str, Any]) -> int | None:
    stages = [{"embed": {"model": "package:wordllama"}}, {"select": select}]
    lines = plan(read_config(configuration(pool, stages)).config, pool / "store").lines
    return lines[-1].estimate.peak_memory_bytes


def test_a_dense_kernel_is_stated(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data")
    found = stated(pool, {"facility_location": {"budget": 10}})
    rows = 202
    assert found is not None
    assert found >= 4 * rows**2


@pytest.mark.parametrize("select", [{"random": {"budget": 10}}, {"top": {"by": "group", "budget": 10}}])
def test_what_holds_little_states_nothing(select: dict[str, Any], tmp_path: Path) -> None:
    if "top" in select:
        select["top"]["order"] = "highest"
    assert stated(write_pool(tmp_path / "data"), select) is None


def test_a_kernel_of_neighbours_is_stated_where_the_dense_one_does_not_fit(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "data")
    few, many = (
        stated(pool, {"facility_location": {"budget": 10, "kernel": "sparse", "neighbours": neighbours}})
        for neighbours in (4, 64)
    )
    assert few is not None
    assert many is not None
    assert few < many
