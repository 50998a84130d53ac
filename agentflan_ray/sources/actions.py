"""Agent replies written as text in a task's own syntax, read into a thought and a call.

AgentInstruct and its relatives give each environment its own words for acting: ``Act: bash`` and a code block,
``get_relations(x)``, ``click[y]``, ``go to desk 1``. A :class:`Task` lists them once as :class:`Verb` patterns; the
tool list that the model sees and the reading of its replies both come from that list, so they cannot disagree.

The instruction of such a task is mostly a description of its output format. It is replaced by ``system``, which says
what the world is and asks for no format: that is the alignment to chat of the paper (Agent-FLAN, section 3.1).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agentflan_ray.sources.base import Dropped, Turn, build, parse_literal, schema_type
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory


@dataclass(frozen=True, slots=True)
class Verb:
    """One way to act. Named groups of the pattern are the tool's parameters; all are text and required.

    Without a name it ends the task: group ``answer`` is what is said, or the thought is, where there is no such group.
    """

    name: str | None
    pattern: str
    description: str = ""
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", re.compile(self.pattern, re.IGNORECASE | re.DOTALL))

    def match(self, action: str) -> dict[str, str] | None:
        """The values of the named groups where the whole action is this verb's; None where it is not."""
        found = self._compiled.fullmatch(action)
        return None if found is None else {name: value.strip() for name, value in found.groupdict().items()}

    @property
    def tool(self) -> Tool | None:
        """The tool that this verb calls."""
        if self.name is None:
            return None
        names = list(self._compiled.groupindex)
        properties = {name: {"type": "string"} for name in names}
        return Tool(self.name, self.description, {"type": "object", "properties": properties, "required": names})


@dataclass(frozen=True, slots=True)
class Task:
    """One environment's syntax.

    ``marker`` is a phrase of its instruction. ``action`` matches where the action begins in a reply; what stands before
    it, without ``label``, is the thought. ``problem`` matches what introduces a problem in a user turn (the text up to
    its end is cut), ``observation`` what introduces a result, ``noise`` talk about the format in user turns.
    A task without verbs lists its tools in its instruction and calls them as ``name with Action Input: {json}``.
    ``must_act`` says that nothing can be answered without acting: an episode that calls no tool only claims to have.
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
    must_act: bool = False
    _tools: tuple[Tool, ...] = field(init=False, repr=False, compare=False)
    _patterns: _Patterns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Two patterns may lead to one tool; the first one describes it.
        tools = {tool.name: tool for verb in reversed(self.verbs) if (tool := verb.tool) is not None}
        object.__setattr__(self, "_tools", tuple(tools[name] for name in reversed(tools)))
        object.__setattr__(self, "_patterns", _Patterns.of(self))

    def tools(self, instruction: str) -> tuple[Tool, ...]:
        """The tools of this task; ``instruction`` is read only where the task lists them there."""
        return self._tools if self.verbs else listed_tools(instruction)

    def read(self, text: str, loss: bool) -> Message | None:
        """An assistant reply as a message; None where it holds no action that this task knows."""
        text = text.strip()
        found = self._patterns.action.search(text)
        if found is None:
            return None
        thought = self._patterns.label.sub("", text[: found.start()]).strip()
        action = text[found.end() :].strip()
        if not self.verbs:
            return _listed_call(action, thought, loss)
        for verb in self.verbs:
            groups = verb.match(action)
            if groups is None:
                continue
            if verb.name is None:
                return _answer(groups.get("answer", ""), thought, loss)
            call = ToolCall(verb.name, json.dumps(groups, ensure_ascii=False))
            return Message("assistant", thought=thought, calls=(call,), loss=loss)
        return None

    def introduces(self, text: str) -> bool:
        """Whether a user turn introduces a problem; never where the task has no pattern for that."""
        return self._patterns.problem is not None and self._patterns.problem.search(text) is not None

    def problem_of(self, text: str) -> str:
        """A user turn without what introduces it."""
        if self._patterns.problem is not None:
            ends = [match.end() for match in self._patterns.problem.finditer(text)]
            text = text[ends[-1] :] if ends else text
        return self.without_noise(text)

    def observation_of(self, text: str) -> str:
        """A result without what introduces it."""
        return self.without_noise(self._patterns.observation.sub("", text))

    def without_noise(self, text: str) -> str:
        """A user turn without talk about the format."""
        return (text if self._patterns.noise is None else self._patterns.noise.sub("", text)).strip()


@dataclass(frozen=True, slots=True)
class _Patterns:
    """A task's patterns, compiled: every turn of every record is matched with them."""

    action: re.Pattern[str]
    label: re.Pattern[str]
    observation: re.Pattern[str]
    problem: re.Pattern[str] | None
    noise: re.Pattern[str] | None

    @classmethod
    def of(cls, task: Task) -> _Patterns:
        flags = re.IGNORECASE | re.MULTILINE
        return cls(
            action=re.compile(task.action, flags),
            label=re.compile(task.label, flags),
            observation=re.compile(task.observation, flags),
            problem=re.compile(task.problem, flags) if task.problem else None,
            noise=re.compile(task.noise, flags | re.DOTALL) if task.noise else None,
        )


