"""Chat templates: named ones for base models that have none, and what any template puts round an assistant's words.

The named ones are written here after the formats' published descriptions: ChatML (OpenAI), Llama 2 and Llama 3 (Meta's
model cards), Mistral (its documentation of the instruct models), and ``agentflan``, the format of the models released
with the paper (README of github.com/InternLM/Agent-FLAN). ``{% generation %}`` surrounds what a model has to say by
itself, so that transformers' ``return_assistant_tokens_mask`` marks the same tokens as :mod:`.encode` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

FIXED_DATE = "26 Jul 2024"
"""What templates of the Llama 3.1 kind take for today, so that the same text has the same tokens tomorrow."""


@dataclass(frozen=True)
class NamedTemplate:
    """A template and the tokens that a tokenizer needs for it.

    ``end_token`` ends a turn of the assistant and becomes the end-of-sequence token, at which generation stops; None
    leaves the tokenizer's own one, which the template then renders.
    """

    text: str
    tokens: tuple[str, ...] = ()
    end_token: str | None = None


_DELIMITED = r"""
{{- OPENING -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- ASSISTANT -}}{%- generation -%}{{- message['content'] | trim ~ END -}}{%- endgeneration -%}{{- AFTER -}}
{%- else -%}
{{- OTHER -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ASSISTANT -}}{%- endif -%}
"""

_FOLDED = r"""
{%- set before = namespace(bos=bos_token, system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set before.system = SYSTEM -%}
{%- elif message['role'] == 'user' -%}
{{- before.bos ~ '[INST] ' ~ before.system ~ message['content'] | trim ~ ' [/INST]' -}}
{%- set before.bos = BETWEEN -%}
{%- set before.system = '' -%}
{%- else -%}
{%- generation -%}{{- ' ' ~ message['content'] | trim ~ END -}}{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}
"""
"""The system text stands inside the first user turn, and nothing opens the assistant's turn."""


def _filled(form: str, **expressions: str) -> str:
    for name, expression in expressions.items():
        form = form.replace(name, expression)
    return form.strip()


TEMPLATES: dict[str, NamedTemplate] = {
    "chatml": NamedTemplate(
        _filled(
            _DELIMITED,
            OPENING="''",
            ASSISTANT=r"'<|im_start|>assistant\n'",
            END="'<|im_end|>'",
            AFTER=r"'\n'",
            OTHER=r"'<|im_start|>' ~ message['role'] ~ '\n' ~ message['content'] | trim ~ '<|im_end|>\n'",
        ),
        tokens=("<|im_start|>", "<|im_end|>"),
        end_token="<|im_end|>",
    ),
    "llama2": NamedTemplate(
        _filled(
            _FOLDED,
            SYSTEM=r"'<<SYS>>\n' ~ message['content'] | trim ~ '\n<</SYS>>\n\n'",
            BETWEEN="bos_token",
            END="' ' ~ eos_token",
        )
    ),
    "llama3": NamedTemplate(
        _filled(
            _DELIMITED,
            OPENING="bos_token",
            ASSISTANT=r"'<|start_header_id|>assistant<|end_header_id|>\n\n'",
            END="'<|eot_id|>'",
            AFTER="''",
            OTHER=r"'<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\n\n'"
            r" ~ message['content'] | trim ~ '<|eot_id|>'",
        ),
        tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        end_token="<|eot_id|>",
    ),
    "mistral": NamedTemplate(
        _filled(_FOLDED, SYSTEM=r"message['content'] | trim ~ '\n\n'", BETWEEN="''", END="eos_token")
    ),
    # The release ends a turn with the character U+0D3F alone, which Llama 2 has as one token but no engine stops at;
    # the end-of-sequence token after it is our addition.
    "agentflan": NamedTemplate(
        _filled(
            _DELIMITED,
            OPENING="bos_token",
            ASSISTANT="'<|Assistant|>\u0d46'",
            END="'\u0d3f' ~ eos_token",
            AFTER=r"'\n '",
            OTHER=r"'<|Human|>" + "\u0d46' ~ message['content'] | trim ~ " + r"'\n '",
        )
    ),
}


def apply_template(tokenizer: Any, name: str, place: str) -> None:
    """Give a tokenizer the named template. ``place`` is the model's name for errors.

    Raises ``ValueError`` where there is no such template or the tokenizer lacks a token that it needs.
    """
    if name not in TEMPLATES:
        raise ValueError(f"There is no chat template {name!r}; choose one of {', '.join(TEMPLATES)}.")
    template = TEMPLATES[name]
    vocabulary = tokenizer.get_vocab()
    for token in template.tokens:
        if token not in vocabulary:
            without = [other for other, each in TEMPLATES.items() if not each.tokens]
            raise ValueError(
                f"The template {name!r} needs the token {token!r}, which the tokenizer of {place!r} does not have; "
                f"choose {' or '.join(without)}, which need none of their own."
            )
    if template.end_token:
        tokenizer.eos_token = template.end_token
    tokenizer.chat_template = template.text


def render(tokenizer: Any, messages: Sequence[Any], **options: Any) -> Any:
    """The text that the template makes of a conversation, or the list of texts of a list of conversations.

    Raises jinja2's ``TemplateError`` where the template refuses it.
    """
    return tokenizer.apply_chat_template(messages, tokenize=False, date_string=FIXED_DATE, **options)


def control_tokens(tokenizer: Any) -> frozenset[str]:
    """The tokens that stand apart from text: special ones and those that were added to the vocabulary."""
    return frozenset({*tokenizer.all_special_tokens, *(str(t) for t in tokenizer.added_tokens_decoder.values())})


def cut_before(tokenizer: Any) -> tuple[str, ...]:
    """The control tokens before which any text may be cut: its halves, encoded alone, are the halves of its encoding.

    A fast tokenizer first takes the added tokens out of the text and gives each piece between them to its rules by
    itself. That makes a cut before one of them sure where it is looked for in the text as it stands (``normalized``
    is false), takes no blanks with it (``lstrip``), asks for no end of a word before it, and no other token can
    reach over its beginning.
    """
    added = list(tokenizer.backend_tokenizer.get_added_tokens_decoder().values())
    return tuple(
        sorted(
            token.content
            for token in added
            if not (token.normalized or token.lstrip or token.single_word)
            and re.match(r"\W", token.content)
            and not any(token.content[0] in other.content[1:] for other in added)
        )
    )


@dataclass(frozen=True)
class Skeleton:
    """What a template renders for a row of roles whatever is said.

    ``texts`` (n + 1): the text before, between and after the turns. ``order`` (n): the turns in the order in which
    they are rendered; a template may move the system text.
    """

    texts: tuple[str, ...]
    order: tuple[int, ...]


_PLACE = re.compile("\ue000(\\d+)\ue001")


def common_length(first: str, second: str) -> int:
    """How many characters two texts have in common from their start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(first), len(second)))


def skeleton_of(tokenizer: Any, roles: Sequence[str], **options: Any) -> Skeleton:
    """Render markers in the turns' stead. Raises ``TemplateError`` where the template refuses these roles."""
    messages = [{"role": role, "content": f"\ue000{index}\ue001"} for index, role in enumerate(roles)]
    pieces = _PLACE.split(render(tokenizer, messages, **options))
    return Skeleton(tuple(pieces[::2]), tuple(int(piece) for piece in pieces[1::2]))


@dataclass(frozen=True)
class Stretch:
    """A piece of a skeleton that can be encoded by itself: ``texts`` (n + 1) round ``turns`` (n)."""

    texts: tuple[str, ...]
    turns: tuple[int, ...]

    def fill(self, said: Sequence[str]) -> tuple[str, list[int]]:
        """Its text with what is said in its turns, one text for each, and where each of them begins."""
        pieces, begins, position = [self.texts[0]], [], len(self.texts[0])
        for text, after in zip(said, self.texts[1:], strict=True):
            begins.append(position)
            pieces += (text, after)
            position += len(text) + len(after)
        return "".join(pieces), begins


@dataclass(frozen=True)
class Layout:
    """A skeleton cut into stretches that, encoded one by one, give the tokens of the whole."""

    stretches: tuple[Stretch, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The turns in the order in which they are rendered."""
        return tuple(turn for stretch in self.stretches for turn in stretch.turns)

    def fill(self, said: Sequence[str]) -> tuple[str, list[int]]:
        """The whole text with what is said in its turns, one text for each, and where each of them begins."""
        text, begins = "", [0] * len(said)
        for stretch in self.stretches:
            filled, places = stretch.fill([said[turn] for turn in stretch.turns])
            for turn, place in zip(stretch.turns, places, strict=True):
                begins[turn] = len(text) + place
            text += filled
        return text, begins


def layout_of(skeleton: Skeleton, tokens: Sequence[str], end: str) -> Layout:
    """Cut a skeleton between turns before the first of ``tokens`` that stands there, though not before the ``end``
    mark of a turn is over: so that all that is learnt of a turn stands in one stretch."""
    stretches = []
    texts: list[str] = [skeleton.texts[0]]
    turns: list[int] = []
    for turn, after in zip(skeleton.order[:-1], skeleton.texts[1:-1], strict=True):
        start = len(end) if after.startswith(end) else 0
        cut = min((place for token in tokens if (place := after.find(token, start)) >= 0), default=None)
        turns.append(turn)
        if cut is None:
            texts.append(after)
        else:
            stretches.append(Stretch((*texts, after[:cut]), tuple(turns)))
            texts, turns = [after[cut:]], []
    last = Stretch((*texts, *skeleton.texts[-1:]), (*turns, *skeleton.order[-1:]))
    return Layout((*stretches, last))


@dataclass(frozen=True)
class Marks:
    """What belongs to an assistant's turn besides its text.

    ``lead``: blanks before it that the prompt for a reply does not hold, so that the model has to say them (Llama 2).
    ``end``: what follows it up to and with its end mark, such as ``<|im_end|>`` or `` </s>``. ``tokens``: the control
    tokens that the template renders, which no text may hold.
    """

    lead: str
    end: str
    tokens: tuple[str, ...]


def marks_of(tokenizer: Any, place: str) -> Marks:
    """The marks of a tokenizer's chat template, found by rendering a conversation without words.

    Raises ``ValueError`` where the template refuses such a conversation, or renders no end mark after each of the
    assistant's turns, the last one too: a model trained with it would never stop.
    """
    try:
        talk = skeleton_of(tokenizer, ("user", "assistant", "user", "assistant"))
        prompt = skeleton_of(tokenizer, ("user",), add_generation_prompt=True)
    except TemplateError as error:
        raise ValueError(f"The chat template of {place!r} refuses a plain conversation: {error}.") from error
    if talk.order != (0, 1, 2, 3) or prompt.order != (0,):
        raise ValueError(f"The chat template of {place!r} does not render each turn once and in order; mend it.")
    between, after = talk.texts[2], talk.texts[4]
    end = after[: common_length(between, after)]
    tokens = sorted(token for token in control_tokens(tokenizer) if any(token in text for text in talk.texts))
    found = [end.find(token) + len(token) for token in tokens if token in end]
    end = end[: min(found)] if found else end.rstrip()
    if not end.strip():
        raise ValueError(
            f"The chat template of {place!r} renders no end mark after the assistant's turns ({between!r} between two "
            f"turns, {after!r} after the last), so the model would not learn to stop; mend the template or choose one "
            f"of {', '.join(TEMPLATES)}."
        )
    opening, prompted = talk.texts[1], prompt.texts[1]
    lead = opening.removeprefix(prompted) if opening.startswith(prompted) else ""
    return Marks("" if lead.strip() else lead, end, tuple(tokens))
