"""A sandbox holds what a model's program tries: each test is an attempt to get out or to take too much."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflan_ray.evaluate.sandbox import PYTHON, Finished, Limits, Shell, available, run

MISSING = available()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING.what if MISSING else "")
LIMITS = Limits(seconds=5, memory_mb=256, processes=24, output_bytes=10_000, file_mb=4)
HOG = 'x = bytearray(b"x") * (150 * 2**20); time.sleep(60)'


def python(program: str, limits: Limits = LIMITS) -> Finished:
    return run([PYTHON, "-I", "-"], stdin=program, limits=limits)


@pytest.fixture
def shell() -> Iterator[Shell]:
    machine = Shell(LIMITS)
    yield machine
    machine.close()


def test_a_program_runs_with_its_input_files_and_exit_status() -> None:
    finished = run(
        ["bash", "-c", "cat; cat notes/a.txt; pwd; echo no >&2; exit 3"],
        stdin="in\n",
        limits=LIMITS,
        files={"notes/a.txt": "kept\n"},
    )
    assert finished == Finished(3, "in\nkept\n/work\n", "no\n", False, "")
    assert run(["no-such-program"], limits=LIMITS).returncode == 127
    assert run(["echo", "\ud800\0"], limits=LIMITS).returncode == 127


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", "", "a\0b"])
def test_a_file_stays_in_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        run(["true"], limits=LIMITS, files={path: "x"})


def test_links_lead_nowhere(tmp_path: Path) -> None:
    target = tmp_path / "outside"
    target.write_text("secret")
    finished = run(
        ["bash", "-c", f"ln -s {target} link; cat link; echo gone >link; ln -sf / root; ls root/home"], limits=LIMITS
    )
    assert "secret" not in finished.stdout
    assert target.read_text() == "secret"


def test_an_endless_loop_is_ended() -> None:
    start = time.monotonic()
    finished = python("while True: pass", Limits(seconds=1))
    assert (finished.timed_out, finished.killed) == (True, "time")
    assert time.monotonic() - start < 8


def test_endless_output_is_cut_off() -> None:
    finished = run(["yes"], limits=LIMITS)
    assert (finished.killed, len(finished.stdout)) == ("output", 10_000)


def test_a_memory_hog_fails_alone() -> None:
    assert "MemoryError" in python("x = bytearray(2**30)").stderr
    hogs = f"import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        {HOG}\ntime.sleep(60)"
    assert python(hogs).killed == "memory"


def test_a_fork_bomb_is_held() -> None:
    before = len([name for name in os.listdir("/proc") if name.isdigit()])
    most = before

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, len([name for name in os.listdir("/proc") if name.isdigit()]))

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    finished = run(["bash", "-c", "bomb() { bomb | bomb & }; bomb; sleep 20"], limits=Limits(seconds=2, processes=24))
    done.set()
    watcher.join()
    assert finished.killed in ("time", "processes", "output")
    assert most - before < 200


def test_background_processes_end_with_the_program() -> None:
    start = time.monotonic()
    finished = run(["bash", "-c", "setsid sleep 987654 >/dev/null 2>&1 & sleep 0.1; echo done"], limits=LIMITS)
    assert finished.stdout == "done\n"
    assert time.monotonic() - start < 5
    while any(b"987654" in _command(pid) for pid in os.listdir("/proc") if pid.isdigit()):
        assert time.monotonic() - start < 8  # the kernel ends them a moment after their process 1
        time.sleep(0.05)


def _command(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


def test_the_system_can_not_be_written(tmp_path: Path) -> None:
    program = f"""
import os, shutil
for path in ("/usr/bin/x", "/etc/x", "/x", "/proc/sys/kernel/hostname", "/dev/x", "/bin/x", "{tmp_path}/x"):
    try:
        open(path, "w").write("x"); print("wrote", path)
    except OSError as error:
        pass
for path in ("/usr/bin", "/etc", "/run", "/dev", "/tmp", "/work"):
    shutil.rmtree(path, ignore_errors=True)
print(os.path.exists("/usr/bin/bash"))
"""
    assert python(program).stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


def test_no_large_file() -> None:
    finished = python("open('/work/x', 'wb').write(b'x' * 2**23)")
    assert finished.returncode != 0
    finished = run(["bash", "-c", "for i in 1 2 3 4; do head -c 2M /dev/zero >f$i; done"], limits=LIMITS)
    assert "No space left" in finished.stderr


def test_no_network() -> None:
    program = """
import socket
for address in (("127.0.0.1", 22), ("1.1.1.1", 53), ("example.org", 80)):
    try:
        socket.create_connection(address, timeout=1); print("connected", address)
    except OSError:
        print("no")
