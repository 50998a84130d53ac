"""What a card says of a record: pieces and their capabilities, and the tokens of its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.corpus.align import chat_form
from agentflan_ray.sample import CAPABILITIES, Part, Turn
from agentflan_ray.tokens.encode import Encoder
from agentflan_ray.toolbox import draw_chat, draw_trajectory
from agentflan_ray.trajectory import Trajectory
from agentflan_ray.view.cards import kind_of, pieces_of
from agentflan_ray.view.pieces import token_pieces, with_tokens
from tests.small_tokenizer import KINDS, Kind, small_tokenizer
from tests.strategies import tool_trajectories
from tests.unit.view_examples import example_cards, kept, trajectory


def test_pieces_of_a_trajectory_carry_its_capabilities() -> None:
    found = [(message.role, [tuple(piece) for piece in pieces]) for message, pieces in pieces_of(trajectory("t"))]
    assert found == [
        ("user", [("text", "Hello.", None)]),
        ("assistant", [("text", "Hi there.", None)]),
        ("user", [("text", "Is it raining in Lyon?", None)]),
        (
            "assistant",
            [
                ("thought", "The forecast will tell.", "reasoning"),
                ("tool", "get_weather", "retrieval"),
                ("arguments", '{"city": "Lyon"}', "understanding"),
            ],
        ),
        ("tool", [("text", "rain, 12 °C 🌧", None)]),
        ("assistant", [("text", "Yes, it is raining.", "reasoning")]),
    ]


def assert_shows_what_is_taught(t: Trajectory) -> None:
    """The trajectory has as many pieces of each capability as its decomposition."""
    shown = Counter(piece.capability for _, pieces in pieces_of(t) for piece in pieces if piece.capability)
    taught = Counter(part.capability for turn in chat_form(t, 0).turns for part in turn.parts if part.capability)
    assert shown == taught


@pytest.mark.parametrize("draw", [draw_trajectory, draw_chat])
def test_drawn_trajectories_show_what_their_decomposition_teaches(draw: Callable[[int], Trajectory]) -> None:
    for index in range(20):
        assert_shows_what_is_taught(draw(index))


@settings(max_examples=50, deadline=None)
@given(tool_trajectories())
def test_any_trajectory_shows_what_its_decomposition_teaches(t: Trajectory) -> None:
    assert_shows_what_is_taught(t)


def test_keys_and_kinds() -> None:
    cards = example_cards()
    assert [card.key for card in cards[4:]] == ["sgd/5", "sgd.jsonl:6", "toolbench.jsonl:7", "toolbench.jsonl:8"]
    assert [kind_of(sample) for sample in cards[0].samples] == ["chat", "react", "near_miss"]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), min_size=2, max_size=4),
    kind=st.sampled_from(KINDS),
)
def test_pieces_join_to_the_text_and_count_every_token(texts: list[str], kind: Kind) -> None:
    texts = [f"a{text}b" for text in texts]  # the ends of a turn may be trimmed
    tokenizer = small_tokenizer("chatml", kind)
    turns = [
        Turn("assistant" if index % 2 else "user", (Part(text, "reasoning" if index % 2 else None),))
        for index, text in enumerate(texts)
    ]
    encoder = Encoder(tokenizer)
    encoded = encoder(turns)
    pieces = list(token_pieces(turns, tokenizer, encoder))
    whole = tokenizer.backend_tokenizer.decode(encoded.input_ids.tolist(), skip_special_tokens=False)
    assert "".join(piece.text for piece in pieces) == whole
    assert [tag for piece in pieces for tag in [piece.tag] * piece.num_tokens] == encoded.tags.tolist()


def test_a_character_of_several_tokens_is_one_piece() -> None:
    tokenizer = small_tokenizer("chatml", "bytes")
    turns = [Turn("user", (Part("?"),)), Turn("assistant", (Part("é🌧!", "general"),))]
    learnt = [piece for piece in token_pieces(turns, tokenizer, Encoder(tokenizer)) if piece.tag >= 0]
    assert [(piece.text, piece.num_tokens) for piece in learnt] == [("é", 2), ("🌧", 4), ("!", 1), ("<|im_end|>", 1)]
    assert {CAPABILITIES[piece.tag] for piece in learnt} == {"general"}


def test_every_sample_of_a_card_gets_its_tokens() -> None:
    card = with_tokens(kept(1, "toolbench", near_miss=True), small_tokenizer())
    assert [tokens.fault for tokens in card.tokens] == ["", "", ""]
    learnt = ["".join(piece.text for piece in tokens.pieces if piece.tag >= 0) for tokens in card.tokens]
    assert learnt[0].split("<|im_end|>") == [
        "The forecast will tell.",
        "get_weather",
        'city: "Lyon"',
        "Yes, it is raining.",
        "",
    ]
    assert learnt[2] == "None of my tools knows the weather.<|im_end|>"


def test_a_sample_that_the_template_cannot_render_says_why() -> None:
    tokenizer = small_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | upper }}<|im_end|>\n{% endfor %}"
    )
    card = with_tokens(kept(1, "toolbench", near_miss=False), tokenizer)
    assert all(tokens.pieces == () for tokens in card.tokens)
    assert "template" in card.tokens[0].fault
