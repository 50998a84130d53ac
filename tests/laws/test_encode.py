"""Laws of tokenising: what is tagged is what was said, whatever the chat template does round it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers

from agentflan_ray.corpus.align import chat_form, react_form
from agentflan_ray.sample import CAPABILITIES, Capability, Part, Turn
from agentflan_ray.tokens.encode import Encoded, Encoder, TemplateFault, trimmed
from agentflan_ray.tokens.locate import Locator
from agentflan_ray.tokens.templates import TEMPLATES, cut_before
from agentflan_ray.tokens.windows import windows
from agentflan_ray.trajectory import Trajectory
from tests.small_tokenizer import KINDS, NAMES, Kind, messages_of, small_tokenizer
from tests.strategies import tool_trajectories

LEAD = {"llama2": " ", "mistral": " ", "llama2_as_published": " "}
END = {
    "chatml": "<|im_end|>",
    "llama2": " </s>",
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "agentflan": "\u0d3f</s>",
    "llama2_as_published": " </s>",
    "system_last": "\n###",
}

capabilities = st.sampled_from(get_args(Capability))
texts = st.text(st.characters(codec="utf-8"), max_size=30)


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    """Any texts in turn, the assistant's in one to three parts that are all learnt."""
    turns = [Turn("system", (Part(draw(texts)),))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Turn("user", (Part(draw(texts)),)))
        parts = draw(st.lists(st.builds(Part, texts, capabilities), min_size=1, max_size=3))
        turns.append(Turn("assistant", tuple(parts)))
    # A turn of the assistant without a word teaches nothing, not even to stop.
    assume(all(turn.text.strip() for turn in turns if turn.role == "assistant"))
    assume(not any(mark in turn.text for turn in turns for mark in END.values()))
    return turns


def taught(turns: Sequence[Turn], capability: str, template: str) -> str:
    """What a model has to say under a capability: its parts, with the lead before a turn and the end mark after it."""
    said = ""
    for turn in turns:
        for index, part in enumerate(parts := trimmed(turn).parts):
            if part.capability == capability:
                said += LEAD.get(template, "") * (index == 0) + part.text + END[template] * (index == len(parts) - 1)
    return said


def spelt(tokenizer: Any, encoded: Encoded, capability: str) -> str:
    return str(tokenizer.decode(encoded.input_ids[encoded.tags == CAPABILITIES.index(capability)]))


@pytest.mark.parametrize("template", NAMES)
@pytest.mark.parametrize("form", [chat_form, react_form])
@settings(max_examples=15, deadline=None)
@given(trajectory=tool_trajectories())
def test_tagged_tokens_spell_the_supervised_text(template, form, trajectory: Trajectory) -> None:  # type: ignore[no-untyped-def]
    tokenizer = small_tokenizer(template)
    sample = form(trajectory, 0) if form is chat_form else form(trajectory)
    # Hypothesis draws from the literals of this very file too, and text that holds a template's mark is refused.
    assume(not any(mark in turn.text for turn in sample.turns for mark in END.values()))
    encoded = Encoder(tokenizer)(sample.turns)
    messages = messages_of([trimmed(turn) for turn in sample.turns])
    assert tokenizer.decode(encoded.input_ids) == tokenizer.apply_chat_template(messages, tokenize=False)
    for capability in CAPABILITIES:
        assert spelt(tokenizer, encoded, capability) == taught(sample.turns, capability, template), capability


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(turns=conversations(), kind=st.sampled_from(KINDS))
def test_what_is_learnt_is_what_the_template_marks_as_generated(template, turns: list[Turn], kind: Kind) -> None:  # type: ignore[no-untyped-def]
    tokenizer = small_tokenizer(template, kind)
    encoded = Encoder(tokenizer)(turns)
    marked = tokenizer.apply_chat_template(messages_of(turns), return_assistant_tokens_mask=True, return_dict=True)
    assert encoded.input_ids.tolist() == marked["input_ids"]
    assert (encoded.tags >= 0).astype(int).tolist() == marked["assistant_masks"]


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=20, deadline=None)
@given(turns=conversations(), kind=st.sampled_from(KINDS))
def test_each_part_is_learnt_under_its_own_capability(template, turns: list[Turn], kind: Kind) -> None:  # type: ignore[no-untyped-def]
    """Every token is learnt as the part that the last of its characters lies in, whatever it covers besides."""
    tokenizer = small_tokenizer(template, kind)
    encoded = Encoder(tokenizer)(turns)
    owners: list[int] = []
    for turn in map(trimmed, turns):
        if turn.role == "assistant":
            spans = [CAPABILITIES.index(p.capability) for p in turn.parts for _ in p.text if p.capability]
            owners += [spans[0]] * len(LEAD.get(template, "")) + spans + [spans[-1]] * len(END[template])
    rendered = tokenizer.apply_chat_template(messages_of(turns), tokenize=False)
    offsets = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    learnt = np.flatnonzero(encoded.tags >= 0)
    # Characters of the rendered text that belong to the assistant, in order, are the owners.
    covered = sorted({place for token in learnt for place in range(*offsets[token])})
    owned = dict(zip(covered[-len(owners) :] if template in LEAD else covered, owners, strict=True))
    for token in learnt:
        assert encoded.tags[token] == owned[offsets[token][1] - 1]


