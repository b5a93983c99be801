"""benchmarks/gpu_score.py on a tiny model, with every package hidden but torch, transformers, numpy and what they need."""

import json
import math
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from passes import small_llama, token_rows

from benchmarks._passes import alternate, bare, bare_batches, bare_lean
from curate.model.views import input_of

ROOT = Path(__file__).parents[1]
TINY = ["--sizes", "tiny", "--rows", "6", "--single-rows", "2", "--repeats", "1", "--max-tokens", "64"]
HIDE = """
import runpy, sys
for name in {hidden!r}:
    sys.modules[name] = None
sys.path.insert(0, "benchmarks")
sys.argv = ["benchmarks/gpu_score.py", *{arguments!r}]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def required(*names: str) -> set[str]:
    """Distributions that these need, themselves included, without extras."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            asked = [Requirement(each) for each in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        waiting += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def others() -> list[str]:
    """Top-level modules of every installed package that torch, transformers and numpy do not need, and pydantic.

    Pydantic comes with what transformers downloads with, which does not import it here.
    """
    needed = required("torch", "transformers", "numpy")
    needed -= {"pydantic", "pydantic-core"}
    return sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if module.isidentifier()
        and module != "curate"
        and not needed & {owner.lower().replace("_", "-") for owner in owners}
    )


def run(hidden: list[str], *arguments: str) -> dict[str, Any]:
    """The benchmark's report."""
    code = HIDE.format(hidden=hidden, arguments=[*TINY, *arguments])
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    report: dict[str, Any] = json.loads(found.stdout)
    return report


@pytest.fixture(scope="module")
def hidden() -> list[str]:
    return others()


@pytest.fixture(scope="module")
def report(hidden: list[str]) -> dict[str, Any]:
    return run(hidden, "--device", "cpu", "--dtype", "float32", "--peak-tflops", "2")


def test_the_packages_that_it_must_not_need_are_hidden(hidden: list[str]) -> None:
    assert {"pydantic", "polars", "ray", "pyarrow", "datasets", "scorers", "pipelines"} <= set(hidden)


def test_all_ways_are_measured(report: dict[str, Any]) -> None:
    ways = report["sizes"]["tiny"]["ways"]
    loops = {f"batch size 1, {name}" for name in ("loss", "entropy", "el2n", "grand", "donod")}
    backward = {"batch size 1, grand by backward", "batch size 1, donod by backward"}
    assert set(ways) == {"all signals", "loss", "bare forward", "bare, lean"} | loops | backward
    for each in ways.values():
        assert each["tokens_per_second"] > 0 and each["peak_memory_bytes"] > 1 << 20


def test_ratios_are_finite(report: dict[str, Any]) -> None:
    tiny = report["sizes"]["tiny"]
    ratios = [*tiny["seconds_against"].values(), *tiny["times_as_fast_as_batch_size_1"].values()]
    assert len(ratios) == 7
    assert all(math.isfinite(each) and each > 0 for each in ratios)


def test_loops_are_compared_by_the_token(report: dict[str, Any]) -> None:
    tiny = report["sizes"]["tiny"]
    ways, fast = tiny["ways"], tiny["times_as_fast_as_batch_size_1"]
    speed = {name: each["tokens_per_second"] for name, each in ways.items()}
    assert fast["loss"] == pytest.approx(speed["loss"] / speed["batch size 1, loss"])
    loops = ["loss", "entropy", "el2n", "grand by backward", "donod by backward"]
    together = 1 / sum(1 / speed[f"batch size 1, {name}"] for name in loops)
    assert fast["all signals, gradients by backward"] == pytest.approx(speed["all signals"] / together)


def test_the_data_sheet_is_the_other_peak(report: dict[str, Any]) -> None:
    tiny = report["sizes"]["tiny"]
    ours = tiny["ways"]["all signals"]
    done = ours["fraction_of_matrix_peak"] * tiny["matrix_peak_tflops"]
    assert ours["fraction_of_data_sheet"] * 2 == pytest.approx(done)


def test_rows_are_cut_to_the_longest_allowed(report: dict[str, Any]) -> None:
    assert report["lengths"]["max"] == 64
    assert report["sizes"]["tiny"]["tokens"] <= 6 * 64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_runs_on_a_gpu(hidden: list[str]) -> None:
    found = run(hidden, "--device", "cuda")
    assert found["hardware"]["cuda"] == torch.version.cuda
    tiny = found["sizes"]["tiny"]
    assert tiny["ways"]["all signals"]["peak_memory_bytes"] < found["hardware"]["device_memory_bytes"]
    assert all(math.isfinite(each) for each in tiny["seconds_against"].values())


@pytest.mark.parametrize("lean", [False, True])
def test_bare_batches_padded_and_packed_give_one_states(lean: bool) -> None:
    model, rows = small_llama(), token_rows(5)
    sums = []
    for layout in ("padded", "packed"):
        with torch.inference_mode():
            states = [
                model.get_decoder()(**batch.arguments).last_hidden_state.flatten(0, 1)[batch.before]
                for batch in bare_batches(model, rows, 64, layout, lean)
            ]
        sums.append(torch.cat(states).sum(0))
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-4)


def test_bare_batches_hold_every_target_of_every_row() -> None:
    model, rows = small_llama(), token_rows(7)
    expected = sorted(np.concatenate([input_of(row, "full", set(), whole=True).target_ids for row in rows]))
    found: list[int] = []
    for batch in bare_batches(model, rows, 64, "padded", lean=False):
        found += batch.arguments["input_ids"].flatten()[batch.before + 1].tolist()
    assert sorted(found) == expected


@pytest.mark.parametrize("way", [bare, bare_lean])
def test_logits_stay_within_the_memory_given(way: Any) -> None:
    model, rows = small_llama(), token_rows(7)
    batches = bare_batches(model, rows, 128, "padded", lean=way is bare_lean)
    for most in (10 << 30, 10 * 272 * 4):
        seen: list[int] = []
        hook = model.lm_head.register_forward_hook(
            lambda _, inputs, output, seen=seen: seen.append(output.numel())
        )
        way(model, batches, most)
        hook.remove()
        targets = sum(len(batch.before) for batch in batches)
        positions = sum(batch.arguments["input_ids"].numel() for batch in batches)
        assert sum(seen) == 272 * (targets if way is bare_lean else positions)
        assert max(seen) * 4 <= most


def test_ways_alternate_after_a_round_to_warm_up() -> None:
    order: list[str] = []
    ticks = iter(range(100))
    ways = {name: lambda name=name: order.append(name) for name in "ab"}
    found = alternate(ways, 2, torch.device("cpu"), lambda: float(next(ticks)))
    assert order == ["a", "b"] * 3
    assert found["a"].seconds == [1.0, 1.0]
