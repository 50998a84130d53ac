"""Long conversations as windows that fit a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from agentflan_ray.sample import Part, Turn
from agentflan_ray.tokens.encode import Encoded

Encode = Callable[[Sequence[Turn]], Encoded]

GAP = "\n…\n"
"""Stands between the task and the turn that a later window goes on with."""


def windows(turns: Sequence[Turn], encode: Encode, max_tokens: int) -> tuple[list[Encoded], int]:
    """A conversation as windows of at most ``max_tokens``, and the number of learnt turns that fit in none.

    Each window opens with the system text and the task, goes on with as many of the next turns as fit, and every
    learnt turn is learnt in one window only. A short conversation is its own single window.
    """
    whole = encode(turns)
    return ([whole], 0) if len(whole) <= max_tokens else cut(turns, whole, encode, max_tokens)


def cut(turns: Sequence[Turn], whole: Encoded, encode: Encode, max_tokens: int) -> tuple[list[Encoded], int]:
    """The windows of a conversation whose encoding ``whole`` is longer than one.

    Linear in its length: how many turns go into a window is reckoned from the tokens that they have in the whole, and
    each window is encoded once more, or twice where the reckoning was short of the truth by the tokens of a joint.
    """
    num_head = 2 if turns[0].role == "system" else 1
    head, exchanges = turns[:num_head], _exchanges(turns, num_head)
    ends = whole.turn_ends[[stop - 1 for _, stop in exchanges]]
    # Tokens up to the last word of each exchange, and those of the head and of the end mark.
    reach = np.concatenate([whole.turn_ends[num_head - 1 : num_head], ends])
    fixed = int(reach[0]) + len(whole) - int(whole.turn_ends[-1])
    made: list[Encoded] = []
    num_lost = first = 0
    while first < len(exchanges):
        fitting = int(np.searchsorted(reach, reach[first] + max_tokens - fixed, side="right")) - 1
        last = max(fitting, first + 1)
        while True:
            window = encode(_with_head(head, turns[exchanges[first][0] : exchanges[last - 1][1]]))
            if len(window) <= max_tokens or last == first + 1:
                break
            excess = len(window) - max_tokens
            shorter = int(np.searchsorted(reach, reach[last] - excess, side="right")) - 1
            last = max(first + 1, min(last - 1, shorter))
        if len(window) > max_tokens:
            num_lost += bool((window.tags >= 0).any())
        elif (window.tags >= 0).any():
            made.append(window)
        first = last
    return made, num_lost


def _exchanges(turns: Sequence[Turn], start: int) -> list[tuple[int, int]]:
    """Ranges of turns after the head that each end with an assistant turn."""
    ranges = []
    for index in range(start, len(turns)):
        if turns[index].role == "assistant":
            ranges.append((start, index + 1))
            start = index + 1
    return ranges


def _with_head(head: Sequence[Turn], rest: Sequence[Turn]) -> list[Turn]:
    """System and task before the rest. Where a user turn would follow the task, both become one turn, because many
    templates demand that roles alternate."""
    if rest[0].role == "user":
        joined = Turn("user", (*head[-1].parts, Part(GAP), *rest[0].parts))
        return [*head[:-1], joined, *rest[1:]]
    return [*head, *rest]
