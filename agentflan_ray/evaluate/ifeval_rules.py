"""The 25 verifiable instructions of IFEval (Zhou et al. 2023, arXiv 2311.07911, table 1), each a rule on a reply.

The rules follow the published checkers' behaviour, quirks included, with these differences: sentences are split by a
rule of our own (published: NLTK's punkt model), capital words by blanks and punctuation (published: NLTK's tokeniser),
languages are told by py3langid among the published detector's languages (published: langdetect), keywords are plain
text, never patterns, and a character to count that is no letter is counted itself (published: a letter drawn by
chance). Each rule takes time in proportion to the reply's length.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Given = Mapping[str, Any]
Rule = Callable[[str, Given], bool]

# What the published detector (langdetect) can tell apart, as far as py3langid can.
_LANGUAGES = [
    *("af", "ar", "bg", "bn", "ca", "cs", "cy", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gu", "he"),
    *("hi", "hr", "hu", "id", "it", "ja", "kn", "ko", "lt", "lv", "mk", "ml", "mr", "ne", "nl", "no", "pa", "pl"),
    *("pt", "ro", "ru", "sk", "sl", "sq", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "zh"),
]
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]*]{0,5}(?=\s|$)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|jr|sr|inc|ltd|co|vs|etc|e\.g|i\.e|no|fig|approx|dept|est)|\b[A-Z])\.$",
    re.IGNORECASE,
)
_INITIAL = re.compile(r"\b[A-Za-z]\.$")
_HIGHLIGHT = re.compile(r"\*[^\n*]*\*")
_DOUBLE_HIGHLIGHT = re.compile(r"\*\*[^\n*]*\*\*")
_CAPITAL_TOKEN = re.compile(r"[^\s,;:!?()\[\]{}\"“”'‘’…<>]+")
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_POSTSCRIPTS = {"P.P.S": re.compile(r"p\.\s?p\.\s?s"), "P.S.": re.compile(r"p\.\s?s\.")}


def follows(instruction: str, given: Given, reply: str) -> bool:
    """Whether a reply follows an instruction such as ``keywords:existence`` with these values. An empty reply follows
    none. Raises ``ValueError`` for an instruction that IFEval does not have."""
    if instruction not in RULES:
        raise ValueError(f"IFEval has no instruction {instruction!r}; it has {', '.join(RULES)}.")
    return bool(reply.strip()) and RULES[instruction](reply, given)


def loosened(reply: str) -> list[str]:
    """The reply and seven variants of it: without asterisks, without its first line, its last line, or both."""
    lines = reply.split("\n")
    cut = [reply, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [variant for text in cut for variant in (text, text.replace("*", ""))]


def count_sentences(text: str) -> int:
    """Sentences: ends at points, question and exclamation marks before a blank, abbreviations and initials aside."""
    count, start = 0, 0
    for match in _SENTENCE_END.finditer(text):
        before = text[max(start, match.start() - 12) : match.start() + 1]
        if match[0] == "." and (_INITIAL.search(before) or _ABBREVIATION.search(before)):
            continue
        count += 1
        start = match.end()
    return count + bool(text[start:].strip())


def _compares(number: int, relation: str, bound: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"IFEval's relation is {relation!r}; it is 'less than' or 'at least'.")
    return number < bound if relation == "less than" else number >= bound


def _number_of_placeholders(reply: str, given: Given) -> bool:
    count = 0
    for line in reply.split("\n"):
        place = line.find("[")
        while place >= 0 and (end := line.find("]", place)) >= 0:
            count += 1
            place = line.find("[", end)
    return bool(count >= given["num_placeholders"])


def _bullets(reply: str, given: Given) -> bool:
    lines = [line.strip() for line in reply.split("\n")]
    stars = sum(line.startswith("*") and not line.startswith("**") for line in lines)
    dashes = sum(line.startswith("-") for line in lines)
    return bool(stars + dashes == given["num_bullets"])


def _highlights(reply: str, given: Given) -> bool:
    single = sum(bool(found.strip("*").strip()) for found in _HIGHLIGHT.findall(reply))
    double = sum(bool(found[2:-2].strip()) for found in _DOUBLE_HIGHLIGHT.findall(reply))
    return bool(single + double >= given["num_highlights"])


def _sections(reply: str, given: Given) -> bool:
    mark = re.escape(given["section_spliter"].strip())
    return bool(len(re.findall(rf"{mark}\s?\d+", reply)) >= given["num_sections"])


def _paragraphs(reply: str, given: Given) -> bool:
    parts = _DIVIDER.split(reply)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    ends = parts[:1] + parts[1:][-1:]
    return bool(len(parts) - sum(not part.strip() for part in ends) == given["num_paragraphs"])


def _first_word(reply: str, given: Given) -> bool:
    parts = reply.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    nth = given["nth_paragraph"]
    if nth > count or not (paragraph := parts[nth - 1].strip()):
        return False
    word = re.split(r"[.,?!'\"]", paragraph.split()[0].lstrip("'").lstrip('"'))[0]
    return bool(count == given["num_paragraphs"] and word.lower() == given["first_word"].lower())


def _is_json(reply: str, _: Given) -> bool:
    text = reply.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(reply: str, _: Given) -> bool:
    for line in reply.split("\n"):
        start = line.find("<<")
        end = line.rfind(">>")
        if start >= 0 and start + 3 <= end and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def _postscript(reply: str, given: Given) -> bool:
    mark = given["postscript_marker"].strip()
    pattern = _POSTSCRIPTS.get(mark, re.compile(re.escape(mark.lower())))
    return bool(pattern.search(reply.lower()))


def _has_keywords(reply: str, given: Given) -> bool:
    lower = reply.lower()
    return all(word.lower() in lower for word in given["keywords"])


def _keyword_frequency(reply: str, given: Given) -> bool:
    count = reply.lower().count(given["keyword"].strip().lower())
    return _compares(count, given["relation"], given["frequency"])


def _no_forbidden(reply: str, given: Given) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", reply, re.IGNORECASE) for word in set(given["forbidden_words"]))


def _letter_frequency(reply: str, given: Given) -> bool:
    return _compares(reply.lower().count(given["letter"].lower()), given["let_relation"], given["let_frequency"])


def _language(reply: str, given: Given) -> bool:
    return language_of(reply) in (given["language"], None)


def _english_capital(reply: str, _: Given) -> bool:
    return reply.isupper() and language_of(reply) in ("en", None)


def _english_lowercase(reply: str, _: Given) -> bool:
    return reply.islower() and language_of(reply) in ("en", None)


def _capital_words(reply: str, given: Given) -> bool:
    count = sum(word.strip(".-*_#").isupper() for word in _CAPITAL_TOKEN.findall(reply))
    return _compares(count, given["capital_relation"], given["capital_frequency"])


def _two_responses(reply: str, _: Given) -> bool:
    parts = [part.strip() for part in reply.split("******")]
    if not all(parts[1:-1]):
        return False
    said = [part for part in parts if part]
    return len(said) == 2 and said[0] != said[1]


def _repeats_prompt(reply: str, given: Given) -> bool:
    return reply.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _ends(reply: str, given: Given) -> bool:
    return reply.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _quoted(reply: str, _: Given) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def language_of(text: str) -> str | None:
    """ISO 639-1 code; None for a text without letters, which the published checker counts as followed."""
    if not any(map(str.isalpha, text[:20_000])):
        return None
    # Lower case: the detector takes texts in capitals for other languages.
    return str(_identifier().classify(text[:20_000].lower())[0])


@functools.cache
def _identifier() -> Any:
    # Only who needs languages waits for the model: 0.6 s.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(_LANGUAGES)
    return identifier


RULES: Mapping[str, Rule] = {
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _english_capital,
    "change_case:english_lowercase": _english_lowercase,
    "combination:repeat_prompt": _repeats_prompt,
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": _number_of_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": lambda reply, _: any(option in reply for option in _OPTIONS),
    "detectable_format:json_format": _is_json,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "keywords:existence": _has_keywords,
    "keywords:forbidden_words": _no_forbidden,
    "keywords:frequency": _keyword_frequency,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _language,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": lambda reply, given: _compares(
        count_sentences(reply), given["relation"], given["num_sentences"]
    ),
    "length_constraints:number_words": lambda reply, given: _compares(
        len(re.findall(r"\w+", reply)), given["relation"], given["num_words"]
    ),
    "punctuation:no_comma": lambda reply, _: "," not in reply,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
}
"""Rule by the published name of the instruction."""
