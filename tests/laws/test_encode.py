"""Laws of tokenising: what is tagged is what was said, whatever the chat template does round it."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.corpus.align import chat_form, react_form
from agentflan_ray.sample import CAPABILITIES, Part, Sample, Turn
from agentflan_ray.tokens.encode import Encoder, messages_of, windows
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
    encoded = Encoder(tokenizer)(sample.turns)
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
    cut, num_lost = windows(sample.turns, Encoder(tokenizer), max_tokens)
    whole = Encoder(tokenizer)(sample.turns)
    assert all(len(window) <= max_tokens for window in cut)
    learnt = [t for t in sample.turns if any(p.capability for p in t.parts)]
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    kept = sum(int(((window.input_ids == ends) & (window.tags >= 0)).sum()) for window in cut)
    assert kept + num_lost == len(learnt)
    if not num_lost:
        taught_ids = np.concatenate([window.input_ids[window.tags >= 0] for window in cut])
        assert taught_ids.tolist() == whole.input_ids[whole.tags >= 0].tolist()
    task = next(turn.text for turn in sample.turns if turn.role == "user")
    for window in cut:
        text = tokenizer.decode(window.input_ids)
        assert sample.turns[0].text in text
        assert task in text
        roles = re.findall(r"<\|im_start\|>(\w+)", text)
        assert all(a != b for a, b in itertools.pairwise(roles))


def test_a_template_that_changes_text_is_refused() -> None:
    tokenizer = small_tokenizer("llama2")
    turns = [Turn("user", (Part("Hi"),)), Turn("assistant", (Part("  indented", "general"),))]
    with pytest.raises(ValueError, match=r"chat template changes the text of turn 1 \('  indented'\)"):
        Encoder(tokenizer)(turns)


def test_a_conversation_that_repeats_itself_is_tagged_in_the_right_place() -> None:
    turns = [
        Turn("user", (Part("yes"),)),
        Turn("assistant", (Part("yes"),)),
        Turn("user", (Part("yes"),)),
        Turn("assistant", (Part("yes", "general"),)),
    ]
    encoded = Encoder(small_tokenizer())(turns)
    assert np.flatnonzero(encoded.tags >= 0).tolist() == list(range(len(encoded) - 5, len(encoded) - 1))
