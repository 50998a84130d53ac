"""HotpotQA with a search tool (Yang et al. 2018; ReAct, Yao et al. 2023; the 300 questions of BOLAA, Liu et al. 2023).

Data: ``hotpotqa/with-paragraphs/{easy,medium,hard}.jsonl`` (or ``.gz``), one question a line with ``id``, ``type``,
``level``, ``question``, ``answer`` and ``context``: ten paragraphs, either as pairs of title and sentences or as
``{"title": […], "sentences": […]}``. Agent-FLAN reports the F1 on 100 questions of each level.
"""

from __future__ import annotations

import importlib.util
import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.calls import read_calls
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.passages import WIKIPEDIA, ClosedPool, Library, LiveWikipedia, Page
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.tool_prompts import form_of

LEVELS = ("easy", "medium", "hard")
PROMPTS = ("react", "json", "native")
TOOLS = ("Search", "Lookup", "Finish")

_BRACKETED = re.compile(r"\b(search|lookup|finish)\[([^\n]{0,1000})", re.IGNORECASE)
_INPUT_LINE = re.compile(r"Action Input:[ \t]*([^\n{\[]{1,1000})")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_INPUTS = {"Search": "title", "Lookup": "word", "Finish": "answer"}


@dataclass(frozen=True, slots=True)
class HotpotProtocol:
    """Literals."""

    prompt: str = "react"
    search: str = "closed pool"
    steps: int = 10
    reply_tokens: int = 200
    first_sentences: int = 5
    similar_titles: int = 5
    observation_characters: int = 1500


