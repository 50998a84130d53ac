"""Loading a tokenizer that can render a conversation and tell where in the text each token came from."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from agentflan_ray.tokens.templates import TEMPLATES, apply_template, marks_of


@functools.lru_cache(maxsize=4)
def load_tokenizer(path: str, template: str | None = None) -> Any:
    """The fast tokenizer of a model directory or hub id, with its own chat template or the named one.

    Raises ``ValueError`` where it can't give character offsets, where it has no chat template and none is named, where
    the named one does not exist or needs tokens that it does not have, or where its template marks no end of a reply.
    """
    from transformers import AutoTokenizer  # two seconds to import, and workers that only read plans don't need it

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError(f"The tokenizer of {path!r} is not a fast one, so token positions are unknown; convert it.")
    if template is not None:
        apply_template(tokenizer, template, path)
    if not tokenizer.chat_template:
        raise ValueError(
            f"The model {path!r} has no chat template; use its chat variant, name one of the templates "
            f"{', '.join(TEMPLATES)}, or save the model to a directory and put a Jinja template there as "
            "chat_template.jinja."
        )
    marks_of(tokenizer, path)
    return tokenizer


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Twelve digits that identify vocabulary, rules, special tokens and chat template, wherever the files lie."""
    parts = (
        tokenizer.backend_tokenizer.to_str(),
        tokenizer.chat_template,
        sorted(tokenizer.special_tokens_map.items()),
    )
    return hashlib.sha256("".join(map(str, parts)).encode()).hexdigest()[:12]
