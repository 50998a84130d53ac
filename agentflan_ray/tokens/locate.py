"""Texts as token ids, and which token stands where in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import decoders, normalizers, pre_tokenizers

Ints = npt.NDArray[np.int64]


class Located(Protocol):
    """An encoded text. ``input_ids``: (n,) int32."""

    @property
    def input_ids(self) -> npt.NDArray[np.int32]: ...

    def tokens_at(self, positions: Sequence[int]) -> list[int]:
        """The first token that ends after each position, in characters of the text; n where none does."""
        ...


@dataclass(frozen=True, slots=True)
class _ByBytes:
    """``ends`` (n,): the bytes of UTF-8 up to each token's end. ``before`` (characters + 1,): those before each
    character; None where a character is a byte."""

    input_ids: npt.NDArray[np.int32]
    ends: Ints
    before: Ints | None

    def tokens_at(self, positions: Sequence[int]) -> list[int]:
        places = positions if self.before is None else self.before[positions]
        found: list[int] = np.searchsorted(self.ends, places, side="right").tolist()
        return found


@dataclass(frozen=True, slots=True)
class _ByOffsets:
    """As the library tells it, one position at a time: its whole list of offsets takes five times as long."""

    input_ids: npt.NDArray[np.int32]
    encoding: Any
    num_characters: int

    def tokens_at(self, positions: Sequence[int]) -> list[int]:
        return [self._token_at(position) for position in positions]

    def _token_at(self, position: int) -> int:
        while position < self.num_characters:
            token: int | None = self.encoding.char_to_token(position)
            if token is not None:
                return token
            position += 1  # a blank may lie in no token
        return len(self.input_ids)


class Locator:
    """Encodes texts with the rules of one fast tokenizer, special tokens read as such and none added.

    The tokens of a byte-level vocabulary (GPT-2, Llama 3, Qwen, SmolLM2) are the bytes of the text one after the other,
    so the lengths of its pieces say where each token lies, and the library need not work out offsets: that is a tenth
    to a fifth of its time. Other vocabularies, and texts that do not have as many bytes as their tokens, are asked for
    offsets.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = tokenizer.backend_tokenizer
        # Padding or cutting that the tokenizer's file asks for would apply to these batches.
        self._backend.no_padding()
        self._backend.no_truncation()
        normalizer = self._backend.normalizer
        # Composing characters (NFC, as Qwen does) leaves ASCII as it is; of other rules that is not known.
        self._only_ascii = isinstance(normalizer, normalizers.NFC)
        byte_level = isinstance(self._backend.decoder, decoders.ByteLevel) and (normalizer is None or self._only_ascii)
        self._sizes = _sizes_in_bytes(self._backend) if byte_level else None

    def __call__(self, texts: Sequence[str]) -> list[Located]:
        """Each text as it would be encoded alone."""
        found: dict[int, Located] = {}
        if self._sizes is not None:
            for number, encoding in enumerate(self._backend.encode_batch_fast(texts, add_special_tokens=False)):
                if (located := self._by_bytes(texts[number], encoding, self._sizes)) is not None:
                    found[number] = located
        others = [number for number in range(len(texts)) if number not in found]
        encodings = self._backend.encode_batch([texts[number] for number in others], add_special_tokens=False)
        for number, encoding in zip(others, encodings, strict=True):
            found[number] = _ByOffsets(np.array(encoding.ids, dtype=np.int32), encoding, len(texts[number]))
        return [found[number] for number in range(len(texts))]

    def _by_bytes(self, text: str, encoding: Any, sizes: Ints) -> Located | None:
        input_ids = np.array(encoding.ids, dtype=np.int32)
        ends = np.cumsum(sizes[input_ids])
        before = None
        num_bytes = len(text)
        if not text.isascii():
            if self._only_ascii:
                return None
            characters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
            widths = 1 + (characters > 0x7F) + (characters > 0x7FF) + (characters > 0xFFFF)
            before = np.concatenate([[0], np.cumsum(widths)])
            num_bytes = int(before[-1])
        return _ByBytes(input_ids, ends, before) if num_bytes == (ends[-1] if len(ends) else 0) else None


def _sizes_in_bytes(backend: Any) -> Ints:
    """Bytes of UTF-8 that each token stands for: a piece has one character for each, an added token is as it reads."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    sizes = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for piece, number in vocabulary.items():
        sizes[number] = len(piece) if alphabet.issuperset(piece) else len(piece.encode())
    for number, added in backend.get_added_tokens_decoder().items():
        sizes[number] = len(added.content.encode())
    return sizes
