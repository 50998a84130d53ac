"""Conversations as token ids with a capability tag on each: born together from the model's own chat template."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2.exceptions import TemplateError

from agentflan_ray.sample import CAPABILITIES, Part, Turn
from agentflan_ray.tokens.locate import Located, Locator
from agentflan_ray.tokens.printing import only_prints_texts
from agentflan_ray.tokens.templates import (
    Layout,
    Stretch,
    common_length,
    cut_before,
    layout_of,
    marks_of,
    render,
    skeleton_of,
)


@dataclass(frozen=True)
class Encoded:
    """``input_ids`` (n,) int32; ``tags`` (n,) int8: index into CAPABILITIES where the token is learnt, else -1.

    ``turn_ends`` (turns,) int64: the number of tokens up to the end of each turn's text, its end mark left out.
    """

    input_ids: npt.NDArray[np.int32]
    tags: npt.NDArray[np.int8]
    turn_ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.input_ids)


class TemplateFault(ValueError):
    """A conversation that the chat template can't render as it is; ``reason`` is a word to count by."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def trimmed(turn: Turn) -> Turn:
    """The turn without the blanks round its text, which many templates (Llama 2 and 3, Gemma) strip, and without empty
    parts at its ends."""
    text = turn.text
    if text == text.strip() and (not turn.parts or (turn.parts[0].text and turn.parts[-1].text)):
        return turn
    parts = list(turn.parts)
    while parts and not (text := parts[0].text.lstrip()):
        del parts[0]
    if parts:
        parts[0] = Part(text, parts[0].capability)
    while parts and not (text := parts[-1].text.rstrip()):
        del parts[-1]
    if parts:
        parts[-1] = Part(text, parts[-1].capability)
    return Turn(turn.role, tuple(parts))


