"""Loading a tokenizer that can render a conversation and tell where in the text each token came from."""

from __future__ import annotations

import functools
import hashlib
from typing import Any


@functools.lru_cache(maxsize=4)
def load_tokenizer(path: str) -> Any:
    """The fast tokenizer of a model directory or hub id.

    Raises ``ValueError`` where it has no chat template or can't give character offsets.
    """
    from transformers import AutoTokenizer  # two seconds to import, and workers that only read plans don't need it

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise ValueError(
            f"The model {path!r} has no chat template; use its chat variant, or save the model to a directory, put a "
            "Jinja template there as chat_template.jinja, and give that directory."
        )
    if not tokenizer.is_fast:
        raise ValueError(f"The tokenizer of {path!r} is not a fast one, so token positions are unknown; convert it.")
    return tokenizer


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Twelve digits that identify vocabulary, rules and chat template, wherever the files lie."""
    text = tokenizer.backend_tokenizer.to_str() + str(tokenizer.chat_template)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
