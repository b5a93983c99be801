"""Transport: our Sinkhorn beside POT's, on the same embeddings, in one run.

    python benchmarks/transport.py POOL.parquet TARGET.parquet --peer-python VENV/bin/python

Both files have the text columns `prompt` and `response`; a row's text is the two joined by a newline. POT needs an
environment of its own: `pip install POT torch`. Three parts:

1. Agreement on `--few-rows` × `--few-target-rows`, drawn at random: the Spearman correlation of the potentials
   with POT's (`ot.sinkhorn`, method sinkhorn_log, float64, to 1e-12), the largest difference in ε, and how many of
   the lowest 5 % are the same, for several ε (as multiples of the mean cost).
2. Time and memory of the selector on the whole pool × `--target-rows`, at the default ε = 0.1 and a marginal error
   of 1e-5, with the memory limits of `--limits`; for the smaller ε too.
3. `--peers` on the same: POT to the same marginal error (its own is an L2 norm, so 1e-5 / √target rows), checked
   every ten iterations as it does. torch: sinkhorn_log on tensors in float32. numpy: sinkhorn_log in float64 (needs
   some 15 GiB for 84,636 × 2,000). lazy: `empirical_sinkhorn(isLazy=True)`, float64, blocks of 1,000.

Every system has a process of its own. Seconds: from the embeddings in memory to the potentials (peers) or to the
selection with its reasons (ours), wall and CPU. Peak: of the whole process, VmHWM.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.model.embed import load_embedder
from curate.model.folders import resolve
from curate.numerics.sinkhorn import sinkhorn

EPSILONS = (0.1, 0.05, 0.02)
MEASURE = """
import json, re, sys, time
from pathlib import Path
import numpy as np
asked = json.loads(sys.argv[1])
x, y = np.load(asked["points"]), np.load(asked["target"])
def started():
    return time.perf_counter(), time.process_time()
def tell(start, **found):
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 2**20
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, **found}))
"""
OURS = (
    MEASURE
    + """
import polars as pl, torch
from curate.pool import Pool, Target
from curate.selectors.transport import Transport
from curate.model.load import choose_device
torch.set_num_threads(asked["threads"])
embedding = pl.Series("embedding", x, dtype=pl.Array(pl.Float32, x.shape[1]))
rows = pl.DataFrame({"position": np.arange(len(x)), "uid": np.arange(len(x)).astype(str), "source": "pool"})
pool = Pool(rows.with_columns(embedding), {}, 0, target=Target(y))
del x
start = started()
method = Transport(budget="5%", epsilon=asked["epsilon"], max_memory_gib=asked["limit"], device=asked["device"])
notes = method.select(pool).notes
tell(start, iterations=notes["iterations"], error=notes["marginal_error"], converged=notes["converged"])
"""
)
POT = (
    MEASURE
    + """
import ot, ot.bregman, warnings
kind, epsilon, n, m = asked["kind"], asked["epsilon"], len(x), len(y)
if kind == "torch":
    import torch
    torch.set_num_threads(asked["threads"])
    x, y = torch.from_numpy(x), torch.from_numpy(y)
else:
    x, y = x.astype(np.float64), y.astype(np.float64)
start = started()
if kind == "lazy":
    most = {"numIterMax": 10_000, "stopThr": asked["threshold"], "log": True}
    f, _, log = ot.bregman.empirical_sinkhorn(x, y, epsilon, isLazy=True, batchSize=1000, **most)
else:
    cost = ot.dist(x, y)
    most = {"numItermax": 10_000, "stopThr": asked["threshold"], "log": True}
    _, log = ot.sinkhorn([], [], cost, epsilon, method="sinkhorn_log", **most)
    f = epsilon * np.asarray(log["log_u"], dtype=np.float64)
    del cost
np.save(asked["out"], np.asarray(f))
error = float(log["err"][-1])
tell(start, iterations=log.get("niter"), error=error, converged=error <= asked["threshold"])
"""
)


def run(python: str, code: str, asked: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
    """What the process says of itself; None where it takes longer. Raises RuntimeError where it fails."""
    threads = {name: str(asked["threads"]) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [python, "-W", "ignore", "-c", code, json.dumps(asked)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env={**os.environ, **threads},
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise RuntimeError(f"{python} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def embeddings(path: Path, model: str) -> NDArray[np.float32]:
    """Unit vectors of a file's rows, float32 [rows, d]; rows without tokens are left out."""
    rows = pl.read_parquet(path, columns=["prompt", "response"])
    texts = rows.select(pl.concat_str("prompt", "response", separator="\n")).to_series().to_list()
    vectors = load_embedder(resolve(model)).embed(texts)
    return vectors[~np.isnan(vectors).any(axis=1)]


def some(vectors: NDArray[np.float32], rows: int, seed: int) -> NDArray[np.float32]:
    """As many of them at random, in their order."""
    drawn = np.random.default_rng(seed).choice(len(vectors), min(rows, len(vectors)), replace=False)
    return vectors[np.sort(drawn)]


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of each value, from 0."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)


