"""Hypothesis strategies for the records that the laws are about."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

words = st.sampled_from(["amber", "birch", "copper", "delta", "ember", "fjord", "grove", "harbor", "island", "juniper"])
sentences = st.lists(words, min_size=1, max_size=8).map(" ".join)
names = st.tuples(words, words).map("_".join)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
argument_names = (
    names
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)
    | st.sampled_from(["from", "Action", "a: b", "x=1", "{y"])
)
arguments = st.dictionaries(argument_names, json_values, max_size=4).map(json.dumps)


@st.composite
def tool_trajectories(draw: st.DrawFn) -> Trajectory:
    """A valid trajectory with one to four steps that call tools."""
    tool_names = draw(st.lists(names | st.sampled_from(['say "it"', "getURL2"]), min_size=1, max_size=4, unique=True))
    tools = tuple(
        Tool(name, draw(sentences | st.just("")), {"type": "object", "properties": {}}) for name in tool_names
    )
    messages = [Message("user", draw(sentences) + draw(st.sampled_from(["", "\n"])))]
    for _ in range(draw(st.integers(1, 4))):
        calls = tuple(
            ToolCall(draw(st.sampled_from(tool_names)), draw(arguments)) for _ in range(draw(st.integers(1, 2)))
        )
        beside = draw(st.sampled_from(["", "let me see"]))
        thought = draw(sentences | st.just(""))
        messages.append(Message("assistant", beside, thought, calls, loss=draw(st.booleans())))
        messages += [Message("tool", draw(sentences | st.sampled_from(["", "two\nlines \n"]))) for _ in calls]
    messages.append(Message("assistant", draw(sentences), draw(sentences | st.just("")), loss=True))
    return Trajectory(draw(names), "law", tools, tuple(messages))
