"""What a teacher is asked for: literals that, with the prompts' code, are part of a corpus's identity."""

from __future__ import annotations

from dataclasses import dataclass

TAUGHT_CASES = ("no_tool_request", "irrelevant_tool", "near_miss", "missing_argument", "tool_error")
"""Negative cases whose reply is written from patterns. The replies of ``chat_with_tools`` are real already."""


@dataclass(frozen=True)
class TeacherRecipe:
    """Which samples a teacher rewrites, and with which settings it samples its replies.

    Where the teacher runs, the key, the prices and how many requests are in flight are no part of it.
    """

    model: str
    """Name of the model, as its endpoint knows it."""
    cases: tuple[str, ...] = TAUGHT_CASES
    share: float = 1.0
    """Share of the samples of these cases, by a stable hash of their ids: a smaller one lies inside a larger one."""
    temperature: float = 0.7
    """Below 1, as replies have to keep to the facts; above 0, as like requests should not get like replies."""
    max_tokens: int = 200
    """A reply of one to three sentences has 20 to 80."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("The teacher's model has no name; give the name that its endpoint knows.")
        for case in self.cases:
            if case not in TAUGHT_CASES:
                raise ValueError(f"A teacher can't rewrite the case {case!r}; it can {', '.join(TAUGHT_CASES)}.")
        if not 0 <= self.share <= 1:
            raise ValueError(f"The teacher's share is {self.share}, but a share lies between 0 and 1.")
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"The teacher's temperature is {self.temperature}, but it lies between 0 and 2.")
        if self.max_tokens < 1:
            raise ValueError(f"The teacher's max_tokens is {self.max_tokens}, but a reply has at least one.")
