"""Laws of the negatives: none calls, none lists a tool that was needed, none teaches a protocol."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.corpus.align import format_keyword_in
from agentflan_ray.corpus.derive import derive
from agentflan_ray.corpus.negatives import plain_turns
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.similarity import Catalogue
from agentflan_ray.evaluate.hallucination import read
from agentflan_ray.sample import NEGATIVE_CASES, Sample
from agentflan_ray.trajectory import Message, Tool, Trajectory
from tests.strategies import names, sentences, tool_trajectories

RECIPE = CorpusRecipe(near_miss_share=1.0, missing_argument_share=1.0, tool_error_share=1.0)
catalogues = st.dictionaries(names, sentences, max_size=12).map(
    lambda described: Catalogue.of([Tool(name, text, {"type": "object"}) for name, text in described.items()])
)


def negatives_of(trajectory: Trajectory, catalogue: Catalogue) -> list[Sample]:
    made = derive(trajectory, RECIPE, catalogue)
    return [sample for sample in made if isinstance(sample, Sample) and sample.case in NEGATIVE_CASES]


@given(tool_trajectories(), catalogues)
@settings(max_examples=60)
def test_a_negative_teaches_neither_a_call_nor_a_protocol(trajectory: Trajectory, catalogue: Catalogue) -> None:
    listed = {tool.name for tool in (*trajectory.tools, *catalogue.tools)}
    for sample in negatives_of(trajectory, catalogue):
        assert format_keyword_in(sample) is None
        for turn in sample.turns:
            for part in turn.parts:
                assert part.capability in (None, "general", "reasoning")
        last = sample.turns[-1]
        assert any(part.capability for part in last.parts)
        assert not read(last.text, listed).calls


@given(tool_trajectories(), catalogues)
@settings(max_examples=60)
def test_no_needed_tool_is_listed_where_none_shall_help(trajectory: Trajectory, catalogue: Catalogue) -> None:
    for sample in negatives_of(trajectory, catalogue):
        if sample.case not in ("irrelevant_tool", "near_miss"):
            continue
        listed = set(re.findall(r"^- (.+?)\(", sample.turns[0].text, re.MULTILINE))
        needed = {call.name for message in trajectory.messages for call in message.calls}
        assert listed
        assert not listed & needed
        if sample.case == "irrelevant_tool":
            assert not listed & {tool.name for tool in trajectory.tools}


@given(tool_trajectories(), catalogues)
@settings(max_examples=30)
def test_the_order_of_the_catalogue_changes_nothing(trajectory: Trajectory, catalogue: Catalogue) -> None:
    backwards = Catalogue.of(catalogue.tools[::-1])
    assert derive(trajectory, RECIPE, catalogue) == derive(trajectory, RECIPE, backwards)


talks = st.lists(st.tuples(sentences, sentences | st.just(""), sentences | st.just(""), st.booleans()), min_size=1)


@given(talks.filter(lambda turns: all(thought or content for _, thought, content, _ in turns)))
def test_a_talk_keeps_every_thought_and_every_word(turns: list[tuple[str, str, str, bool]]) -> None:
    messages = []
    for asked, thought, content, loss in turns:
        messages += [Message("user", asked), Message("assistant", content, thought, loss=loss)]
    replies = [turn for turn in plain_turns(Trajectory("t", "law", (), tuple(messages))) if turn.role == "assistant"]
    assert len(replies) == len(turns)
    for reply, (_, thought, content, loss) in zip(replies, turns, strict=True):
        assert reply.text == "\n".join(text for text in (thought, content) if text)
        told = [(part.text, part.capability) for part in reply.parts if part.text != "\n"]
        capabilities = ("reasoning", "general") if loss else (None, None)
        pairs = zip((thought, content), capabilities, strict=True)
        assert told == [(text, capability) for text, capability in pairs if text]
