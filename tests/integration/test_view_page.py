"""The viewer's page in a headless Chromium: what filters hide, what a hostile record does, and the keys."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from agentflan_ray.view.page import page, write_page
from agentflan_ray.view.pieces import with_tokens
from tests.small_tokenizer import small_tokenizer
from tests.unit.view_examples import HOSTILE, example_cards

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

Dump = Callable[..., str]


@pytest.fixture
def dump(tmp_path: Path) -> Dump:
    """The document that a browser makes of a page with this address after ``#``."""

    def run(path: Path, filters: list[tuple[str, str]] | None = None, width: int = 1400) -> str:
        command = [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            "--virtual-time-budget=2000",
            "--dump-dom",
            f"{path.as_uri()}#{urlencode(filters or [])}",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return run


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    cards = [with_tokens(card, small_tokenizer()) for card in example_cards()]
    write_page(cards, str(path), "corpus@c")
    return path


def inside(document: str, pattern: str) -> str:
    """The markup of the first element that the pattern for its start tag finds, up to the next end of its kind."""
    start = re.search(pattern, document)
    assert start, f"Nothing in the document matches {pattern}."
    tag = start[0][1:].split()[0].rstrip(">")
    return document[start.end() : document.index(f"</{tag}>", start.end())]


def text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def listed(document: str) -> list[str]:
    """Keys or reasons of the listed records."""
    return [text(small.split("</span>")[1]) for small in re.findall(r"<small>(.*?)</small>", inside(document, "<ol"))]


def counts(document: str, facet: str) -> dict[str, int]:
    markup = inside(document, f'<fieldset[^>]*data-facet="{facet}"[^>]*>')
    found = re.findall(r'<label[^>]*data-value="([^"]*)".*?<b>([\d,]*)</b>', markup)
    return {value: int(number) for value, number in found}


def detail(document: str) -> str:
    return text(inside(document, '<article[^>]*id="detail"[^>]*>'))


def test_everything_is_listed_without_filters(example: Path, dump: Dump) -> None:
    document = dump(example)
    assert listed(document) == [
        "toolbench/1",
        "toolbench/2",
        "toolbench/3",
        "sgd/4",
        "sgd/5",
        "removed: near_duplicate",
        "dropped: no_final_answer",
        "quarantined: not_json",
    ]
    assert counts(document, "status") == {"kept": 5, "removed": 1, "dropped": 1, "quarantined": 1}
    assert counts(document, "source") == {"toolbench": 5, "sgd": 3}
    assert counts(document, "case") == {"tool": 5, "near_miss": 3}
    assert counts(document, "form") == {"chat": 5, "react": 5}
    assert counts(document, "reason") == {"no_near_tool": 2, "near_duplicate": 1, "no_final_answer": 1, "not_json": 1}
    assert "toolbench/1" in detail(document)
    assert "1 of 8" in detail(document)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("source", "toolbench"), ("case", "near_miss")], ["toolbench/1", "toolbench/2"]),
        ([("status", "removed"), ("status", "dropped")], ["removed: near_duplicate", "dropped: no_final_answer"]),
        ([("reason", "no_near_tool")], ["toolbench/3", "sgd/5"]),
        ([("reason", "no_near_tool"), ("case", "tool")], []),
        # The three must be true of one sample: what near misses teach here is general talk.
        ([("case", "near_miss"), ("capability", "general"), ("form", "chat")], ["toolbench/1", "toolbench/2", "sgd/4"]),
        ([("case", "near_miss"), ("capability", "reasoning")], []),
        ([("q", "UMBRELLA")], ["toolbench/2"]),
        ([("q", "line 8")], ["quarantined: not_json"]),
    ],
    ids=lambda value: "&".join("=".join(pair) for pair in value) if value and isinstance(value[0], tuple) else "",
)
def test_filters_hide_the_others(
    filters: list[tuple[str, str]], expected: list[str], example: Path, dump: Dump
) -> None:
    document = dump(example, filters)
    assert listed(document) == expected
    assert text(inside(document, '<p id="count"[^>]*>')) == f"{len(expected)} of 8 records"
    if not expected:
        assert "No record matches these filters." in detail(document)


