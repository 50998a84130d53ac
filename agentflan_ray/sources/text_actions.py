"""Message data sets whose replies act in their own words and list no tools: InterCode, KnowAgent, FireAct.

Data sheet
    Fields: ``messages`` (list of ``{role: user|assistant, content, loss?}``), ``id``, ``source``.
    intercode (Yang et al. 2023): ``ic_bash_*`` and ``ic_sql_*``, replies ``[Thought: ..] Action: <command>``, in the
    react runs ``execute[<command>]`` and ``submit``; observations ``Observation: ..``. 3,759 seen; most end with the
    observation of the last command, which is cut.
    knowagent_alfworld (Zhu et al. 2024): ``Think: ..`` lines, ``ActionPath: ..`` lines (a record of the actions so
    far; taken out), and the action in ALFWorld's words as the last line. 316 seen.
    fireact (Chen et al. 2023): ``Thought: .. Action: search[..] | finish[..]``; no ids. 2,063 seen.
    Dropped: ``unreadable_action``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.actions import Task, Verb, read_episode
from agentflan_ray.sources.agentinstruct import ALFWORLD, ALFWORLD_VERBS
from agentflan_ray.sources.base import Dropped, MalformedRecord, Source, Turn, Where, known_role, read_turns, record_id
from agentflan_ray.trajectory import Role, Trajectory

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant"}

INTERCODE_BASH = Task(
    name="intercode_bash",
    marker="",
    system="You work in a Linux shell to do what the user asks.",
    verbs=(
        Verb(None, r"submit"),
        Verb("bash", r"execute\[(?P<command>.*)\]", "Run commands in the shell."),
        Verb("bash", r"(?P<command>.+)", "Run commands in the shell."),
    ),
)

INTERCODE_SQL = Task(
    name="intercode_sql",
    marker="",
    system="You answer questions about a MySQL database by running SQL statements.",
    verbs=(
        Verb(None, r"submit"),
        Verb("execute_sql", r"execute\[(?P<query>.*)\]", "Run one SQL statement and return the raw response."),
        Verb("execute_sql", r"(?P<query>.+)", "Run one SQL statement and return the raw response."),
    ),
)

KNOWAGENT = Task(
    name="alfworld",
    marker="",
    system=ALFWORLD.system,
    verbs=ALFWORLD_VERBS,
    action=r"^(?=[^\n]*\Z)",
    label=r"^actionpath:[^\n]*\n?|^think:[ \t]*",
)

FIREACT = Task(
    name="search",
    marker="",
    system="You answer questions. You can search the web.",
    verbs=(
        Verb("search", r"search\[(?P<query>.*)\]", "Search the web; returns the best matching passage."),
        Verb(None, r"finish\[(?P<answer>.*)\]"),
    ),
    problem=r"\Aquestion:\s*",
)

DATA_SETS = ("intercode", "knowagent_alfworld", "fireact")
"""Values of ``source`` that are read here."""


def parse_text_actions(row: dict[str, Any], where: Where, source: str) -> Iterator[Trajectory | Dropped]:
    """One record of the data set ``source``."""
    identity = record_id(row, where)
    turns = [
        Turn(known_role(turn.role, _ROLES, index), turn.text, turn.loss)
        for index, turn in enumerate(read_turns(row, "messages"))
    ]
    if not turns or turns[0].role != "user":
        raise MalformedRecord("no_user_first", f"Record {identity!r} must start with a user message.")
    yield from read_episode(_task(source, identity), "", turns, identity, source)


def parse_fireact(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One FireAct record in its messages form."""
    return parse_text_actions(row, where, "fireact")


def _task(source: str, identity: str) -> Task:
    if source == "intercode":
        return INTERCODE_SQL if identity.startswith("ic_sql") else INTERCODE_BASH
    return KNOWAGENT if source == "knowagent_alfworld" else FIREACT


SOURCE = Source("fireact", parse_fireact, "FireAct search and finish trajectories, messages form")
