"""What a reply does: calls, imitates a protocol, announces a tool, refuses, asks. Pure functions on text.

The paper's own two strings decide H_ReAct and H_General (Agent-H, section 4.1). They miss much: a model that answers
chat with "I should use photosynthesis for this" passes both. So a structural reading stands beside them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from agentflan_ray.evaluate.calls import MAX_CHARACTERS, read_calls
from agentflan_ray.forms import Step, parse_json, parse_react

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

_TRACE = re.compile(
    r"^[ \t]*(?:Thought|Action|Action Input|Observation|Final Answer)[ \t]*:", re.MULTILINE | re.IGNORECASE
)
_RESULT = re.compile(
    r"^[ \t]*Observation[ \t]*:|<tool_response>|<function_response>|FUNCTION RESPONSE:|\[TOOL_RESULTS\]", re.MULTILINE
)
_ASKING = re.compile(
    r"\?|\b(?:please|kindly) (?:provide|specify|tell|share|confirm|let me know|clarify|enter|give|indicate|state|"
    r"supply)\b|\b(?:I|we)(?:'ll| will|'d| would)?(?: also| first)? (?:need|require)\b|\bneed to know\b|"
    r"\b(?:could|can|would) you\b|\bmay I (?:have|know|ask)\b|\blet me know\b",
    re.IGNORECASE,
)
_UNABLE = re.compile(
    r"\b(?:can't|cannot|can not|unable|not able|not capable|not possible|isn't possible|beyond my|outside my|"
    r"don't have|do not have|have no|lack|no tools?|none of (?:my|the) (?:tools|functions))\b",
    re.IGNORECASE,
)
_REGRET = re.compile(r"\b(?:sorry|apologi[sz]e|apologies|unfortunately|afraid)\b", re.IGNORECASE)
_MAX_BRACES = 1000
_WORD = re.compile(r"\w\w|\d")
_OPENING = 200
"""Characters in which a reply announces a tool. Later "I will use" stands in stories and advice."""


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


@dataclass(frozen=True)
class Structure:
    """What a reply is made of, apart from what it says."""

    called: tuple[str, ...]
    """Names of the tools that it calls, in any form that :mod:`calls` reads."""
    unlisted: bool
    """Calls a tool that was not listed."""
    traces: bool
    """A protocol's word stands at the start of a line."""
    announces: bool
    """Its opening speaks of using a tool."""
    invents: bool
    """Writes a tool's result itself."""

    @property
    def plain(self) -> bool:
        """Neither a call nor a trace of a protocol, nor the announcement of one."""
        return not (self.called or self.traces or self.announces or self.invents)


Kind = Literal["call", "ask", "refuse", "answer", "empty"]


def kind_of(reply: str, tool_names: Collection[str] = ()) -> Kind:
    """What a reply does in the main: call a tool, ask for more, say that it can't be done, or answer.

    A reply without a word or a number is empty. One that says it can't and asks as well refuses; one that only regrets
    and asks, asks. Read so, 97 % of the 1,200 reference replies of When2Call (four kinds for each of 300 requests) are
    of the kind that they were written as.
    """
    text = reply[:MAX_CHARACTERS].replace("\u2019", "'")
    if read_calls(text, tool_names):
        return "call"
    if not _WORD.search(text):
        return "empty"
    if _UNABLE.search(text):
        return "refuse"
    if _ASKING.search(text):
        return "ask"
    return "refuse" if _REGRET.search(text) else "answer"


def read_structure(reply: str, tool_names: Collection[str] = ()) -> Structure:
    """Read one reply's structure, given the names of the tools that were listed."""
    text = reply[:MAX_CHARACTERS]
    called = tuple(call.name for call in read_calls(text, tool_names))
    return Structure(
        called=called,
        unlisted=any(name not in tool_names for name in called),
        traces=bool(_TRACE.search(text)),
        announces=bool(_LEAK.search(text[:_OPENING])),
        invents=bool(_RESULT.search(text)),
    )


def read(reply: str, tool_names: Collection[str] = ()) -> Reading:
    """Read one reply, given the names of the tools that were listed. Its first :data:`MAX_CHARACTERS` count."""
    reply = reply[:MAX_CHARACTERS]
    react, as_json = parse_react(reply), _json_step(reply)
    code_call = any(re.search(rf"\b{re.escape(name)}\(", reply) for name in tool_names)
    return Reading(
        paper_react=bool(_PAPER_REACT.search(reply)),
        paper_general=bool(_PAPER_GENERAL.search(reply)),
        calls=bool((react and react.calls) or (as_json and as_json.calls) or code_call or _TAGGED_CALL.search(reply)),
        leaks=bool(_LEAK.search(reply)),
        refuses=bool(_REFUSAL.search(reply.replace("\u2019", "'"))),
        asks="?" in reply,
    )


def _json_step(reply: str) -> Step | None:
    # Reading begins anew at each brace: 20,000 of them take seconds, and are no JSON.
    if reply.count("{") > _MAX_BRACES:
        return None
    try:
        return parse_json(reply)
    except RecursionError:  # brackets nested by the thousand
        return None