def test_counts_say_what_a_click_would_leave(example: Path, dump: Dump) -> None:
    document = dump(example, [("source", "toolbench"), ("case", "near_miss")])
    assert counts(document, "source") == {"toolbench": 2, "sgd": 1}
    assert counts(document, "case") == {"tool": 3, "near_miss": 2}
    assert counts(document, "form") == {"chat": 2, "react": 0}
    assert counts(document, "status") == {"kept": 2, "removed": 0, "dropped": 0, "quarantined": 0}
    # The sample that the filter asks for is the one that is open.
    assert "None of my tools knows the weather." in detail(document)
    assert re.search(r'aria-selected="true">near_miss<', document)


def test_a_link_opens_a_record_and_a_sample(example: Path, dump: Dump) -> None:
    document = dump(example, [("id", "sgd/4"), ("sample", "react")])
    assert re.search(r'aria-selected="true">react<', document)
    shown = detail(document)
    assert "sgd/4" in shown
    assert "4 of 8" in shown
    assert "instruction: Action: " in shown  # the label for those who do not see the colour
    assert "The record elsewhere is not on this page." in detail(dump(example, [("id", "elsewhere")]))


def test_pieces_of_trajectory_and_sample_are_linked_and_level(example: Path, dump: Dump) -> None:
    document = dump(example, [("id", "toolbench/1")])
    links = re.findall(r'data-capability="(\w+)"[^>]*data-link="([\w-]+)"', document)
    assert sorted(links) == sorted(
        2
        * [
            ("reasoning", "reasoning-0"),
            ("retrieval", "retrieval-0"),
            ("understanding", "understanding-0"),
            ("reasoning", "reasoning-1"),
        ]
    )
    assert 'style="margin-top:' in document  # the tool's box pushes the sample's turns down
    assert 'style="margin-top:' not in dump(example, [("id", "toolbench/1")], width=800)  # one below the other


def test_tokens_are_drawn_one_by_one(example: Path, dump: Dump) -> None:
    document = dump(example, [("id", "toolbench/1"), ("view", "tokens")])
    tokens = document[document.index('<div class="tokens">') :]
    assert re.search(r'<span class="cap retrieval"[^>]*>.*?<i>g</i><i>e</i><i>t</i><i>_</i>', tokens)
    assert "<i>🌧</i>" in tokens
    assert re.search(r"[\d,]+ of [\d,]+ tokens learnt", detail(document))


@pytest.mark.parametrize("identity", ["sgd/5", "toolbench.jsonl:8"])
def test_a_hostile_record_is_text(identity: str, example: Path, dump: Dump) -> None:
    for filters in ([("id", identity)], [("id", identity), ("view", "tokens"), ("q", "<img")]):
        document = dump(example, filters)
        assert "<title>corpus@c</title>" in document
        assert "<img" not in re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)
        assert HOSTILE in detail(document).replace("↵", "")


def test_keys_walk_through_records_and_samples(example: Path, dump: Dump, tmp_path: Path) -> None:
    cards = [with_tokens(card, small_tokenizer()) for card in example_cards()]
    # The policy would stop this test's own script.
    driven = re.sub(r"<meta http-equiv[^>]*>", "", page(cards, "keys"))
    script = "for (const key of KEYS) document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));"
    path = tmp_path / "driven.html"

    def after(keys: list[str]) -> str:
        code = f"<script>{script.replace('KEYS', str(keys))}</script></body>"
        path.write_text(driven.replace("</body>", code), encoding="utf-8")
        return detail(dump(path))

    assert "toolbench/2" in after(["j", "j", "k"])
    assert "8 of 8" in after(["j"] * 20)
    at_the_end = after(["k", "]", "]", "t"])
    assert "1 of 8" in at_the_end
    assert "form chat, case near_miss" in at_the_end
    assert "<|im_start|>" in at_the_end
    assert "form chat, case near_miss" in after(["["])
