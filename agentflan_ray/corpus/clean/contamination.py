"""Evaluation items in training data: word n-grams that a trajectory shares with an item.

The method of GPT-3 (Brown et al. 2020, appendix C): 13 words in a row, lower-cased, without punctuation. An item with
fewer words is looked for whole, and only as a whole sentence; one with fewer than :data:`SHORTEST_MATCH` is not looked
for, since such words meet by chance, and is counted. Words are runs of letters and digits, so a text without spaces
(Chinese, Japanese, Thai) is compared by its sentences only.

Measured with 17 published sets (52,000 items, 806,000 grams, 16 MB) over 71,000 trajectories, at 0.13 ms each: FireAct
repeats 44 questions of HotpotQA (16 easy, 28 medium), the ones that a plain search for whole questions finds; 31 other
records share words with an item of any set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agentflan_ray.corpus.clean.evaluation_sets import EvaluationItem, EvaluationSet, evaluation_items
from agentflan_ray.trajectory import Trajectory

__all__ = ["EvaluationGrams", "EvaluationItem", "EvaluationSet", "Overlap", "SetReport", "evaluation_items"]

SHORTEST_MATCH = 6
"""Words. What is shorter ("what is two plus two") is asked everywhere."""

COMMON_ITEMS = 10
"""Words that more items of a set share are its own wording (a prompt's frame, "which of the following is true"), not
an item, and are not looked for. Copies of one item count once where it has a gram's words; shorter ones do not, since
it is questions such as "Which of the following statements is correct?" (11 items of MMLU) that recur whole."""

LETTERS_PER_WORD = 2.5
"""Grams with shorter words on average are loops over indices and tables of digits, which meet in any code. English
has 4.5."""

_WORD = re.compile(r"\w+")
_OPENS_A_SENTENCE = re.compile(r"(?:^|[.?!:;\n])[\s\"'“‘(\[*>-]*\Z")
_CLOSES_A_SENTENCE = re.compile(r"[\"'”’)\]*]*\s*(?:\Z|[.?!:;\n])")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


class Overlap(NamedTuple):
    """Words that a text shares with an evaluation item."""

    set: str
    item: str
    words: str


class _Table(NamedTuple):
    """Sorted hashes of grams of one length, and the number of an item that has each."""

    hashes: Hashes
    items: Numbers


@dataclass(frozen=True, slots=True)
class SetReport:
    """What of a set is looked for: ``items`` in it, ``grams`` looked for, ``unmatched`` items that have none: they are
    shorter than :data:`SHORTEST_MATCH` words, or nothing but wording that the set's items share."""

    name: str
    items: int
    grams: int
    unmatched: int


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationGrams:
    """All n-grams of all sets as sorted 64-bit hashes: about 16 bytes a gram, to be sent to every worker once.

    Words are numbered; a word that no item has is 0 and ends every gram.
    """

    ngram: int
    sets: tuple[str, ...]
    reports: tuple[SetReport, ...]
    _vocabulary: dict[str, int]
    _items: tuple[tuple[int, str], ...]
    _tables: dict[int, _Table]

    @classmethod
    def of(cls, sets: Sequence[EvaluationSet], ngram: int) -> EvaluationGrams:
        """Read the sets; those of one name are one. Raises ``ValueError`` as ``evaluation_items`` does."""
        names = tuple(dict.fromkeys(evaluation.name for evaluation in sets))
        vocabulary: dict[str, int] = {}
        items: list[tuple[int, str]] = []
        tables: dict[int, list[_Table]] = {}
        reports = []
        for number, name in enumerate(names):
            rows = [item for evaluation in sets if evaluation.name == name for item in evaluation_items(evaluation)]
            of_set = list(dict.fromkeys(item for item, _ in rows))
            place = {item: len(items) + index for index, item in enumerate(of_set)}
            items += [(number, item) for item in of_set]
            originals = _originals(rows, ngram)
            distinct = [(place[item], text) for item, text in rows if originals[item] == item]
            found = _tables_of(distinct, vocabulary, ngram)
            matched = {item for table in found.values() for item in table.items.tolist()}
            num_matched = sum(place[originals[item]] in matched for item in of_set)
            firsts = {length: _first_of_each(table) for length, table in found.items()}
            for length, table in firsts.items():
                tables.setdefault(length, []).append(table)
            num_grams = sum(len(table.hashes) for table in firsts.values())
            reports.append(SetReport(name, len(of_set), num_grams, len(of_set) - num_matched))
        merged = {}
        for length, parts in sorted(tables.items()):
            hashes = np.concatenate([part.hashes for part in parts])
            order = np.argsort(hashes, kind="stable")
            merged[length] = _Table(hashes[order], np.concatenate([part.items for part in parts])[order])
        return cls(ngram, names, tuple(reports), vocabulary, tuple(items), merged)

    def overlaps(self, texts: Sequence[str]) -> list[Overlap]:
        """The first overlap with each set, in the order of the sets."""
        words = [word for text in texts for word in (*_WORD.findall(text.lower()), "")]
        numbers = np.fromiter((self._vocabulary.get(word, 0) for word in words), np.int64, len(words))
        found: dict[int, Overlap] = {}
        for length, starts, hashes in _windows(numbers, tuple(self._tables)):
            table = self._tables[length]
            places = np.searchsorted(table.hashes, hashes)
            hits = table.hashes[np.minimum(places, len(table.hashes) - 1)] == hashes
            for start, place in zip(starts[hits].tolist(), places[hits].tolist(), strict=True):
                if length < self.ngram and not _is_a_sentence(texts, start, length):
                    continue
                end = np.searchsorted(table.hashes, table.hashes[place], side="right")
                for item in table.items[place:end].tolist():
                    number, name = self._items[item]
                    overlap = Overlap(self.sets[number], name, " ".join(words[start : start + length]))
                    found.setdefault(number, overlap)
        return [found[number] for number in sorted(found)]

    def overlap(self, texts: Sequence[str]) -> Overlap | None:
        """The first overlap, None where there is none."""
        return next(iter(self.overlaps(texts)), None)


def searched_texts(trajectory: Trajectory) -> list[str]:
    """Where an evaluation item would stand: the user's turns, and in plain chat the replies too.

    Not the tools' results: pages and tables that an agent looks up hold the words of questions by right.
    """
    plain = not trajectory.tools
    return [m.content for m in trajectory.messages if m.role == "user" or (plain and m.role == "assistant")]


def _originals(rows: Sequence[EvaluationItem], ngram: int) -> dict[str, str]:
    """Each item to the first that asks the same in the same words: itself, or the item that it is a copy of."""
    asked: dict[str, list[tuple[str, ...]]] = {}
    for item, text in rows:
        asked.setdefault(item, []).append(tuple(_WORD.findall(text.lower())))
    first: dict[tuple[tuple[str, ...], ...], str] = {}
    return {
        item: first.setdefault(tuple(texts), item) if max(map(len, texts)) >= ngram else item
        for item, texts in asked.items()
    }


def _tables_of(texts: Sequence[tuple[int, str]], vocabulary: dict[str, int], ngram: int) -> dict[int, _Table]:
    """The distinct (gram, item) pairs of a set, by the number of words, without what is common."""
    numbers: list[int] = []
    letters: list[int] = []
    owners: list[int] = []
    whole: dict[int, list[int]] = {}
    for item, text in texts:
        words = _WORD.findall(text.lower())
        if SHORTEST_MATCH <= len(words) < ngram:
            whole.setdefault(len(words), []).append(len(numbers))
        numbers += [vocabulary.setdefault(word, len(vocabulary) + 1) for word in words]
        letters += map(len, words)
        owners += [item] * len(words)
        numbers.append(0)
        letters.append(0)
        owners.append(item)
    sums = np.concatenate([[0], np.cumsum(letters)])
    owner = np.asarray(owners, np.int64)
    tables = {}
    for length, starts, hashes in _windows(np.asarray(numbers, np.int64), (*whole, ngram)):
        speaking = sums[starts + length] - sums[starts] >= LETTERS_PER_WORD * length
        pairs = _distinct(hashes[speaking], owner[starts[speaking]])
        # Of short items only the whole is looked for, but it counts as common wherever it stands.
        if length < ngram:
            wanted = np.isin(pairs.hashes, hashes[np.isin(starts, whole[length])])
            pairs = _Table(pairs.hashes[wanted], pairs.items[wanted])
        _, inverse, counts = np.unique(pairs.hashes, return_inverse=True, return_counts=True)
        rare = counts[inverse] <= COMMON_ITEMS
        tables[length] = _Table(pairs.hashes[rare], pairs.items[rare])
    return {length: table for length, table in tables.items() if len(table.hashes)}


def _distinct(hashes: Hashes, items: Numbers) -> _Table:
    order = np.lexsort((items, hashes))
    hashes, items = hashes[order], items[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1])
    return _Table(hashes[new], items[new])


