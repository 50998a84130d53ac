"""InterCode: successful Bash and SQL runs (Yang et al. 2023, arXiv 2306.14898), as messages.

Data sheet
    Fields: ``id`` (``ic_bash_*`` or ``ic_sql_*``: which of the two shells it is), ``messages`` (list of ``{role:
    user|assistant, content, loss?}``), ``source`` (``intercode``; the source ``openai_messages`` knows them by it).
    Seen: 3,759 records, 3,748 kept.
    Read: ``[Thought: ..] Action: <command>``, in the ReAct runs ``execute[<command>]`` and ``submit``, as thought and
    call; ``Observation: ..`` as the result. ``submit`` ends the run: its thought is said in plain words.
    Taken out: the observation after the last command, which most records end with: nothing in it can be learnt
    (``meta["trailing_turns_cut"]``).
    Dropped: ``out_of_turns``, runs that the harness ended (11); ``unreadable_action``, a reply without ``Action:``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.actions import Task, Verb
from agentflan_ray.sources.base import Dropped, Source, Where, read_turns, record_id
from agentflan_ray.sources.text_actions import read_messages
from agentflan_ray.trajectory import Trajectory

BASH = Task(
    name="intercode_bash",
    marker="",
    system="You work in a Linux shell to do what the user asks.",
    verbs=(
        Verb(None, r"submit"),
        Verb("bash", r"execute\[(?P<command>.*)\]", "Run commands in the shell."),
        Verb("bash", r"(?P<command>.+)", "Run commands in the shell."),
    ),
)

SQL = Task(
    name="intercode_sql",
    marker="",
    system="You answer questions about a MySQL database by running SQL statements.",
    verbs=(
        Verb(None, r"submit"),
        Verb("execute_sql", r"execute\[(?P<query>.*)\]", "Run one SQL statement and return the raw response."),
        Verb("execute_sql", r"(?P<query>.+)", "Run one SQL statement and return the raw response."),
    ),
)

OUT_OF_TURNS = "EXCEEDED MAX TURNS"
"""What InterCode's own loop writes into a run's last thought when its turns are used up."""


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One InterCode record."""
    identity = record_id(row, where)
    if any(OUT_OF_TURNS in turn.text for turn in read_turns(row, "messages")):
        yield Dropped("out_of_turns", f"Record {identity!r} was ended by the harness, whose words stand as a thought.")
        return
    yield from read_messages(row, identity, SQL if identity.startswith("ic_sql") else BASH, "intercode")


SOURCE = Source("intercode", parse, "InterCode: successful Bash and SQL runs, as messages")
