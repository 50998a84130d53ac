"""Mind2Web by multiple choice, as MindAct and AgentBench run it (Deng et al., arXiv 2306.06070, sections 3.2 and 4.1).

The elements that a ranker thinks likeliest are shown in groups of five beside "None of the above"; what the model
chooses goes into the next round until one element is left. Needs the test files, which are published behind a password
(``mind2web/test_task/*.json``, ``test_website``, ``test_domain``), and the published ranker's scores as JSON
(``mind2web/scores_all_data.json``), because they are published as a pickle, which is never opened here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find
from agentflan_ray.evaluate.page_snippet import Element, elements_by_id, parse_page, snippet
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.randomness import stable_hash

TOP = 10
"""Candidates of each step (AgentBench; MindAct itself took 50)."""
GROUP = 5
REPLY_TOKENS = 96
SPLITS = ("test_task", "test_website", "test_domain")
_PAGE_CHARACTERS = 12_000

_LETTER = re.compile(r"Answer:\s*\(?([A-Z])\b")
_OPERATION = re.compile(r"Action:\s*\(?(CLICK|SELECT|TYPE)\b", re.IGNORECASE)
_VALUE = re.compile(r"Value:[ \t]*([^\n]*)")


@dataclass
class _Step:
    """A step being chosen: rounds of groups until one element is left."""

    task: str
    previous: Sequence[str]
    root: Element
    nodes: Mapping[str, Element]
    waiting: list[str]
    """Candidates still in, by id."""
    chosen: str | None = None
    operation: str = ""
    value: str = ""
    asked: int = 0
    too_long: bool = False
    _group: list[str] = field(default_factory=list)

    def ask(self) -> Request | None:
        # A choice that stands alone has won: it was taken from its group.
        if self.too_long or not self.waiting or (len(self.waiting) == 1 and self.chosen == self.waiting[0]):
            return None
        self._group, self.waiting = self.waiting[:GROUP], self.waiting[GROUP:]
        page, alone = snippet(self.root, [self.nodes[each] for each in self._group])
        choices = ["A. None of the above", *(f"{chr(66 + place)}. {text}" for place, text in enumerate(alone))]
        question = read("mind2web/question.txt").format(
            page=page[:_PAGE_CHARACTERS],
            task=self.task,
            previous="\n".join(self.previous[-5:]) or "None",
            choices="\n".join(choices),
        )
        messages = [
            {"role": "system", "content": read("mind2web/instruction.txt").strip()},
            *json.loads(read("mind2web/example.json")),
            {"role": "user", "content": question.strip()},
        ]
        return Request(tuple(messages), REPLY_TOKENS)

    def take(self, reply: Reply) -> None:
        self.asked += 1
        self.too_long = reply.finish == "context"
        letter = _LETTER.search(reply.text)
        place = ord(letter[1]) - 66 if letter else -1
        if not 0 <= place < len(self._group):
            return
        self.chosen = self._group[place]
        operation, value = _OPERATION.search(reply.text), _VALUE.search(reply.text)
        self.operation = operation[1].upper() if operation else ""
        self.value = value[1].strip() if value and self.operation != "CLICK" else ""
        self.waiting.append(self.chosen)

    def outcome(self) -> dict[str, Any]:
        # Where the last group held none, nothing is left, whatever an earlier one held.
        left = self.waiting[0] if self.waiting and not self.too_long else None
        return {"element": left, "operation": self.operation, "value": self.value, "asked": self.asked}

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class Mind2Web:
    """The steps of the test tasks, each an item, grouped by task."""

    steps: tuple[Item, ...]
    ranker: str
    name: str = "mind2web"
    metrics: Sequence[Metric] = (
        Metric("step_success", scale=100),
        Metric("element_accuracy", scale=100),
        Metric("action_f1", scale=100),
        Metric("recall of the ranker", "ranked", scale=100),
    )

    @property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        prompts = [read(f"mind2web/{file}") for file in ("instruction.txt", "example.json", "question.txt")]
        return {
            "steps": storage.fingerprint([item.id for item in self.steps]),
            "ranker": self.ranker,
            "prompt": "mind2web/question.txt with two examples",
            "prompts": storage.fingerprint(prompts),
            "top": TOP,
            "group": GROUP,
        }

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"Mind2Web, {len(self.steps)} steps, the {TOP} likeliest elements by {self.ranker} in groups of {GROUP} "
            "and 'None of the above', two examples of our own making; step success is the right element with the right "
            "operation and value. A step whose element the ranker lacks, or whose cleaned page has none that is right, "
            "is not asked about and has 0 in every score."
        )

    def items(self) -> Sequence[Item]:
        """Steps in the order of a hash."""
        return self.steps

    def open(self, item: Item) -> _Step:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        root = parse_page(item.data["html"])
        nodes = elements_by_id(root)
        # A step without a right candidate is not asked about, as in MindAct's and AgentBench's evaluation.
        waiting = [each for each in item.data["candidates"] if each in nodes] if _ranked(item) else []
        return _Step(item.data["task"], item.data["previous"], root, nodes, waiting)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """Element accuracy, token F1 of operation and value, and step success; 0 where no candidate is right."""
        element = outcome["element"] in item.data["gold"]
        f1 = _f1(f"{outcome['operation']} {outcome['value']}", f"{item.data['operation']} {item.data['value']}")
        f1 = f1 if outcome["element"] is not None and _ranked(item) else 0.0
        return {
            "step_success": float(element and f1 == 1),
            "element_accuracy": float(element),
            "action_f1": f1,
            "ranked": float(_ranked(item)),
        }


def mind2web(settings: Settings) -> Mind2Web:
    """Mind2Web's test steps; see the module. ``--option split=test_task`` takes one of the three splits,
    ``--option ranker=words`` ranks elements by the words they share with the task in place of the published ranker."""
    split, ranker = settings.options.get("split"), settings.options.get("ranker", "published")
    if split is not None and split not in SPLITS:
        raise ValueError(f"There is no split {split!r} of mind2web; choose one of {', '.join(SPLITS)}.")
    if ranker not in ("published", "words"):
        raise ValueError(f"The ranker is {ranker!r}; choose published or words.")
    folder, scores_file = find(settings.data, "mind2web"), find(settings.data, "mind2web/scores_all_data.json")
    files = [file for each in ((split,) if split else SPLITS) for file in _files(folder, each)]
    missing = []
    if not files:
        missing.append(
            Missing(
                "The test files (mind2web/test_task/*.json) are not in the data folder.",
                "They are published as test.zip at huggingface.co/datasets/osunlp/Mind2Web.",
            )
        )
    if ranker == "published" and scores_file is None:
        missing.append(
            Missing(
                "The ranker's scores (mind2web/scores_all_data.json) are not in the data folder.",
                "They are published as a pickle, scores_all_data.pkl; turn it into JSON where you trust it, or rank "
                "by words with --option ranker=words.",
            )
        )
    if missing:
        raise Unavailable("mind2web", missing)
    scores = storage.read_json(str(scores_file))["scores"] if ranker == "published" else None
    steps = [step for file in files for step in _steps(json.loads(file.read_text(encoding="utf-8")), scores)]
    in_order = sorted(steps, key=lambda item: stable_hash("mind2web", item.id))
    return Mind2Web(tuple(in_order), "the published ranker" if ranker == "published" else "words shared with the task")


def _ranked(item: Item) -> bool:
    """Whether a right element is among the candidates."""
    return any(each in item.data["gold"] for each in item.data["candidates"])


def _files(folder: Path | None, split: str) -> list[Path]:
    return [] if folder is None else sorted((folder / split).glob("*.json"))


def _steps(tasks: list[dict[str, Any]], scores: Mapping[str, Mapping[str, float]] | None) -> Iterator[Item]:
    for task in tasks:
        for number, action in enumerate(task["actions"]):
            name = f"{task['annotation_id']}_{action['action_uid']}"
            gold = [str(each["backend_node_id"]) for each in action["pos_candidates"]]
            every = [str(each["backend_node_id"]) for each in [*action["pos_candidates"], *action["neg_candidates"]]]
            ranked: Mapping[str, float] = {}
            if gold:  # some steps have none in their cleaned page; MindAct leaves these out in training alone
                ranked = (
                    _by_words(action["cleaned_html"], task["confirmed_task"], every) if scores is None else scores[name]
                )
            best = sorted(every, key=lambda each: (-ranked.get(each, float("-inf")), stable_hash(name, each)))[:TOP]
            # In the order of a hash, so that the place says nothing of the rank.
            yield Item(
                id=name,
                group=str(task["annotation_id"]),
                case=str(task["domain"]),
                data={
                    "task": task["confirmed_task"],
                    "previous": task["action_reprs"][:number],
                    "html": action["cleaned_html"],
                    "candidates": sorted(best, key=lambda each: stable_hash("place", name, each)),
                    "gold": gold,
                    "operation": action["operation"]["op"],
                    "value": action["operation"]["value"],
                },
            )


def _by_words(html: str, task: str, candidates: Sequence[str]) -> dict[str, float]:
    """The share of an element's words that the task has too."""
    nodes = elements_by_id(parse_page(html))
    wanted = set(_words(task))
    scores = {}
    for each in candidates:
        if each in nodes:
            texts = [f"{inner.text} {' '.join(inner.attributes.values())}" for inner in nodes[each].walk()]
            words = _words(" ".join(texts))[:50]
            scores[each] = sum(word in wanted for word in words) / (len(words) + 3)
    return scores


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _f1(made: str, gold: str) -> float:
    """F1 of words, counted as often as they stand there."""
    mine, theirs = Counter(made.lower().split()), Counter(gold.lower().split())
    shared = (mine & theirs).total()
    return 2 * shared / (mine.total() + theirs.total()) if shared else 0.0
