"""ScienceWorld simulators: one Java machine each, used by one episode at a time and kept for the next."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from agentflan_ray.evaluate.benchmark import EnvironmentDied

Value = TypeVar("Value")

JAVA_OPTIONS = "-Xmx768m -XX:+UseSerialGC -XX:ActiveProcessorCount=1"
"""Java takes a quarter of the memory by default, and grew to 4 GB on gold paths; with these it stayed below 0.4 GB."""

ENVIRONMENT_GIB = 0.5
"""Memory of one, with room."""

STALL_SECONDS = 300.0
"""A call that takes longer ends its simulator. A step takes milliseconds, loading a task seconds."""

_EPISODES_OF_ONE = 100
_starting = threading.Lock()


class Simulator:
    """One simulator. Whatever breaks in it is :class:`EnvironmentDied`, and ends it."""

    def __init__(self) -> None:
        self.episodes = 0
        self.alive = True
        self._environment: Any = None
        self._environment = self._start()

    def begin(self, task: str, variation: int, simplifications: str, gold: bool = False) -> tuple[str, str]:
        """Loads a variation; its first view and its task description."""
        self.episodes += 1

        def load() -> tuple[str, str]:
            self._environment.load(task, variation, simplifications, generateGoldPath=gold)
            self._environment.server.reset()
            return str(self._environment.server.step("look around")), str(self._environment.taskdescription())

        return self._guarded(load)

    def step(self, action: str) -> str:
        """Does an action. ``ScienceWorldEnv.step`` would list all possible actions besides, for 7 times the time."""
        return self._guarded(lambda: str(self._environment.server.step(action)))

    def score(self) -> int:
        """The score, 0 to 100, or negative after a wrong focus."""
        return self._guarded(lambda: round(100 * float(self._environment.server.getScore())))

    def completed(self) -> bool:
        """Whether the simulator says that the task has ended."""
        return self._guarded(lambda: bool(self._environment.server.getCompleted()))

    def moves(self) -> int:
        """Actions that counted; looking around and what is not understood does not."""
        return self._guarded(lambda: int(self._environment.get_num_moves()))

    def look(self) -> str:
        """The view, for free."""
        return self._guarded(lambda: str(self._environment.look()))

    def inventory(self) -> str:
        """What the agent carries, for free."""
        return self._guarded(lambda: str(self._environment.inventory()))

    def possible_actions(self) -> set[str]:
        """All actions that the simulator understands now; 0.1 to 0.2 s."""
        return self._guarded(lambda: {str(each) for each in self._environment.get_valid_action_object_combinations()})

    def gold(self) -> list[str]:
        """The gold path, where it was begun with one."""
        return self._guarded(lambda: [str(each) for each in self._environment.get_gold_action_sequence()])

    def close(self) -> None:
        """Ends its Java machine."""
        self.alive = False
        process = self._environment._gateway.java_process
        with suppress(Exception):  # it may be gone in any state
            self._environment.close()
        with suppress(Exception):
            process.kill()
            process.wait(5)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _start(self) -> Any:
        from scienceworld import ScienceWorldEnv

        with _starting:  # the only way to hand Java its options: ScienceWorldEnv 1.2.3 takes none
            before = os.environ.get("JAVA_TOOL_OPTIONS")
            os.environ["JAVA_TOOL_OPTIONS"] = before or JAVA_OPTIONS
            try:
                return self._guarded(lambda: ScienceWorldEnv("", envStepLimit=10**6))
            finally:
                if before is None:
                    del os.environ["JAVA_TOOL_OPTIONS"]

    def _guarded(self, call: Callable[[], Value]) -> Value:
        from py4j.protocol import Py4JError

        # py4j 0.10 waits without end for a Java machine that hangs; once that is killed, the call raises.
        watch = threading.Timer(STALL_SECONDS, self._kill)
        watch.daemon = True
        watch.start()
        try:
            return call()
        except (Py4JError, OSError) as error:
            self.alive = False
            raise EnvironmentDied(f"The ScienceWorld simulator broke: {error}") from error
        finally:
            watch.cancel()

    def _kill(self) -> None:
        if self._environment is not None:
            self._environment._gateway.java_process.kill()


class SimulatorPool:
    """Simulators that wait for an episode. There are as many as episodes run at once (``ENVIRONMENT_GIB``)."""

    def __init__(self, make: Callable[[], Simulator] = Simulator) -> None:
        self._make = make
        self._idle: list[Simulator] = []
        self._lock = threading.Lock()

    def take(self) -> Simulator:
        """One that is free, or a new one (3 to 5 s)."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._make()

    def give_back(self, simulator: Simulator) -> None:
        """For the next episode; a broken or old one is ended."""
        if simulator.alive and simulator.episodes < _EPISODES_OF_ONE:
            with self._lock:
                self._idle.append(simulator)
        else:
            simulator.close()

    def close(self) -> None:
        """Ends those that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for simulator in idle:
            simulator.close()
