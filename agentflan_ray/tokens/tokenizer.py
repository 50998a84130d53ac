"""Loading a tokenizer that can render a conversation and tell where in the text each token came from."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from agentflan_ray.tokens.templates import TEMPLATES, apply_template, marks_of


@functools.lru_cache(maxsize=4)
def load_tokenizer(path: str, template: str | None = None) -> Any:
    """The fast tokenizer of a model directory or hub id, with its own chat template or the named one.

    Raises ``ValueError`` where it can't be loaded or gives no character offsets, where it has no chat template and none
    is named, where the named one does not exist or needs tokens that it does not have, or where its template marks no
    end of a reply.
    """
    from transformers import AutoTokenizer  # two seconds to import, and workers that only read plans don't need it

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # OSError, ValueError and KeyError of transformers, a bare Exception of tokenizers
        raise ValueError(
            f"The tokenizer of {path!r} can't be loaded: {_reason(Path(path), error)}. Take tokenizer.json and "
            "tokenizer_config.json of the model that it comes from."
        ) from error
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


def _reason(folder: Path, error: Exception) -> str:
    """What is wrong with a tokenizer's files, which the libraries' errors often do not name."""
    if folder.is_dir():
        if not (folder / "tokenizer.json").is_file():
            return "there is no tokenizer.json"
        for path in sorted(folder.glob("*.json")):
            try:
                json.loads(path.read_bytes())
            except ValueError as unreadable:
                return f"{path.name} is no JSON ({unreadable})"
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """What an error of transformers says, without the advice that follows, to stand in a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Twelve digits that identify vocabulary, rules, special tokens and chat template, wherever the files lie."""
    parts = (
        tokenizer.backend_tokenizer.to_str(),
        tokenizer.chat_template,
        sorted(tokenizer.special_tokens_map.items()),
    )
    return hashlib.sha256("".join(map(str, parts)).encode()).hexdigest()[:12]
