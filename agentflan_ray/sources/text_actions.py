"""What message data sets share whose replies act in their own words and list no tools: InterCode, KnowAgent, FireAct.

Their records are ``messages`` (list of ``{role: user|assistant, content, loss?}``) and, in some, ``id`` and ``source``.
The tools that a reply calls are those of a :class:`~agentflan_ray.sources.actions.Task`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.actions import Task, read_episode
from agentflan_ray.sources.base import Dropped, MalformedRecord, Turn, known_role, read_turns
from agentflan_ray.trajectory import Role, Trajectory

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant"}


def read_messages(row: dict[str, Any], identity: str, task: Task, source: str) -> Iterator[Trajectory | Dropped]:
    """One record of messages as an episode of ``task``."""
    turns = [
        Turn(known_role(turn.role, _ROLES, index), turn.text, turn.loss)
        for index, turn in enumerate(read_turns(row, "messages"))
    ]
    if not turns or turns[0].role != "user":
        raise MalformedRecord("no_user_first", f"Record {identity!r} must start with a user message.")
    yield from read_episode(task, "", turns, identity, source)
