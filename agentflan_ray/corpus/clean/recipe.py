"""What cleaning removes: literals that belong to a corpus's identity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agentflan_ray.corpus.clean.contamination import SHORTEST_MATCH
from agentflan_ray.corpus.clean.language import known_languages
from agentflan_ray.corpus.clean.personal import PATTERNS
from agentflan_ray.corpus.clean.signatures import LOWEST_THRESHOLD


@dataclass(frozen=True)
class CleanRecipe:
    """Which trajectories are removed. The sets to decontaminate against are given apart: they are data, not literals.

    Raises ``ValueError`` for a setting that can't be met.
    """

    loops: bool = True
    """Remove runs that go in circles: :func:`~agentflan_ray.corpus.clean.rules.loop`."""
    schema: bool = True
    """Remove learnt calls that break the tool's own JSON schema: unknown or missing arguments, wrong types."""
    near_duplicates: float | None = 0.9
    """Jaccard estimate at or above which the later of two is removed, where both make the same calls and name the same
    numbers and names (:mod:`~agentflan_ray.corpus.clean.signatures`); None compares whole conversations only."""
    ngram: int = 13
    """Words in a row that a record may not share with an evaluation item (GPT-3, appendix C: 13)."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes such as ``("en",)``: records surely in another language are removed; () takes all."""
    min_characters: int | None = None
    """Records with less text that can be learnt are removed; None: no limit."""
    max_characters: int | None = None
    """Records with more text in all their messages are removed; None: no limit."""
    max_turns: int | None = None
    """Records with more messages (the system message aside) are removed; None: no limit."""
    personal_data: tuple[str, ...] = ()
    """Names of patterns (``email``, ``phone``, ``card``, ``iban``, ``ip``): records with a match are removed."""

    def __post_init__(self) -> None:
        threshold = self.near_duplicates
        if threshold is not None and not LOWEST_THRESHOLD <= threshold <= 1:
            raise ValueError(
                f"near_duplicates is {threshold}, but must lie between {LOWEST_THRESHOLD} and 1 (the bands find less "
                "similar pairs too rarely), or be None."
            )
        if self.ngram < SHORTEST_MATCH:
            raise ValueError(
                f"ngram is {self.ngram}, but fewer than {SHORTEST_MATCH} words in a row are shared by chance."
            )
        for name in ("min_characters", "max_characters", "max_turns"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give a positive number, or None for no limit.")
        if (self.min_characters or 0) > (self.max_characters or math.inf):
            raise ValueError(f"min_characters ({self.min_characters}) is above max_characters ({self.max_characters}).")
        for pattern in self.personal_data:
            if pattern not in PATTERNS:
                raise ValueError(f"There is no pattern {pattern!r} of personal data; known are {', '.join(PATTERNS)}.")
        if self.languages:
            for language in self.languages:
                if language not in known_languages():
                    known = ", ".join(sorted(known_languages()))
                    raise ValueError(f"The language {language!r} is not one of those that can be told apart: {known}.")
