"""Conversations as token ids with a capability tag on each: born together from the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2.exceptions import TemplateError

from agentflan_ray.sample import CAPABILITIES, Part, Turn
from agentflan_ray.tokens.locate import Located, Locator
from agentflan_ray.tokens.templates import Skeleton, common_length, marks_of, render, skeleton_of


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


def messages_of(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Turns as the messages that a chat template takes."""
    return [{"role": turn.role, "content": turn.text} for turn in turns]


class Encoder:
    """Encodes conversations with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._marks = marks_of(tokenizer, tokenizer.name_or_path)
        self._skeletons: dict[tuple[str, ...], Skeleton] = {}
        self._locate = Locator(tokenizer)

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
        trimmed_ones = [[trimmed(turn) for turn in turns] for turns in conversations]
        messages = [messages_of(turns) for turns in trimmed_ones]
        rendered = self._render(messages)
        placed = [
            text if isinstance(text, TemplateFault) else self._begins(each, text)
            for each, text in zip(messages, rendered, strict=True)
        ]
        texts = [str(t) for t, begins in zip(rendered, placed, strict=True) if not isinstance(begins, TemplateFault)]
        located = iter(self._locate(texts))
        return [
            begins if isinstance(begins, TemplateFault) else self._tag(turns, begins, str(text), next(located))
            for turns, begins, text in zip(trimmed_ones, placed, rendered, strict=True)
        ]

    def _render(self, conversations: list[list[dict[str, str]]]) -> list[str | TemplateFault]:
        try:
            return list(render(self._tokenizer, conversations)) if conversations else []
        except TemplateError as error:
            if len(conversations) == 1:
                return [TemplateFault("template_refuses", f"The chat template refuses this conversation: {error}.")]
            return [text for conversation in conversations for text in self._render([conversation])]

    def _skeleton(self, roles: tuple[str, ...]) -> Skeleton:
        if roles not in self._skeletons:
            self._skeletons[roles] = skeleton_of(self._tokenizer, roles)
        return self._skeletons[roles]

    def _begins(self, messages: Sequence[dict[str, str]], rendered: str) -> list[int] | TemplateFault:
        """Where in the rendered text the text of each turn begins.

        Texts are not searched for: one may stand inside another. The template's own words for these roles are known
        from a rendering of markers, and the two together must be what was rendered.
        """
        skeleton = self._skeleton(tuple(message["role"] for message in messages))
        for index, message in enumerate(messages):
            if (times := skeleton.order.count(index)) != 1:
                return TemplateFault(
                    "template_drops_turn",
                    f"The chat template renders turn {index} ({message['role']}) {times} times instead of once.",
                )
        begins = [0] * len(messages)
        pieces = [skeleton.texts[0]]
        position = len(skeleton.texts[0])
        for index, after in zip(skeleton.order, skeleton.texts[1:], strict=True):
            begins[index] = position
            text = messages[index]["content"]
            pieces += (text, after)
            position += len(text) + len(after)
        expected = "".join(pieces)
        if expected != rendered:
            same = common_length(expected, rendered)
            index = max((i for i in skeleton.order if begins[i] <= same), key=lambda i: begins[i], default=0)
            return TemplateFault(
                "template_changes_text",
                f"The chat template changes the text of turn {index} ({messages[index]['content'][:60]!r}); remove "
                "what it takes out or mend the template.",
            )
        for token in self._marks.tokens:
            # Counting in the whole first is quicker than looking at each turn.
            if rendered.count(token) > sum(text.count(token) for text in skeleton.texts):
                for index, message in enumerate(messages):
                    if token in message["content"]:
                        return TemplateFault(
                            "control_token_in_text",
                            f"The text of turn {index} ({message['content'][:60]!r}) holds {token!r}, with which the "
                            "chat template marks turns.",
                        )
        return begins

    def _tag(self, turns: Sequence[Turn], begins: list[int], rendered: str, located: Located) -> Encoded:
        lead, end = self._marks.lead, self._marks.end
        turn_ends: list[int] = []
        spans: list[tuple[int, int, int]] = []  # where in the text it begins and ends, and its tag
        marks: list[tuple[int, int]] = []  # the last character of an end mark, and the number of its span
        for turn, position in zip(turns, begins, strict=True):
            if turn.role != "assistant":
                turn_ends.append(position + len(turn.text))
                continue
            capability = None
            begin = position - len(lead)
            for part in turn.parts:
                position += len(part.text)
                if (capability := part.capability) is not None:
                    spans.append((begin, position, CAPABILITIES.index(capability)))
                begin = position
            turn_ends.append(position)
            if capability is not None and rendered.startswith(end, position):
                position += len(end)
                marks.append((position - 1, len(spans)))
                spans.append((begin, position, CAPABILITIES.index(capability)))
        positions = [*turn_ends, *(p for span in spans for p in span[:2]), *(last for last, _ in marks)]
        tokens = located.tokens_at(positions)
        firsts = tokens[len(turn_ends) : len(turn_ends) + 2 * len(spans) : 2]
        lasts = tokens[len(turn_ends) + 1 : len(turn_ends) + 2 * len(spans) : 2]
        # An end mark that is plain text may share its last token with what follows: that token is learnt too.
        for (_, number), token in zip(marks, tokens[len(turn_ends) + 2 * len(spans) :], strict=True):
            lasts[number] = max(lasts[number], token + 1)
        tags = np.full(len(located.input_ids), -1, dtype=np.int8)
        for first, last, (_, _, tag) in zip(firsts, lasts, spans, strict=True):
            tags[first:last] = tag
        return Encoded(located.input_ids, tags, np.array(tokens[: len(turn_ends)], dtype=np.int64))