def odd_tokenizers() -> dict[str, Any]:
    """Kinds of rules under which a token is more or less than the bytes that it stands for, and one that pads."""
    found: dict[str, Any] = {kind: small_tokenizer(kind=kind) for kind in KINDS}
    for name in ("composing", "lower_case", "eats_blanks", "pads_and_cuts"):
        found[name] = small_tokenizer(kind="trained_bytes")
    found["composing"].backend_tokenizer.normalizer = normalizers.NFC()
    found["lower_case"].backend_tokenizer.normalizer = normalizers.Lowercase()
    found["eats_blanks"].backend_tokenizer.add_special_tokens([AddedToken("<eats>", lstrip=True, rstrip=True)])
    found["pads_and_cuts"].backend_tokenizer.enable_padding(length=64)
    found["pads_and_cuts"].backend_tokenizer.enable_truncation(4)
    return found


ODD_TOKENIZERS = odd_tokenizers()
pieces_of_text = st.sampled_from(
    ["<eats>", "<|im_end|>", " ", "\n", "the weather", "e\u0301", "\u212b", "\U0001f44d", "Paris"]
)


@pytest.mark.parametrize("name", ODD_TOKENIZERS)
@settings(max_examples=40, deadline=None)
@given(given_texts=st.lists(st.lists(pieces_of_text | texts, max_size=8).map("".join), max_size=4))
def test_each_token_is_found_where_the_library_says_that_it_is(name, given_texts: list[str]) -> None:  # type: ignore[no-untyped-def]
    tokenizer = ODD_TOKENIZERS[name]
    located = Locator(tokenizer)(given_texts)
    for number, text in enumerate(given_texts):
        expected = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        start, stop = located.starts[number : number + 2].tolist()
        assert located.input_ids[start:stop].tolist() == expected["input_ids"]
        ends = [end for _, end in expected["offset_mapping"]]
        firsts = [next((i for i, end in enumerate(ends) if end > place), len(ends)) for place in range(len(text) + 1)]
        found = located.tokens_at([number] * (len(text) + 1), range(len(text) + 1))
        assert (found - start).tolist() == firsts


