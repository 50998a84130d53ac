"""A browser in a process of its own, spoken to by lines of JSON (:mod:`browsergym_worker`)."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agentflan_ray.evaluate.benchmark import EnvironmentDied

WORKER = Path(__file__).with_name("browsergym_worker.py")


class Page(NamedTuple):
    """What the browser shows; ``error`` says why the last action could not be done."""

    goal: str
    page: str
    url: str
    error: str
    reward: float
    done: bool


class WebSession:
    """One task in one browser. ``python`` is an interpreter that has BrowserGym."""

    def __init__(self, python: str, environment: Mapping[str, str], seconds: float = 120.0) -> None:
        self._seconds = seconds
        try:
            self._process = subprocess.Popen(
                [python, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment},
                start_new_session=True,  # the browser's processes end with it
            )
        except OSError as error:
            raise EnvironmentDied(f"The browser's process could not be started with {python}: {error}") from error
        self._rest = b""
        self._said = b""

    def reset(self, task: str, seed: int) -> Page:
        """Open a task. Raises :class:`EnvironmentDied` where the browser or its process fails."""
        return self._ask({"reset": {"task": task, "seed": seed}})

    def step(self, action: str) -> Page:
        """Do an action, as BrowserGym writes them. Raises :class:`EnvironmentDied`."""
        return self._ask({"step": action})

    def close(self) -> None:
        """End the process and the browser."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self._process.pid, 15)
                self._process.wait(timeout=10)
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what it was asked last and did not read
                    stream.close()

    def _ask(self, message: dict[str, Any]) -> Page:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EnvironmentDied(f"The browser's process has ended: {self._complaint()}") from error
        return Page(**json.loads(self._line()))

    def _line(self) -> bytes:
        """The next line of its answers; what it complains of meanwhile is kept for the error's sentence."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        until = time.monotonic() + self._seconds
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            ready.register(self._process.stderr, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                events = ready.select(max(0.0, until - time.monotonic()))
                if not events:
                    raise EnvironmentDied(f"The browser gave no answer within {self._seconds:g} s.")
                for key, _ in events:
                    piece = os.read(key.fd, 65536)
                    if key.fileobj is self._process.stderr:
                        self._said = (self._said + piece)[-4000:]
                    elif piece:
                        self._rest += piece
                    else:
                        raise EnvironmentDied(f"The browser's process has ended: {self._complaint()}")
                    if not piece:
                        ready.unregister(key.fileobj)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _complaint(self) -> str:
        assert self._process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            self._process.wait(timeout=5)
            self._said += os.read(self._process.stderr.fileno(), 65536)
        lines = self._said.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def has_module(python: str, module: str) -> bool:
    """Whether an interpreter can import a module."""
    try:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def default_python(options: Mapping[str, str]) -> str:
    """The interpreter with BrowserGym: ``browsergym_python`` of the options, else this one."""
    return options.get("browsergym_python", sys.executable)
