"""Laws of tokenising: what is tagged is what was said, whatever the chat template does round it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.corpus.align import chat_form, react_form
from agentflan_ray.sample import CAPABILITIES, Part, Sample, Turn
from agentflan_ray.tokens.encode import encode, messages_of, windows
from agentflan_ray.trajectory import Trajectory
from tests.small_tokenizer import TEMPLATES, small_tokenizer
from tests.strategies import tool_trajectories

END = {"chatml": "<|im_end|>", "llama2": " </s>", "llama3": "<|eot_id|>", "agent_flan": "<eoa>"}


def taught(sample: Sample, capability: str) -> list[str]:
    return [p.text for t in sample.turns for p in t.parts if p.capability == capability]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("form", [chat_form, react_form])
@settings(max_examples=30, deadline=None)
@given(trajectory=tool_trajectories())
def test_tagged_tokens_spell_the_supervised_text(template, form, trajectory: Trajectory) -> None:  # type: ignore[no-untyped-def]
    tokenizer = small_tokenizer(template)
    sample = form(trajectory, 0) if form is chat_form else form(trajectory)
    encoded = encode(sample.turns, tokenizer)
    assert tokenizer.decode(encoded.input_ids) == tokenizer.apply_chat_template(
        messages_of(sample.turns), tokenize=False
    )
    ends = [t.parts[-1].capability for t in sample.turns if t.parts[-1].capability]
    for index, capability in enumerate(CAPABILITIES):
        said = tokenizer.decode(encoded.input_ids[encoded.tags == index]).replace(END[template], "")
        assert said == "".join(taught(sample, capability)), capability
    stops = tokenizer.convert_tokens_to_ids(END[template].strip())
    assert int(((encoded.input_ids == stops) & (encoded.tags >= 0)).sum()) == len(ends)


@settings(max_examples=40, deadline=None)
@given(trajectory=tool_trajectories(), max_tokens=st.integers(200, 900))
def test_windows_fit_and_teach_each_turn_once(trajectory: Trajectory, max_tokens: int) -> None:
    tokenizer = small_tokenizer()
    sample = chat_form(trajectory, 0)
    cut, num_lost = windows(sample.turns, tokenizer, max_tokens)
    assert all(len(encode(turns, tokenizer)) <= max_tokens for turns in cut)
    learnt = [p for t in sample.turns for p in t.parts if p.capability]
    kept = [p for turns in cut for t in turns for p in t.parts if p.capability]
    assert len(kept) + num_lost == len(learnt)
    assert [p for p in learnt if p in kept] == kept or num_lost
    for turns in cut:
        roles = [turn.role for turn in turns]
        assert all(a != b for a, b in itertools.pairwise(roles))
        assert turns[0] == sample.turns[0]


def test_a_template_that_changes_text_is_refused() -> None:
    tokenizer = small_tokenizer("llama2")
    turns = [Turn("user", (Part("Hi"),)), Turn("assistant", (Part("  indented", "general"),))]
    with pytest.raises(ValueError, match=r"chat template changes the text of turn 1 \('  indented'\)"):
        encode(turns, tokenizer)


def test_a_conversation_that_repeats_itself_is_tagged_in_the_right_place() -> None:
    turns = [
        Turn("user", (Part("yes"),)),
        Turn("assistant", (Part("yes"),)),
        Turn("user", (Part("yes"),)),
        Turn("assistant", (Part("yes", "general"),)),
    ]
    encoded = encode(turns, small_tokenizer())
    assert np.flatnonzero(encoded.tags >= 0).tolist() == list(range(len(encoded) - 5, len(encoded) - 1))
