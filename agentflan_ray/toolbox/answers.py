"""Whether a reply states what a right answer must: pure string work, tolerant of how numbers, dates and times look."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache

from agentflan_ray.toolbox.names import MONTHS

_NUMBER = re.compile(r"(?<![\w.:-])-?\d+(?:,\d{3})*(?:\.\d+)?(?!:?\d)")
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_DATE = re.compile(rf"(\d{{1,2}}) ({'|'.join(MONTHS)}) (\d{{4}})")
_TIME = re.compile(r"(\d\d):(\d\d)")
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def answer_appears(answer: Sequence[str], reply: str) -> bool:
    """True if the reply meets every requirement of ``answer``.

    A requirement is one value, or several alternatives parted by ``|`` of which one is enough. Case and spacing do
    not matter. A number is met by an equal number (``1,250`` or ``1250.00`` for ``1250``; ``two`` for ``2``), a date
    such as ``14 March 2027`` also by ``March 14`` or ``2027-03-14``, a time such as ``14:05`` also by ``2:05 pm``.
    """
    text = _normal(reply)
    return all(any(_appears(value, text) for value in requirement.split("|")) for requirement in answer)


def _normal(text: str) -> str:
    return " ".join(text.replace("’", "'").casefold().split())


def _appears(value: str, text: str) -> bool:
    if _PLAIN_NUMBER.fullmatch(value):
        number = Decimal(value)
        if any(Decimal(found.replace(",", "")) == number for found in _NUMBER.findall(text)):
            return True
        return number in range(len(_NUMBER_WORDS)) and _pattern(_NUMBER_WORDS[int(number)]).search(text) is not None
    return _pattern(value).search(text) is not None


@lru_cache(maxsize=4096)
def _pattern(value: str) -> re.Pattern[str]:
    forms = [re.escape(_normal(value))]
    if match := _DATE.fullmatch(value):
        day, month, year = match.groups()
        iso = date(int(year), MONTHS.index(month) + 1, int(day)).isoformat()
        name = month.casefold()
        forms = [rf"0?{day}(st|nd|rd|th)?( of)? {name}", rf"{name} 0?{day}(st|nd|rd|th)?", iso]
    elif match := _TIME.fullmatch(value):
        hour, minute = int(match[1]), match[2]
        half = "p" if hour >= 12 else "a"
        forms = [rf"0?{hour}[:.]{minute}(?! ?[ap]\.?m)", rf"0?{(hour - 1) % 12 + 1}[:.]{minute} ?{half}\.?m"]
        if minute == "00":
            forms.append(rf"{(hour - 1) % 12 + 1} ?{half}\.?m")
    return re.compile(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)")
