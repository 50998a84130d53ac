"""AgentInstruct: six agent tasks with their own action syntaxes (Zeng et al. 2023, arXiv 2310.12823).

Data sheet
    Fields: ``id`` (text, ``<task>_<number>``), ``conversations`` (list of ``{from: human|gpt, loss, value}`` in the
    release, ``{role: user|assistant, content}`` in re-releases). ``loss`` is null on human turns, false on the canned
    acknowledgement and on the demonstration, true on what the model did; re-releases have no ``loss``.
    Counts published: os 195, db 538, webshop 351, kg 324, alfworld 336, mind2web 122 (1,866).
    The first human turn is the instruction; mind2web has only that turn and one reply.
    Taken out: the instruction (a format description; a sentence without format takes its place), the acknowledgement,
    and the few-shot demonstration of os and kg (paper, section 3.1: everything before the first learnt problem, or
    before the last "new problem" where ``loss`` is missing).
    Dropped: ``unreadable_action``, a reply that is no action of its task. ``nothing_after_demonstration``, nothing is
    left. ``no_action``, an os or db episode that claims a result ("The record has been added") and ran nothing.
    Read: replies as thought and call; the human turn after a call as a tool result; what commits an answer (os
    ``answer(..)``, db ``Action: Answer``, kg ``Final Answer:``) as plain words after the thought; where db
    answers ``["none"]``, its protocol's word for nothing to say, the thought is what is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentflan_ray.sources.actions import Task, Verb, find_task, read_episode
from agentflan_ray.sources.base import (
    Dropped,
    MalformedRecord,
    Source,
    Turn,
    Where,
    known_role,
    read_turns,
    record_id,
)
from agentflan_ray.trajectory import Role, Trajectory

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}

_ACKNOWLEDGEMENT = re.compile(
    r"\s*(ok\.?|ok\. i'll follow your instructions.*|i've understood your instruction.*)\s*", re.IGNORECASE
)

ALFWORLD_VERBS = (
    Verb("go_to", r"go to (?P<place>.+)", "Go to a place."),
    Verb("take", r"(?:take|pick up) (?P<object>.+?) from (?P<place>.+)", "Take an object from a place."),
    Verb("put", r"(?:put|move) (?P<object>.+?) (?:in/on|in|on|to) (?P<place>.+)", "Put an object in or on a place."),
    Verb("open", r"open (?P<place>.+)", "Open a closed place."),
    Verb("close", r"close (?P<place>.+)", "Close an open place."),
    Verb("toggle", r"toggle (?P<object>.+)", "Switch an object on or off."),
    Verb("clean", r"clean (?P<object>.+?) with (?P<place>.+)", "Clean an object at a place such as a sink."),
    Verb("heat", r"heat (?P<object>.+?) with (?P<place>.+)", "Heat an object at a place such as a microwave."),
    Verb("cool", r"cool (?P<object>.+?) with (?P<place>.+)", "Cool an object at a place such as a fridge."),
    Verb("slice", r"slice (?P<object>.+?) with (?P<tool>.+)", "Slice an object with a tool."),
    Verb("examine", r"(?:examine|look at) (?P<object>.+)", "Look closely at an object or a place."),
    Verb("use", r"use (?P<object>.+)", "Use an object, such as a lamp."),
    Verb("inventory", r"inventory", "List what is carried."),
    Verb("look", r"look", "Look around."),
    Verb(None, r"(?P<answer>.*\btask\b.*)"),
)

KG = Task(
    name="kg",
    marker="answers questions based on the knowledge stored in a knowledge base",
    system=(
        "You answer questions from a knowledge base. A query returns a variable, a set of entities numbered from #0; "
        "later queries can use it by its number. Say the number of the variable that holds the answer."
    ),
    verbs=(
        Verb("get_relations", r"get_relations\((?P<variable>.+)\)", "All relations of an entity or a variable."),
        Verb(
            "get_neighbors",
            r"get_neighbors\((?P<variable>.+),\s*(?P<relation>[^,]+)\)",
            "The entities that a relation connects to an entity or a variable.",
        ),
        Verb(
            "intersection",
            r"intersection\((?P<variable1>.+),\s*(?P<variable2>[^,]+)\)",
            "The entities that two variables of one type share.",
        ),
        Verb("get_attributes", r"get_attributes\((?P<variable>.+)\)", "All numerical attributes of a variable."),
        Verb(
            "argmax",
            r"argmax\((?P<variable>.+),\s*(?P<attribute>[^,]+)\)",
            "The entity of a variable with the largest value of an attribute.",
        ),
        Verb(
            "argmin",
            r"argmin\((?P<variable>.+),\s*(?P<attribute>[^,]+)\)",
            "The entity of a variable with the smallest value of an attribute.",
        ),
        Verb("count", r"count\((?P<variable>.+)\)", "The number of entities of a variable."),
        Verb(None, r"Final Answer:\s*(?P<answer>.+)"),
    ),
    action=r"^[ \t]*action[ \t]*:[ \t]*(?:final answer[ \t]*:)?|^(?=[ \t]*final answer[ \t]*:)",
    problem=r"^[ \t]*(?:a new question|question)[ \t]*:[ \t]*",
)

OS = Task(
    name="os",
    marker="I'will play the role of linux(ubuntu) operating system",
    system=(
        "You work in a Linux shell to do what the user asks or to answer a question about the system. "
        "Long outputs are truncated."
    ),
    verbs=(
        Verb("bash", r"bash\s*```(?:bash|sh|shell)?\n(?P<command>.*?)```", "Run commands in the shell."),
        Verb(None, r"answer\((?P<answer>.*)\)"),
        Verb(None, r"finish"),
    ),
    problem=r"my problem is:\s*",
    observation=r"\A\s*the output of the os:\s*",
    must_act=True,
)

DB = Task(
    name="db",
    marker="help me operate a MySQL database with SQL",
    system="You answer questions about a MySQL database, or change it as asked, by running SQL statements.",
    verbs=(
        Verb(
            "execute_sql",
            r"Operation\s*```(?:sql)?\s*(?P<query>.*?)\s*```",
            "Run one SQL statement and return the raw response.",
        ),
        Verb(None, r"Answer\s*Final Answer:\s*(?P<answer>.+)"),
    ),
    must_act=True,
)

ALFWORLD = Task(
    name="alfworld",
    marker="Interact with a household to solve a task",
    system=(
        "You act in a household to reach a goal, one action at a time. "
        '"Nothing happens" means that the action was not possible.'
    ),
    verbs=ALFWORLD_VERBS,
)

WEBSHOP = Task(
    name="webshop",
    marker="You are web shopping",
    system="You shop on a web site as the user asks. Each page shows what can be clicked.",
    verbs=(
        Verb("search", r"search\[(?P<keywords>.*)\]", "Search for products by keywords."),
        Verb("click", r"click\[(?P<value>.*)\]", "Click a button or link of the page."),
    ),
    action=r"^[ \t]*action[ \t]*:\s*",
    label=r"^[ \t]*thought[ \t]*:\s*",
)

MIND2WEB = Task(
    name="mind2web",
    marker="Based on the HTML webpage above, try to complete the following task",
    system="You act on web pages. You name the element to act on by the letter of a choice.",
    verbs=(
        Verb("click", r"(?P<choice>[A-Z])\.\s*Action:\s*CLICK", "Click an element."),
        Verb("type", r"(?P<choice>[A-Z])\.\s*Action:\s*TYPE\s*Value:\s*(?P<value>.+)", "Type text into an element."),
        Verb(
            "select",
            r"(?P<choice>[A-Z])\.\s*Action:\s*SELECT\s*Value:\s*(?P<value>.+)",
            "Select an option of an element.",
        ),
        Verb(None, r"(?P<answer>A\. ?(?:None of the above)?)"),
    ),
    action=r"^[ \t]*answer[ \t]*:[ \t]*",
)

TASKS = (OS, DB, ALFWORLD, WEBSHOP, KG, MIND2WEB)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One AgentInstruct record."""
    return parse_tasks(read_turns(row, "conversations"), record_id(row, where), "agentinstruct", TASKS)


