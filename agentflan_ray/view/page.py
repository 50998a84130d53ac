"""Cards as one HTML file that needs nothing else: no server, no network, no library.

Records are untrusted text. They stand in the page as JSON inside ``<script type="application/json">``, with every
``<`` escaped so that none can end the element, and reach the screen only as text nodes. The content security policy
allows the page's own script and style, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from agentflan_ray import storage
from agentflan_ray.forms import tool_line
from agentflan_ray.sample import CAPABILITIES, Sample
from agentflan_ray.view.cards import Card, SampleTokens, Status, kind_of, pieces_of

MAX_CHARACTERS = 20_000
"""Of one message or part; what is longer is cut, and says so. Five thousand tokens are no reading for a person."""

MAX_PIECES = 20_000
"""Token pieces of one sample that are drawn; each is an element of the page."""

TITLE_CHARACTERS = 140


def write_page(
    cards: Sequence[Card],
    uri: str | Path,
    title: str = "Records of a corpus",
    totals: Mapping[Status, int] | None = None,
) -> None:
    """Write the page. ``totals`` says of how many records of each status the cards are a sample; None: these are all.

    With tokens on the cards, samples can also be seen token by token. Raises ``ValueError`` where there is no card.
    """
    if not cards:
        raise ValueError("There is no record to show on a page.")
    storage.write_bytes(uri, page(cards, title, totals).encode())


def page(cards: Sequence[Card], title: str, totals: Mapping[Status, int] | None = None) -> str:
    """The text of the page."""
    assets = resources.files(__package__)
    style = (assets / "page.css").read_text(encoding="utf-8")
    script = (assets / "page.js").read_text(encoding="utf-8")
    template = Template((assets / "page.html").read_text(encoding="utf-8"))
    blocks = [
        f'<script type="application/json" id="card-{number}">{_json(_card(card))}</script>'
        for number, card in enumerate(cards)
    ]
    return template.substitute(
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
        title=html.escape(title),
        summary=html.escape(_summary(cards, totals)),
        style=style,
        script=script,
        index=_json([_index_entry(number, card) for number, card in enumerate(cards)]),
        cards="\n".join(blocks),
    )


def _summary(cards: Sequence[Card], totals: Mapping[Status, int] | None) -> str:
    shown: dict[Status, int] = {}
    for card in cards:
        shown[card.status] = shown.get(card.status, 0) + 1
    if totals is None or sum(totals.values()) == len(cards):
        return ", ".join(f"{number:,} {status}" for status, number in shown.items())
    counts = ", ".join(f"{shown.get(status, 0):,} of {number:,} {status}" for status, number in totals.items())
    return f"Some of every kind: {counts}"


def _index_entry(number: int, card: Card) -> dict[str, Any]:
    """What the list and the filters need; the rest of a card is parsed when it is opened."""
    return {
        "number": number,
        "key": card.key,
        "status": card.status,
        "reason": card.reason,
        "source": card.source,
        "title": _title(card),
        "samples": [[kind_of(each), each.form, each.case, _capability_mask(each)] for each in card.samples],
        "not_made": [list(each) for each in card.not_made],
        "tokens": bool(card.tokens),
    }


def _card(card: Card) -> dict[str, Any]:
    trajectory = card.trajectory
    tokens: Sequence[SampleTokens | None] = card.tokens or [None] * len(card.samples)
    return {
        "id": trajectory.id if trajectory else "",
        "where": card.where,
        "origin": card.origin,
        "sentence": card.sentence,
        "raw": card.raw,
        "meta": list(trajectory.meta.items()) if trajectory else [],
        "tools": [_cut(tool_line(tool)) for tool in trajectory.tools] if trajectory else [],
        "messages": [
            {
                "role": message.role,
                "learnt": message.loss,
                "pieces": [[piece.kind, _cut(piece.text), piece.capability] for piece in pieces],
            }
            for message, pieces in (pieces_of(trajectory) if trajectory else ())
        ],
        "samples": [_sample(*pair) for pair in zip(card.samples, tokens, strict=True)],
    }


def _sample(sample: Sample, tokens: SampleTokens | None) -> dict[str, Any]:
    turns = [[turn.role, [[_cut(part.text), part.capability] for part in turn.parts]] for turn in sample.turns]
    shown = {"form": sample.form, "case": sample.case, "turns": turns}
    return shown if tokens is None else {**shown, "tokens": _tokens(tokens)}


def _tokens(tokens: SampleTokens) -> dict[str, Any]:
    """The text, the length of each piece in it (UTF-16 units, as JavaScript counts) and runs of equal tags.

    A run is (tag, pieces, tokens): a third of the size of a list of pieces with their tags.
    """
    if tokens.fault:
        return {"fault": tokens.fault}
    pieces = tokens.pieces[:MAX_PIECES]
    runs = []
    for tag, run in itertools.groupby(pieces, lambda piece: piece.tag):
        sizes = [piece.num_tokens for piece in run]
        runs.append([tag, len(sizes), sum(sizes)])
    return {
        "text": "".join(piece.text for piece in pieces),
        "lengths": [len(piece.text.encode("utf-16-le")) // 2 for piece in pieces],
        "runs": runs,
        "left_out": sum(piece.num_tokens for piece in tokens.pieces[MAX_PIECES:]),
    }


def _title(card: Card) -> str:
    """What the list shows: the request, else how the raw text begins."""
    messages = card.trajectory.messages if card.trajectory else ()
    first = next((message.content for message in messages if message.role == "user"), card.raw)
    return " ".join(first[: 8 * TITLE_CHARACTERS].split())[:TITLE_CHARACTERS]


def _capability_mask(sample: Sample) -> int:
    learnt = {part.capability for turn in sample.turns for part in turn.parts}
    return sum(1 << bit for bit, capability in enumerate(CAPABILITIES) if capability in learnt)


def _cut(text: str) -> str:
    left_out = len(text) - MAX_CHARACTERS
    return text if left_out <= 0 else f"{text[:MAX_CHARACTERS]}\n[{left_out:,} more characters are not shown]"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