REMEMBERED_CHARACTERS = 2**23
"""Of the text that an encoder remembers the tokens of, give or take a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """A turn as it is rendered. ``spans``: where in the text what is learnt begins and ends, and its tag."""

    turn: Turn
    text: str
    spans: tuple[tuple[int, int, int], ...]
    end_tag: int
    """The tag of the end mark, -1 where none is learnt."""
    control_token: str | None
    """A control token of the template that the text holds."""


class Encoder:
    """Encodes conversations with one tokenizer.

    Samples of one trajectory repeat its turns, and windows their head. A turn that is the same object as one before is
    not encoded again where the template opens turns with control tokens, before which any text may be cut
    (:func:`~agentflan_ray.tokens.templates.cut_before`).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._marks = marks_of(tokenizer, tokenizer.name_or_path)
        self._only_prints = only_prints_texts(tokenizer.get_chat_template())
        self._cut_before = cut_before(tokenizer)
        self._layouts: dict[tuple[str, ...], Layout | TemplateFault] = {}
        self._locate = Locator(tokenizer)
        self._said: dict[int, _Said] = {}  # by the identity of the turn, which it keeps
        self._stretches: dict[tuple[Any, ...], Encoded] = {}  # by the words round the turns, and the turns
        self._num_characters = 0

    def __call__(self, turns: Sequence[Turn]) -> Encoded:
        """One conversation as :meth:`batch` encodes it. Raises :class:`TemplateFault` where it can't be."""
        (encoded,) = self.batch([turns])
        if isinstance(encoded, TemplateFault):
            raise encoded
        return encoded

    def batch(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded | TemplateFault]:
        """Render conversations through the chat template and tag every token; each is encoded as it would be alone.

        Blanks round a turn's text are left out. What the model has to say itself is learnt: the text of a learnt turn,
        the blanks before it that the prompt does not hold, and what follows up to its end mark (``<|im_end|>``,
        ``</s>``), so that it learns to stop. A token that covers two parts takes the tag of the one that it ends in.

        In the place of a conversation stands a fault where the template refuses its roles, changes a turn's text, or
        does not render each turn once, and where a text holds a control token of the template: read as one, it would
        end the turn in its middle.
        """
        if self._num_characters > REMEMBERED_CHARACTERS:
            self._said.clear()
            self._stretches.clear()
            self._num_characters = 0
        rows = [[self._say(turn) for turn in turns] for turns in conversations]
        layouts = [self._checked(row) for row in rows] if self._only_prints else self._rendered(rows)
        new: dict[tuple[Any, ...], tuple[Stretch, list[_Said]]] = {}
        keys: list[list[tuple[Any, ...]]] = []
        for row, layout in zip(rows, layouts, strict=True):
            keys.append([])
            for stretch in () if isinstance(layout, TemplateFault) else layout.stretches:
                said = [row[turn] for turn in stretch.turns]
                key = (stretch.texts, *map(id, said))
                keys[-1].append(key)
                if key not in self._stretches:
                    new[key] = (stretch, said)
        if new:
            self._encode(new)
        return [
            layout if isinstance(layout, TemplateFault) else _joined([self._stretches[key] for key in each], layout)
            for each, layout in zip(keys, layouts, strict=True)
        ]

    def _say(self, turn: Turn) -> _Said:
        if (known := self._said.get(id(turn))) is not None:
            return known
        spans: list[tuple[int, int, int]] = []
        begin, tag = 0, -1
        kept = trimmed(turn)
        for part in kept.parts if turn.role == "assistant" else ():
            end = begin + len(part.text)
            tag = -1 if part.capability is None else CAPABILITIES.index(part.capability)
            if tag >= 0:
                spans.append((begin, end, tag))
            begin = end
        text = kept.text
        control_token = next((token for token in self._marks.tokens if token in text), None)
        self._said[id(turn)] = said = _Said(turn, text, tuple(spans), tag, control_token)
        return said

    def _layout(self, row: Sequence[_Said]) -> Layout | TemplateFault:
        """What the template renders round turns of these roles."""
        roles = tuple([said.turn.role for said in row])
        if roles not in self._layouts:
            self._layouts[roles] = self._new_layout(roles)
        return self._layouts[roles]

    def _new_layout(self, roles: tuple[str, ...]) -> Layout | TemplateFault:
        try:
            skeleton = skeleton_of(self._tokenizer, roles)
        except TemplateError as error:
            return _refused(error)
        for index, role in enumerate(roles):
            if (times := skeleton.order.count(index)) != 1:
                return TemplateFault(
                    "template_drops_turn",
                    f"The chat template renders turn {index} ({role}) {times} times instead of once.",
                )
        return layout_of(skeleton, self._cut_before, self._marks.end)

    def _checked(self, row: Sequence[_Said]) -> Layout | TemplateFault:
        layout = self._layout(row)
        if not isinstance(layout, TemplateFault):
            for index, said in enumerate(row):
                if said.control_token is not None:
                    return TemplateFault(
                        "control_token_in_text",
                        f"The text of turn {index} ({said.text[:60]!r}) holds {said.control_token!r}, with which the "
                        "chat template marks turns.",
                    )
        return layout

    def _rendered(self, rows: Sequence[Sequence[_Said]]) -> list[Layout | TemplateFault]:
        """For a template that may do more than print: what it renders has to be what its layout says."""
        found: list[Layout | TemplateFault] = []
        messages = [[{"role": said.turn.role, "content": said.text} for said in row] for row in rows]
        for row, rendered in zip(rows, self._render(messages), strict=True):
            layout = self._layout(row)
            if isinstance(rendered, TemplateFault) or isinstance(layout, TemplateFault):
                found.append(rendered if isinstance(rendered, TemplateFault) else layout)
                continue
            expected, begins = layout.fill([said.text for said in row])
            if expected != rendered:
                same = common_length(expected, rendered)
                index = max((i for i in layout.order if begins[i] <= same), key=lambda i: begins[i], default=0)
                found.append(
                    TemplateFault(
                        "template_changes_text",
                        f"The chat template changes the text of turn {index} ({row[index].text[:60]!r}); remove what "
                        "it takes out or mend the template.",
                    )
                )
                continue
            found.append(self._checked(row))
        return found

    def _render(self, conversations: list[list[dict[str, str]]]) -> list[str | TemplateFault]:
        try:
            return list(render(self._tokenizer, conversations)) if conversations else []
        except TemplateError as error:
            if len(conversations) == 1:
                return [_refused(error)]
            return [text for conversation in conversations for text in self._render([conversation])]

    def _encode(self, new: dict[tuple[Any, ...], tuple[Stretch, list[_Said]]]) -> None:
        """Remember the tokens of stretches and what is learnt of them."""
        lead, end = len(self._marks.lead), self._marks.end
        texts: list[str] = []
        bounds = [0]  # of the turns of each stretch
        turn_ends = _Positions()
        begins, stops, last_of_marks = _Positions(), _Positions(), _Positions()
        tags: list[int] = []
        marks: list[int] = []  # which of the spans are end marks
        for number, (stretch, row) in enumerate(new.values()):
            text, places = stretch.fill([said.text for said in row])
            texts.append(text)
            for said, place in zip(row, places, strict=True):
                stop = place + len(said.text)
                turn_ends.add(number, stop)
                for begin, upto, tag in said.spans:
                    begins.add(number, place + begin if begin else place - lead)
                    stops.add(number, place + upto)
                    tags.append(tag)
                if said.end_tag >= 0 and text.startswith(end, stop):
                    begins.add(number, stop)
                    stops.add(number, stop + len(end))
                    last_of_marks.add(number, stop + len(end) - 1)
                    marks.append(len(tags))
                    tags.append(said.end_tag)
            bounds.append(len(turn_ends.positions))
        located = self._locate(texts)
        firsts, lasts = begins.tokens(located), stops.tokens(located)
        # An end mark that is plain text may share its last token with what follows: that token is learnt too.
        lasts[marks] = np.maximum(lasts[marks], last_of_marks.tokens(located) + 1)
        tagged = np.full(len(located.input_ids), -1, dtype=np.int8)
        for first, last, tag in zip(firsts.tolist(), lasts.tolist(), tags, strict=True):
            tagged[first:last] = tag
        starts = located.starts.tolist()
        ends = turn_ends.tokens(located) - located.starts[turn_ends.numbers]
        for number, key in enumerate(new):
            own = slice(starts[number], starts[number + 1])
            own_turns = ends[bounds[number] : bounds[number + 1]]
            self._stretches[key] = Encoded(located.input_ids[own], tagged[own], own_turns)
        self._num_characters += sum(map(len, texts))


class _Positions:
    """Positions in texts, told by their numbers."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.positions: list[int] = []

    def add(self, number: int, position: int) -> None:
        self.numbers.append(number)
        self.positions.append(position)

    def tokens(self, located: Located) -> npt.NDArray[np.int64]:
        return located.tokens_at(self.numbers, self.positions)


def _refused(error: TemplateError) -> TemplateFault:
    return TemplateFault("template_refuses", f"The chat template refuses this conversation: {error}.")


def _joined(stretches: Sequence[Encoded], layout: Layout) -> Encoded:
    starts = itertools.accumulate((len(stretch) for stretch in stretches[:-1]), initial=0)
    turn_ends = np.empty(len(layout.order), dtype=np.int64)
    turn_ends[list(layout.order)] = np.concatenate(
        [start + stretch.turn_ends for start, stretch in zip(starts, stretches, strict=True)]
    )
    return Encoded(
        np.concatenate([stretch.input_ids for stretch in stretches]),
        np.concatenate([stretch.tags for stretch in stretches]),
        turn_ends,
    )
