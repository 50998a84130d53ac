"""Where a sweep runs, and what it says while it does."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from agentflan_ray import storage
from agentflan_ray.search.evidence import Changed
from agentflan_ray.train.recipe import Placement
from agentflan_ray.train.tracking import Tracking


@dataclass(frozen=True)
class Job:
    """Where a sweep runs and what it is called; none of it changes its outcome."""

    name: str
    storage: str
    command: str
    placement: Placement
    study: str | None = None
    tracking: Tracking | None = None
    """Where the search's trials are written besides their folders."""
    changed: Changed = "refuse"
    """What becomes of a study's trials whose part of the corpus has changed since."""
    console: Console = field(default_factory=Console)

    @property
    def run_uri(self) -> str:
        """Folder of this run."""
        return storage.join(self.storage, "runs", self.name)

    def place(self, *parts: str) -> str:
        """A file or folder of this run."""
        return storage.join(self.run_uri, *parts)

    @property
    def study_place(self) -> str:
        """The study's database: what the user named, or a SQLite file, which must lie on a disk.

        For a run in a bucket it lies in the working folder, where it is fetched to, and is copied to the bucket after
        each trial.
        """
        if self.study:
            return self.study
        if storage.is_local(self.run_uri):
            return storage.join(storage.locate(self.run_uri)[1], "study.db")
        path = Path("runs", self.name, "study.db").absolute()
        if not path.exists() and storage.exists(self.place("study.db")):
            storage.write_bytes(path, storage.read_bytes(self.place("study.db")))
        return str(path)

    def keep_study(self, study: str) -> None:
        """Copy a local SQLite study to the run's bucket, whole, while the search goes on writing to it."""
        if self.study or storage.is_local(self.run_uri):
            return
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(sqlite3.connect(study)) as source:
            with contextlib.closing(sqlite3.connect(f"{folder}/study.db")) as target:
                source.backup(target)
            storage.write_bytes(self.place("study.db"), Path(folder, "study.db").read_bytes())

    def note(self, facts: dict[str, Any]) -> None:
        """Add facts to ``sweep.json``."""
        uri = self.place("sweep.json")
        storage.write_json(uri, {**storage.read_json(uri), **facts})


class Teller:
    """Says what is done, and after how many seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        seconds = f"{time.monotonic() - self._began:6.0f} s  "
        self._console.print(Text.assemble((seconds, "dim"), text), soft_wrap=True)
