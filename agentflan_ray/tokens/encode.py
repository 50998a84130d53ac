"""A conversation as token ids with a capability tag on each: born together from the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import CAPABILITIES, Turn


@dataclass(frozen=True)
class Encoded:
    """``input_ids`` (n,) int32; ``tags`` (n,) int8: index into CAPABILITIES where the token is learnt, else -1."""

    input_ids: npt.NDArray[np.int32]
    tags: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.input_ids)


def messages_of(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Turns as the messages that a chat template takes."""
    return [{"role": turn.role, "content": turn.text} for turn in turns]


class Encoder:
    """Encodes conversations with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Asking a tokenizer for these takes as long as encoding a short conversation, so it is done once.
        self._marks = np.array(sorted({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}))

    def __call__(self, turns: Sequence[Turn]) -> Encoded:
        """Render the turns through the chat template and tag every token.

        The tokens after a learnt turn up to its end mark (``<|im_end|>``, ``</s>``) are learnt with its last part, so
        the model learns to stop. A token that covers two parts takes the tag of the one that it ends in.

        Raises ``ValueError`` where the template changes the text of a turn, so that it can't be found in what it
        renders.
        """
        rendered = self._tokenizer.apply_chat_template(messages_of(turns), tokenize=False)
        encoding = self._tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
        input_ids = np.array(encoding["input_ids"], dtype=np.int32)
        starts, ends = np.array(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2).T
        tags = np.full(len(input_ids), -1, dtype=np.int8)
        marks = np.isin(input_ids, self._marks)
        position = 0
        for index, turn in enumerate(turns):
            begin = rendered.find(turn.text, position)
            if begin < 0:
                raise ValueError(
                    f"The chat template changes the text of turn {index} ({turn.text[:60]!r}); remove leading and "
                    "trailing blanks from it or mend the template."
                )
            position = begin
            for part in turn.parts:
                end = position + len(part.text)
                if part.capability is not None:
                    first, last = np.searchsorted(ends, (position, end), side="right")
                    tags[first:last] = CAPABILITIES.index(part.capability)
                position = end
            if turn.parts and turn.parts[-1].capability is not None:
                after = int(np.searchsorted(starts, position, side="left"))
                stop = after
                while stop < len(input_ids) and not marks[stop] and not rendered[starts[stop] : ends[stop]].strip():
                    stop += 1
                if stop < len(input_ids) and marks[stop]:
                    tags[after : stop + 1] = CAPABILITIES.index(turn.parts[-1].capability)
        return Encoded(input_ids, tags)


def windows(turns: Sequence[Turn], encode: Encoder, max_tokens: int) -> tuple[list[Encoded], int]:
    """A conversation as windows of at most ``max_tokens``, and the number of learnt turns that fit in none.

    Each window opens with the system text and the task, goes on with as many of the next turns as fit, and every
    learnt turn is learnt in one window only. A short conversation is its own single window.
    """
    whole = encode(turns)
    if len(whole) <= max_tokens:
        return [whole], 0
    num_head = 2 if turns[0].role == "system" else 1
    head, exchanges = list(turns[:num_head]), _exchanges(turns[num_head:])
    made: list[Encoded] = []
    open_window: Encoded | None = None
    current: list[Turn] = []
    num_lost = 0
    for exchange in exchanges:
        longer = encode(_with_head(head, [*current, *exchange]))
        if len(longer) <= max_tokens:
            current, open_window = [*current, *exchange], longer
            continue
        if open_window is not None:
            made.append(open_window)
        current, open_window = [], None
        alone = encode(_with_head(head, exchange))
        if len(alone) <= max_tokens:
            current, open_window = exchange, alone
        else:
            num_lost += any(part.capability is not None for turn in exchange for part in turn.parts)
    if open_window is not None:
        made.append(open_window)
    return [window for window in made if (window.tags >= 0).any()], num_lost


def _exchanges(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Groups that end with an assistant turn."""
    groups: list[list[Turn]] = []
    group: list[Turn] = []
    for turn in turns:
        group.append(turn)
        if turn.role == "assistant":
            groups.append(group)
            group = []
    return groups


def _with_head(head: list[Turn], rest: list[Turn]) -> list[Turn]:
    """System and task before the rest. Where a user turn would follow the task, both become one turn, because many
    templates demand that roles alternate."""
    if rest and rest[0].role == "user":
        task, following = head[-1], rest[0]
        joined = Turn("user", (*task.parts, type(task.parts[0])("\n…\n"), *following.parts))
        return [*head[:-1], joined, *rest[1:]]
    return [*head, *rest]