"""
    assert python(program).stdout == "no\nno\nno\n"


def test_no_environment_no_capabilities_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_TOKEN", "hunter2")
    finished = run(["bash", "-c", "env; cat /proc/*/environ; grep CapEff /proc/self/status; id -u"], limits=LIMITS)
    assert "hunter2" not in finished.stdout
    assert "CapEff:\t0000000000000000\n1000\n" in finished.stdout
    program = "import os\nprint(sum(name.isdigit() for name in os.listdir('/proc')))"
    assert python(program).stdout == "2\n"


def test_the_parent_can_not_be_killed() -> None:
    finished = run(["bash", "-c", "kill -9 1; kill -9 $PPID; kill -9 -1; echo alive"], limits=LIMITS)
    assert finished.stdout == "alive\n"


def test_set_user_id_programs_give_nothing() -> None:
    assert "root" not in run(["bash", "-c", "su -c whoami </dev/null"], limits=LIMITS).stdout


def test_binary_output_and_strange_input() -> None:
    finished = run(["bash", "-c", "printf '\\377\\000\\001'; cat"], stdin="\ud800\u0000ü", limits=LIMITS)
    assert finished.returncode == 0
    assert finished.stdout.startswith("\ufffd\x00\x01")


def test_a_shell_keeps_its_state(shell: Shell) -> None:
    assert shell.command("cd /tmp; x=5; f() { echo $((x + 1)); }").stdout == ""
    assert shell.command("echo $x $PWD; f").stdout == "5 /tmp\n6\n"
    assert shell.command("false").returncode == 1
    assert shell.command("cat; read line; echo end").stdout == "end\n"
    assert shell.execute(["bash", "-c", "pwd; cat"], stdin="beside").stdout == "/root\nbeside"


def test_a_shell_outlives_what_is_done_to_it(shell: Shell) -> None:
    assert shell.command("echo first; exit 3").stdout == "first\n"
    assert shell.command("echo 'open").returncode != 0
    assert shell.command("if then").returncode != 0
    assert shell.command("kill -9 $$").returncode == -9
    assert shell.command("kill -9 -1").returncode is not None
    assert shell.command("exec 1>&- 2>&- 0<&-; echo lost").stdout == ""
    assert shell.command("kill -9 $$").returncode == -9
    deleted = shell.command("rm -rf /usr/bin /etc /root /home /tmp /work /run /dev 2>/dev/null; echo still")
    assert deleted.stdout == "still\n"
    assert shell.command("\x00\x01\ud800 \udcff").returncode != 0
    assert shell.command("echo back").stdout == "back\n"


@pytest.mark.parametrize(
    "command", ["sleep 60", "while :; do :; done", "trap '' INT TERM; sleep 60", "sleep 60 & wait"]
)
def test_a_command_past_its_time_is_killed(command: str) -> None:
    shell = Shell(Limits(seconds=0.5))
    try:
        assert shell.command(command).timed_out
        assert shell.command("echo next").stdout == "next\n"
    finally:
        shell.close()


def test_a_command_with_endless_output_is_killed(shell: Shell) -> None:
    finished = shell.command("yes")
    assert (finished.killed, len(finished.stdout)) == ("output", 10_000)
    assert shell.command("echo next").stdout == "next\n"


def test_a_bomb_left_in_the_background_is_held(shell: Shell) -> None:
    shell.command("bomb() { bomb | bomb & }; bomb 2>/dev/null")
    time.sleep(0.5)
    finished = shell.command("echo next")
    assert finished.killed or "next" in finished.stdout


def test_a_shell_that_broke_a_bound_says_so(shell: Shell) -> None:
    finished = shell.command(f"for i in 1 2 3 4; do {PYTHON} -c 'import time; {HOG}' & done; wait")
    assert finished.killed == "memory"
    assert shell.command("echo later").killed == "memory"


def test_a_shell_has_a_disk_of_its_own_size(shell: Shell) -> None:
    assert shell.command("mkdir /data && echo x > /data/y && cat /data/y").stdout == "x\n"
    finished = shell.command("for i in $(seq 50); do head -c 3M /dev/zero > /data/$i; sleep 0.02; done")
    assert finished.killed == "disk"


@pytest.mark.skipif(os.geteuid() != 0, reason="Users beside root take a root outside.")
def test_a_shell_has_users_where_its_maker_is_root(shell: Shell) -> None:
    assert shell.many_users
    assert shell.command("useradd -m ada && su ada -c 'touch ~/x; id -un'").stdout == "ada\n"
    assert shell.command("stat -c %U /home/ada/x; touch y; chown ada y; stat -c %U y").stdout == "ada\nada\n"


def test_shells_started_by_a_thread_outlive_it() -> None:
    made: list[Shell] = []
    thread = threading.Thread(target=lambda: made.append(Shell(LIMITS)))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert made[0].command("echo here").stdout == "here\n"
    made[0].close()
