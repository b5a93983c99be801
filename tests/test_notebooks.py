"""Every notebook runs from a folder as a clean clone has it, and what it says of the run holds."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import polars as pl
import pytest
from nbclient import NotebookClient
from pools import configuration, write_pool

import curate
from curate.errors import ConfigError
from curate.explore import Exploration
from curate.overlap import overlaps

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT_SECONDS = 600
"""Of a cell. On a busy machine the model takes its time."""


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def executed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, real_model: Path
) -> Any:
    """(the notebook with its outputs, the folder that it ran in). Its kernel starts in notebooks/, as Jupyter's does."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("configs", "demo", "notebooks"):
        shutil.copytree(ROOT / name, clone / name)
    notebook = nbformat.read(clone / "notebooks" / request.param.name, as_version=4)
    environment = {**os.environ, "IPYTHONDIR": str(clone / ".ipython"), "PYTHONPATH": str(ROOT)}
    NotebookClient(
        notebook, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": str(clone / "notebooks")}}
    ).execute(env=environment)
    return notebook, clone


@pytest.fixture(scope="module")
def runs(executed: Any) -> list[curate.Run]:
    """The runs that the notebook made, the first one first."""
    found = [curate.open(path.parent) for path in (executed[1] / "runs").glob("*/run.json")]
    return sorted(found, key=lambda run: (run.path / "run.json").stat().st_mtime_ns)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert not [
        cell.source for cell in cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ]


@pytest.mark.real
@pytest.mark.slow
def test_nothing_is_printed_as_an_error(executed: Any) -> None:
    wrong = [
        output
        for output in outputs(executed[0])
        if output.get("name") == "stderr" or output.output_type == "error"
    ]
    assert wrong == []


@pytest.mark.real
@pytest.mark.slow
def test_every_selection_after_the_first_computed_no_score(runs: list[curate.Run]) -> None:
    assert len(runs) == 4
    for again in runs[1:]:
        computed = [stage["name"] for stage in again.stages if not stage["cached"]]
        assert len(computed) == 1
        assert computed[0].startswith("select.")


@pytest.mark.real
@pytest.mark.slow
def test_the_worst_by_ifd_are_spoiled_more_often_than_all(runs: list[curate.Run]) -> None:
    truth = runs[0].rows.select("position", truth="meta.corruption")
    scored = runs[0].scores.drop_nulls("score.ifd").join(truth, on="position").collect()
    spoiled = pl.col("truth") != "none"
    worst = scored.sort("score.ifd", descending=True).head(10)
    assert worst.select(spoiled.mean()).item() > 2 * scored.select(spoiled.mean()).item()


@pytest.mark.real
@pytest.mark.slow
def test_selections_of_one_budget_have_one_size_and_differ(runs: list[curate.Run]) -> None:
    (strict, diverse, rival) = runs[1:]
    assert len({each.selected.collect().height for each in runs[1:]}) == 1
    assert all(pair.jaccard < 1 for pair in overlaps([strict, diverse, rival]).pairs)


@pytest.mark.real
@pytest.mark.slow
def test_charts_tables_and_the_widget_are_shown(executed: Any) -> None:
    kinds = [kind for output in outputs(executed[0]) for kind in output.get("data", {})]
    assert kinds.count("application/vnd.jupyter.widget-view+json") == 5 + 1
    assert kinds.count("text/html") == 8


def outputs(notebook: Any) -> list[Any]:
    """The outputs of all cells, in order."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


STAGES = [
    {"score": ["length"]},
    {"embed": {"model": "states"}},
    {"select": {"top": {"by": "length", "budget": 40, "order": "highest"}}},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> curate.Run:
    folder = tmp_path_factory.mktemp("explore")
    config = configuration(write_pool(folder / "data"), STAGES, tiny_model)
    return curate.run(config, runs=folder / "runs", runner="local")


def drawn(map: Exploration, rectangle: Mapping[str, list[float]]) -> Exploration:
    """As after the browser's message that a rectangle was drawn."""
    nothing = {"value": {}, "store": []}
    map.widget.set_state({"_vl_selections": {"brush": {"value": rectangle, "store": []}, "view": nothing}})
    return map


def test_nothing_is_picked_before_a_rectangle_is_drawn(run: curate.Run) -> None:
    map = run.explore()
    assert map.selection.height == 0
    assert map.selection.columns == map.rows.columns


def test_the_selection_is_the_rows_within_the_rectangle(run: curate.Run) -> None:
    map = run.explore(colour="score.length")
    middle = map.rows["x"].median()
    picked = drawn(map, {"x": [1e6, middle], "y": [1e6, -1e6]}).selection
    assert 0 < picked.height < map.rows.height
    assert picked["x"].min() >= round(middle, 2) - 0.01
    assert set(map.rows.filter(pl.col("x") > middle + 0.01)["id"]) <= set(picked["id"])


def test_the_map_has_its_javascript_inside(run: curate.Run) -> None:
    script = run.explore().widget._esm
    assert "https://esm.sh" not in str(script)
    assert len(str(script)) > 100_000


def test_an_unknown_colour_is_refused(run: curate.Run) -> None:
    with pytest.raises(ConfigError, match=r"unknown colour `lenght`\. Known: source, kept, score\.length"):
        run.explore(colour="lenght")


def test_a_missing_widget_names_the_extra(run: curate.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.explore.find_spec", lambda name: None if name == "anywidget" else object())
    with pytest.raises(ConfigError, match=r"needs anywidget, of the extra `notebook`"):
        run.explore()
