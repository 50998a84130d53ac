"""How alike tools and requests are: TF-IDF vectors over a catalogue of tools, compared by cosine.

Negatives list tools that can't serve a request. Drawn by chance alone, now and then one could, and the model would
be taught to refuse it. So a tool's name, description and parameter names become a vector in which rare words weigh
more than "get" or "list" (Salton and Buckley 1988: term weighting), and words that mean the same in tools ("film",
"movie") are one word.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import sparse

from agentflan_ray.corpus.lexicon import (
    ACTION_CLASSES,
    ACTION_WORDS,
    GENERAL_PURPOSE,
    NOUNS_TOO,
    OPERATES,
    OPERATING_WORDS,
    READING_VERBS,
    READS,
    SAME_MEANING,
    STOP_WORDS,
)
from agentflan_ray.trajectory import Tool

Scores = npt.NDArray[np.float32]

NAME_WEIGHT, DESCRIPTION_WEIGHT, PARAMETER_WEIGHT = 2.0, 1.0, 0.5
"""A tool is named for what it does; a parameter such as ``city`` says little about it."""

ACTION_WEIGHT = 0.5
"""The weight of a word that says what is done (:data:`ACTION_WORDS`), as a share of what it would be."""

_BOOK_AS_VERB = re.compile(
    r"^book(?=[\s_]+[a-z])|\bbook(?= (?:a|an|the|me|us|my|it|that|this|one|two)\b)", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TOOLBENCH = re.compile(r"^This is the subfunction for tool.*?description of this function is:\s*\"?", re.DOTALL)


def purpose(tool: Tool) -> str:
    """What a tool is for, on one line. ToolBench wraps each description in a sentence that is the same for all."""
    return _purpose_of(tool.description)


@functools.lru_cache(maxsize=16_384)
def _purpose_of(description: str) -> str:
    return " ".join(_TOOLBENCH.sub("", description).strip().strip('"').split())


@functools.lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A lower-case word without the plural's ending, or the word that stands for its meaning."""
    candidates = [word]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        candidates.append(word[:-1])
        if word.endswith("ies"):
            candidates.append(f"{word[:-3]}y")
        elif word.endswith(("ches", "shes", "sses", "xes")):
            candidates.append(word[:-2])
    known = next((_MEANING[candidate] for candidate in candidates if candidate in _MEANING), None)
    return known or candidates[-1]


# One request is looked at for several samples and against several tools.
@functools.lru_cache(maxsize=1024)
def words_of(text: str) -> tuple[str, ...]:
    """The words that tell what a text is about, in order: camelCase and snake_case are split, fillers left out."""
    plain = _BOOK_AS_VERB.sub("reserve", _CAMEL.sub(" ", text))
    found = (word.lower() for word in _WORD.findall(plain))
    return tuple(stem(word) for word in found if len(word) > 1 and word not in STOP_WORDS)


def action_of(tool: Tool) -> str:
    """What kind of thing the tool does, by the verb that its name, or else its description, begins with.

    A tool that does whatever it is told (a shell, SQL) is known by any word of its name.
    """
    if any(word.lower() in OPERATING_WORDS for word in _WORD.findall(_CAMEL.sub(" ", tool.name))):
        return OPERATES
    said = _WORD.search(purpose(tool))
    describes_reading = said is not None and stem(said.group().lower()) in READING_VERBS
    for text in (tool.name, purpose(tool)):
        first = _WORD.search(_CAMEL.sub(" ", text))
        word = first.group().lower() if first else ""
        if word in ACTION_CLASSES and not (word in NOUNS_TOO and describes_reading):
            return ACTION_CLASSES[word]
    return READS


def is_broad(tool: Tool) -> bool:
    """Whether the tool might help with almost any request, as a web search does."""
    return bool(GENERAL_PURPOSE.search(spelled(tool)))


def spelled(tool: Tool) -> str:
    """The words of a tool's name, and what it is for."""
    return f"{_CAMEL.sub(' ', tool.name).replace('_', ' ').replace('-', ' ')}: {purpose(tool)}"


REMEMBERED = 1024
"""Likenesses kept, at most 8 MB for 2,000 tools: trajectories of one source call the same tools again and again."""


