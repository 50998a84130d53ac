"""Episodes that were run, one a line, so that a repeated or interrupted evaluation pays only for what is new.

A file belongs to one model, engine and benchmark (:func:`run_fingerprint` names it); a line to one item and its data.
Lines are only ever added. A line that was cut off by a crash is no episode and is passed over.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agentflan_ray.evaluate.benchmark import Benchmark, Item, Reply, Request, Sample
from agentflan_ray.storage import fingerprint

LAYOUT = 1
"""Of the lines. Files of another layout have other names."""


def run_fingerprint(engine: Mapping[str, Any], benchmark: Benchmark) -> str:
    """What identifies a model's run on a benchmark: the engine's identity and the benchmark's."""
    return fingerprint([LAYOUT, dict(engine), benchmark.name, dict(benchmark.identity)])


def item_fingerprint(item: Item) -> str:
    """What identifies an item: its id and its data."""
    # As ASCII: published data may hold half a surrogate pair.
    return fingerprint(json.dumps([item.id, item.group, item.case, dict(item.data)], sort_keys=True))


class Episodes:
    """The episodes of one file; ``found`` scores those that are there, :meth:`add` appends one.

    Threads of one process may add; each line is written with one call, so that two processes do not mix theirs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stored: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                if (row := _row(line)) is not None:
                    self._stored[row["item"]] = row

    def __len__(self) -> int:
        return len(self._stored)

    def find(self, benchmark: Benchmark, item: Item) -> Sample | None:
        """The item's episode, scored now; None where it was never run or ended as an error."""
        row = self._stored.get(item_fingerprint(item))
        if row is None or row["error"] is not None:
            return None
        scores = benchmark.score(item, row["outcome"])
        return Sample(item, turns_from_json(row["turns"]), row["outcome"], scores, row["seconds"])

    def add(self, sample: Sample) -> None:
        """Append the episode and see that it reaches the disk's cache before this returns."""
        key = item_fingerprint(sample.item)
        row = {
            "item": key,
            "id": sample.item.id,
            "turns": turns_to_json(sample.turns),
            "outcome": dict(sample.outcome),
            "seconds": sample.seconds,
            "error": sample.error,
        }
        # Escaped to ASCII, so that a reply with half a surrogate pair can be written too.
        line = json.dumps(row).encode() + b"\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell() and not _ends_whole(self.path):
                    line = b"\n" + line  # after a torn line
                file.write(line)
            self._stored[key] = row


def turns_to_json(turns: Sequence[tuple[Request, Reply]]) -> list[dict[str, Any]]:
    """Turns as JSON values. A request that goes on where the last one ended stores what it adds: ``kept`` messages of
    it are those of the last one."""
    rows: list[dict[str, Any]] = []
    last: tuple[Mapping[str, str], ...] = ()
    for request, reply in turns:
        kept = 0
        while kept < min(len(last), len(request.messages)) and last[kept] == request.messages[kept]:
            kept += 1
        asked = {**asdict(request), "messages": [dict(message) for message in request.messages[kept:]]}
        rows.append({"kept": kept, "request": asked, "reply": asdict(reply)})
        last = request.messages
    return rows


def turns_from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[Request, Reply], ...]:
    """The turns that :func:`turns_to_json` wrote."""
    turns: list[tuple[Request, Reply]] = []
    last: tuple[Mapping[str, str], ...] = ()
    for row in rows:
        asked, said = dict(row["request"]), dict(row["reply"])
        last = (*last[: row["kept"]], *asked.pop("messages"))
        request = Request(messages=last, **{name: _tuple(value) for name, value in asked.items()})
        turns.append((request, Reply(**{name: _tuple(value) for name, value in said.items()})))
    return tuple(turns)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "item" in row else None


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
