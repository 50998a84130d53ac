"""Jobs that write numbered parts of a folder: the way in which every pass of a build runs on Ray Data.

A job reads its input, writes its files, and last its report ``part-….json``, which says that the part is whole. A
job that was cut off is done again and writes the same bytes; one whose report is there is not run again.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agentflan_ray import storage
from agentflan_ray.corpus.data_context import quiet_data

TASK_JOBS = 8
"""More jobs in a task save nothing to speak of, and are more to do again where a node is lost."""

Report = dict[str, Any]
Work = Callable[[str, str, Any], Report]
"""``work(folder, name, task)`` writes the files of the part ``name`` below ``folder`` and returns its report."""


@dataclass(frozen=True)
class Job:
    """One part to make: its folder, its name, what ``work`` needs to know (JSON), and how much work it is."""

    folder: str
    name: str
    task: Any
    weight: int = 1

    @property
    def report_uri(self) -> str:
        """The file that says that the part is whole."""
        return _report_uri(self.folder, self.name)


def finish(folder: str, name: str, report: Report) -> None:
    """Say that a part is whole: the last thing that is written of it."""
    storage.write_json(_report_uri(folder, name), report)


def _report_uri(folder: str, name: str) -> str:
    return storage.join(folder, f"{name}.json")


def run_jobs(what: str, jobs: Sequence[Job], work: Work, console: Console) -> list[Report]:
    """Run the jobs that are not done yet; the reports of all, in the order of ``jobs``. ``what`` names the pass."""
    done: dict[str, set[str]] = {}
    for job in jobs:
        if job.folder not in done:
            done[job.folder] = set(storage.list_names(job.folder))
    missing = [job for job in jobs if f"{job.name}.json" not in done[job.folder]]
    made = _run(what, missing, work, console) if missing else {}
    return [made.get((job.folder, job.name)) or storage.read_json(job.report_uri) for job in jobs]


def _run(what: str, jobs: Sequence[Job], work: Work, console: Console) -> dict[tuple[str, str], Report]:
    def work_on(batch: pa.Table) -> Iterator[pa.Table]:
        # Records are trees, freed without a search for cycles, which takes 6 % of the time where it runs as often as
        # by default (measured with Python 3.11).
        gc.set_threshold(50_000, 20, 50)
        for row in batch.to_pylist():
            folder, name = row["folder"], row["name"]
            # Ray runs a task again whose node was lost: what it had finished is read.
            if storage.exists(_report_uri(folder, name)):
                report = storage.read_json(_report_uri(folder, name))
            else:
                report = work(folder, name, json.loads(row["task"]))
                finish(folder, name, report)
            yield pa.table({"folder": [folder], "name": [name], "report": [json.dumps(report)]})

    made: dict[tuple[str, str], Report] = {}
    if not console.is_terminal:
        console.print(f"{what}: {len(jobs)} parts")
    with quiet_data(), counting_bar(console) as progress:
        bar = progress.add_task(what, total=len(jobs))
        blocks = [
            pa.table({name: [getattr(job, name) for job in several] for name in ("folder", "name")}).append_column(
                "task", pa.array([json.dumps(job.task) for job in several])
            )
            for several in _dealt(jobs, int(ray.cluster_resources().get("CPU", 1)))
        ]
        dataset = ray.data.from_arrow(blocks).map_batches(work_on, batch_format="pyarrow", batch_size=None)
        for batch in dataset.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0):
            for row in batch.to_pylist():
                made[row["folder"], row["name"]] = json.loads(row["report"])
                progress.advance(bar)
    return made


def counting_bar(console: Console) -> Progress:
    """A bar that counts what is done of a task, gone when it is; nothing where the console is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _dealt(jobs: Sequence[Job], num_cpus: int) -> Iterator[list[Job]]:
    """The jobs as tasks of Ray Data, which starts the next one about 0.1 s after one has ended (Ray 2.60).

    So a task has several jobs, the largest first, but never more than half of a fair share of what is left: no worker
    is left alone at the end.
    """
    ordered = sorted(jobs, key=lambda job: -job.weight)
    left = sum(job.weight for job in ordered)
    several: list[Job] = []
    weight = 0
    for job in ordered:
        if several and (weight + job.weight > left / (2 * num_cpus) or len(several) == TASK_JOBS):
            yield several
            left -= weight
            several, weight = [], 0
        several.append(job)
        weight += job.weight
    if several:
        yield several