@dataclass(frozen=True)
class Catalogue:
    """Tools in the order of their names, with their vectors. Make it with :meth:`of`, once per process.

    ``columns`` numbers the words; ``rarity`` (words,) is the inverse document frequency of each, ``unseen`` that of a
    word that no tool holds. ``vectors`` and ``squares`` (tools x words) are sparse rows of length one and their
    elements squared, which add up to one. ``words`` and ``actions`` are what its words and what
    :func:`action_of` says of it; ``broad`` (tools,) marks those that might help with anything.
    """

    tools: tuple[Tool, ...]
    words: tuple[frozenset[str], ...]
    actions: tuple[str, ...]
    broad: npt.NDArray[np.bool_]
    columns: dict[str, int]
    rarity: Scores
    unseen: float
    vectors: sparse.csr_array
    squares: sparse.csr_array
    places: dict[str, int]
    """Number of the tool with a name."""
    _likenesses: dict[Tool, Scores] = field(default_factory=dict, repr=False)
    _coverages: dict[str, Scores] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tools: Iterable[Tool]) -> Catalogue:
        """The catalogue of the tools, which have different names. Their order does not matter."""
        ordered = tuple(sorted(tools, key=lambda tool: tool.name))
        weights = [_weights(tool) for tool in ordered]
        frequency = Counter(word for row in weights for word in row)
        columns = {word: index for index, word in enumerate(sorted(frequency))}
        counts = np.array([frequency[word] for word in columns], dtype=np.float32)
        rarity = (np.log((1 + len(ordered)) / (1 + counts)) + 1).astype(np.float32)
        rows = np.repeat(np.arange(len(ordered)), [len(row) for row in weights])
        places = np.array([columns[word] for row in weights for word in row], dtype=np.int64)
        values = np.array([value for row in weights for value in row.values()], dtype=np.float32) * rarity[places]
        lengths = np.sqrt(np.bincount(rows, weights=values.astype(np.float64) ** 2, minlength=len(ordered)))
        values = (values / lengths[rows]).astype(np.float32)
        shape = (len(ordered), len(columns))
        return cls(
            tools=ordered,
            words=tuple(frozenset(row) for row in weights),
            actions=tuple(action_of(tool) for tool in ordered),
            broad=np.array([is_broad(tool) for tool in ordered], dtype=bool),
            columns=columns,
            rarity=rarity,
            unseen=float(np.log(1 + len(ordered)) + 1),
            vectors=sparse.csr_array((values, (rows, places)), shape=shape),
            squares=sparse.csr_array((values**2, (rows, places)), shape=shape),
            places={tool.name: index for index, tool in enumerate(ordered)},
        )

    def __len__(self) -> int:
        return len(self.tools)

    def likeness(self, tool: Tool) -> Scores:
        """Cosine of the tool with each tool of the catalogue: (tools,), from 0 to 1."""
        if tool not in self._likenesses:
            if len(self._likenesses) >= REMEMBERED:
                self._likenesses.clear()
            self._likenesses[tool] = self._likeness(tool)
        return self._likenesses[tool]

    def _likeness(self, tool: Tool) -> Scores:
        weights = _weights(tool)
        vector = np.zeros(len(self.columns), dtype=np.float32)
        total = 0.0
        for word, weight in weights.items():
            column = self.columns.get(word)
            value = weight * (self.unseen if column is None else float(self.rarity[column]))
            total += value * value
            if column is not None:
                vector[column] = value
        cosines: Scores = (self.vectors @ (vector / max(total, 1e-9) ** 0.5)).astype(np.float32)
        return cosines

    def coverage(self, text: str) -> Scores:
        """How much of each tool a text speaks of: (tools,), from 0 (no word in common) to 1 (every word of the tool).

        A cosine would fall with the length of the text, which says nothing about the tool.
        """
        if text not in self._coverages:
            # Several samples are made of one request, one after the other.
            self._coverages.clear()
            self._coverages[text] = self._coverage(text)
        return self._coverages[text]

    def _coverage(self, text: str) -> Scores:
        spoken = np.zeros(len(self.columns), dtype=np.float32)
        spoken[[self.columns[word] for word in set(words_of(text)) if word in self.columns]] = 1
        shares: Scores = self.squares @ spoken
        return shares

    def coverage_of(self, tool: Tool, text: str) -> float:
        """:meth:`coverage` of one tool, which need not be in the catalogue."""
        said = set(words_of(text))
        total = covered = 0.0
        for word, weight in _weights(tool).items():
            column = self.columns.get(word)
            square = (weight * (self.unseen if column is None else float(self.rarity[column]))) ** 2
            total += square
            covered += square * (word in said)
        return covered / total if total else 0.0


def _weights(tool: Tool) -> Mapping[str, float]:
    """Word to weight: of the places that a word stands in, the weightiest counts."""
    return _weights_of(tool.name, purpose(tool), tuple(tool.properties))


# The same tools come in many trajectories: without this a third of a negative's time goes into splitting words.
@functools.lru_cache(maxsize=16_384)
def _weights_of(name: str, description: str, parameters: tuple[str, ...]) -> Mapping[str, float]:
    weights = dict.fromkeys(words_of(" ".join(parameters)), PARAMETER_WEIGHT)
    weights |= dict.fromkeys(words_of(description), DESCRIPTION_WEIGHT)
    weights |= dict.fromkeys(words_of(name), NAME_WEIGHT)
    return MappingProxyType(
        {word: weight * (ACTION_WEIGHT if word in ACTION_WORDS else 1.0) for word, weight in weights.items()}
    )


_MEANING = {word: words.split()[0] for words in SAME_MEANING for word in words.split()}