@dataclass
class _Question:
    """A question being answered."""

    protocol: HotpotProtocol
    library: Library
    messages: list[Mapping[str, str]]
    tools: tuple[Mapping[str, Any], ...]
    page: Page | None = None
    looked_up: tuple[str, int] = ("", 0)
    steps: int = 0
    invalid: int = 0
    answer: str | None = None
    done: bool = False

    def ask(self) -> Request | None:
        if self.done or self.steps == self.protocol.steps:
            return None
        return Request(tuple(self.messages), self.protocol.reply_tokens, stop=("\nObservation",), tools=self.tools)

    def take(self, reply: Reply) -> None:
        self.steps += 1
        if reply.finish == "context":
            self.done = True
            return
        found = action_of(reply.text)
        if found and found[0] == "Finish":
            self.answer, self.done = found[1], True
            return
        shown = self._observe(*found) if found else self._refuse()
        said = f"Observation: {shown[: self.protocol.observation_characters]}"
        self.messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": said}]

    def _refuse(self) -> str:
        self.invalid += 1
        return "There is no action in this. An action is Search, Lookup or Finish."

    def _observe(self, action: str, given: str) -> str:
        if action == "Search":
            page = self.library.page(given)
            if page is None:
                titles = self.library.similar(given, self.protocol.similar_titles)
                return f"Could not find {given}. Similar: {', '.join(titles) or 'none'}."
            self.page, self.looked_up = page, ("", 0)
            return " ".join(page.sentences[: self.protocol.first_sentences])
        if self.page is None:
            return "There is no article yet. Search for one first."
        word = given.casefold()
        matches = [sentence for sentence in self.page.sentences if word in sentence.casefold()] if word else []
        seen = self.looked_up[1] if self.looked_up[0] == word else 0
        self.looked_up = (word, seen + 1)
        if seen >= len(matches):
            return f"No {'more ' if matches else ''}results for {given}."
        return f"(Result {seen + 1} / {len(matches)}) {matches[seen]}"

    def outcome(self) -> dict[str, Any]:
        return {"answer": self.answer, "steps": self.steps, "invalid": self.invalid}

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class HotpotQA:
    """The benchmark ``hotpotqa``."""

    settings: HotpotProtocol
    questions: tuple[Item, ...]
    library: Library
    data_fingerprint: str
    name: str = "hotpotqa"
    metrics: Sequence[Metric] = (
        Metric("f1", by_case=True, scale=100),
        Metric("exact_match", by_case=True, scale=100),
        Metric("answered", scale=100),
        Metric("steps", better="low"),
        Metric("invalid_steps", better="low"),
    )
    prompt: tuple[Mapping[str, str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", tuple(_prompt(self.settings)))

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        closed = self.settings.search == "closed pool"
        where = (
            f"in a closed pool of the {len(self.library)} paragraphs that come with the questions, under BM25"
            if isinstance(self.library, ClosedPool)
            else "in live Wikipedia as it is today"
        )
        beside = "far easier than the published search in Wikipedia; " if closed else ""
        return (
            f"HotpotQA, {len(self.questions)} questions, Search / Lookup / Finish {where}; {beside}at most "
            f"{self.settings.steps} steps, two examples of our own making in {self.settings.prompt} form, token F1 and "
            "exact match with the official normalisation, mean over the levels; BOLAA's cut of the prompt at 1,700 "
            "tokens is not imitated."
        )

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return {
            **asdict(self.settings),
            "questions": self.data_fingerprint,
            "prompts": storage.fingerprint([dict(message) for message in self.prompt]),
        }

    def items(self) -> Sequence[Item]:
        """Questions, levels in turn."""
        return self.questions

    def open(self, item: Item) -> _Question:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        tools = (
            tuple({"type": "function", "function": tool} for tool in json.loads(read("hotpotqa/tools.json")))
            if self.settings.prompt == "native"
            else ()
        )
        question = {"role": "user", "content": f"Question: {item.data['question']}"}
        return _Question(self.settings, self.library, [*self.prompt, question], tools)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """Without an answer F1 and exact match are 0."""
        answer = outcome["answer"]
        return {
            "f1": f1(answer or "", item.data["answer"]),
            "exact_match": float(answer is not None and normal(answer) == normal(item.data["answer"])),
            "answered": float(answer is not None),
            "steps": float(outcome["steps"]),
            "invalid_steps": float(outcome["invalid"]),
        }


def hotpotqa(settings: Settings) -> HotpotQA:
    """The benchmark; ``prompt`` is ``react``, ``json`` or ``native``, option ``wikipedia=live`` searches Wikipedia
    (``wikipedia_url`` names another MediaWiki API)."""
    prompt = form_of("hotpotqa", settings.prompt, "react", PROMPTS)
    live = settings.options.get("wikipedia", "closed")
    if live not in ("closed", "live"):
        raise ValueError(f"The option wikipedia is {live!r}; it is 'closed' or 'live'.")
    missing = []
    files = {level: _level_file(settings.data, level) for level in LEVELS}
    if absent := [level for level, path in files.items() if path is None]:
        missing.append(
            Missing(
                f"The questions of the level{'s' * (len(absent) > 1)} {', '.join(absent)} are not there.",
                "Put hotpotqa/with-paragraphs/LEVEL.jsonl into the data folder (docs/evaluation.md says of what kind).",
            )
        )
    if live == "closed" and importlib.util.find_spec("bm25s") is None:
        missing.append(Missing("The package bm25s is not installed.", "Run pip install 'agentflan-ray[evaluate]'."))
    if missing:
        raise Unavailable("hotpotqa", missing)
    rows = [
        (level, json.loads(line))
        for level, path in files.items()
        if path is not None
        for line in read_text(path).splitlines()
        if line.strip()
    ]
    items = [
        Item(
            id=row["id"],
            group=row["id"],
            case=level,
            data={"question": row["question"], "answer": row["answer"], "type": row["type"]},
        )
        for level, row in rows
    ]
    library: Library
    if live == "live":
        library, search = LiveWikipedia(settings.options.get("wikipedia_url", WIKIPEDIA)), "live Wikipedia"
    else:
        library, search = ClosedPool(paragraph for _, row in rows for paragraph in _paragraphs(row)), "closed pool"
    return HotpotQA(
        HotpotProtocol(prompt=prompt, search=search), in_fair_order(items), library, storage.fingerprint(rows)
    )


def action_of(reply: str) -> tuple[str, str] | None:
    """The first action of a reply in any of its forms, with its input; None where there is none."""
    if match := _BRACKETED.search(reply):
        inside, _, _ = match[2].rpartition("]")
        return match[1].capitalize(), (inside or match[2].rstrip("]")).strip()
    for call in read_calls(reply, TOOLS):
        action = call.name.strip().capitalize()
        if action in TOOLS:
            values = [value for value in (call.arguments or {}).values() if isinstance(value, str | int | float)]
            if not values and (raw := _INPUT_LINE.search(reply)):
                values = [raw[1].strip("\"' ")]
            return action, str(values[0]).strip() if values else ""
    return None


def normal(text: str) -> str:
    """Lower case, without punctuation, articles and extra blanks (HotpotQA's own ``normalize_answer``)."""
    return " ".join(_ARTICLES.sub(" ", text[:10_000].lower().translate(_PUNCTUATION)).split())


def f1(answer: str, gold: str) -> float:
    """F1 of the words of two normal answers; a yes or no that differs is 0, whatever words are shared."""
    made, true = normal(answer), normal(gold)
    closed = {"yes", "no", "noanswer"}
    if made != true and (made in closed or true in closed):
        return 0.0
    words, gold_words = made.split(), true.split()
    shared = sum((Counter(words) & Counter(gold_words)).values())
    return 2 * shared / (len(words) + len(gold_words)) if shared else 0.0


def _level_file(data: str | None, level: str) -> Path | None:
    return find(data, *(f"hotpotqa/with-paragraphs/{level}.jsonl{ending}" for ending in ("", ".gz", ".xz")))


def _paragraphs(row: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    context = row["context"]
    if isinstance(context, Mapping):
        yield from zip(context["title"], context["sentences"], strict=True)
    else:
        yield from context


def _prompt(protocol: HotpotProtocol) -> Iterator[Mapping[str, str]]:
    """The system message and the examples as turns, in the form of the prompt."""
    yield {"role": "system", "content": read(f"hotpotqa/{protocol.prompt}.txt").strip().format(steps=protocol.steps)}
    if protocol.prompt == "native":
        return  # each chat template writes calls in its own form: examples would have to follow it
    for example in json.loads(read("hotpotqa/examples.json")):
        said = f"Question: {example['question']}"
        for step in example["steps"]:
            yield {"role": "user", "content": said}
            yield {"role": "assistant", "content": _written(step, protocol.prompt)}
            said = f"Observation: {step['observation']}"


def _written(step: Mapping[str, str], form: str) -> str:
    if form == "react":
        return f"Thought: {step['thought']}\nAction: {step['action']}[{step['input']}]"
    call = {"thought": step["thought"], "name": step["action"], "args": {_INPUTS[step["action"]]: step["input"]}}
    return json.dumps(call, ensure_ascii=False)
