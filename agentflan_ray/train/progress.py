"""What a training says while it runs: a file of its steps, and a table on the terminal that follows it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train import Checkpoint, UserCallback
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

REFRESH_SECONDS = 0.5

_SHOWN = (
    ("loss", "loss", "{:.4f}"),
    ("validation_loss", "validation loss", "{:.4f}"),
    ("learning_rate", "learning rate", "{:.2e}"),
    ("grad_norm", "gradient norm", "{:.3f}"),
    ("tokens_per_second", "tokens/s", "{:,.0f}"),
    ("mfu", "of the GPU's peak", "{:.1%}"),
    ("memory_gib", "memory, GiB", "{:.2f}"),
)
"""Metric, its name in the table, and how it is written."""


@dataclass
class CurveWriter(UserCallback):  # type: ignore[misc]  # ray is untyped
    """Adds each step's metrics to a file of JSON lines on the machine that the training was started from.

    Ray Train 2.60 runs it in its controller, which stands on that machine, in another process than the terminal's.
    """

    path: str

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """One line; the metrics of all workers are the same but for what each process measured of itself."""
        del run_context, checkpoint
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(metrics[0]) + "\n")


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The steps of a file, each once: a run that went on from a checkpoint repeats what it had done since then."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    rows = [json.loads(line) for line in whole.splitlines()]
    return [row for _, row in sorted({row["step"]: row for row in rows}.items())]


@contextlib.contextmanager
def shown(path: Path, num_steps: int, console: Console) -> Iterator[None]:
    """Follow a training: a live table on a terminal, elsewhere a line for every tenth of the steps."""
    stop = threading.Event()
    follower = _Terminal(num_steps, console) if console.is_terminal else _Lines(num_steps, console)

    def follow() -> None:
        size = 0
        started: set[str] = set()

        def update() -> None:
            rows = read_curve(path)
            for line in map(startup_line, rows):
                if line and line not in started:
                    started.add(line)
                    console.print(line, soft_wrap=True, highlight=False)
            follower.update(rows)

        with follower:
            while not stop.wait(REFRESH_SECONDS):
                if path.exists() and (grown := path.stat().st_size) != size:
                    size = grown
                    update()
            update()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def startup_line(row: dict[str, Any]) -> str:
    """Where the time before a run's first step went, and that of the step; "" for any other step."""
    prefix = "startup_seconds/"
    parts = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
    if not parts:
        return ""
    each = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
    return f"First step after {sum(parts.values()):.1f} s: {each}"


class _Lines:
    def __init__(self, num_steps: int, console: Console) -> None:
        self._num_steps, self._console, self._tenth = num_steps, console, -1
        self._began = time.monotonic()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def update(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        last = rows[-1]
        tenth = 10 * int(last["step"]) // self._num_steps
        if tenth != self._tenth:
            self._tenth = tenth
            values = "  ".join(f"{label} {value}" for label, value in _values(last))
            seconds = time.monotonic() - self._began
            self._console.print(
                f"{seconds:6.0f} s  step {last['step']}/{self._num_steps}  {values}", soft_wrap=True, highlight=False
            )


class _Terminal:
    def __init__(self, num_steps: int, console: Console) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(TextColumn("Training"), *columns, console=console)
        self._task = self._bar.add_task("Training", total=num_steps)
        self._live = Live(self._bar, console=console, refresh_per_second=2)

    def __enter__(self) -> _Terminal:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def update(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._bar.update(self._task, completed=int(rows[-1]["step"]))
            self._live.update(Group(self._bar, step_table(rows)))


def step_table(rows: list[dict[str, Any]]) -> Table:
    """The last step's numbers, and the losses at first, now and on held-out text of each component, and of the explicit
    formats' own tokens and their content."""
    last = rows[-1]
    table = Table.grid(padding=(0, 2))
    for label, value in _values(_latest(rows)):
        table.add_row(label, value)
    losses = Table(box=None)
    for column in ("loss of", "first", "now", "held out"):
        losses.add_column(column, justify="left" if column == "loss of" else "right")
    for prefix in ("loss/", "explicit_loss/"):
        for name in sorted({name for row in rows for name in row if name.startswith(prefix)}):
            series = [row[name] for row in rows if name in row]
            held_out = _latest(rows).get(f"validation_{name}")
            losses.add_row(
                name.partition("/")[2],
                f"{series[0]:.3f}",
                f"{series[-1]:.3f}",
                "" if held_out is None else f"{held_out:.3f}",
            )
    both = Table.grid(padding=(0, 4))
    both.add_row(table, losses)
    both.title = f"Step {last['step']}, {last['supervised_tokens']:,} supervised tokens"
    both.title_justify = "left"
    return both


def _latest(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each metric's last value: validation is not measured at every step."""
    merged: dict[str, Any] = {}
    for row in rows:
        merged |= row
    return merged


def _values(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(label, form.format(row[name])) for name, label, form in _SHOWN if name in row]