def parse_tasks(
    turns: Sequence[Turn], identity: str, source: str, tasks: Sequence[Task]
) -> Iterator[Trajectory | Dropped]:
    """A conversation whose first turn is the instruction of one of ``tasks``."""
    turns = [Turn(known_role(turn.role, ROLES, index), turn.text, turn.loss) for index, turn in enumerate(turns)]
    if turns and turns[0].role == "system":
        turns = turns[1:]
    if not turns:
        raise MalformedRecord("no_messages", f"Record {identity!r} has no messages.")
    if any(turn.role == "system" for turn in turns):
        raise MalformedRecord("system_not_first", f"Record {identity!r} has a system turn after the first turn.")
    instruction = turns[0].text
    task = find_task(tasks, instruction)
    if task is None:
        raise MalformedRecord(
            "unknown_task",
            f"Record {identity!r} has none of the instructions of {', '.join(task.name for task in tasks)}.",
        )
    start = episode_start(turns, task)
    if start >= len(turns):
        yield Dropped("nothing_after_demonstration", f"Record {identity!r} ends with its demonstration.")
        return
    yield from read_episode(task, instruction, turns[start:], identity, source)


def episode_start(turns: Sequence[Turn], task: Task) -> int:
    """Index of the user turn that states the problem to learn from: after instruction, acknowledgement, demonstration.

    Where turns carry loss flags, it is the user turn before the first learnt reply. Where they carry none, it is the
    last user turn that introduces a problem. ``len(turns)`` where there is none.
    """
    flagged = any(turn.loss is not None for turn in turns if turn.role == "assistant")
    if flagged:
        learnt = [index for index, turn in enumerate(turns) if turn.role == "assistant" and turn.loss]
        users = [index for index in range(learnt[0]) if turns[index].role == "user"] if learnt else []
        return users[-1] if users else len(turns)
    users = [index for index, turn in enumerate(turns) if turn.role == "user"]
    introduced = [index for index in users if task.introduces(turns[index].text)]
    if introduced:
        return introduced[-1]
    acknowledged = len(turns) > 1 and _ACKNOWLEDGEMENT.fullmatch(turns[1].text) is not None
    return next((index for index in users if index >= (2 if acknowledged else 0)), len(turns))


SOURCE = Source("agentinstruct", parse, "AgentInstruct: os, db, alfworld, webshop, kg, mind2web conversations")
