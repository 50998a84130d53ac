"""Which language a trajectory is written in, by py3langid's bundled model (after Lui and Baldwin 2012)."""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from agentflan_ray.trajectory import Trajectory

FEWEST_LETTERS = 40
"""Shorter texts are taken for any language: names and greetings are the same in many."""

SUREST = 0.99
"""Probability from which on a text counts as being in a language."""

_LETTERS_READ = 500
_NO_LANGUAGE = re.compile(r"```.*?(?:```|\Z)|`[^`]*`|https?://\S+|\S*[_\\/{}<>=]\S*|\S*\d\S*", re.DOTALL)
"""Code, addresses, names with underscores, numbers: they are in no language."""


class Language(NamedTuple):
    """An ISO 639-1 code and how sure it is, in [0, 1]."""

    code: str
    probability: float


def language_of(trajectory: Trajectory) -> Language | None:
    """The language of what the user and the assistant say; None where they say too little to tell."""
    said: list[str] = []
    letters = 0
    for message in trajectory.messages:
        if message.role in ("user", "assistant") and letters < _LETTERS_READ:
            text = " ".join(_NO_LANGUAGE.sub(" ", f"{message.thought} {message.content}").split())
            said.append(text)
            letters += sum(map(str.isalpha, text))
    if letters < FEWEST_LETTERS:
        return None
    code, probability = _identifier().classify("\n".join(said)[: 2 * _LETTERS_READ])
    return Language(code, float(probability))


def known_languages() -> frozenset[str]:
    """Codes of the languages that can be told apart."""
    return frozenset(_identifier().labels)


@functools.cache
def _identifier() -> Any:
    # Only who asks for languages waits for the model: 0.6 s.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
