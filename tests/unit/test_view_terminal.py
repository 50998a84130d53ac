"""The viewer on the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from agentflan_ray.sample import Part, Sample, Turn
from agentflan_ray.trajectory import Message
from agentflan_ray.view.cards import Card
from agentflan_ray.view.pieces import with_tokens
from agentflan_ray.view.terminal import printable, show
from tests.small_tokenizer import small_tokenizer
from tests.unit.view_examples import example_cards, kept, trajectory


def shown(card: Card, width: int = 100, sample: str | None = None) -> str:
    """What is printed without colour."""
    stream = io.StringIO()
    show(card, Console(file=stream, width=width, color_system=None), sample)
    return stream.getvalue()


def coloured(card: Card, width: int = 100) -> str:
    stream = io.StringIO()
    show(card, Console(file=stream, width=width, force_terminal=True, color_system="truecolor"))
    return stream.getvalue()


def test_a_narrow_terminal_stacks_and_a_wide_one_sets_side_by_side() -> None:
    card = kept(1, "toolbench", near_miss=True)
    narrow = shown(card, 80).splitlines()
    wide = shown(card, 140).splitlines()
    assert not any("trajectory" in line and "sample" in line for line in narrow)
    assert any("trajectory · 1 tool" in line and "sample chat · form chat · case tool" in line for line in wide)


def test_what_is_learnt_is_marked_without_colour() -> None:
    text = shown(kept(1, "toolbench", near_miss=True), 90)
    assert "[reasoning|The forecast will tell.]" in text
    assert '→ [retrieval|get_weather] [understanding|{"city": "Lyon"}]' in text
    assert '[understanding|city: "Lyon"]' in text
    assert "other samples: react, near_miss" in text


def test_only_assistant_turns_are_called_not_learnt() -> None:
    lines = [line.strip("│ ") for line in shown(kept(1, "toolbench", near_miss=True), 90).splitlines()]
    assert lines.count("assistant (not learnt)") == 2  # the greeting, in trajectory and sample
    assert "user" in lines
    assert not any(line.startswith(("user (", "tool (", "system (")) for line in lines)


def test_a_sample_can_be_chosen_by_kind_or_case() -> None:
    card = kept(1, "toolbench", near_miss=True)
    assert "sample near_miss · form chat · case near_miss" in shown(card, sample="near_miss")
    assert "sample react · form react · case tool" in shown(card, sample="react")
    assert "sample chat · form chat · case tool" in shown(card, sample="tool")
    assert "other samples: chat, near_miss" in shown(card, sample="react")
    with pytest.raises(ValueError, match="has no sample 'json'; it has chat, react, near_miss"):
        shown(card, sample="json")


def test_colour_and_legend() -> None:
    text = coloured(kept(1, "toolbench", near_miss=True))
    assert "\x1b[94mThe forecast will tell." in text
    assert "\x1b[33mget_weather" in text
    assert "learnt:" in text
    assert "[reasoning|" not in text


def test_tokens_are_shown_and_counted() -> None:
    card = with_tokens(kept(1, "toolbench", near_miss=False), small_tokenizer())
    num = card.tokens[0].num_tokens
    learnt = sum(piece.num_tokens for piece in card.tokens[0].pieces if piece.tag >= 0)
    text = shown(card, 90)
    assert f"{learnt} of {num} tokens learnt" in text
    assert "[retrieval|get_weather<|im_end|>]" in text
    assert "🌧" in text
    assert "\x1b[7;33mg\x1b[0m\x1b[33me\x1b[0m" in coloured(card)  # byte by byte, neighbours told apart


def test_records_that_are_not_kept_say_why() -> None:
    removed, dropped = example_cards()[5:7]
    assert "near_duplicate: It says the same as 'sgd/4'." in shown(removed)
    assert "sgd.jsonl:6" in shown(removed)
    text = shown(dropped)
    assert "no_final_answer: Record 'x' ends without a final answer." in text
    assert '{"id": "x"}' in text
    assert "not made: near_miss (no_near_tool)" in shown(kept(3, "sgd", near_miss=False))


def test_a_record_cannot_steer_the_terminal() -> None:
    t = trajectory("t")
    evil = "\x1b[2J\x1b]0;owned\x07 [bold]x[/bold] \u202egnp.exe\x9b1A\r"
    t = replace(t, id=evil, source=evil, messages=(Message("user", evil), Message("assistant", evil, loss=True)))
    turns = (Turn("user", (Part(evil),)), Turn("assistant", (Part(evil, "general"),)))
    samples = tuple(Sample(f"{evil}/{kind}{evil}", evil, evil, "chat", "chat", turns) for kind in ("a", "b"))
    card = Card("kept", evil, evil, t, samples=samples)
    for text in (shown(card), coloured(card)):
        assert "\x1b[2J" not in text
        assert "\x1b]0" not in text
        assert not set("\x07\x9b\r\u202e") & set(text)
        assert "[bold]x[/bold]" in text
    assert printable("a\x1b\n\tb\x7f\u202e") == "a␛\n\tb␡\ufffd"
