"""The Ray cluster that this process works on, and where in it a training fits."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence

import ray

from agentflan_ray.search.runner import DRIVER_RESOURCES
from agentflan_ray.train.recipe import Placement

DRIVER_CPU = DRIVER_RESOURCES["CPU"]
"""What a trial's driver takes of the CPU that its worker would have."""


def connect() -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, as it does in a submitted job; else start Ray on this machine.

    ``RAY_ADDRESS=auto`` joins one that runs here already. Without being told, Ray 2.60 would try that by itself, and
    for ten minutes where what ran here was killed.

    Workers' own lines stay in Ray's log folder: progress is told by the driver.
    """
    # Tune 2.60 prints a table of its own beside ours, whatever its verbosity, unless this is set.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # A trial's driver, its training controller and its worker are processes of which only the last takes a CPU; Ray
    # counts them against the CPUs and warns of four times as many.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "8")
    if not ray.is_initialized():
        # The dashboard (on loopback) answers Ray Train's cleaner, which frees what a stopped trial's workers held:
        # without it a trial stopped early keeps its CPUs for ever (Ray 2.60).
        with contextlib.nullcontext("auto") if "RAY_ADDRESS" in os.environ else _address_of_its_own() as address:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=True)


@contextlib.contextmanager
def _address_of_its_own() -> Iterator[str]:
    """What starts Ray here so that its processes know their own cluster from others on the machine.

    Ray Train's cleaner asks for the cluster by its environment. With a second Ray beside it, it finds two (Ray 2.60),
    gives up, and the CPUs of a trial that was stopped early stay taken: the sweep then waits for ever.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"127.0.0.1:{port}"}
    os.environ.update(names)
    try:
        yield "local"
    finally:
        # Only the processes that were started keep them: this one may start another Ray when that one has ended.
        for name in names:
            del os.environ[name]


def placement(
    num_workers: int, cpus_per_worker: float | None, gpus_per_worker: int | None, *, alone: bool = False
) -> Placement:
    """Where a training runs: on GPUs where the cluster has them, unless told otherwise.

    Unless told otherwise a worker has one core less its driver's part, and of a training that is ``alone`` on the
    cluster as many as there are for each.

    Raises ``ValueError`` where GPUs are asked for and the cluster has none.
    """
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    if gpus_per_worker and not has_gpus:
        raise ValueError("A GPU is asked for each worker, but the cluster has none; add a GPU node or leave it out.")
    use_gpu = has_gpus if gpus_per_worker is None else bool(gpus_per_worker)
    if cpus_per_worker is None and alone:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus_per_worker = cores_each([(n.get("CPU", 0), n.get("GPU", 0)) for n in nodes], num_workers, use_gpu=use_gpu)
    return Placement(
        num_workers=num_workers, use_gpu=use_gpu, cpus_per_worker=cpus_per_worker or 1 - DRIVER_CPU / num_workers
    )


def cores_each(nodes: Sequence[tuple[float, float]], num_workers: int, *, use_gpu: bool) -> int | None:
    """The most whole cores that each of some workers can have on nodes of (cores, GPUs); None where they don't fit."""
    for cores in range(int(max((cores for cores, _ in nodes), default=0)), 0, -1):
        room = sum(min(int(each // cores), int(gpus)) if use_gpu else int(each // cores) for each, gpus in nodes)
        if room >= num_workers:
            return cores
    return None