def agreement(
    x: NDArray[np.float32], y: NDArray[np.float32], python: str, threads: int, folder: Path
) -> None:
    """Part 1."""
    np.save(folder / "few.npy", x)
    np.save(folder / "few_target.npy", y)
    print(f"agreement with POT (float64, to 1e-12) on {len(x):,} × {len(y):,}, d = {x.shape[1]}")
    print(
        f"{'ε':>5} {'iterations':>10} {'POT':>6} {'Spearman':>12} {'largest difference':>19} {'same 5 %':>9}"
    )
    for relative in EPSILONS:
        ours = sinkhorn(x, y, relative)
        asked = {"kind": "numpy", "epsilon": ours.epsilon, "threshold": 1e-12, "threads": threads}
        places = {"points": folder / "few.npy", "target": folder / "few_target.npy", "out": folder / "f.npy"}
        peer = run(python, POT, {**asked, **{name: str(place) for name, place in places.items()}}, 3600)
        theirs = np.load(folder / "f.npy")
        spearman = np.corrcoef(ranks(ours.points), ranks(theirs))[0, 1]
        apart = np.abs((ours.points - ours.points.mean()) - (theirs - theirs.mean())).max() / ours.epsilon
        lowest = len(x) // 20
        same = np.isin(np.argsort(ours.points)[:lowest], np.argsort(theirs)[:lowest]).mean()
        steps = peer["iterations"] if peer else 0
        print(f"{relative:5} {ours.iterations:10d} {steps:6d} {spearman:12.9f} {apart:17.1e} ε {same:9.1%}")


def row(name: str, found: Mapping[str, Any] | None, seconds: float) -> str:
    """One line of the table."""
    if found is None:
        return f"{name:34} more than {seconds:.0f} s"
    state = "" if found["converged"] else "  not converged"
    figures = f"{found['wall']:8.1f} {found['cpu']:8.1f} {found['peak']:9.2f} {found['iterations']:10d}"
    return f"{name:34} {figures} {found['error']:9.1e}{state}"


def whole(
    places: Mapping[str, str], shape: Sequence[int], mean_cost: float, asked: argparse.Namespace
) -> None:
    """Parts 2 and 3."""
    print(f"\n{shape[0]:,} × {shape[1]:,}, d = {shape[2]}, {asked.threads} threads")
    print(f"{'':34} {'wall s':>8} {'CPU s':>8} {'peak GiB':>9} {'iterations':>10} {'error':>9}")
    cases = [(0.1, limit) for limit in asked.limits] + [
        (epsilon, asked.limits[0]) for epsilon in EPSILONS[1:]
    ]
    for epsilon, limit in cases:
        fields = {
            **places,
            "epsilon": epsilon,
            "limit": limit,
            "threads": asked.threads,
            "device": asked.device,
        }
        found = run(sys.executable, OURS, fields, asked.seconds)
        print(row(f"curate, ε {epsilon}, limit {limit:g} GiB", found, asked.seconds), flush=True)
    for kind in asked.peers if asked.peer_python else ():
        fields = {"kind": kind, "epsilon": 0.1 * mean_cost, "threshold": 1e-5 / shape[1] ** 0.5}
        found = run(asked.peer_python, POT, {**places, **fields, "threads": asked.threads}, asked.seconds)
        print(row(f"POT {kind}, ε 0.1", found, asked.seconds), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path, help="Parquet file with the columns prompt and response")
    parser.add_argument("target", type=Path, help="the same of the target")
    parser.add_argument("--embedder", default="package:wordllama")
    parser.add_argument("--target-rows", type=int, default=2000)
    parser.add_argument("--few-rows", type=int, default=2000)
    parser.add_argument("--few-target-rows", type=int, default=500)
    parser.add_argument("--limits", type=float, nargs="+", default=[4.0, 0.1], help="max_memory_gib")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="ours: cpu or cuda")
    parser.add_argument("--peer-python", help="interpreter of an environment with POT and torch")
    parser.add_argument("--peers", nargs="*", default=["torch"], choices=["torch", "numpy", "lazy"])
    parser.add_argument("--seconds", type=float, default=1200, help="time limit of a system")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = embeddings(asked.pool, asked.embedder)
        y = some(embeddings(asked.target, asked.embedder), asked.target_rows, seed=0)
        if asked.peer_python is None:
            print("POT: not run; give --peer-python.", file=sys.stderr)
        else:
            few, few_target = some(x, asked.few_rows, 1), some(y, asked.few_target_rows, 2)
            agreement(few, few_target, asked.peer_python, asked.threads, folder)
        places = {"points": str(folder / "points.npy"), "target": str(folder / "target.npy")}
        np.save(places["points"], x)
        np.save(places["target"], y)
        mean = 2 - 2 * float(x.mean(axis=0, dtype=np.float64) @ y.mean(axis=0, dtype=np.float64))
        whole({**places, "out": str(folder / "f.npy")}, (len(x), len(y), x.shape[1]), mean, asked)


if __name__ == "__main__":
    main()
