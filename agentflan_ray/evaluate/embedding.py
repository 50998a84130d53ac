"""How alike two texts are, where a benchmark compares sentences: a sentence embedder, or character n-grams.

T-Eval's scores are defined with all-mpnet-base-v2. Its folder, or that of any sentence-transformers model that pools by
the mean, is used where a user names it. Without one there are character n-grams: they need no download, and they are
something else. Which one was used is a part of the benchmark's identity and stands in its protocol.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Cosines = np.ndarray[tuple[int, int], np.dtype[np.float64]]

MAX_CHARACTERS = 4_000
"""Characters of a text that are compared. The published embedder reads 384 tokens, some 1,800 characters."""

PUBLISHED_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
"""Of ``model.safetensors`` of sentence-transformers/all-mpnet-base-v2."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Embedder(Protocol):
    """Compares texts. Threads may call it at once."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What decides its numbers."""

    @property
    def description(self) -> str:
        """For a protocol's sentence."""

    def cosines(self, first: Sequence[str], second: Sequence[str]) -> Cosines:
        """Cosine of every text of the first with every one of the second, shape (first, second)."""


@dataclass(frozen=True, slots=True)
class CharacterNgrams:
    """Cosine of counts of words and of their character n-grams (3 to 5, padded), each count as 1 + its logarithm.

    Names such as ``getUserById`` and ``get_user_by_id`` are split into the same words. A text without a word is like
    no other, and like itself.
    """

    @property
    def identity(self) -> Mapping[str, str]:
        """See :class:`Embedder`."""
        return {"embedder": "character n-grams of 3 to 5, version 1"}

    @property
    def description(self) -> str:
        """See :class:`Embedder`."""
        return "character n-grams in place of the published sentence embedder (other numbers, no synonyms)"

    def cosines(self, first: Sequence[str], second: Sequence[str]) -> Cosines:
        """See :class:`Embedder`."""
        rows, columns = [_ngrams(text) for text in first], [_ngrams(text) for text in second]
        found = np.zeros((len(rows), len(columns)))
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                if first[i] == second[j]:
                    found[i, j] = 1.0
                else:
                    small, large = sorted((row, column), key=len)
                    found[i, j] = sum(weight * large[name] for name, weight in small.items() if name in large)
        return found


class SentenceModel:
    """A sentence-transformers model on the CPU: transformers' output, its mean over tokens, unit length."""

    def __init__(self, folder: str | Path) -> None:
        """Raises ``ValueError`` where the folder holds no such model or one that pools otherwise."""
        place = Path(folder)
        weights = place / "model.safetensors"
        if not (weights.is_file() and (place / "config.json").is_file()):
            raise ValueError(
                f"The embedder's folder {place} has no config.json with model.safetensors; give the folder of a "
                "sentence-transformers model."
            )
        pooling = _json(place / "1_Pooling/config.json")
        modes = [mode for mode, is_on in pooling.items() if mode.startswith("pooling_mode_") and is_on is True]
        if modes and modes != ["pooling_mode_mean_tokens"]:
            raise ValueError(
                f"The embedder in {place} pools by {', '.join(modes)}; only the mean over tokens is built."
            )
        from transformers import AutoModel, AutoTokenizer

        self._model: Any = AutoModel.from_pretrained(
            place, use_safetensors=True, trust_remote_code=False, local_files_only=True
        ).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=True)
        self._max_length = int(_json(place / "sentence_bert_config.json").get("max_seq_length") or 384)
        self._lock = threading.Lock()
        with weights.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def identity(self) -> Mapping[str, str]:
        """See :class:`Embedder`."""
        return {"embedder": f"mean over tokens of the model with SHA-256 {self._digest}"}

    @property
    def description(self) -> str:
        """See :class:`Embedder`."""
        if self._digest == PUBLISHED_SHA256:
            return "the published embedder all-mpnet-base-v2"
        return f"an embedder other than the published one (SHA-256 {self._digest[:12]})"

    def cosines(self, first: Sequence[str], second: Sequence[str]) -> Cosines:
        """See :class:`Embedder`."""
        vectors = self._embedded([*first, *second])
        found: Cosines = vectors[: len(first)] @ vectors[len(first) :].T
        return found

    def _embedded(self, texts: Sequence[str]) -> Cosines:
        import torch

        rows = []
        with self._lock, torch.inference_mode():
            for start in range(0, len(texts), 32):
                chosen = [text[:MAX_CHARACTERS] for text in texts[start : start + 32]]
                batch = self._tokenizer(
                    chosen, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
                )
                states = self._model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
                mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
                rows.append(torch.nn.functional.normalize(mean, dim=1).double().numpy())
        return np.concatenate(rows)


def embedder_of(folder: str | None) -> Embedder:
    """The model of the option ``embedder``, a folder, or character n-grams where there is none."""
    return CharacterNgrams() if folder is None else SentenceModel(folder)


def _ngrams(text: str) -> dict[str, float]:
    """Weights of unit length."""
    counts: Counter[str] = Counter()
    for word in _WORD.findall(_HUMP.sub(" ", text[:MAX_CHARACTERS])):
        padded = f" {word.casefold()} "
        counts[padded] += 1
        for size in (3, 4, 5):
            counts.update(padded[start : start + size] for start in range(len(padded) - size + 1))
    weights = {name: 1 + math.log(count) for name, count in counts.items()}
    length = math.sqrt(sum(weight**2 for weight in weights.values()))
    return {name: weight / length for name, weight in weights.items()}


def _json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value if isinstance(value, dict) else {}
