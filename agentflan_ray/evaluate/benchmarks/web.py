"""Tasks in a real browser through BrowserGym: WebArena on a user's servers, and MiniWoB++.

WebArena (Zhou et al., arXiv 2307.13854): 812 tasks on sites of one's own, at most 30 steps, success rate, as
AgentTuning and Agent-FLAN report it. MiniWoB++ (Liu et al., arXiv 1802.08802): 125 small pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.web_session import Page, WebSession, default_python, has_module

REPLY_TOKENS = 200
_PAGE_CHARACTERS = 12_000
_ACTION = re.compile(
    r"\b((?:click|fill|select_option|press|hover|scroll|go_back|go_forward|goto|tab_focus|new_tab|tab_close|"
    r"send_msg_to_user|report_infeasible|noop)\((?:[^()'\"\n]|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"){0,400}\))"
)
_WEBARENA_ADDRESSES = (
    "WA_SHOPPING", "WA_SHOPPING_ADMIN", "WA_REDDIT", "WA_GITLAB", "WA_WIKIPEDIA", "WA_MAP", "WA_HOMEPAGE",
)  # fmt: skip


@dataclass
class _Visit:
    """A task in a browser."""

    session: WebSession
    page: Page
    max_steps: int
    steps: int = 0
    faults: int = 0
    actions: list[str] = field(default_factory=list)
    over: bool = False

    def ask(self) -> Request | None:
        if self.over or self.page.done or self.steps == self.max_steps:
            return None
        before = "\n".join(self.actions[-10:]) or "none"
        problem = f"\nThe last action could not be done: {self.page.error[:300]}" if self.page.error else ""
        # The page as it is now, and the actions so far: pages of all steps would not fit.
        text = (
            f"Goal: {self.page.goal[:3000]}\nAddress: {self.page.url}\nActions so far:\n{before}{problem}\n"
            f"Page:\n{self.page.page[:_PAGE_CHARACTERS]}"
        )
        instruction = read("web/instruction.txt").strip()
        return Request(({"role": "system", "content": instruction}, {"role": "user", "content": text}), REPLY_TOKENS)

    def take(self, reply: Reply) -> None:
        self.steps += 1
        self.over = reply.finish == "context"
        action = _ACTION.search(reply.text.rpartition("Action:")[2])
        if action is None:
            self.faults += 1
            self.page = self.page._replace(error="there was no action in the reply")
            return
        self.actions.append(action[1])
        self.page = self.session.step(action[1])
        self.faults += bool(self.page.error)

    def outcome(self) -> dict[str, Any]:
        return {"reward": self.page.reward, "steps": self.steps, "faults": self.faults, "actions": self.actions}

    def close(self) -> None:
        self.session.close()


@dataclass(frozen=True)
class WebTasks:
    """BrowserGym tasks. ``environment`` is what the browser's process finds in its environment."""

    name: str
    place: str
    tasks: tuple[Item, ...]
    python: str
    max_steps: int
    environment: Mapping[str, str]
    environment_gib: float = 0.75
    metrics: Sequence[Metric] = (
        Metric("success", scale=100),
        Metric("faulty actions", "fault_rate", better="low", scale=100),
        Metric("steps", better="low"),
    )

    @property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return {
            "tasks": storage.fingerprint([[item.id, dict(item.data)] for item in self.tasks]),
            "place": self.place,
            "prompt": "web/instruction.txt",
            "prompts": storage.fingerprint(read("web/instruction.txt")),
            "max_steps": self.max_steps,
        }

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"{self.place}, {len(self.tasks)} tasks through BrowserGym in headless Chromium, accessibility tree of the "
            f"page at hand and the last ten actions, at most {self.max_steps} steps, no example, success rate."
        )

    def items(self) -> Sequence[Item]:
        """Tasks so that a prefix holds about the same share of each case."""
        return self.tasks

    def open(self, item: Item) -> _Visit:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        session = WebSession(self.python, self.environment)
        try:
            page = session.reset(item.data["task"], int(item.data["seed"]))
        except BaseException:
            session.close()
            raise
        return _Visit(session, page, self.max_steps)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """Success (a reward above 0), steps, and the share of steps without an action or with one that failed."""
        del item
        return {
            "success": float(outcome["reward"] > 0),
            "steps": float(outcome["steps"]),
            "fault_rate": outcome["faults"] / max(1, outcome["steps"]),
        }


def webarena(settings: Settings) -> WebTasks:
    """WebArena on a user's servers; see the module. Their addresses stand in the environment (``WA_SHOPPING`` …)."""
    python = default_python(settings.options)
    missing = [] if has_module(python, "browsergym.webarena") else [_package("browsergym-webarena")]
    if absent := [name for name in _WEBARENA_ADDRESSES if name not in os.environ]:
        missing.append(
            Missing(
                f"The addresses of WebArena's servers are not set: {', '.join(absent)}.",
                "Start the sites (github.com/web-arena-x/webarena, environment_docker) and export their addresses.",
            )
        )
    if "OPENAI_API_KEY" not in os.environ:
        missing.append(
            Missing("WebArena judges some answers by GPT-4.", "Export OPENAI_API_KEY for its fuzzy matches.")
        )
    if missing:
        raise Unavailable("webarena", missing)
    items = [Item(str(n), str(n), "webarena", {"task": f"webarena.{n}", "seed": 0}) for n in range(812)]
    return WebTasks("webarena", "WebArena", in_fair_order(items), python, 30, {})


def miniwob(settings: Settings) -> WebTasks:
    """MiniWoB++; see the module. ``--option seeds=5`` plays each task with so many seeds (default 1)."""
    python = default_python(settings.options)
    asked = settings.options.get("seeds", "1")
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"The option seeds of miniwob is {asked!r}; it is a number of at least 1.")
    seeds = int(asked)
    address = settings.options.get("miniwob_url") or os.environ.get("MINIWOB_URL")
    missing = [] if has_module(python, "browsergym.miniwob") else [_package("browsergym-miniwob")]
    if address is None:
        missing.append(
            Missing(
                "The address of MiniWoB++'s pages is not set.",
                "Install the package miniwob and give its pages, --option miniwob_url=file:///…/miniwob/html/miniwob/.",
            )
        )
    if missing or address is None:
        raise Unavailable("miniwob", missing)
    items = [
        Item(f"{task}-{seed}", task, task.split("-")[0], {"task": f"miniwob.{task}", "seed": seed})
        for task in MINIWOB_TASKS
        for seed in range(seeds)
    ]
    return WebTasks("miniwob", "MiniWoB++", in_fair_order(items), python, 10, {"MINIWOB_URL": address})


def _package(name: str) -> Missing:
    return Missing(
        f"The package {name} is not there.",
        f"pip install {name} in an environment of its own (it pins an old Playwright), name that environment's python "
        "with --option browsergym_python=…, and install Chromium with it: playwright install chromium.",
    )


MINIWOB_TASKS: tuple[str, ...] = tuple(read("web/miniwob_tasks.txt").split())
"""All that BrowserGym has."""
