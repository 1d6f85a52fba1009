"""Points run side by side on Dask: workers of this machine, or of a cluster that is there."""

import asyncio
import os
import queue
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import torch

from prunelab.experiments.sweep.points import Point
from prunelab.experiments.sweep.task import Outcome, run_point, stop_points
from prunelab.utils.stopping import Stops

SAVING = 120.0  # seconds that running points have to save when they are stopped
PATIENCE = "20s"  # for a scheduler to answer
CLOSING = 7.0  # that one has whose worker is stopped: Dask kills it after eight
RETURN = 300.0  # seconds in which a scheduler that is gone may come back
LOOK = 1.0  # between two looks
CORES = 2  # of a worker without a GPU
GPU = "GPU"


def count_workers() -> int:
    """How many points run side by side here: one for each GPU, else for every two cores."""
    return torch.cuda.device_count() or max(1, count_cores() // CORES)


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan_workers(workers: int, gpus: int, cores: int) -> dict[str, dict[str, Any]]:
    """{name: environment and resources} of this machine's workers: each sees one GPU, or none."""
    threads = str(max(1, cores // workers))
    given = os.environ.get("CUDA_VISIBLE_DEVICES")  # they are counted among these
    visible = given.split(",") if given else [str(i) for i in range(gpus)]
    plan = {}
    for i in range(workers):
        env = {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        resources = {}
        if i < gpus:
            env["CUDA_VISIBLE_DEVICES"], resources = visible[i], {GPU: 1}
        elif gpus:
            env["CUDA_VISIBLE_DEVICES"] = ""
        plan[f"worker-{i}"] = {"env": env, "resources": resources}
    return plan


class OnDask:
    """Runs points on the workers of a Dask cluster.

    scheduler: the address of one that is there; None starts `workers` on this machine. retries: how
    often a point may lose its worker.
    """

    def __init__(
        self,
        address: str,
        sweep: str,
        scheduler: str | None,
        stops: Stops,
        *,
        workers: int,
        retries: int,
    ) -> None:
        try:
            import dask
            import distributed
        except ImportError:
            raise ValueError(
                "several workers need Dask (pip install 'prunelab[dask]'); --workers 1 runs the "
                "points in order, without it"
            ) from None
        self._dask, self._address, self._sweep = distributed, address, sweep
        self._scheduler, self._stops = scheduler, stops
        self._cluster: Any = None
        self._ended: queue.Queue[tuple[Point, Any]] = queue.Queue()
        self._running: dict[str, Any] = {}
        self._seen = 1  # threads of all workers
        dask.config.set(
            {"distributed.scheduler.allowed-failures": retries, "logging.distributed": "error"}
        )
        if scheduler is None:
            self._cluster = self._start(workers)
        self._client = self._connect()

    def _start(self, workers: int) -> Any:
        plan = plan_workers(workers, torch.cuda.device_count(), count_cores())
        options = {
            "nthreads": 1,
            "memory_limit": 0,
            "host": "127.0.0.1",
            "dashboard": False,
            "silence_logs": 50,
            "preload": _DEAF,
        }
        local = {"host": "127.0.0.1", "dashboard": False}
        return self._dask.SpecCluster(
            scheduler={"cls": self._dask.Scheduler, "options": local},
            workers={
                name: {"cls": self._dask.Nanny, "options": {**options, **own, "name": name}}
                for name, own in plan.items()
            },
            silence_logs=50,
        )

    def _connect(self) -> Any:
        try:
            where = self._cluster or self._scheduler
            return self._dask.Client(where, set_as_default=False, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise OSError(
                f"no Dask scheduler answers at {self._scheduler} ({_first_line(error)}); start one "
                "by `dask scheduler`, and workers by `dask worker ADDRESS`"
            ) from None

    def _list_workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return found

    def check(self, points: list[Point]) -> None:
        """ValueError where a point wants what no worker has, or one has another prunelab."""
        said = False
        while not (workers := self._list_workers()):
            if not said:
                print(f"waiting for workers to join {self._scheduler}", flush=True)
            said = True
            self._stops.obey()
            time.sleep(LOOK)
        self._has_gpu = any(worker["resources"].get(GPU) for worker in workers.values())
        for name, amount in {
            item for point in points for item in self._find_resources(point).items()
        }:
            most = max(worker["resources"].get(name, 0) for worker in workers.values())
            if most < amount:
                raise ValueError(
                    f"no worker has {name}={amount:g}: of {len(workers)}, the best has {most:g}. "
                    f"Start them by `dask worker ADDRESS --resources {name}={amount:g}`, or set "
                    "device: cpu (or other resources) in the sweep"
                )
        try:
            versions = self._client.run(_say_version)
            self._client.register_plugin(_make_saver(self._sweep))
        except Exception as error:
            raise ValueError(
                f"a worker cannot import prunelab ({_first_line(error)}); install prunelab "
                f"{_say_version()} there"
            ) from None
        for worker, own in versions.items():
            if own != _say_version():
                raise ValueError(
                    f"the worker {worker} has prunelab {own}, and this is {_say_version()}; "
                    "install the same on both"
                )

    def _find_resources(self, point: Point) -> dict[str, float]:
        if point.resources is not None:
            return point.resources
        wants = point.device.startswith("cuda") or (point.device == "auto" and self._has_gpu)
        return {GPU: 1} if wants else {}

    @property
    def workers(self) -> int:
        """How many points run side by side."""
        with suppress(Exception):
            self._seen = sum(worker["nthreads"] for worker in self._list_workers().values())
        return max(1, self._seen)

    @property
    def room(self) -> int:
        """How many more points it takes: none waits at a worker, which may be lost."""
        return max(1, self._seen) - len(self._running)

    def submit(self, point: Point) -> None:
        """Give a point to the workers."""
        future = self._client.submit(
            run_point,
            point,
            self._address,
            self._sweep,
            key=f"{point.key}-{self._sweep}-{time.monotonic_ns()}",
            resources=self._find_resources(point) or None,
            pure=False,
        )
        self._running[point.key] = (point, future)
        future.add_done_callback(lambda _: self._ended.put((point, future)))

    def wait(self) -> list[tuple[Point, Outcome]]:
        """The points that ended since, perhaps none."""
        ended = []
        with suppress(queue.Empty):
            ended.append(self._ended.get(timeout=LOOK))
            while True:
                ended.append(self._ended.get_nowait())
        own = [(point, future) for point, future in ended if self._is_own(point, future)]
        found = [(point, self._find_outcome(future)) for point, future in own]
        for point, _ in own:
            del self._running[point.key]
        if self._client.status == "closed" or any(o.state == "lost" for _, o in found):
            found += self._come_back()
        return found

    def _is_own(self, point: Point, future: Any) -> bool:
        return point.key in self._running and self._running[point.key][1] is future

    def _find_outcome(self, future: Any) -> Outcome:
        if future.status == "finished":
            try:
                found: Outcome = future.result(timeout=30)
                return found
            except Exception as error:
                return Outcome("lost", _first_line(error))
        if future.status == "error":
            raised = future.exception()
            if isinstance(raised, self._dask.scheduler.KilledWorker):
                told = "its worker was lost again and again: by a kill, or for want of memory"
                return Outcome("failed", told)
            return Outcome("failed", f"{type(raised).__name__}: {_first_line(raised)}")
        return Outcome("lost", "the scheduler was lost")

    def _come_back(self) -> list[tuple[Point, Outcome]]:
        """Wait for the scheduler; what was running is lost with it."""
        if self._cluster is not None:
            raise OSError("the local workers' scheduler ended; the same command goes on from here")
        print(f"the scheduler at {self._scheduler} is gone; waiting for it to return", flush=True)
        until = time.monotonic() + RETURN
        with suppress(Exception):
            self._client.close(timeout=2)
        while True:
            try:
                self._client = self._connect()
                break
            except OSError:
                self._stops.obey()
                if time.monotonic() > until:
                    raise OSError(
                        f"the scheduler at {self._scheduler} did not come back; what is finished "
                        "is kept, and the same command goes on from there"
                    ) from None
        self._sweep = uuid.uuid4().hex  # workers that were there before have been told to stop
        lost = [(point, Outcome("lost", "the scheduler was lost")) for point, _ in self._take()]
        self.check([point for point, _ in lost])
        return lost

    def _take(self) -> Iterable[tuple[Point, Any]]:
        taken = list(self._running.values())
        self._running.clear()
        return taken

    def stop(self) -> None:
        """Let running points save and stop; those in the queue are not begun."""
        until = time.monotonic() + SAVING
        while self._running and time.monotonic() < until:
            try:
                self._client.run(stop_points, self._sweep)
                if not self._list_workers():
                    return
            except Exception:  # the scheduler is gone, and the workers with it
                return
            self.wait()

    def close(self) -> None:
        """Give up the workers that were started for this."""
        with suppress(Exception):
            self._client.cancel([future for _, future in self._take()])
        with suppress(Exception):
            self._client.unregister_worker_plugin(f"prunelab-{self._sweep}")
        with suppress(Exception):
            self._client.close(timeout=5)
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close(timeout=20)


# a terminal's Ctrl-C reaches the workers too, and the sweep tells them itself
_DEAF = """
import signal
def dask_setup(worker):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


def _make_saver(sweep: str) -> Any:
    """What lets the points of a worker that is stopped, by a batch scheduler say, save."""
    from distributed import WorkerPlugin

    class Saver(WorkerPlugin):
        name = f"prunelab-{sweep}"

        async def teardown(self, worker: Any) -> None:
            until = time.monotonic() + CLOSING
            while stop_points(sweep) and time.monotonic() < until:
                await asyncio.sleep(0.2)

    return Saver()


def _say_version() -> str:
    return version("prunelab")


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
