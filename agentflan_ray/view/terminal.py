"""A record on the terminal: the trajectory beside a sample made of it, coloured by what each piece teaches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from agentflan_ray.sample import CAPABILITIES, Sample
from agentflan_ray.trajectory import Trajectory
from agentflan_ray.view.cards import Card, MessagePiece, SampleTokens, kind_of, pieces_of

COLOURS = {
    "reasoning": "bright_blue",
    "retrieval": "yellow",
    "understanding": "green",
    "instruction": "magenta",
    "general": "cyan",
}
UNTAUGHT = "dim"

SIDE_BY_SIDE = 110
"""Columns from which two panels stand beside each other: fewer leave under 50 characters a line."""

_INVISIBLE = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"),
}
"""Control characters as pictures: a record must not steer the terminal (ESC), nor turn the order of its text round."""


def show(card: Card, console: Console, sample: str | None = None) -> None:
    """Print one record beside one of its samples, the first, or the first of the kind or case ``sample``.

    With tokens on the card the sample is shown as the model reads it, token by token. Where the console has no colour,
    what is learnt is written as ``[reasoning|text]``.

    Raises ``ValueError`` where the record has no such sample.
    """
    kinds = [kind_of(each) for each in card.samples]
    wanted = [index for index, each in enumerate(card.samples) if sample in (None, kinds[index], each.case)]
    if sample is not None and not wanted:
        raise ValueError(f"Record {card.key!r} has no sample {sample!r}; it has {', '.join(kinds) or 'none'}.")
    plain = console.color_system is None
    panels = [_record_panel(card, plain)]
    if wanted:
        tokens = card.tokens[wanted[0]] if card.tokens else None
        panels.append(_sample_panel(card.samples[wanted[0]], tokens, plain))
    console.print(_heading(card))
    if len(panels) == 2 and console.width >= SIDE_BY_SIDE:
        columns = Table.grid(expand=True, padding=(0, 1))
        columns.add_column(ratio=1)
        columns.add_column(ratio=1)
        columns.add_row(*panels)
        console.print(columns)
    else:
        console.print(*panels, sep="\n")
    if others := [kind for index, kind in enumerate(kinds) if index not in wanted[:1]]:
        console.print(Text.assemble(("other samples: ", "bold"), printable(", ".join(others))))
    for reason in dict.fromkeys(each.reason for each in card.not_made):
        missing = ", ".join(each.kind for each in card.not_made if each.reason == reason)
        console.print(Text.assemble(("not made: ", "bold"), f"{missing} ({reason})"))
    if not plain:
        console.print(_legend())


def printable(text: str) -> str:
    """The text with every control character but line feed and tab shown as a picture of itself."""
    return text.translate(_INVISIBLE)


def _heading(card: Card) -> RenderableType:
    lines = [
        Text.assemble((printable(card.key), "bold"), f"  {printable(card.source)} · {card.status}"),
        Text(printable(f"read at {card.where} as {card.origin}"), "dim"),
    ]
    if card.reason:
        lines.append(Text.assemble((card.reason, "bold red"), f": {printable(card.sentence)}"))
    return Group(*lines)


def _record_panel(card: Card, plain: bool) -> Panel:
    if card.trajectory is None:
        return _panel(Text(printable(card.raw) or "(nothing of it could be read)"), "as it was read")
    num_tools = len(card.trajectory.tools)
    return _panel(
        _trajectory_text(card.trajectory, plain), f"trajectory · {num_tools} {'tool' if num_tools == 1 else 'tools'}"
    )


def _trajectory_text(trajectory: Trajectory, plain: bool) -> Text:
    text = Text()
    for message, pieces in pieces_of(trajectory):
        not_learnt = message.role == "assistant" and not message.loss
        _start_turn(text, f"{message.role} (not learnt)" if not_learnt else message.role)
        _append_message(text, pieces, plain)
    return text


def _append_message(text: Text, pieces: Iterable[MessagePiece], plain: bool) -> None:
    for index, piece in enumerate(pieces):
        between = " " if piece.kind == "arguments" else "\n" if index else ""
        text.append(f"{between}→ " if piece.kind == "tool" else between)
        _append(text, piece.text, piece.capability, plain)


def _sample_panel(sample: Sample, tokens: SampleTokens | None, plain: bool) -> Panel:
    title = f"sample {kind_of(sample)} · form {sample.form} · case {sample.case}"
    if tokens is None:
        return _panel(_parts_text(sample, plain), title)
    if tokens.fault:
        return _panel(Text(printable(tokens.fault), "red"), title)
    num_learnt = sum(piece.num_tokens for piece in tokens.pieces if piece.tag >= 0)
    return _panel(_tokens_text(tokens, plain), f"{title} · {num_learnt:,} of {tokens.num_tokens:,} tokens learnt")


def _parts_text(sample: Sample, plain: bool) -> Text:
    text = Text()
    for turn in sample.turns:
        not_learnt = turn.role == "assistant" and all(part.capability is None for part in turn.parts)
        _start_turn(text, f"{turn.role} (not learnt)" if not_learnt else turn.role)
        for part in turn.parts:
            _append(text, part.text, part.capability, plain)
    return text


def _tokens_text(tokens: SampleTokens, plain: bool) -> Text:
    text = Text()
    for tag, pieces in itertools.groupby(tokens.pieces, lambda piece: piece.tag):
        if plain or tag < 0:
            _append(text, "".join(piece.text for piece in pieces), CAPABILITIES[tag] if tag >= 0 else None, plain)
            continue
        for index, piece in enumerate(pieces):
            # Neighbours differ, so that the eye sees where one token ends.
            text.append(printable(piece.text), Style(color=COLOURS[CAPABILITIES[tag]], reverse=index % 2 == 0))
    return text


def _append(text: Text, piece: str, capability: str | None, plain: bool) -> None:
    shown = printable(piece)
    if capability is None:
        text.append(shown, UNTAUGHT)
    elif plain:
        text.append(f"[{capability}|{shown}]")
    else:
        text.append(shown, COLOURS[capability])


def _start_turn(text: Text, role: str) -> None:
    text.append(f"{chr(10) * 2 if text else ''}{role}\n", "bold")


def _panel(content: Text, title: str) -> Panel:
    return Panel(content, title=Text(printable(title)), title_align="left", box=box.ROUNDED, border_style="dim")


def _legend() -> Text:
    learnt = [(f" {name} ", f"{colour} reverse") for name, colour in COLOURS.items()]
    spaced = [piece for pair in learnt for piece in (pair, " ")]
    return Text.assemble("learnt: ", *spaced, (" not learnt", UNTAUGHT))