@settings(max_examples=30, deadline=None)
@given(st.lists(conversations(), max_size=4), st.sampled_from(NAMES), st.sampled_from(KINDS))
def test_a_batch_is_encoded_as_each_would_be_alone(several: list[list[Turn]], template: str, kind: Kind) -> None:
    # The same turns stand in several conversations, first, later and last, as they do in the samples of a trajectory.
    turns_twice = [turns[-2:] + turns for turns in several if turns[0].role == "user"]
    several = [*several, *turns_twice, *(turns[:-2] for turns in several if len(turns) > 3)]
    tokenizer = small_tokenizer(template, kind)
    for turns, together in zip(several, Encoder(tokenizer).batch(several), strict=True):
        new = Encoder(tokenizer)
        if isinstance(together, TemplateFault):
            with pytest.raises(TemplateFault, match=re.escape(str(together))):
                new(turns)
            continue
        alone = new(turns)
        assert alone.input_ids.tolist() == together.input_ids.tolist()
        assert alone.tags.tolist() == together.tags.tolist()
        assert alone.turn_ends.tolist() == together.turn_ends.tolist()
        rendered = tokenizer.apply_chat_template(messages_of([trimmed(turn) for turn in turns]), tokenize=False)
        assert together.input_ids.tolist() == tokenizer(rendered, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(before=st.lists(pieces_of_text | texts, max_size=6), after=st.lists(pieces_of_text | texts, max_size=6))
def test_a_text_may_be_cut_before_a_control_token(kind: Kind, before: list[str], after: list[str]) -> None:
    tokenizer = small_tokenizer(kind=kind)
    assert {"<|im_start|>", "<|im_end|>", "<s>", "</s>"} <= set(cut_before(tokenizer))
    for token in cut_before(tokenizer):
        halves = ("".join(before), token + "".join(after))
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("".join(halves), *halves)]
        assert ids[0] == ids[1] + ids[2]


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("<|at|>", normalized=True),
        AddedToken("<|at|>", normalized=False, lstrip=True),
        AddedToken("<|at|>", normalized=False, single_word=True),
        AddedToken("word|at|", normalized=False),
    ],
)
def test_no_text_is_cut_before_a_token_that_looks_round(token: AddedToken) -> None:
    tokenizer = small_tokenizer()
    tokenizer.backend_tokenizer.add_tokens([token])
    assert token.content not in cut_before(tokenizer)
    assert "<|im_start|>" in cut_before(tokenizer)


def test_no_text_is_cut_where_another_token_may_reach_over() -> None:
    tokenizer = small_tokenizer()
    tokenizer.backend_tokenizer.add_tokens([AddedToken("x<|im_start|>y", normalized=False)])
    assert cut_before(tokenizer) == ()


def test_an_encoder_forgets_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [Turn("user", (Part("Hi"),)), Turn("assistant", (Part("Hello", "general"),))]
    encode = Encoder(small_tokenizer())
    first = encode(turns)
    monkeypatch.setattr("agentflan_ray.tokens.encode.REMEMBERED_CHARACTERS", 0)
    assert encode(list(turns)).input_ids.tolist() == first.input_ids.tolist()
    assert encode([turns[0], Turn("assistant", (Part("Bye", "general"),))]).tags.tolist() != []


@pytest.mark.parametrize("template", ["chatml", "llama2", "system_last"])
@settings(max_examples=25, deadline=None)
@given(trajectory=tool_trajectories(), max_tokens=st.integers(200, 900))
def test_windows_fit_and_teach_each_turn_once(template, trajectory: Trajectory, max_tokens: int) -> None:  # type: ignore[no-untyped-def]
    tokenizer = small_tokenizer(template)
    turns = chat_form(trajectory, 0).turns
    encode = Encoder(tokenizer)
    tried: list[Encoded] = []
    done: list[Encoded] = []

    def counted(some: Sequence[Turn]) -> Encoded:
        tried.append(encode(some))
        if len(tried[-1]) <= max_tokens or [turn.role for turn in some].count("assistant") == 1:
            done.append(tried[-1])
        return tried[-1]

    cut, num_lost = windows(turns, counted, max_tokens)
    assert all(len(window) <= max_tokens for window in cut)
    whole = encode(turns)
    # Linear: the whole once, and each window once or, where a joint was longer than reckoned, a few times. Windows in
    # which nothing is learnt are made too.
    assert len(tried) <= 1 + 4 * len(done)
    if len(whole) > max_tokens:
        teaching = [window for window in done if window is not tried[0] and (window.tags >= 0).any()]
        assert len(teaching) == len(cut) + num_lost
    learnt = [turn for turn in turns if any(part.capability for part in turn.parts)]
    kept = sum(spelt_end(tokenizer, window, END[template]) for window in cut)
    assert kept + num_lost == len(learnt)
    if not num_lost:
        taught_ids = np.concatenate([window.input_ids[window.tags >= 0] for window in cut])
        assert taught_ids.tolist() == whole.input_ids[whole.tags >= 0].tolist()
    task = next(turn.text for turn in turns if turn.role == "user")
    for window in cut:
        text = tokenizer.decode(window.input_ids)
        assert turns[0].text in text
        assert task in text
        roles = re.findall(r"<\|im_start\|>(\w+)|\[/?INST\]|USER|REPLY", text)
        assert template != "chatml" or all(a != b for a, b in itertools.pairwise(roles))


