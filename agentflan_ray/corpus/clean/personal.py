"""Personal data by patterns that are right when they match: check digits where there are any, known shapes elsewhere.

Names and street addresses have no such pattern and are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

Check = Callable[[str], bool]


class PersonalData(NamedTuple):
    """A match: the pattern's name and the text."""

    pattern: str
    text: str


_PLACEHOLDER_DOMAIN = re.compile(r"(?:^|\.)(?:your|my)?-?(?:example|sample|test|invalid|domain|email|company)\w*\.")
_PLACEHOLDER_NUMBER = re.compile(r"555|123\D?456\D?7890|123\D?4567890|(\d)\1{5}")


def _is_real_email(text: str) -> bool:
    """Not at a domain that is reserved (RFC 2606) or stands for one, as in programs and made-up tables."""
    return _PLACEHOLDER_DOMAIN.search(text.rpartition("@")[2].casefold()) is None


def _is_real_phone(text: str) -> bool:
    """Not a number that the North American plan keeps for fiction, nor digits in a row."""
    return _PLACEHOLDER_NUMBER.search(text) is None


def _has_luhn_digit(text: str) -> bool:
    """ISO/IEC 7812: the sum with every second digit from the right doubled ends in 0."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(set(digits)) > 2 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _has_iban_digits(text: str) -> bool:
    """ISO 13616: letters as numbers from 10, the first four characters moved to the end, remainder 1 by 97."""
    compact = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _is_public_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


PATTERNS: dict[str, tuple[re.Pattern[str], Check]] = {
    "email": (
        re.compile(r"\b[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,12}\b"),
        _is_real_email,
    ),
    # A country code, or the North American form with its separators; bare digits are order numbers.
    "phone": (
        re.compile(
            r"(?<![\w.+-])(?:\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"
            r"|(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4})(?![\w-]|\.\d)"
        ),
        _is_real_phone,
    ),
    "card": (
        re.compile(r"(?<![\w.-])(?:[4-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}|3[47]\d{2}([ -]?)\d{6}\2\d{5})(?![\w-]|\.\d)"),
        _has_luhn_digit,
    ),
    "iban": (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _has_iban_digits),
    "ip": (re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"), _is_public_address),
}
"""By the name that a recipe lists."""


def personal_data(text: str, patterns: tuple[str, ...]) -> PersonalData | None:
    """The first match of the patterns in the text."""
    for name in patterns:
        pattern, is_real = PATTERNS[name]
        for match in pattern.finditer(text):
            if is_real(match.group()):
                return PersonalData(name, match.group())
    return None
