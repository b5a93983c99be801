"""Ray: actor pools over references to shards. The only file that imports ray.

Connects to `RAY_ADDRESS` (as `ray job submit` sets it), or starts a local Ray. Starting is put off
until the first unit of work, so that a run whose stages are all stored never starts it. Only paths
and a few numbers pass through the driver and the object store.
"""

import functools
import json
import logging
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.data
import ray.exceptions

from curate.component import PLUGIN_MODULES
from curate.errors import ConfigError, CurateError, DataError, Problem
from curate.runner import Runner, Task
from curate.settings import Resources

OBJECT_STORE_BYTES = 256 * 2**20
"""For a Ray that we start ourselves: references are all that it holds."""

MAX_ATTEMPTS = 3
"""How many workers may die of one unit before the run stops. Ray Data by itself goes on for ever."""

MAX_CPUS_PER_WORKER = 16.0
"""Cores for one copy of a model where there is no GPU, or for the only worker; more copies use what is left."""


class Ray(Runner):
    """Runs units on a pool of Ray actors, single calls as a Ray task."""

    def __init__(self) -> None:
        self._started = False
        self._own = False

    def map(
        self, task: Task, units: Sequence[Any], resources: Resources, uses_model: bool
    ) -> Iterator[dict[str, Any]]:
        """One actor per worker; each is set up once and takes the next unit when it is free."""
        if not units:
            return
        self._start()
        cpus, gpus, workers = self._share(resources, uses_model, len(units))
        dataset = ray.data.from_items(
            [{"unit": index} for index in range(len(units))], override_num_blocks=len(units)
        ).map_batches(
            _Worker,
            fn_constructor_args=(task, list(units), ray.remote(_Attempts).options(num_cpus=0).remote()),
            batch_size=1,
            num_cpus=cpus,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        with _lost_workers_told():
            for row in dataset.iter_rows():
                yield _result(row["result"])

    def call(
        self, function: Callable[[], dict[str, Any]], resources: Resources, uses_model: bool
    ) -> dict[str, Any]:
        """One Ray task; waits for it."""
        self._start()
        cpus, gpus, _ = self._share(resources, uses_model, 1)
        calls = 1 if uses_model else 0  # 1: the process ends with the call, and with it the model's memory
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=calls)(_guarded)
        reference = remote.remote(function)
        try:
            with _lost_workers_told():
                return _result(ray.get(reference))
        except KeyboardInterrupt:
            ray.cancel(reference, force=True)
            raise

    def workers(self, resources: Resources, uses_model: bool, units: int) -> int:
        """As many as fit on the nodes and are asked for."""
        self._start()
        return self._share(resources, uses_model, units)[2]

    def describe(self) -> str:
        """The cluster's size once started."""
        if not self._started:
            return "ray, not started (nothing to compute)"
        total = _cluster_resources()
        return f"ray, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"

    def close(self) -> None:
        """Leave the cluster; stop it if it is ours."""
        if self._started and self._own:
            ray.shutdown()
        self._started = False

    def _start(self) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith(PLUGIN_MODULES):  # a worker cannot import a file of a plug-in folder by name
                ray.cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
        if self._started:
            return
        if not ray.is_initialized():
            # At its default, Ray's core prints an error for every actor pool of Ray Data (ray issue 53727).
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            address = os.environ.get("RAY_ADDRESS")
            with _native_stderr_closed():  # where it says that it read this level
                ray.init(
                    address=address or "local",
                    include_dashboard=None if address else False,
                    object_store_memory=None if address else OBJECT_STORE_BYTES,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            self._own = True
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.verbose_stats_logs = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._started = True

    def _share(self, resources: Resources, uses_model: bool, units: int) -> tuple[float, float, int]:
        """Cores and GPUs of a worker, and how many workers; each must fit on one node."""
        nodes = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in _nodes()]
        any_gpu = any(gpus for _, gpus in nodes)
        gpus = resources.gpus if resources.gpus is not None else (1.0 if uses_model and any_gpu else 0.0)
        able = [(cpu, gpu) for cpu, gpu in nodes if gpu >= gpus]
        cpus = resources.cpus or 1.0
        if resources.cpus is None and (units == 1 or (uses_model and not gpus)):
            cpus = min(max((cpu for cpu, _ in able), default=1.0), MAX_CPUS_PER_WORKER) or 1.0
        fitting = sum(min(int(cpu // cpus), int(gpu // gpus) if gpus else units) for cpu, gpu in able)
        if not fitting:
            found = "; ".join(f"{cpu:g} CPUs and {gpu:g} GPUs" for cpu, gpu in nodes)
            raise CurateError(
                f"resources: a worker asks for {cpus:g} CPUs and {gpus:g} GPUs on one node; the nodes of this "
                f"Ray have {found}. Ask for less, or add a node."
            )
        return cpus, gpus, min(resources.workers or fitting, fitting, units)


class _Attempts:
    """Counts how often each unit was begun."""

    def __init__(self) -> None:
        self._begun = Counter[int]()

    def begin(self, unit: int) -> int:
        self._begun[unit] += 1
        return self._begun[unit]


class _Worker:
    def __init__(self, task: Task, units: Sequence[Any], attempts: Any) -> None:
        self._task, self._units, self._attempts = task, units, attempts
        self._state: Any = None
        self._ready = False

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"result": [_guarded(functools.partial(self._do, index)) for index in batch["unit"]]}

    def _do(self, index: int) -> dict[str, Any]:
        if ray.get(self._attempts.begin.remote(index)) > MAX_ATTEMPTS:
            raise CurateError(_lost(f"{MAX_ATTEMPTS} times at the same shard, the one of number {index}"))
        if not self._ready:
            self._state = self._task.setup()
            self._ready = True
        return self._task.run(self._units[index], self._state)


def _cluster_resources() -> dict[str, float]:
    return ray.cluster_resources()  # type: ignore[no-untyped-call, no-any-return]


def _nodes() -> list[dict[str, float]]:
    """The resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Without what native code prints to standard error; Python's own errors are raised all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _lost_workers_told() -> Iterator[None]:
    """Ray's own errors (a worker was killed, a node is gone) as one sentence of ours."""
    try:
        yield
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0]
        raise CurateError(_lost(f"({type(error).__name__}: {first})")) from error


def _lost(how: str) -> str:
    return (
        f"Ray lost a worker {how}. The usual cause is memory: lower `resources: {{workers: …, batch_tokens: …}}` "
        "of the stage. What was finished is stored; the same command goes on."
    )


def _guarded(function: Callable[[], dict[str, Any]]) -> str:
    # An error travels as data and is raised again by the driver (`_result`): through Ray's own
    # wrapping, the sentence that the user should read would drown in tracebacks of Ray.
    try:
        return json.dumps({"value": function()})
    except CurateError as error:
        problems = [vars(problem) for problem in getattr(error, "problems", ())]
        return json.dumps({"error": str(error), "kind": type(error).__name__, "problems": problems})
    except Exception:  # noqa: BLE001 (raised again by the driver)
        return json.dumps({"error": traceback.format_exc(), "kind": "CurateError", "problems": []})


def _result(text: str) -> dict[str, Any]:
    answer = json.loads(text)
    if "error" not in answer:
        return answer["value"]  # type: ignore[no-any-return]
    if answer["kind"] == "ConfigError":
        problems = [
            Problem(tuple(each["where"]), each["message"], each["at_key"]) for each in answer["problems"]
        ]
        raise ConfigError(answer["error"], problems)
    raise (DataError if answer["kind"] == "DataError" else CurateError)(answer["error"])
