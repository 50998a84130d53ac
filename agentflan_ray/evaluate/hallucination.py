"""What a reply does: calls, imitates a protocol, announces a tool, refuses, asks. Pure functions on text.

The paper's own two strings decide H_ReAct and H_General (Agent-H, section 4.1). They miss much: a model that answers
chat with "I should use photosynthesis for this" passes both. So a structural reading stands beside them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from agentflan_ray.forms import parse_json, parse_react

_PAPER_REACT = re.compile(r"Thought:|Action:")
_PAPER_GENERAL = re.compile(r"I will use|I need to call", re.IGNORECASE)
_LEAK = re.compile(
    r"\bI(?:'ll| will| should| must| need to| have to| can| am going to|'m going to) (?:now )?"
    r"(?:use|call|invoke|query|run)\b|\bAction Input\b|^\s*(?:Thought|Action|Observation|Final Answer)\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_TAGGED_CALL = re.compile(
    r"<tool_call>|<function_call>|<function=|\"name\"\s*:\s*\"[^\"]+\"\s*,\s*\"arg", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"\b(?:I|we) (?:can't|cannot|can not|am not able|am unable|'m unable|'m not able|don't have|do not have|have no|"
    r"lack)\b|\bI'm (?:unable|not able|not connected|afraid)\b|\bnone of (?:my|the) tools\b|\bno tools?\b|"
    r"\bnothing among the listed\b|\bunfortunately\b|\bsorry\b|\btools (?:listed|serve)\b|\bunable to\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reading:
    """What was found in a reply."""

    paper_react: bool
    """Holds the paper's ``Thought:`` or ``Action:``."""
    paper_general: bool
    """Holds the paper's ``I will use`` or ``I need to call``."""
    calls: bool
    """Makes a call in any form: ReAct, JSON, tags, or the code ``name(...)`` of a listed tool."""
    leaks: bool
    """Speaks of using a tool, or a protocol word stands at the start of a line."""
    refuses: bool
    asks: bool

    @property
    def plain(self) -> bool:
        """Neither a call nor a trace of a protocol."""
        return not (self.calls or self.leaks or self.paper_react or self.paper_general)


def read(reply: str, tool_names: Collection[str] = ()) -> Reading:
    """Read one reply, given the names of the tools that were listed."""
    react, as_json = parse_react(reply), parse_json(reply)
    code_call = any(re.search(rf"\b{re.escape(name)}\(", reply) for name in tool_names)
    return Reading(
        paper_react=bool(_PAPER_REACT.search(reply)),
        paper_general=bool(_PAPER_GENERAL.search(reply)),
        calls=bool((react and react.calls) or (as_json and as_json.calls) or code_call or _TAGGED_CALL.search(reply)),
        leaks=bool(_LEAK.search(reply)),
        refuses=bool(_REFUSAL.search(reply.replace("\u2019", "'"))),
        asks="?" in reply,
    )