def find_task(tasks: Sequence[Task], instruction: str) -> Task | None:
    """The task whose marker stands in the instruction."""
    return next((task for task in tasks if task.marker in instruction), None)


def read_episode(
    task: Task, instruction: str, turns: Sequence[Turn], identity: str, source: str
) -> Iterator[Trajectory | Dropped]:
    """A trajectory from the turns of one episode, the first of which states the problem.

    Turns have the roles ``user`` and ``assistant``; a user turn after a call is its result. An episode with a reply
    that is not a known action is dropped: the paper keeps only records that fit thought, action and arguments. So is
    one of a task that must act and never does.
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
    if task.must_act and not any(message.calls for message in messages):
        yield Dropped("no_action", f"Record {identity!r} of the task {task.name!r} answers without having acted.")
        return
    yield build(identity, source, task.tools(instruction), messages, {"task": task.name})


_LISTED = re.compile(
    r"^Name: (?P<name>\w+)\((?P<names>[^)\n]*)\)\nDescription: (?P<description>[^\n]*)"
    r"(?:\nParameters:\n(?P<parameters>(?:- [^\n]*(?:\n|\Z))*))?",
    re.MULTILINE,
)
_PARAMETER = re.compile(
    r"^- (?P<name>\w+) \(Type: (?P<type>\[[^\]]*\]|\w+)(?:, Enum: \[(?P<enum>[^\]]*)\])?[^)]*\)"
    r"(?:: ?(?P<description>.*))?$",
    re.MULTILINE,
)


@functools.lru_cache(maxsize=64)  # an environment has one instruction, in all of its episodes
def listed_tools(instruction: str) -> tuple[Tool, ...]:
    """Tools written as ``Name: f(a)`` / ``Description:`` / ``Parameters:`` / ``- a (Type: string, Enum: [x, y]): ...``.

    ``finish`` is left out: ending is saying the answer, not calling a tool.
    """
    tools = []
    for match in _LISTED.finditer(instruction):
        if match["name"] == "finish":
            continue
        properties = {found["name"]: _schema(found) for found in _PARAMETER.finditer(match["parameters"] or "")}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        tools.append(Tool(match["name"], match["description"].strip(), parameters))
    return tuple(tools)


def _schema(found: re.Match[str]) -> dict[str, object]:
    schema: dict[str, object] = {"type": schema_type(found["type"])}
    if found["description"]:
        schema["description"] = found["description"].strip()
    if found["enum"]:
        schema["enum"] = [value.strip() for value in found["enum"].split(",")]
    return schema


_LISTED_CALL = re.compile(r"(?P<name>\w+) with Action Input:\s*(?P<arguments>\{.*\})", re.DOTALL)


def _listed_call(action: str, thought: str, loss: bool) -> Message | None:
    match = _LISTED_CALL.fullmatch(action)
    arguments = parse_literal(match["arguments"]) if match is not None else None
    if match is None or not isinstance(arguments, dict):
        return None
    if match["name"] != "finish":
        call = ToolCall(match["name"], json.dumps(arguments, ensure_ascii=False))
        return Message("assistant", thought=thought, calls=(call,), loss=loss)
    if "answer" not in arguments:
        return None
    answer = arguments["answer"]
    return _answer(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False), thought, loss)


NOTHING_TO_SAY = '["none"]'
"""What AgentInstruct's database task answers where its protocol wants a value and there is none to give."""


def _answer(answer: str, thought: str, loss: bool) -> Message:
    nothing = answer.strip().casefold() == NOTHING_TO_SAY
    if nothing and not thought:
        # Nine episodes say no more than that after their change: it stays as context and is not learnt.
        return Message("assistant", content=answer, loss=False)
    if not answer or nothing:
        return Message("assistant", content=thought, loss=loss)
    return Message("assistant", content=answer, thought=thought, loss=loss)
