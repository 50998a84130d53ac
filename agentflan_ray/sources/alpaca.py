"""Alpaca: instruction, input and output, the common form of instruction data (Taori et al. 2023).

Data sheet
    Fields: ``instruction``, ``output``, optional ``input`` (put below the instruction), ``id``, ``system``, and
    ``history`` (list of ``[request, reply]`` before it, as LLaMA-Factory writes it). ``text``, the prompt that Alpaca
    was trained on, is not read.
    Every reply is learnt, those of the history too.
    Malformed: ``steps_without_tools``, a reply of ReAct steps: no tool is listed, and kept as chat it would teach to
    answer in ReAct form unasked (FireAct in this form has a source of its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.base import MalformedRecord, Source, Where, build, record_id, text_at
from agentflan_ray.sources.openai_messages import text_reply
from agentflan_ray.trajectory import Message, Trajectory


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory]:
    """One Alpaca record."""
    messages = []
    if system := text_at(row, "system", "record").strip():
        messages.append(Message("system", system))
    for index, (request, reply) in enumerate(_history(row.get("history"))):
        messages += [Message("user", request), text_reply(reply, "", True, (), f"history[{index}]")]
    asked = (text_at(row, "instruction", "record").strip(), text_at(row, "input", "record").strip())
    messages.append(Message("user", "\n\n".join(piece for piece in asked if piece)))
    messages.append(text_reply(text_at(row, "output", "record").strip(), "", True, (), "output"))
    yield build(record_id(row, where), "alpaca", (), messages)


def _history(value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    pairs = value if isinstance(value, list) else [value]
    for index, pair in enumerate(pairs):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise MalformedRecord("history_not_pairs", f"history[{index}] must be a pair of texts: request and reply.")
    return [(request, reply) for request, reply in pairs]


SOURCE = Source("alpaca", parse, "Alpaca: instruction, input, output; plain chat")