def _first_of_each(table: _Table) -> _Table:
    """Each gram with the first of its items."""
    hashes, first = np.unique(table.hashes, return_index=True)
    return _Table(hashes, table.items[first])


def _windows(numbers: Numbers, lengths: tuple[int, ...]) -> Iterator[tuple[int, Numbers, Hashes]]:
    """For each length the starts and hashes of the windows whose words are all known (not 0)."""
    unknown = np.concatenate([[0], np.cumsum(numbers == 0)])
    mixed = _mixed(numbers)
    hashes = mixed
    for length in range(1, max(lengths, default=0) + 1):
        num = len(numbers) - length + 1
        if num <= 0:
            return
        if length > 1:
            hashes = hashes[:num] * _MULTIPLIER + mixed[length - 1 :]
        if length in lengths:
            starts = np.flatnonzero(unknown[length:] == unknown[:num])
            yield length, starts, hashes[starts]


def _mixed(numbers: Numbers) -> Hashes:
    """SplitMix64 of each number: neighbours in the vocabulary get unrelated bits."""
    value = numbers.astype(np.uint64) * _MULTIPLIER
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _is_a_sentence(texts: Sequence[str], start: int, length: int) -> bool:
    """Whether the words from number ``start`` on (one more is counted after each text) are whole sentences."""
    for text in map(str.lower, texts):
        spans = [match.span() for match in _WORD.finditer(text)]
        if start < len(spans):
            before, after = text[: spans[start][0]], text[spans[start + length - 1][1] :]
            return bool(_OPENS_A_SENTENCE.search(before[-20:]) and _CLOSES_A_SENTENCE.match(after))
        start -= len(spans) + 1
    raise AssertionError(f"There is no word {start} behind the texts.")
