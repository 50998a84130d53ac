"""The first process inside the sandbox: runs what the outside asks for, within limits. See :mod:`sandbox`.

It is handed to the sandbox's own Python as a file, so it imports the standard library only. Requests come as JSON lines
on its input, answers go as JSON lines to its output. As process 1 of its namespace it can't be killed from inside, and
as it can't be dumped, no other process without ``CAP_SYS_PTRACE`` reaches its memory or files.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.05
MIB = 2**20


class Inside:
    """What the outside's requests do."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._identity: dict[str, Any] = {}
        if settings["switch"]:
            self._identity = {"user": settings["uid"], "group": settings["uid"], "extra_groups": []}
            for folder in settings["folders"]:
                os.chown(folder, settings["uid"], settings["uid"])
        self._home = settings["home"]
        self._memory = settings["memory_mb"] * MIB
        self._processes = settings["processes"]
        self._disk = settings["file_mb"] * MIB
        self._bash: subprocess.Popen[bytes] | None = None
        self._done = -1

    def watch(self) -> None:
        """Ends the sandbox where all processes together go past the limits of one. Runs in a thread of its own.

        ``RLIMIT_NPROC`` holds for each user and ``RLIMIT_AS`` for each process; this holds for their sum.
        """
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            pids = [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]
            memory = 0
            for pid in pids[: self._processes + 8]:
                with contextlib.suppress(OSError), open(f"/proc/{pid}/statm") as file:
                    _, resident, shared = file.read().split()[:3]
                    memory += (int(resident) - int(shared)) * page
            root = os.statvfs("/")  # the one folder in memory that Bubblewrap gives no size
            why = ""
            if len(pids) > self._processes + 8:
                why = "processes"
            elif memory > self._memory:
                why = "memory"
            elif (root.f_blocks - root.f_bfree) * root.f_frsize > self._disk:
                why = "disk"
            if why:
                os.write(1, json.dumps({"ended": why}).encode() + b"\n")
                os._exit(0)
            time.sleep(POLL_SECONDS)

    def run(self, argv: list[str], text: str, seconds: float, output_bytes: int) -> dict[str, Any]:
        """One program to its end; what it leaves behind is killed."""
        with tempfile.TemporaryFile(dir="/dev/shm") as stdin:
            stdin.write(text.encode("utf-8", "replace"))
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self._home,
                    start_new_session=True,
                    **self._identity,
                )
            except (OSError, ValueError) as error:  # no such program, or arguments that no program can have
                return {"returncode": 127, "stdout": "", "stderr": f"{argv[0]!r}: {error}", "killed": ""}
        assert process.stdout is not None
        assert process.stderr is not None
        kept, why = _read(
            [process.stdout.fileno(), process.stderr.fileno()],
            lambda: process.poll() is not None,
            seconds,
            output_bytes,
        )
        if why:
            _kill_descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        out, err = (data.decode("utf-8", "replace") for data in kept)
        return {"returncode": process.returncode, "stdout": out, "stderr": err, "killed": why}

    def shell(self, command: str, seconds: float, output_bytes: int) -> dict[str, Any]:
        """One command in the bash that stays. Where it must be killed with its bash, the next has a new one."""
        bash = self._bash if self._bash is not None and self._bash.poll() is None else self._start_bash()
        assert bash.stdin is not None
        assert bash.stdout is not None
        token = secrets.token_hex(8)
        quoted = "'" + command.replace("\0", "").replace("'", "'\\''") + "'"
        # The command sees no input, and not the pipe that says when it is done: it can't eat the next command.
        line = f"eval {quoted} </dev/null {self._mark}>&-\nprintf '%s %s\\n' {token} $? >&{self._mark}\n"
        seen = bytearray()

        def done() -> bool:
            with contextlib.suppress(BlockingIOError):
                seen.extend(os.read(self._done, 4096))
            return token.encode() in seen or bash.poll() is not None

        feeder = threading.Thread(target=_feed, args=(bash.stdin, line.encode("utf-8", "replace")), daemon=True)
        feeder.start()
        kept, why = _read([bash.stdout.fileno()], done, seconds, output_bytes)
        if why:
            _kill_descendants(bash.pid)
            end = time.monotonic() + 0.5
            while not done() and time.monotonic() < end:
                time.sleep(0.01)
                with contextlib.suppress(BlockingIOError):
                    os.read(bash.stdout.fileno(), MIB)
            if token.encode() not in seen:
                bash.kill()
                bash.wait()
            time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):  # bash's own word on what was killed
                os.read(bash.stdout.fileno(), MIB)
        feeder.join(1)
        words = bytes(seen).split()
        status = int(words[words.index(token.encode()) + 1]) if token.encode() in words else bash.poll()
        return {"returncode": status, "stdout": kept[0].decode("utf-8", "replace"), "stderr": "", "killed": why}

    def _start_bash(self) -> subprocess.Popen[bytes]:
        if self._done >= 0:
            os.close(self._done)
        self._done, self._mark = os.pipe()
        os.set_blocking(self._done, False)
        self._bash = subprocess.Popen(
            ["bash", "--login"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._home,
            pass_fds=(self._mark,),
            start_new_session=True,
            **self._identity,
        )
        os.close(self._mark)
        return self._bash

    def reap(self) -> None:
        """Takes the orphans that ended, as process 1 must."""
        known = self._bash.pid if self._bash is not None and self._bash.poll() is None else 0
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid == known:
                    return
                os.waitpid(found.si_pid, os.WNOHANG)


def _feed(stdin: Any, data: bytes) -> None:
    with contextlib.suppress(OSError):
        stdin.write(data)
        stdin.flush()


def _read(files: list[int], done: Callable[[], bool], seconds: float, output_bytes: int) -> tuple[list[bytes], str]:
    """What comes from ``files`` until ``done()``, and why it was cut off, if it was: ``time`` or ``output``."""
    kept = {file: bytearray() for file in files}
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for file in files:
            os.set_blocking(file, False)
            selector.register(file, selectors.EVENT_READ)
        finished, why, wait = False, "", 0.001
        while not why:
            ready = selector.select(0 if finished else wait) if selector.get_map() else []
            if not selector.get_map() and not finished:
                time.sleep(wait)
            wait = min(2 * wait, POLL_SECONDS)
            for key, _ in ready:
                try:
                    data = os.read(key.fd, 65536)
                except BlockingIOError:
                    continue
                if data:
                    kept[key.fd] += data
                else:
                    selector.unregister(key.fd)
            if sum(map(len, kept.values())) > output_bytes:
                why = "output"
            elif finished and not ready:
                break
            elif time.monotonic() > end:
                why = "time"
            finished = finished or done()
    return [bytes(data[:output_bytes]) for data in kept.values()], why


def _kill_descendants(top: int) -> None:
    """Kills all processes below ``top`` (children of one that ended are found by their session)."""
    while True:
        parents: dict[int, tuple[int, int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                    state, parent, _, session = file.read().rpartition(")")[2].split()[:4]
                    if state != "Z":
                        parents[int(name)] = int(parent), int(session)
        found = [pid for pid, (_, session) in parents.items() if pid not in (1, top) and session == top]
        grown = {top, *found}
        while more := {pid for pid, (parent, _) in parents.items() if parent in grown and pid not in grown}:
            grown |= more
        grown.discard(top)
        if not grown:
            return
        for pid in grown:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def main() -> None:
    """Answers requests until the input ends."""
    set_dumpable, ambient, clear_all = 4, 47, 4
    prctl: Any = ctypes.CDLL(None).prctl
    prctl(set_dumpable, 0, 0, 0, 0)
    prctl(ambient, clear_all, 0, 0, 0)  # else an ordinary user would keep Bubblewrap's capabilities
    inside = Inside(json.loads(sys.stdin.readline()))
    threading.Thread(target=inside.watch, daemon=True).start()
    operations: dict[str, Callable[..., dict[str, Any]]] = {"run": inside.run, "shell": inside.shell}
    for line in sys.stdin:
        request = json.loads(line)
        inside.reap()
        answer = operations[request.pop("do")](**request)
        os.write(1, json.dumps({"answer": answer}).encode() + b"\n")


if __name__ == "__main__":
    main()
