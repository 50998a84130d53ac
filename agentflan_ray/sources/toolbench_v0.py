"""ToolBench's first release (July 2023): ReAct over a prompt that lists the APIs.

Data sheet
    Every form has the prompt: one line for each API, ``name: description. Your input should be a json (args json
    schema): {{"location" : string, }} ...``.
    Chains: ``prompt``, ``query``, ``chains`` (list of ``{thought, action, action_input, observation}``), ``answer``,
    ``log`` (the last reply). 41 + 101 seen, no ids.
    Single steps: ``prompt``, ``query``, ``thought``, ``action``, ``action_input``, ``observation``, ``answer``,
    ``log``. 97 seen, no ids.
    Scratchpads: ``id`` (``STEP 1: <query>``) and two turns, human (prompt, question, steps so far) and gpt (the next
    step). 245 + 81 seen, of the latter 10 with Latin-1 bytes (quarantined as not_utf8). Each step of a chain is a
    record of its own, so only the last one, which answers, is kept.
    Plans: ``query`` and ``steps`` of an AutoGPT-like planner, without a list of APIs. 101 seen.
    Dropped: ``no_final_answer`` (unfinished steps; "No Answer, please check the APIs"), ``no_tool_list`` (plans),
    ``invented_tool`` (a sentence in place of a tool's name).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agentflan_ray.forms import Step, parse_react
from agentflan_ray.sources.base import (
    Dropped,
    MalformedRecord,
    Where,
    arguments_text,
    as_objects,
    as_text,
    build,
    record_id,
    schema_type,
)
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

_API = re.compile(
    r"^(?P<name>\w+): (?P<description>.*?)\.? ?Your input should be a json \(args json schema\): "
    r"\{+(?P<parameters>.*?)\}+",
    re.MULTILINE,
)
_PARAMETER = re.compile(r'"(?P<name>\w+)"\s*:\s*(?P<type>\w+)')
# The prompt describes its format first, so the last "Question:" is the one that is asked.
_QUESTION = re.compile(
    r"\A.*^Question: (?P<query>.*?)\s*Agent scratchpad \(history actions\):(?P<steps>.*)\Z", re.MULTILINE | re.DOTALL
)


def parse_v0(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """A record of chains, single steps or plans."""
    identity = record_id(row, where)
    if "steps" in row:
        yield Dropped("no_tool_list", f"Record {identity!r} is a plan over chains without a list of APIs.")
        return
    if "chains" in row:
        steps = as_objects(row["chains"], "'chains'")
    elif "action" in row:
        steps = [row]
    else:
        raise MalformedRecord("unknown_form", f"Record {identity!r} is none of the published forms of ToolBench.")
    messages = [Message("user", as_text(row.get("query"), "'query'").strip())]
    for index, step in enumerate(steps):
        texts = [as_text(step.get(key), f"chains[{index}].{key}").strip() for key in _STEP]
        messages += _step_messages(*texts)
    closing = _closing(as_text(row.get("log"), "'log'"))
    answer = as_text(row.get("answer"), "'answer'").strip()
    yield _finish(identity, as_text(row.get("prompt"), "'prompt'"), messages, answer, closing.thought)


_STEP = ("thought", "action", "action_input", "observation")


def read_scratchpad_record(prompt: str, reply: str, identity: str) -> Iterator[Trajectory | Dropped]:
    """A step with the steps before it in the prompt; kept where the reply is the answer."""
    found = _QUESTION.search(prompt)
    if found is None:
        raise MalformedRecord("no_question", f"Record {identity!r} has no 'Question:' with a scratchpad in its prompt.")
    closing = _closing(reply)
    messages = [Message("user", found["query"].strip())]
    for piece in re.split(r"^(?=[ \t]*Thought:)", found["steps"], flags=re.MULTILINE):
        before, _, observation = piece.partition("\nObservation:")
        step = parse_react(before)
        if step is not None and step.calls:
            call = step.calls[0]
            messages += _step_messages(step.thought, call.name, call.arguments, observation.strip())
    yield _finish(identity, prompt, messages, closing.answer or "", closing.thought)


def read_apis(prompt: str) -> tuple[Tool, ...]:
    """The tools that a first-release prompt lists."""
    tools = []
    for match in _API.finditer(prompt):
        properties = {
            found["name"]: {"type": schema_type(found["type"])} for found in _PARAMETER.finditer(match["parameters"])
        }
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        tools.append(Tool(match["name"], match["description"].strip(), parameters))
    return tuple(tools)


def _finish(identity: str, prompt: str, messages: list[Message], answer: str, thought: str) -> Trajectory | Dropped:
    if not answer or answer.startswith("No Answer"):
        return Dropped("no_final_answer", f"Record {identity!r} reaches no final answer.")
    tools = read_apis(prompt)
    if not tools:
        raise MalformedRecord("no_tool_list", f"Record {identity!r} has no list of APIs in its prompt.")
    listed = {tool.name for tool in tools}
    invented = [call.name for message in messages for call in message.calls if call.name not in listed]
    if invented:
        return Dropped("invented_tool", f"Record {identity!r} calls {invented[0]!r:.80}, a tool that is not listed.")
    return build(identity, "toolbench", tools, [*messages, Message("assistant", answer, thought, loss=True)])


def _step_messages(thought: str, action: str, arguments: str, observation: str) -> list[Message]:
    if not action:
        return []
    call = ToolCall(action, arguments_text(arguments))
    return [Message("assistant", thought=thought, calls=(call,), loss=True), Message("tool", observation)]


def _closing(log: str) -> Step:
    # The log of single steps repeats the whole chain: the last "Thought:" belongs to the answer, unless it acts.
    step = parse_react(log[max(log.rfind("Thought:"), 0) :])
    return Step("", (), None) if step is None or step.calls else step
