"""The page's text: what it embeds, and that it asks for nothing else. What a browser does with it: integration."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.view.cards import Card, Status
from agentflan_ray.view.page import MAX_CHARACTERS, page, write_page
from agentflan_ray.view.pieces import with_tokens
from tests.small_tokenizer import small_tokenizer
from tests.unit.view_examples import HOSTILE, example_cards, kept, trajectory


class Elements(HTMLParser):
    """Start tags, and the text of scripts by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = str(dict(attrs).get("id", "code")) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._script = None


def embedded(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    scripts = Elements(text).scripts
    index = json.loads(scripts["index"])
    return index, [json.loads(scripts[f"card-{number}"]) for number in range(len(index))]


def test_no_record_becomes_markup() -> None:
    found = Elements(page(example_cards(), f"Title {HOSTILE}"))
    tags = [tag for tag, _ in found.tags]
    assert tags.count("script") == 1 + len(example_cards()) + 1
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    _, cards = embedded(page(example_cards(), "x"))
    assert cards[7]["raw"] == HOSTILE
    assert cards[4]["messages"][2]["pieces"] == [["text", f"Look: {HOSTILE}", None]]


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page(example_cards(), "x")
    found = Elements(text)
    assert not any(name in ("src", "href") for _, attributes in found.tags for name in attributes)
    policy = next(attributes["content"] for _, attributes in found.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"https?://", text)


def test_the_index_names_what_filters_need() -> None:
    index, _ = embedded(page(example_cards(), "x"))
    assert index[0] == {
        "number": 0,
        "key": "toolbench/1",
        "status": "kept",
        "reason": "",
        "source": "toolbench",
        "title": "Hello.",
        "samples": [
            ["chat", "chat", "tool", 0b00111],
            ["react", "react", "tool", 0b01110],
            ["near_miss", "chat", "near_miss", 0b10000],
        ],
        "not_made": [],
        "tokens": False,
    }
    assert index[2]["not_made"] == [["near_miss", "no_near_tool"]]
    assert [entry["reason"] for entry in index[5:]] == ["near_duplicate", "no_final_answer", "not_json"]
    assert index[6]["title"] == '{"id": "x"}'


def test_tokens_are_cut_from_the_text_as_a_browser_counts() -> None:
    card = with_tokens(kept(1, "toolbench", near_miss=False), small_tokenizer())
    _, cards = embedded(page([card], "x"))
    tokens = cards[0]["samples"][0]["tokens"]
    units = tokens["text"].encode("utf-16-le")
    begin, pieces = 0, []
    for length in tokens["lengths"]:
        pieces.append(units[2 * begin : 2 * (begin + length)].decode("utf-16-le"))
        begin += length
    assert pieces == [piece.text for piece in card.tokens[0].pieces]
    assert "🌧" in pieces
    assert sum(run[1] for run in tokens["runs"]) == len(pieces)
    assert sum(run[2] for run in tokens["runs"]) == card.tokens[0].num_tokens


def test_the_summary_says_how_many_of_how_many() -> None:
    cards = example_cards()
    assert "5 kept, 1 removed, 1 dropped, 1 quarantined" in page(cards, "x")
    totals: dict[Status, int] = {"kept": 1205, "removed": 1, "dropped": 1, "quarantined": 1}
    assert "5 of 1,205 kept, 1 of 1 removed" in page(cards, "x", totals)


def test_a_long_message_is_cut_and_says_so() -> None:
    card = Card("kept", "x", "x:1", trajectory("t", query="y" * (MAX_CHARACTERS + 1234)))
    _, cards = embedded(page([card], "x"))
    text = cards[0]["messages"][2]["pieces"][0][1]
    assert text == "y" * MAX_CHARACTERS + "\n[1,234 more characters are not shown]"


def test_the_same_cards_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_page(example_cards(), str(tmp_path / f"{name}.html"))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    with pytest.raises(ValueError, match="no record to show"):
        write_page([], str(tmp_path / "c.html"))
