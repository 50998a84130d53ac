"""Programs and shell commands that a model wrote, run where they can do no harm.

Bubblewrap gives each sandbox namespaces of its own: no network, no other process in sight, the system's folders
read-only, everything else in memory and gone afterwards, an empty environment. Resource limits bound each process, and
a watch bounds all of them together, so no control group is needed (containers seldom hand them on). Linux only.

As root, a sandbox's users are ids of their own outside (from 1,000,000), so that its root is nobody and the limit on
processes, from which the true root is exempt, holds. As another user, its one user is the caller's.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from agentflan_ray.evaluate.benchmark import EnvironmentDied, Missing

MIB = 2**20
PYTHON = (
    os.path.realpath(sys.executable)
    if sys.base_prefix == "/usr"
    else str(Path("/run/python", Path(os.path.realpath(sys.executable)).relative_to(os.path.realpath(sys.base_prefix))))
)
"""The path, in a sandbox, of this very Python, without the packages of its environment."""

_FIRST_OUTSIDE_ID = 1_000_000
_ADMIN = 65_535
_USER = 1_000
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
_INSIDE = Path(__file__).with_name("sandbox_inside.py")
_SPAWNER = ThreadPoolExecutor(1, thread_name_prefix="sandbox")
"""``--die-with-parent`` means the parent's *thread* (prctl(2), PR_SET_PDEATHSIG), so one that stays starts them all."""

_PASSWD = "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:user:/work:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n"
_GROUP = "root:x:0:\nusers:x:100:\nuser:x:1000:\nnogroup:x:65534:\n"
_SHADOW = "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n"
_VAR = ("cache", "lib", "log", "mail", "spool", "tmp")
_SYSTEM_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "login.defs", "pam.d", "security", "skel")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a sandbox.

    Attributes:
        seconds: Wall-clock time of one program or command.
        memory_mb: Memory of one process (address space), and of all together (what is resident).
        processes: Processes at once.
        output_bytes: Output of one program or command, both streams together; one that writes more is killed.
        file_mb: Size of one file, and of each folder that can be written.
    """

    seconds: float = 10.0
    memory_mb: int = 1024
    processes: int = 32
    output_bytes: int = 65_536
    file_mb: int = 16


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program or command ended.

    ``killed`` is why it was stopped, or empty: ``time``, ``output``, ``memory``, ``processes`` or ``disk``.
    ``returncode`` is negative for a signal.
    """

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool
    killed: str = ""


@cache
def available() -> Missing | None:
    """None where sandboxes work here, found by starting one; else what is missing."""
    if not sys.platform.startswith("linux") or shutil.which("bwrap") is None or shutil.which("prlimit") is None:
        return Missing(
            "Bubblewrap (`bwrap`) and `prlimit` are not installed; programs of a model run only in a sandbox.",
            "On Debian and Ubuntu: `apt-get install bubblewrap util-linux`.",
        )
    try:
        finished = run(["bash", "-c", "echo $((20 + 22))"], limits=Limits())
    except EnvironmentDied as error:
        return Missing(
            f"Bubblewrap is installed but can't make a sandbox here: {error}",
            "It needs user namespaces: in a container, start it with `--security-opt seccomp=unconfined` or as a "
            "privileged one; on Ubuntu 24.04, install its AppArmor profile.",
        )
    if (finished.returncode, finished.stdout) != (0, "42\n"):
        return Missing(f"A sandbox was made, but gave {finished!r} for a sum.", "See `sandbox.py`.")
    return None


def run(argv: Sequence[str], *, stdin: str = "", limits: Limits, files: Mapping[str, str] | None = None) -> Finished:
    """Runs one program as an ordinary user in the empty folder ``/work``, and throws away whatever it made.

    Args:
        argv: The program and its arguments; its name is looked up on ``/usr/local/bin:/usr/bin:/bin``. ``PYTHON`` is
            there too.
        stdin: What it reads.
        limits: Its bounds.
        files: Files made in ``/work`` beforehand, by relative path.

    Raises :class:`EnvironmentDied` where no sandbox could be made, and ``ValueError`` for a path outside ``/work``.
    """
    sandbox = _Sandbox(limits, files or {}, as_root=False)
    try:
        return sandbox.do("run", limits, argv=list(argv), text=stdin)
    finally:
        sandbox.close()


