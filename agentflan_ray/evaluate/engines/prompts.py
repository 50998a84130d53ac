"""A request as the tokens that a model reads: the same for every engine that runs a model by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError
from numpy.typing import NDArray

from agentflan_ray.evaluate.benchmark import Request
from agentflan_ray.tokens.templates import render

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Choices:
    """Choices to weigh: each after its prompt, and how many first tokens the prompt and all of them share."""

    wholes: tuple[Tokens, ...]
    shared: int


class Prompter:
    """Renders conversations by a tokenizer's chat template. One thread at a time."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def text(self, request: Request) -> str:
        """The conversation and what opens the reply. Texts are without outer blanks, as in training.

        Raises ``ValueError`` where the template refuses the conversation.
        """
        messages = [{**message, "content": message["content"].strip()} for message in request.messages]
        options: dict[str, Any] = {"tools": list(request.tools)} if request.tools else {}
        try:
            text: str = render(self._tokenizer, messages, add_generation_prompt=True, **options)
        except TemplateError as error:
            raise ValueError(
                f"The model's chat template refuses a conversation of {[m['role'] for m in messages]}: {error}. Choose "
                "another prompt, or a template with --template."
            ) from error
        return text

    def encode(self, text: str) -> Tokens:
        """The tokens of a rendered text."""
        return np.asarray(self._tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)

    def choices(self, text: str, choices: Sequence[str]) -> Choices:
        """The choices after a rendered prompt. One may change how the prompt's last token is cut: then what they
        still share is given, and all that follows is weighed.

        Raises ``ValueError`` for a choice that adds no token.
        """
        prompt, wholes = self.encode(text), tuple(self.encode(text + each) for each in choices)
        shared = min(len(prompt), *(common_beginning(prompt, whole) for whole in wholes))
        if any(len(whole) == shared for whole in wholes):
            raise ValueError("A choice adds no token to its prompt, so it has no likelihood; leave it out.")
        return Choices(wholes, shared)


def common_beginning(first: Tokens, second: Tokens) -> int:
    """Length of the common beginning."""
    length = min(len(first), len(second))
    differs = np.flatnonzero(first[:length] != second[:length])
    return int(differs[0]) if len(differs) else length
