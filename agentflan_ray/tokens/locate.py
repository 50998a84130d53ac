"""Texts as token ids, and which token stands where in the text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import decoders, normalizers, pre_tokenizers

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Located:
    """Encoded texts. ``input_ids`` (n,): the tokens of all of them; ``starts`` (texts + 1,): where those of each begin.

    ``ends`` (n,): the bytes of UTF-8 up to each token's end, from the first text's beginning; ``num_bytes``
    (texts + 1,): those before each text. Of a text that is in ``encodings`` they mean nothing: the library is asked
    for one position at a time, because its whole list of offsets takes five times as long.
    """

    input_ids: npt.NDArray[np.int32]
    starts: Ints
    texts: Sequence[str]
    ends: Ints
    num_bytes: Ints
    encodings: dict[int, Any]

    def tokens_at(self, numbers: Sequence[int], positions: Sequence[int]) -> Ints:
        """For pairs of a text's number and a position in it, in characters: the first of its tokens that ends after
        the position, counted from the first token of all texts; where the next text's begin if none does."""
        of = np.array(numbers, dtype=np.int64)
        places = self.num_bytes[of] + np.array(positions, dtype=np.int64)
        apart = {number for number in set(numbers) if number in self.encodings or not self.texts[number].isascii()}
        among = [(at, number) for at, number in enumerate(numbers) if number in apart] if apart else []
        for at, number in among:
            places[at] = self.num_bytes[number] + len(self.texts[number][: positions[at]].encode())
        tokens = np.minimum(np.searchsorted(self.ends, places, side="right"), self.starts[of + 1])
        for at, number in among:
            if number in self.encodings:
                tokens[at] = self._token_by_offset(number, positions[at])
        return tokens

    def _token_by_offset(self, number: int, position: int) -> int:
        while position < len(self.texts[number]):
            token: int | None = self.encodings[number].char_to_token(position)
            if token is not None:
                return int(self.starts[number]) + token
            position += 1  # a blank may lie in no token
        return int(self.starts[number + 1])


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
        self._byte_level = isinstance(self._backend.decoder, decoders.ByteLevel) and (
            normalizer is None or self._only_ascii
        )
        self._sizes = _sizes_in_bytes(self._backend)

    def __call__(self, texts: Sequence[str]) -> Located:
        """Each text as it would be encoded alone."""
        encode = self._backend.encode_batch_fast if self._byte_level else self._backend.encode_batch
        encodings = encode(texts, add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        starts = np.cumsum([0, *map(len, ids)])
        input_ids = np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int32, count=int(starts[-1]))
        ends = np.cumsum(self._sizes[input_ids])
        num_bytes = np.concatenate([[0], ends])[starts]
        if self._byte_level:
            asked = [
                number
                for number, (text, size) in enumerate(zip(texts, np.diff(num_bytes).tolist(), strict=True))
                if size != (len(text) if text.isascii() else len(text.encode()))
                or (self._only_ascii and not text.isascii())
            ]
            encodings = self._backend.encode_batch([texts[number] for number in asked], add_special_tokens=False)
        else:
            asked = list(range(len(texts)))
        by_offset = dict(zip(asked, encodings, strict=True))
        return Located(input_ids, starts, texts, ends, num_bytes, by_offset)


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
