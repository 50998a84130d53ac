"""Jobs that write numbered parts of a folder: the way in which every pass of a build runs on Ray Data.

A job reads its input, writes its files, and last its report ``part-….json``, which says that the part is whole. A
job that was cut off is done again and writes the same bytes; one whose report is there is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agentflan_ray import storage
from agentflan_ray.corpus.data_context import quiet_data

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
        return storage.join(self.folder, f"{self.name}.json")


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
    # The largest first, so that none of them is left running alone at the end.
    ordered = sorted(jobs, key=lambda job: -job.weight)
    rows = [pa.table({"folder": [job.folder], "name": [job.name], "task": [json.dumps(job.task)]}) for job in ordered]

    def work_on(batch: pa.Table) -> pa.Table:
        reports = []
        for row in batch.to_pylist():
            report = work(row["folder"], row["name"], json.loads(row["task"]))
            storage.write_json(storage.join(row["folder"], f"{row['name']}.json"), report)
            reports.append(json.dumps(report))
        return batch.drop_columns(["task"]).append_column("report", pa.array(reports, pa.string()))

    made: dict[tuple[str, str], Report] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    if not console.is_terminal:
        console.print(f"{what}: {len(jobs)} parts")
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with quiet_data(), shown as progress:
        bar = progress.add_task(what, total=len(jobs))
        dataset = ray.data.from_arrow(rows).map_batches(work_on, batch_format="pyarrow", batch_size=None)
        for batch in dataset.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0):
            for row in batch.to_pylist():
                made[row["folder"], row["name"]] = json.loads(row["report"])
                progress.advance(bar)
    return made
