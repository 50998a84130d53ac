"""Which replies of a teacher may be learnt: honest ones in plain words. Pure functions on text.

Every rule errs on the side of rejecting: then the reply from patterns stays, which is honest by construction, while a
false claim would be learnt. The rules read English; a reply in another language shows no sign of what it must do and
is rejected for that. A made-up fact that is neither a figure nor said as a result is beyond them.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable

from agentflan_ray.corpus.align import FORMAT_KEYWORD
from agentflan_ray.corpus.teacher.signs import ANNOUNCES, ASKS, CLAIMS, DECLINES, FAILED, MARKUP, THE_TASK_ITSELF
from agentflan_ray.forms import parse_json, parse_react
from agentflan_ray.sample import Sample

MAX_CHARACTERS = 700
"""Three long sentences in English are about 450; what is longer lectures."""

MAX_ALIKE = 0.85
"""Above this share of matching characters (difflib's ratio) a reply is a copy of the user's words or of the draft."""


def tidy(text: str) -> str:
    """The reply without what surrounds it: a reasoning model's ``<think>`` block, blanks, one pair of quotes."""
    text = re.sub(r"\A\s*<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    if len(text) > 1 and (text[0], text[-1]) in (('"', '"'), ("“", "”")) and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def reject(sample: Sample, reply: str) -> str | None:
    """Why this (tidied) reply must not stand in the place of the sample's last turn; None for one that may."""
    text = reply.replace("\u2019", "'")
    for reason, is_broken in _RULES:
        if is_broken(sample, text):
            return reason
    return None


def _is_cut_off(_: Sample, text: str) -> bool:
    return text.rstrip(")'\"”")[-1:] not in (".", "!", "?", "…")


def _is_formatted(_: Sample, text: str) -> bool:
    return bool(FORMAT_KEYWORD.search(text) or parse_react(text) or parse_json(text) or MARKUP.search(text))


def _calls(sample: Sample, text: str) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\(", text) for name in _listed_tools(sample))


def _repeats_itself(_: Sample, text: str) -> bool:
    """Small models fall into loops; a sentence of three words or more that stands twice is one."""
    sentences = [sentence.split() for sentence in re.split(r"[.!?\n]+", text.lower())]
    longer = [tuple(words) for words in sentences if len(words) >= 3]
    return len(set(longer)) < len(longer)


def _has_a_figure_of_its_own(sample: Sample, text: str) -> bool:
    known = set(re.findall(r"\d+", " ".join(turn.text for turn in sample.turns)))
    return any(figure not in known for figure in re.findall(r"\d+", text))


def _is_in_another_script(_: Sample, text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    foreign = sum(not unicodedata.name(character, "").startswith("LATIN") for character in letters)
    return foreign * 2 > len(letters)


def _does_not_do_its_task(sample: Sample, text: str) -> bool:
    if sample.case == "missing_argument":
        return not (ASKS.search(text) and _words(text) & missing_words(sample))
    return not (FAILED if sample.case == "tool_error" else DECLINES).search(text)


def missing_words(sample: Sample) -> set[str]:
    """Words of which a reply that asks for the missing detail has one, read from the sample's own reply.

    Names of parameters that this reply has and the user does not say; without any, its other content words.
    """
    asked = _words(sample.turns[-1].text) - _WORDS_OF_ASKING
    said = _words(next(turn.text for turn in reversed(sample.turns) if turn.role == "user"))
    listed = " ".join(turn.text for turn in sample.turns if turn.role == "system")
    parameters = _words(" ".join(re.findall(r"(\w+)\??: \w", listed)).replace("_", " "))
    return (asked & parameters) - said or asked & parameters or asked - said or asked


def _copies_the_user(sample: Sample, text: str) -> bool:
    return any(_are_alike(turn.text, text) for turn in sample.turns if turn.role == "user")


def _copies_the_draft(sample: Sample, text: str) -> bool:
    return _are_alike(sample.turns[-1].text, text)


def _are_alike(first: str, second: str) -> bool:
    if 2 * min(len(first), len(second)) < MAX_ALIKE * (len(first) + len(second)):
        return False  # no ratio can be higher than this, and long texts are slow to match
    return difflib.SequenceMatcher(None, first.lower(), second.lower(), autojunk=False).ratio() >= MAX_ALIKE


def _listed_tools(sample: Sample) -> list[str]:
    listed = "\n".join(turn.text for turn in sample.turns if turn.role == "system")
    return re.findall(r"^- ([^\s(]+)\(", listed, re.MULTILINE)


def _words(text: str) -> set[str]:
    """Words of three letters or more, without the s of a plural."""
    return {word.removesuffix("s") for word in re.findall(r"[^\W\d_]{3,}", text.lower())}


_WORDS_OF_ASKING = _words(
    "please tell give send share provide name let know say specify which what where when who whom whose how could can "
    "would will you your the this that these those for with from and but not yet need needs want like sure happy glad "
    "help look check find get first before once then more one mean should shall have has did does are was were there "
    "here detail details missing information exactly still also just thanks sorry only able into about its must use "
    "used using tool tools fill required without kind it me my request do carry out"
)

_RULES: tuple[tuple[str, Callable[[Sample, str], object]], ...] = (
    ("empty", lambda _, text: not text),
    ("too_long", lambda _, text: len(text) > MAX_CHARACTERS),
    ("other_script", _is_in_another_script),
    ("format_in_reply", _is_formatted),
    ("call_in_reply", _calls),
    ("cut_off", _is_cut_off),
    ("repeats_itself", _repeats_itself),
    ("speaks_of_the_task", lambda _, text: THE_TASK_ITSELF.search(text)),
    ("announces_an_action", lambda _, text: ANNOUNCES.search(text)),
    ("claims_a_result", lambda _, text: CLAIMS.search(text)),
    ("figure_from_nowhere", _has_a_figure_of_its_own),
    ("copies_the_user", _copies_the_user),
    ("does_not_do_its_task", _does_not_do_its_task),
    ("copies_the_draft", _copies_the_draft),
)
"""In the order in which they are tried: what is wrong with any reply first, then what this case asks for."""
