"""Agent replies written as text in a task's own syntax, read into a thought and a call.

AgentInstruct and its relatives give each environment its own words for acting: ``Act: bash`` and a code block,
``get_relations(x)``, ``click[y]``, ``go to desk 1``. A :class:`Task` lists them once as :class:`Verb` patterns; the
tool list that the model sees and the reading of its replies both come from that list, so they cannot disagree.

The instruction of such a task is mostly a description of its output format. It is replaced by ``system``, which says
what the world is and asks for no format: that is the alignment to chat of the paper (Agent-FLAN, section 3.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agentflan_ray.sources.base import Dropped, Turn, arguments_text, build, parse_json
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

_FLAGS = re.IGNORECASE | re.MULTILINE


@dataclass(frozen=True, slots=True)
class Verb:
    """One way to act. Named groups of the pattern are the tool's parameters; all are text and required.

    Without a name it ends the task: group ``answer`` is what is said, or the thought is, where there is no such group.
    """

    name: str | None
    pattern: str
    description: str = ""

    @property
    def tool(self) -> Tool | None:
        """The tool that this verb calls."""
        if self.name is None:
            return None
        names = list(re.compile(self.pattern).groupindex)
        properties = {name: {"type": "string"} for name in names}
        return Tool(self.name, self.description, {"type": "object", "properties": properties, "required": names})


@dataclass(frozen=True, slots=True)
class Task:
    """One environment's syntax.

    ``marker`` is a phrase of its instruction. ``action`` matches where the action begins in a reply; what stands before
    it, without ``label``, is the thought. ``problem`` matches what introduces a problem in a user turn (the text up to
    its end is cut), ``observation`` what introduces a result, ``noise`` talk about the format in user turns.
    A task without verbs lists its tools in its instruction and calls them as ``name with Action Input: {json}``.
    """

    name: str
    marker: str
    system: str
    verbs: tuple[Verb, ...]
    action: str = r"^[ \t]*(?:act|action)[ \t]*:[ \t]*"
    label: str = r"^[ \t]*(?:think|thought)[ \t]*:[ \t]*"
    problem: str = ""
    observation: str = r"\A[ \t]*observation[ \t]*:[ \t]*"
    noise: str = ""
    _tools: tuple[Tool, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Two patterns may lead to one tool; the first one describes it.
        tools = {tool.name: tool for verb in reversed(self.verbs) if (tool := verb.tool) is not None}
        object.__setattr__(self, "_tools", tuple(tools[name] for name in reversed(tools)))

    def tools(self, instruction: str) -> tuple[Tool, ...]:
        """The tools of this task; ``instruction`` is read only where the task lists them there."""
        return self._tools if self.verbs else listed_tools(instruction)

    def read(self, text: str, loss: bool) -> Message | None:
        """An assistant reply as a message; None where it holds no action that this task knows."""
        text = text.strip()
        found = re.search(self.action, text, _FLAGS)
        if found is None:
            return None
        thought = re.sub(self.label, "", text[: found.start()], flags=_FLAGS).strip()
        action = text[found.end() :].strip()
        if not self.verbs:
            return _listed_call(action, thought, loss)
        for verb in self.verbs:
            match = re.fullmatch(verb.pattern, action, re.IGNORECASE | re.DOTALL)
            if match is None:
                continue
            groups = {name: value.strip() for name, value in match.groupdict().items()}
            if verb.name is None:
                return _answer(groups.get("answer", ""), thought, loss)
            call = ToolCall(verb.name, json.dumps(groups, ensure_ascii=False))
            return Message("assistant", thought=thought, calls=(call,), loss=loss)
        return None

    def problem_of(self, text: str) -> str:
        """A user turn without what introduces it."""
        if self.problem:
            ends = [match.end() for match in re.finditer(self.problem, text, _FLAGS)]
            text = text[ends[-1] :] if ends else text
        return self.without_noise(text)

    def observation_of(self, text: str) -> str:
        """A result without what introduces it."""
        return self.without_noise(re.sub(self.observation, "", text, flags=_FLAGS))

    def without_noise(self, text: str) -> str:
        """A user turn without talk about the format."""
        return (re.sub(self.noise, "", text, flags=_FLAGS | re.DOTALL) if self.noise else text).strip()


def find_task(tasks: Sequence[Task], instruction: str) -> Task | None:
    """The task whose marker stands in the instruction."""
    return next((task for task in tasks if task.marker in instruction), None)


def read_episode(
    task: Task, instruction: str, turns: Sequence[Turn], identity: str, source: str
) -> Iterator[Trajectory | Dropped]:
    """A trajectory from the turns of one episode, the first of which states the problem.

    Turns have the roles ``user`` and ``assistant``; a user turn after a call is its result. An episode with a reply
    that is not a known action is dropped: the paper keeps only records that fit thought, action and arguments.
    """
    messages = [Message("system", task.system), Message("user", task.problem_of(turns[0].text))]
    for index, turn in enumerate(turns[1:], start=1):
        if turn.role == "user":
            acted = bool(messages[-1].calls)
            text = task.observation_of(turn.text) if acted else task.problem_of(turn.text)
            messages.append(Message("tool" if acted else "user", text))
            continue
        message = task.read(turn.text, turn.learnt)
        if message is None:
            yield Dropped(
                "unreadable_action",
                f"Reply {index} of {identity!r} is no action of the task {task.name!r}: {turn.text[-80:]!r}.",
            )
            return
        messages.append(message)
    yield build(identity, source, task.tools(instruction), messages, {"task": task.name})


_LISTED = re.compile(
    r"^Name: (?P<name>\w+)\((?P<names>[^)\n]*)\)\nDescription: (?P<description>[^\n]*)"
    r"(?:\nParameters:\n(?P<parameters>(?:- [^\n]*(?:\n|\Z))*))?",
    re.MULTILINE,
)
_PARAMETER = re.compile(r"^- (?P<name>\w+) \(Type: (?P<type>\[[^\]]*\]|\w+)[^)]*\)(?:: ?(?P<description>.*))?$", re.M)


def listed_tools(instruction: str) -> tuple[Tool, ...]:
    """Tools written as ``Name: f(a)`` / ``Description:`` / ``Parameters:`` / ``- a (Type: string): ...``.

    ``finish`` is left out: ending is saying the answer, not calling a tool.
    """
    tools = []
    for match in _LISTED.finditer(instruction):
        if match["name"] == "finish":
            continue
        properties = {
            found["name"]: {"type": re.findall(r"\w+", found["type"])[0], "description": found["description"] or ""}
            for found in _PARAMETER.finditer(match["parameters"] or "")
        }
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        tools.append(Tool(match["name"], match["description"].strip(), parameters))
    return tuple(tools)


def _listed_call(action: str, thought: str, loss: bool) -> Message | None:
    match = re.fullmatch(r"(?P<name>\w+) with Action Input:\s*(?P<arguments>\{.*\})", action, re.DOTALL)
    if match is None:
        return None
    arguments = arguments_text(match["arguments"])
    if match["name"] != "finish":
        return Message("assistant", thought=thought, calls=(ToolCall(match["name"], arguments),), loss=loss)
    finish = parse_json(arguments)
    if not isinstance(finish, dict) or "answer" not in finish:
        return None
    answer = finish["answer"]
    return _answer(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False), thought, loss)


def _answer(answer: str, thought: str, loss: bool) -> Message:
    if not answer:
        return Message("assistant", content=thought, loss=loss)
    return Message("assistant", content=answer, thought=thought, loss=loss)
