"""AgentTraj-L: ReAct trajectories of ten environments (AgentGym, Xi et al. 2024, arXiv 2406.04151).

Data sheet
    Fields read: ``item_id`` (text) and ``conversations`` as in AgentInstruct, with ``loss`` on every assistant turn.
    Not read: ``prompt``, ``ability``, ``reward_model``, ``extra_info``: the conversation again, for reinforcement
    learning. ``item_id`` names the environment's item, not the record: of 377 records whose item came before, 173 are
    the same conversation in another split and 204 are other ways through the same maze. So the id is the item's with a
    hash of the conversation: copies get the same id, others do not.
    Seen (OpenManus-RL parquet): babyai 830, maze 245, movie 235, sciworld 20, sqlgym 20, textcraft 394, todo 155,
    weather 331, webshop 413, wordle 996.
    Taken out: instruction and acknowledgement as in AgentInstruct, and talk about the format inside user turns.
    Dropped: ``unreadable_action``, 51 seen: 22 babyai replies (several actions at once, or "turn around"), 24 weather
    answers that are sums never worked out (``{"answer": 11.3 - 3.9}``), 4 textcraft, 1 webshop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.actions import Task, Verb
from agentflan_ray.sources.agentinstruct import WEBSHOP, parse_tasks
from agentflan_ray.sources.base import Dropped, Source, Where, read_turns, record_id
from agentflan_ray.trajectory import Trajectory

_ACTION = r"^[ \t]*action[ \t]*:\s*"
_LABEL = r"^[ \t]*thought[ \t]*:\s*"

BABYAI = Task(
    name="babyai",
    marker="You are an exploration master",
    system="You explore rooms of a grid world to reach a goal, one action at a time.",
    verbs=(
        Verb("turn", r"turn (?P<direction>left|right)", "Turn left or right."),
        Verb("move_forward", r"move forward", "Go one step forward."),
        Verb("go_to", r"go to (?P<object>[^\n]+)", "Go to an object."),
        Verb("pick_up", r"pick ?up (?P<object>[^\n]+)", "Pick up an object."),
        Verb("drop", r"drop", "Drop what is carried."),
        Verb("toggle_and_go_through", r"toggle and go through (?P<door>[^\n]+)", "Open a closed door and go through."),
        Verb("go_through", r"go through (?P<door>[^\n]+)", "Go through an open door."),
        Verb("toggle", r"toggle", "Open or close the door right in front."),
        Verb("check_available_actions", r"check available actions", "List the actions that are possible now."),
    ),
    action=_ACTION,
    label=_LABEL,
)

MAZE = Task(
    name="maze",
    marker="You are an expert maze solver",
    system="You walk through a maze to its goal in as few steps as possible.",
    verbs=(Verb("move", r"move (?P<direction>up|down|left|right)", "Go one step."),),
    action=_ACTION,
    label=_LABEL,
    noise=r"Here is an example\..*?now let's start a new game\.|Return your action and your thought in the format.*?\.",
)

SCIWORLD = Task(
    name="sciworld",
    marker="You are an agent for science world",
    system="You do science tasks in a house with a workshop, one action at a time.",
    verbs=(
        Verb("open", r"open (?P<object>.+)", "Open a container or door."),
        Verb("close", r"close (?P<object>.+)", "Close a container or door."),
        Verb("activate", r"activate (?P<object>.+)", "Switch a device on."),
        Verb("deactivate", r"deactivate (?P<object>.+)", "Switch a device off."),
        Verb("connect", r"connect (?P<object>.+) to (?P<target>.+)", "Connect electrical components."),
        Verb("disconnect", r"disconnect (?P<object>.+)", "Disconnect electrical components."),
        Verb("use_on", r"use (?P<object>.+?) on (?P<target>.+)", "Use a device on something."),
        Verb("use", r"use (?P<object>.+)", "Use a device or item."),
        Verb("look_around", r"look(?: around)?", "Describe the room."),
        Verb("look_in", r"look in (?P<object>.+)", "Describe what a container holds."),
        Verb("look_at", r"(?:look at|examine) (?P<object>.+)", "Describe an object in detail."),
        Verb("read", r"read (?P<object>.+)", "Read a note or book."),
        Verb("move", r"move (?P<object>.+?) to (?P<target>.+)", "Move an object to a container."),
        Verb("pick_up", r"pick up (?P<object>.+)", "Move an object to the inventory."),
        Verb("put_down", r"(?:put down|drop) (?P<object>.+)", "Drop an object."),
        Verb("pour", r"pour (?P<object>.+) into (?P<target>.+)", "Pour a liquid into a container."),
        Verb("dunk", r"dunk (?P<object>.+) into (?P<target>.+)", "Dunk a container into a liquid."),
        Verb("mix", r"mix (?P<object>.+)", "Mix what a container holds."),
        Verb("go_to", r"(?:go to|go) (?P<place>.+)", "Go to a place."),
        Verb("eat", r"eat (?P<object>.+)", "Eat food."),
        Verb("flush", r"flush (?P<object>.+)", "Flush a toilet."),
        Verb("focus_on", r"focus on (?P<object>.+)", "Say that an object is the one the task is about."),
        Verb("wait", r"wait", "Do nothing for 10 steps."),
        Verb("wait_one", r"wait ?1", "Do nothing for 1 step."),
        Verb("task", r"task", "Describe the task."),
        Verb("inventory", r"inventory", "List what is carried."),
    ),
    action=_ACTION,
    label=_LABEL,
)

SQLGYM = Task(
    name="sqlgym",
    marker="Given you a description of a SQlite database system",
    system="You answer questions about a SQLite database by running SQL statements.",
    verbs=(Verb("execute_sql", r"```(?:sql)?\s*(?P<query>.*?)\s*```", "Run one SQL statement."),),
    action=_ACTION,
)

TEXTCRAFT = Task(
    name="textcraft",
    marker="You are given few useful crafting recipes",
    system=(
        "You craft items in Minecraft with the crafting commands that are given. A generic ingredient such as planks "
        "may be any kind of it."
    ),
    verbs=(
        Verb("craft", r"craft (?P<item>[^\n]+?) using (?P<ingredients>[^\n]+)", "Craft an item from ingredients."),
        Verb("get", r"get (?P<item>[^\n]+)", "Get an ingredient from the environment."),
        Verb("inventory", r"inventory", "List what is carried."),
    ),
    action=_ACTION,
    label=_LABEL,
    observation=r"\A\s*instruction:\s*",
    problem=r"\A\s*instruction:\s*",
)

WORDLE = Task(
    name="wordle",
    marker="You are an expert wordle player",
    system="You play Wordle.",
    verbs=(Verb("guess", r"(?P<word>[a-z](?: ?[a-z]){4})", "Guess a word of five letters."),),
    action=_ACTION,
    label=_LABEL,
    noise=r"Here is an example\..*?now let's start a new game\.|You should return your thought and your word.*?\.",
)

TOOLS = Task(
    name="tools",
    marker="You are an autonomous intelligent agent. You can use actions to help people solve problems.",
    system="You use tools to answer questions. Do not make up identifiers: look them up.",
    verbs=(),
    problem=r"you should perform actions to accomplish the goal:\s*",
    noise=r"Give me one action\.",
)

TASKS = (BABYAI, MAZE, SCIWORLD, SQLGYM, TEXTCRAFT, WORDLE, WEBSHOP, TOOLS)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One AgentTraj record."""
    turns = read_turns(row, "conversations")
    text = "\0".join(turn.text for turn in turns).encode(errors="surrogatepass")
    identity = f"{record_id(row, where, 'item_id')}-{hashlib.sha256(text).hexdigest()[:8]}"
    return parse_tasks(turns, identity, "agenttraj", TASKS)


SOURCE = Source("agenttraj", parse, "AgentTraj-L (AgentGym): weather, movie, todo, webshop, games, sciworld, sqlgym")