class Shell:
    """A small machine with one bash that keeps its state, and programs beside it.

    Its user is root there: everything but the programs in ``/usr`` can be written (``/usr/local`` can); commands start
    in ``/root``. Where a bound of all processes together is broken, the
    machine ends: the command that was running, and every later one, gives a :class:`Finished` that says so.
    """

    def __init__(self, limits: Limits, files: Mapping[str, str] | None = None) -> None:
        self._limits = limits
        self._sandbox = _Sandbox(limits, files or {}, as_root=True)

    @property
    def many_users(self) -> bool:
        """Whether it has users beside root (``chown``, ``useradd`` and ``su`` work). Takes a root outside."""
        return self._sandbox.switch

    def command(self, text: str) -> Finished:
        """Runs a command in the bash that stays. Both streams are in ``stdout``. Input is empty."""
        return self._sandbox.do("shell", self._limits, command=text)

    def execute(self, argv: Sequence[str], stdin: str = "", seconds: float | None = None) -> Finished:
        """Runs a program beside the bash, as root, in ``/root``."""
        limits = self._limits if seconds is None else replace(self._limits, seconds=seconds)
        return self._sandbox.do("run", limits, argv=list(argv), text=stdin)

    def close(self) -> None:
        """Ends it with all that runs in it."""
        self._sandbox.close()


