"""MMLU (Hendrycks et al. 2021, arXiv 2009.03300): five examples, the likeliest of the letters A to D.

Data: ``mmlu/mmlu.zip`` or a folder ``mmlu``, with ``test/SUBJECT_test.csv`` and ``dev/SUBJECT_dev.csv`` at any depth:
question, four answers, and the right one as letter or as number from 0. A heading row is left out.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read

LETTERS = ("A", "B", "C", "D")
_FILE = re.compile(r"(?:^|/)(test|dev)/([a-z_]+)_(?:test|dev)\.csv$")


@dataclass(frozen=True, slots=True)
class MmluProtocol:
    """Literals."""

    shots: int = 5


@dataclass
class _Question:
    """A question being asked; with fewer examples where the prompt does not fit, as the published code does."""

    heading: str
    examples: Sequence[str]
    question: str
    shots: int
    reply: Reply | None = None

    def ask(self) -> Request | None:
        if self.reply is not None:
            return None
        text = "\n\n".join([self.heading, *self.examples[: self.shots], self.question])
        return Request(({"role": "user", "content": text},), max_new_tokens=1, choices=LETTERS)

    def take(self, reply: Reply) -> None:
        if reply.finish == "context" and self.shots > 0:
            self.shots -= 1
        else:
            self.reply = reply

    def outcome(self) -> dict[str, Any]:
        # A limit may end it while examples are still being left out: then nothing was weighed.
        return {"logprobs": list(self.reply.logprobs) if self.reply is not None else [], "shots": self.shots}

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class Mmlu:
    """The benchmark ``mmlu``; ``examples`` are written-out questions with their letters, by subject."""

    settings: MmluProtocol
    questions: tuple[Item, ...]
    examples: Mapping[str, Sequence[str]]
    name: str = "mmlu"
    metrics: Sequence[Metric] = (
        Metric("correct", scale=100),
        Metric("subject_mean", score="correct", by_case=True, scale=100),
    )
    data_fingerprint: str = field(default="", kw_only=True)

    @property
    def weighs_choices(self) -> bool:
        """See :class:`~agentflan_ray.evaluate.benchmark.Weighing`."""
        return True

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        shots = (
            f"{self.settings.shots} examples of the dev set"
            if self.settings.shots
            else "no examples, for the dev set is not there (published: 5)"
        )
        return (
            f"MMLU, {len(self.questions)} test questions of {len({item.case for item in self.questions})} subjects, "
            f"{shots} in the published wording as one message of a chat, fewer where they do not fit into the model's "
            "context; the likeliest of A, B, C, D as the reply's first text."
        )

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return {
            **asdict(self.settings),
            "questions": self.data_fingerprint,
            "prompt": "mmlu/question.txt",
            "prompts": storage.fingerprint(read("mmlu/question.txt")),
        }

    def items(self) -> Sequence[Item]:
        """Questions; a case is a subject."""
        return self.questions

    def open(self, item: Item) -> _Question:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        heading = read("mmlu/question.txt").strip().format(subject=item.case.replace("_", " "))
        examples = self.examples.get(item.case, ())
        return _Question(heading, examples, item.data["text"], min(self.settings.shots, len(examples)))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """A question that does not fit into the model's context even alone is wrong."""
        weights: Sequence[float] = outcome["logprobs"]
        chosen = LETTERS[max(range(len(weights)), key=weights.__getitem__)] if weights else None
        return {"correct": float(chosen == item.data["answer"])}


def mmlu(settings: Settings) -> Mmlu:
    """The benchmark.

    Raises ``ValueError`` for a file with a row that is no question.
    """
    place = find(settings.data, "mmlu/mmlu.zip", "mmlu")
    files = dict(_files(place)) if place is not None else {}
    if not any(part == "test" for part, _ in files):
        how = "Put MMLU's CSV files (MIT, github.com/hendrycks/test says where) into mmlu/test and mmlu/dev."
        raise Unavailable("mmlu", [Missing("The test questions are not there.", how)])
    rows = {key: _rows(*key, text) for key, text in files.items()}
    items = [
        Item(f"{subject}/{number}", f"{subject}/{number}", subject, {"text": text, "answer": answer})
        for (part, subject), questions in rows.items()
        if part == "test"
        for number, (text, answer) in enumerate(questions)
    ]
    examples = {
        subject: [f"{text} {answer}" for text, answer in questions]
        for (part, subject), questions in rows.items()
        if part == "dev"
    }
    shots = MmluProtocol().shots if examples else 0
    print_of_data = storage.fingerprint(sorted([*key, text] for key, text in files.items()))
    return Mmlu(MmluProtocol(shots), in_fair_order(items), examples, data_fingerprint=print_of_data)


def _files(place: Path) -> Iterator[tuple[tuple[str, str], str]]:
    if place.is_dir():
        for path in sorted(place.rglob("*.csv")):
            if match := _FILE.search(path.as_posix()):
                yield (match[1], match[2]), path.read_text(encoding="utf-8")
        return
    with zipfile.ZipFile(place) as archive:
        for name in sorted(archive.namelist()):
            if match := _FILE.search(name):
                yield (match[1], match[2]), archive.read(name).decode("utf-8")


def _rows(part: str, subject: str, text: str) -> list[tuple[str, str]]:
    """Questions as they are asked, up to ``Answer:``, and their letters."""
    found = []
    for number, row in enumerate(csv.reader(io.StringIO(text))):
        if not row:
            continue
        answer = row[-1].strip()
        letter = LETTERS[int(answer)] if answer in ("0", "1", "2", "3") else answer
        if len(row) == 6 and letter in LETTERS:
            answers = [f"{name}. {words}" for name, words in zip(LETTERS, row[1:5], strict=True)]
            found.append(("\n".join([row[0].strip(), *answers, "Answer:"]), letter))
        elif number > 0:
            raise ValueError(
                f"Row {number + 1} of mmlu/{part}/{subject}_{part}.csv ends with {answer[:20]!r} after {len(row)} "
                "columns; a question has six columns, and the last is A, B, C, D or 0 to 3."
            )
    return found
