"""ToolAlpaca: simulated use of some 400 APIs (Tang et al. 2023, arXiv 2306.05301), ``train_data.json``.

Data sheet
    One record for each API: ``Name``, ``Function_Description`` (function name to ``<summary>\\nParameters: {"<name>":
    "[Required. ]<type>. <description>"}\\nOutput: ..``, and ``components``, which describes output types),
    ``Instances`` (list of ``{input, output, "Final Thought", intermediate_steps}``), where a step is ``[[function,
    input as JSON text, the whole reply], observation]``. No ids: an instance gets its record's with its number.
    Also there and not read: ``Documentation``, ``NLDocumentation``, ``Function_Projection``, ``Instructions``, ...
    Written from the published description (README and ``build_dataset.py`` of tangqiaoyu/ToolAlpaca) and the
    evaluation files, which have the same tool descriptions; the training file was not at hand.
    Read: every instance as a trajectory of its own; what stands before ``Action:`` in a reply as the thought;
    ``getDetails`` (asking the user for what is missing) as a question in plain words with the user's reply.
    Taken out: ``Hint: ..`` behind the request, as the published training script does.
    Dropped: ``no_documentation`` (an API whose documentation could not be read, as published), ``no_call`` (as
    published: no step, or nothing but questions), ``no_final_answer`` (the agent was stopped), ``invented_tool``.
    Malformed, instance by instance: one that is an error text in place of a run; arguments that are not JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentflan_ray.sources.base import (
    Dropped,
    MalformedRecord,
    Source,
    Where,
    arguments_text,
    as_object,
    as_text,
    build,
    parse_json,
    record_id,
    schema_type,
    text_at,
)
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

ASK_USER = "getDetails"

_PARAMETERS = re.compile(r"^Parameters: (?P<parameters>\{.*\})$", re.MULTILINE)
_PARAMETER = re.compile(r'"(?P<name>[^"]+)": "(?P<text>.*?)"(?=, "|\}$)', re.DOTALL)
_ONE_OF = re.compile(r"One of: \[(?P<values>[^\]]*)\]")
_STOPPED = "Agent stopped due to"  # what LangChain says where an agent runs out of steps or time
_LABEL = re.compile(r"\A\s*(?:ASSISTANT\s+)?Thought\s*:\s*")
_ACTION = re.compile(r"^\s*(?:ASSISTANT\s+)?Action\s*\d*\s*:", re.MULTILINE)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped | MalformedRecord]:
    """All instances of one API."""
    identity = record_id(row, where)
    if row.get("Function_Description") is None:
        yield Dropped("no_documentation", f"Record {identity!r} has no description of its functions.")
        return
    tools = _tools(as_object(row["Function_Description"], "'Function_Description'"))
    instances = row.get("Instances")
    if not isinstance(instances, list) or not instances:
        yield Dropped("no_call", f"Record {identity!r} has no instances.")
        return
    for number, instance in enumerate(instances, start=1):
        try:
            yield _read_instance(instance, f"{identity}-{number}", f"Instances[{number - 1}]", tools)
        except MalformedRecord as error:
            yield error


def _read_instance(value: Any, identity: str, place: str, tools: Sequence[Tool]) -> Trajectory | Dropped:
    instance = as_object(value, place)
    steps = instance.get("intermediate_steps") or []
    if not isinstance(steps, list):
        raise MalformedRecord("not_a_list", f"{place}.intermediate_steps must be a list.")
    answer = text_at(instance, "output", place).strip()
    if not answer or answer.startswith(_STOPPED):
        return Dropped("no_final_answer", f"Instance {identity!r} reaches no final answer.")
    request = text_at(instance, "input", place).rsplit("\nHint: ", 1)[0].strip()
    messages = [Message("user", request)]
    for index, step in enumerate(steps):
        messages += _step(step, f"{place}.intermediate_steps[{index}]")
    called = [call.name for message in messages for call in message.calls]
    if not called:
        return Dropped("no_call", f"Instance {identity!r} calls no function.")
    listed = {tool.name for tool in tools}
    if invented := [name for name in called if name not in listed]:
        return Dropped("invented_tool", f"Instance {identity!r} calls {invented[0]!r:.80}, a tool that is not listed.")
    thought = _LABEL.sub("", text_at(instance, "Final Thought", place)).strip()
    return build(identity, "toolalpaca", tools, [*messages, Message("assistant", answer, thought, loss=True)])


def _step(value: Any, place: str) -> list[Message]:
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], list) and len(value[0]) == 3):
        raise MalformedRecord("step_not_readable", f"{place} must be [[function, input, reply], observation].")
    name, arguments, reply = (as_text(item, f"{place}[0]") for item in value[0])
    observation = as_text(value[1], f"{place}[1]").strip()
    thought = _LABEL.sub("", _ACTION.split(reply, maxsplit=1)[0]).strip()
    if name.strip() == ASK_USER:
        asked = parse_json(arguments)
        question = asked.get("Question") if isinstance(asked, dict) else None
        if not isinstance(question, str):
            raise MalformedRecord(
                "step_not_readable", f"{place} calls {ASK_USER} without a question: {arguments[:80]!r}."
            )
        return [Message("assistant", question.strip(), thought, loss=True), Message("user", observation)]
    call = ToolCall(name.strip(), arguments_text(arguments))
    return [Message("assistant", thought=thought, calls=(call,), loss=True), Message("tool", observation)]


def _tools(descriptions: dict[str, Any]) -> tuple[Tool, ...]:
    tools = []
    for name in descriptions:
        if name != "components":
            text = text_at(descriptions, name, "Function_Description")
            tools.append(Tool(name, text.partition("\nParameters:")[0].strip(), _schema(text)))
    return tuple(tools)


def _schema(description: str) -> dict[str, Any]:
    """The parameters of a function. They are printed, not written as JSON, so a quote in one may break the JSON."""
    found = _PARAMETERS.search(description)
    text = found["parameters"] if found else "{}"
    value = parse_json(text)
    if not (isinstance(value, dict) and all(isinstance(each, str) for each in value.values())):
        value = {each["name"]: each["text"] for each in _PARAMETER.finditer(text)}
    properties = {name: _property(spec) for name, spec in value.items()}
    required = [name for name, spec in value.items() if spec.startswith("Required.")]
    return {"type": "object", "properties": properties, "required": required}


def _property(spec: str) -> dict[str, Any]:
    text = spec.removeprefix("Required.").strip()
    kind, _, description = text.partition(".") if not text.startswith(("Array", "Object")) else ("", "", text)
    schema: dict[str, Any] = {"type": schema_type(kind or text), "description": description.strip(" .")}
    if found := _ONE_OF.search(text):
        schema["enum"] = [value.strip() for value in found["values"].split(",")]
    return schema


SOURCE = Source("toolalpaca", parse, "ToolAlpaca: simulated API use, all instances of an API in one record")