class _Sandbox:
    """A running bubblewrap whose first process answers requests (:mod:`sandbox_inside`)."""

    def __init__(self, limits: Limits, files: Mapping[str, str], as_root: bool) -> None:
        self.switch = os.geteuid() == 0
        self._ended = ""
        self._buffer = b""
        inside_user = 0 if as_root else _USER
        if as_root:
            folders = ["/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/usr/local", "/var", "/work"]
        else:
            folders = ["/tmp", "/work"]
        below = [
            *(f"/usr/local/{name}" for name in ("bin", "lib", "sbin", "share")),
            *(f"/var/{name}" for name in _VAR),
        ]
        contents = {f"/work/{_relative(path)}": text for path, text in files.items()}
        contents |= {"/etc/passwd": _PASSWD, "/etc/group": _GROUP, "/etc/hosts": "127.0.0.1 localhost\n"}
        if as_root:
            contents |= {"/etc/shadow": _SHADOW}
        argv = _bubblewrap(limits, folders, "/root" if as_root else "/work")
        if as_root:
            argv[0].extend(word for folder in below for word in ("--perms", "0755", "--dir", folder))
            folders = ["/", *folders, *below]
        keep = [*argv[1]]
        try:
            for path, text in contents.items():
                file = _in_memory(text)
                keep.append(file)
                argv[0].extend(["--perms", "0640" if path == "/etc/shadow" else "0644", "--file", str(file), path])
            if not as_root:
                argv[0].extend(["--remount-ro", "/"])
            self._process = self._start(argv[0], keep, inside_user, limits)
        finally:
            for file in keep:
                os.close(file)
        self._send(
            {
                "switch": self.switch,
                "uid": inside_user,
                "folders": [*folders, *(path for path in contents if as_root or path.startswith("/work/"))],
                "home": "/root" if as_root else "/work",
                "memory_mb": limits.memory_mb,
                "processes": limits.processes,
                "file_mb": limits.file_mb,
            }
        )

    def do(self, what: str, limits: Limits, **request: Any) -> Finished:
        """Asks the first process, and gives up 5 s after its own time limit."""
        if self._ended:
            return Finished(-9, "", "", False, self._ended)
        self._send({"do": what, "seconds": limits.seconds, "output_bytes": limits.output_bytes, **request})
        answer = self._receive(limits.seconds + 5)
        if "ended" in answer:
            self._ended = answer["ended"]
            self.close()
            return Finished(-9, "", "", False, self._ended)
        found = answer["answer"]
        return Finished(
            found["returncode"], found["stdout"], found["stderr"], found["killed"] == "time", found["killed"]
        )

    def close(self) -> None:
        """Kills it. Its first process is told by the kernel (``--die-with-parent``), and takes all others along."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert file is not None
            with contextlib.suppress(BrokenPipeError):
                file.close()

    def _start(self, argv: list[str], keep: list[int], user: int, limits: Limits) -> subprocess.Popen[bytes]:
        info_read, info_write = os.pipe()
        block_read, block_write = os.pipe()
        argv += ["--info-fd", str(info_write)]
        if self.switch:
            argv += ["--userns-block-fd", str(block_read), "--cap-drop", "ALL"]
            argv += [word for name in _CAPABILITIES for word in ("--cap-add", f"CAP_{name}")]
        else:
            argv += ["--uid", str(user), "--gid", str(user), "--cap-drop", "ALL"]
        argv += ["--", *_limited(limits), PYTHON, "-I", "-S", "/run/inside.py"]
        try:
            process = _SPAWNER.submit(
                subprocess.Popen,
                argv,
                pass_fds=(*keep, info_write, block_read),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            ).result()
            os.close(info_write)
            info_write = -1
            info = b""
            while chunk := os.read(info_read, 4096):
                info += chunk
                if b"}" in info:
                    break
            if b"}" not in info:
                said = process.communicate()[1]
                raise EnvironmentDied(said.decode("utf-8", "replace").strip())
            if self.switch:
                for kind in ("uid_map", "gid_map"):
                    # Bubblewrap itself, our user 0, is the last id inside; everyone else is nobody outside.
                    Path(f"/proc/{json.loads(info)['child-pid']}/{kind}").write_text(
                        f"0 {_FIRST_OUTSIDE_ID} {_ADMIN}\n{_ADMIN} 0 1\n"
                    )
                os.write(block_write, b"1")
            return process
        except OSError as error:
            raise EnvironmentDied(f"bubblewrap could not be started: {error}") from error
        finally:
            for file in (info_read, info_write, block_read, block_write):
                if file >= 0:
                    os.close(file)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        data = memoryview(json.dumps(message).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):  # what it died of is read next
            while data:
                data = data[self._process.stdin.write(data) :]

    def _receive(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, end - time.monotonic())):
                    return {"ended": "time"}
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    assert self._process.stderr is not None
                    self._process.kill()
                    said = self._process.stderr.read().decode("utf-8", "replace").strip()
                    raise EnvironmentDied(f"The sandbox ended: {said[-500:] or 'no reason given'}")
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _bubblewrap(limits: Limits, folders: Sequence[str], home: str) -> tuple[list[str], list[int]]:
    """The command line up to files and users, and the file descriptors that it names."""
    inside = _in_memory(_INSIDE.read_text(encoding="utf-8"))
    size = str(limits.file_mb * MIB)
    argv = ["bwrap", "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1"]
    argv += ["--hostname", "sandbox", "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
    argv += ["--setenv", "HOME", home, "--setenv", "LANG", "C.UTF-8", "--setenv", "TERM", "dumb"]
    argv += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            argv += ["--ro-bind", str(path), str(path)]
    for folder in folders:
        argv += ["--perms", "1777" if folder == "/tmp" else "0755", "--size", size, "--tmpfs", folder]
    for folder in ("/etc", "/run"):  # else they would be closed to the sandbox's user
        if folder not in folders:
            argv += ["--perms", "0755", "--dir", folder]
    if sys.base_prefix != "/usr":  # elsewhere, for its own place may be private, or hidden by a folder of the sandbox
        argv += ["--ro-bind", os.path.realpath(sys.base_prefix), "/run/python"]
    for name in _SYSTEM_ETC:
        if Path("/etc", name).exists():
            argv += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    argv += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"]
    argv += ["--remount-ro", "/dev", "--perms", "0644", "--file", str(inside), "/run/inside.py", "--chdir", "/"]
    return argv, [inside]


def _limited(limits: Limits) -> list[str]:
    return [
        "prlimit",
        f"--as={limits.memory_mb * MIB}",
        f"--nproc={limits.processes + 8}",  # the first process has threads of its own
        f"--fsize={limits.file_mb * MIB}",
        "--nofile=256",
        "--core=0",
    ]


def _in_memory(text: str) -> int:
    file = os.memfd_create("sandbox")
    with os.fdopen(os.dup(file), "wb") as stream:
        stream.write(text.encode("utf-8", "replace"))
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _relative(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or "\0" in path or parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"A file for the sandbox is named {path!r}; give a relative path without '..'.")
    return str(parts)
