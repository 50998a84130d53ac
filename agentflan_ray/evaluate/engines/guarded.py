"""Runs a command, and ends its process group when the process that asked for it is gone.

A program that is killed can't end what it started, and a server would keep its GPUs for ever. Started as a script (``-I
-S``) in a session of its own: nothing of this project is imported, so that it takes a few megabytes.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

POLL_SECONDS = 1.0
END_SECONDS = 30.0


def main() -> int:
    """Run ``sys.argv[1:]``; the exit status is the command's."""
    # The group's signal is for the command; a handler, as what is ignored would be ignored by the command, too.
    signal.signal(signal.SIGTERM, lambda *_: None)
    asked_by = os.getppid()
    process = subprocess.Popen(sys.argv[1:])
    while process.poll() is None:
        if os.getppid() != asked_by:
            os.killpg(0, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            os.killpg(0, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main())
