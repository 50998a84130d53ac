"""What duplicates are found by: a hash of the whole conversation, a MinHash signature, and its bands.

**Same conversation** (``content``): tools and messages with roles, words, thoughts and calls, whatever the record's id.

**Nearly the same**: Jaccard similarity of word 5-grams over what the user and the assistant say, think and call, and
of the names of up to :data:`NUM_TOOLS_COUNTED` listed tools. System prompts, tool descriptions and tool results are
left out: records share them by design. One word in a hundred costs no more than a tenth of similarity, but if it is a
number, a name or an argument it makes another task. So only records that make the same set of calls and hold the same
set of numbers and names are compared at all: what is removed says the same of the same things in slightly other words.

The signatures are rensa's RMinHash (Rust). Measured on 5,000 trajectories of 230 words with 128 permutations on one
core (November 2026): rensa 0.5 takes 9 µs a record, datasketch 2.0 55 µs (``update_batch`` of ready hashes; 218 µs of
text); the error of the estimate above 0.75 is 0.020 with rensa, 0.026 with datasketch.

The threshold is one of the estimate, without bias but with an error of 0.02. Of 1,500 pairs each, those found at 0.9:
1.9 % at a true similarity of 0.85, 48 % at 0.90, 79 % at 0.92, 98 % at 0.94, 99.7 % at 0.95, all from 0.96 on. What is
missed there is missed by the estimate; the bands bring all of them together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import rensa

from agentflan_ray.trajectory import Trajectory

NUM_BANDS = 16
NUM_ROWS = 8
"""Rows of a band. Two records meet in at least one band with probability 1 - (1 - s^8)^16 at similarity s: 0.95 at
0.8, 0.994 at 0.85, 0.9998 at 0.9; 0.61 at 0.7 and 0.06 at 0.5, where comparing the signatures then says no."""

LOWEST_THRESHOLD = 0.8
"""Below, too many pairs never meet in a band."""

BANDS = tuple(f"band_{index:02}" for index in range(NUM_BANDS))
NUM_PERMUTATIONS = NUM_BANDS * NUM_ROWS
SIGNATURE_BYTES = 2 * NUM_PERMUTATIONS
"""The low 16 bits of each minimum: two that differ agree in them by chance once in 65,536 times."""

SIGNATURE_SCHEMA = pa.schema(
    [
        ("where", pa.string()),
        ("id", pa.string()),
        ("origin", pa.string()),
        ("part", pa.string()),
        ("content", pa.int64()),
        *((band, pa.int64()) for band in BANDS),
        ("signature", pa.binary(SIGNATURE_BYTES)),
    ]
)
"""One row for each kept record: ``where`` is its position ``file:row[#number]``, ``part`` a name of the place that it
is stored in; the columns from ``content`` on are those of :func:`signature_columns`."""

SHINGLE_WORDS = 5
NUM_TOOLS_COUNTED = 8
"""Of a longer list those with the smallest hashes, the same ones for the same list: so many that a short question
asked with other tools is another sample, and so few that a long list does not make two texts alike."""

_SEED = 1
_MASK = 2**64 - 1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Operators are words: in mathematics and code "x < 0" is not "x > 0".
_WORD = re.compile(r"\w+|[<>=+*/^%≤≥≠]")
# Words with a digit, and words with a capital inside a sentence or after an opening bracket ("Paris", "G", "(B)").
_NUMBER_OR_NAME = re.compile(r"\w*\d\w*|(?<=[a-z,;] )(?:[A-Z]\w+|[B-HJ-Z]\b)|(?<=\()[A-Z]\w*")

Hashes = npt.NDArray[np.uint64]


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, each computed once in a batch: the same on every machine, unlike Python's own."""

    def __missing__(self, word: str) -> int:
        value = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        self[word] = value
        return value


class _Said(NamedTuple):
    """What is compared of a trajectory: the words, and the calls they belong to."""

    text: str
    calls: list[str]


def signature_columns(trajectories: Sequence[Trajectory]) -> pa.Table:
    """The columns ``content``, ``band_00``… and ``signature`` of a batch, one row for each trajectory, in order."""
    hashes = _WordHashes()
    said = [_said(trajectory) for trajectory in trajectories]
    shingles = [_shingles(text, trajectory, hashes) for (text, _), trajectory in zip(said, trajectories, strict=True)]
    minima = _minima(shingles)
    facts = np.fromiter((_facts_hash(one, hashes) for one in said), np.uint64, len(said))
    columns: dict[str, pa.Array] = {
        "content": pa.array(np.fromiter(map(_content_hash, trajectories), np.int64, len(trajectories)))
    }
    for index, band in enumerate(BANDS):
        columns[band] = pa.array(_band(minima[:, index * NUM_ROWS : (index + 1) * NUM_ROWS], facts))
    signatures = minima.astype("<u2").tobytes()
    columns["signature"] = pa.Array.from_buffers(
        pa.binary(SIGNATURE_BYTES), len(trajectories), [None, pa.py_buffer(signatures)]
    )
    return pa.table(columns)


def _said(trajectory: Trajectory) -> _Said:
    pieces = []
    calls = []
    for message in trajectory.messages:
        if message.role == "user":
            pieces.append(message.content)
        elif message.role == "assistant":
            pieces += [message.thought, message.content]
            for call in message.calls:
                pieces += [call.name, call.arguments]
                calls.append(f"{call.name}\x1f{' '.join(_WORD.findall(call.arguments.lower()))}")
    return _Said("\n".join(pieces), calls)


def _shingles(text: str, trajectory: Trajectory, hashes: _WordHashes) -> Hashes:
    words = _WORD.findall(text.lower())
    numbers = np.fromiter((hashes[word] for word in words), np.uint64, len(words))
    length = min(SHINGLE_WORDS, len(numbers))
    grams = numbers[: len(numbers) - length + 1].copy()
    for index in range(1, length):
        grams = grams * _MULTIPLIER + numbers[index : index + len(grams)]
    tools = sorted(hashes[f"tool\x1f{tool.name}"] for tool in trajectory.tools)[:NUM_TOOLS_COUNTED]
    elements = np.concatenate([grams, np.array(tools, np.uint64)])
    # Text without any word (signs, emoji) is like nothing but itself.
    return elements if words else np.array([hashes[f"text\x1f{text}"]], np.uint64)


def _minima(shingles: list[Hashes]) -> npt.NDArray[np.uint32]:
    """MinHash signatures, an array of shape (records, NUM_PERMUTATIONS)."""
    if not shingles:
        return np.zeros((0, NUM_PERMUTATIONS), np.uint32)
    ends = np.cumsum([len(elements) for elements in shingles], dtype=np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(shingles), np.concatenate([np.zeros(1, np.uint64), ends]), NUM_PERMUTATIONS, _SEED
    )
    return np.array(matrix.to_rows(), np.uint32)


def _facts_hash(said: _Said, hashes: _WordHashes) -> int:
    """A hash of the set of calls, numbers and names, in whatever order they stand."""
    facts = {*said.calls, *map(str.lower, _NUMBER_OR_NAME.findall(said.text))}
    return sum(hashes[f"fact\x1f{fact}"] for fact in facts) & _MASK


def _band(minima: npt.NDArray[np.uint32], facts: Hashes) -> npt.NDArray[np.int64]:
    """One number for a band and the facts: equal for records that are to be compared."""
    value = facts.copy()
    for column in minima.T:
        value = (value ^ column) * _MULTIPLIER
        value ^= value >> np.uint64(29)
    return value.view(np.int64)


def _content_hash(trajectory: Trajectory) -> int:
    tools = [[tool.name, tool.description, tool.parameters] for tool in trajectory.tools]
    messages = [
        [message.role, message.content, message.thought, [[call.name, call.arguments] for call in message.calls]]
        for message in trajectory.messages
    ]
    text = json.dumps([tools, messages], ensure_ascii=False)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