def spelt_end(tokenizer: Any, window: Encoded, end: str) -> int:
    """How many turns of a window are learnt, told by the end marks that are."""
    return str(tokenizer.decode(window.input_ids[window.tags >= 0])).count(end)


def test_blanks_round_a_text_are_left_out_and_its_parts_keep_their_tags() -> None:
    turn = Turn("assistant", (Part(" \n"), Part("  go", "reasoning"), Part(" on", "general"), Part("\t", "retrieval")))
    assert trimmed(turn) == Turn("assistant", (Part("go", "reasoning"), Part(" on", "general")))
    assert trimmed(Turn("user", (Part(" "), Part("")))) == Turn("user", ())
    tokenizer = small_tokenizer()
    encoded = Encoder(tokenizer)([Turn("user", (Part("Hi "),)), turn])
    assert tokenizer.decode(encoded.input_ids).endswith("user\nHi<|im_end|>\n<|im_start|>assistant\ngo on<|im_end|>\n")
    assert spelt(tokenizer, encoded, "reasoning") == "go"
    assert spelt(tokenizer, encoded, "general") == " on<|im_end|>"
    assert spelt(tokenizer, encoded, "retrieval") == ""


@pytest.mark.parametrize("template", NAMES)
def test_texts_that_stand_in_each_other_are_told_apart(template: str) -> None:
    capability: Capability = "general"
    turns = [
        Turn("system", (Part("Say yes. Reply: assistant\nyes yes"),)),
        Turn("user", (Part("yes"),)),
        Turn("assistant", (Part("yes"),)),
        Turn("user", (Part("assistant\nyes"),)),
        Turn("assistant", (Part("yes", capability),)),
    ]
    tokenizer = small_tokenizer(template)
    encoded = Encoder(tokenizer)(turns)
    assert spelt(tokenizer, encoded, capability) == LEAD.get(template, "") + "yes" + END[template]
    last = np.flatnonzero(encoded.tags >= 0)
    assert last.tolist() == list(range(last[0], last[-1] + 1))
    assert tokenizer.decode(encoded.input_ids[last[-1] + 1 :]).strip() == ""


def with_template(text: str) -> Any:
    tokenizer = small_tokenizer()
    tokenizer.chat_template = text
    return tokenizer


def test_what_the_template_cannot_render_is_named_and_spares_the_others() -> None:
    good = [Turn("user", (Part("Hi"),)), Turn("assistant", (Part("Hello", "general"),))]
    twice = [good[0], *good]
    control = [good[0], Turn("assistant", (Part("a</s>b", "general"),))]
    first, second, third, fourth = Encoder(small_tokenizer("llama2_as_published")).batch([good, twice, control, good])
    assert isinstance(first, Encoded)
    assert isinstance(fourth, Encoded)
    assert isinstance(second, TemplateFault)
    assert (second.reason, str(second)) == (
        "template_refuses",
        "The chat template refuses this conversation: Conversation roles must alternate.",
    )
    assert isinstance(third, TemplateFault)
    assert (third.reason, str(third)) == (
        "control_token_in_text",
        "The text of turn 1 ('a</s>b') holds '</s>', with which the chat template marks turns.",
    )


def test_a_template_that_changes_text_is_refused_with_the_turn() -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'].split('</think>')[-1] }}</s>\n{% endfor %}"  # R1 does
    )
    turns = [Turn("user", (Part("Hi"),)), Turn("assistant", (Part("<think>so</think>Yes", "general"),))]
    with pytest.raises(TemplateFault, match=r"changes the text of turn 1 \('<think>so</think>Yes'\)") as caught:
        Encoder(with_template(template))(turns)
    assert caught.value.reason == "template_changes_text"


def test_a_template_that_leaves_a_turn_out_is_refused() -> None:
    template = (
        "{% for m in messages if m['role'] != 'system' %}{{ m['role'] }}: {{ m['content'] }}<|im_end|>\n{% endfor %}"
    )
    turns = [Turn("system", (Part("S"),)), Turn("user", (Part("Hi"),)), Turn("assistant", (Part("Yes", "general"),))]
    with pytest.raises(TemplateFault, match=r"renders turn 0 \(system\) 0 times instead of once") as caught:
        Encoder(with_template(template))(turns)
    assert caught.value.reason == "template_drops_turn"
