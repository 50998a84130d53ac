"""Shopping as AgentBench runs WebShop (arXiv 2308.03688, section 3): ten rounds, one example, mean reward.

``webshop`` needs a WebShop server of the user's (its products are published elsewhere and need some 16 GB);
``shopping`` plays the same protocol in a small shop of the project's own. Their numbers can't be compared.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.shop import ACTION, Catalogue, OwnShop, Seen, Shop, WebShopServer

ROUNDS = 10
REPLY_TOKENS = 160
NUM_GOALS = 200
"""AgentBench's: the goals 0 to 199."""
NUM_PRODUCTS = 400
_PAGE_CHARACTERS = 4000


@dataclass
class _Purchase:
    """An episode in a shop."""

    shop: Shop
    seen: Seen
    messages: list[dict[str, str]]
    rounds: int = 0
    invalid: int = 0
    actions: list[str] = field(default_factory=list)
    over: bool = False

    def ask(self) -> Request | None:
        if self.over or self.seen.reward is not None or self.rounds == ROUNDS:
            return None
        return Request(tuple(self.messages), REPLY_TOKENS)

    def take(self, reply: Reply) -> None:
        self.rounds += 1
        self.over = reply.finish == "context"
        written = ACTION.search(reply.text.rpartition("Action:")[2])
        if written is None:
            self.invalid += 1
        else:
            kind, argument = written[1].lower(), written[2].strip()
            listed = [button.lower() for button in self.seen.buttons]
            self.invalid += not (self.seen.can_search if kind == "search" else argument.lower() in listed)
            self.actions.append(f"{kind}[{argument}]")
            self.seen = self.shop.act(kind, argument)
        self.messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": _told(self.seen)}]

    def outcome(self) -> dict[str, Any]:
        return {
            "reward": self.seen.reward,
            "rounds": self.rounds,
            "invalid_actions": self.invalid,
            "actions": self.actions,
        }

    def close(self) -> None:
        self.shop.leave()


@dataclass(frozen=True)
class Shopping:
    """Goals in one shop. ``make_shop`` gives a shop for each episode; ``place`` names it."""

    name: str
    place: str
    goals: tuple[Item, ...]
    make_shop: Callable[[], Shop]
    metrics: Sequence[Metric] = (
        Metric("reward", scale=100),
        Metric("success", scale=100),
        Metric("bought", scale=100),
        Metric("invalid actions", "invalid_action_rate", better="low", scale=100),
    )

    @property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        prompts = [read("webshop/instruction.txt"), read("webshop/example.json")]
        return {
            "shop": self.place,
            "goals": storage.fingerprint([[item.id, dict(item.data)] for item in self.goals]),
            "prompt": "webshop/instruction.txt with one example",
            "prompts": storage.fingerprint(prompts),
            "rounds": ROUNDS,
        }

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"{len(self.goals)} goals in {self.place}, at most {ROUNDS} rounds, buttons listed, one example of our own "
            "making, WebShop's reward (0 where nothing was bought)."
        )

    def items(self) -> Sequence[Item]:
        """Goals in the order of a hash."""
        return self.goals

    def open(self, item: Item) -> _Purchase:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        shop = self.make_shop()
        seen = shop.enter(int(item.data["goal"]))
        messages = [
            {"role": "system", "content": read("webshop/instruction.txt").strip()},
            *json.loads(read("webshop/example.json")),
            {"role": "user", "content": f"That was bought. The next one:\n{_told(seen)}"},
        ]
        return _Purchase(shop, seen, messages)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        """The reward, whether it was whole, whether anything was bought, and the share of actions that did nothing."""
        del item
        reward = float(outcome["reward"] or 0.0)
        return {
            "reward": reward,
            "success": float(reward == 1),
            "bought": float(outcome["reward"] is not None),
            "invalid_action_rate": outcome["invalid_actions"] / max(1, outcome["rounds"]),
        }


def webshop(settings: Settings) -> Shopping:
    """WebShop on a server of the user's, ``--option webshop_url=http://HOST:PORT``; see the module."""
    url = settings.options.get("webshop_url")
    if url is None:
        raise Unavailable(
            "webshop",
            [
                Missing(
                    "There is no WebShop server.",
                    "Start one with AgentGym's agentenv-webshop (github.com/WooooDyy/AgentGym) and name it with "
                    "--option webshop_url=http://HOST:PORT; the benchmark shopping needs none.",
                )
            ],
        )
    goals = [Item(str(number), str(number), "webshop", {"goal": number}) for number in range(NUM_GOALS)]
    return Shopping("webshop", "WebShop", in_fair_order(goals), lambda: WebShopServer(url.rstrip("/")))


def shopping(settings: Settings) -> Shopping:
    """The shop of the project's own."""
    del settings
    if importlib.util.find_spec("bm25s") is None:
        raise Unavailable(
            "shopping", [Missing("The shop's search needs bm25s.", "pip install 'agentflan-ray[evaluate]'.")]
        )
    catalogue = Catalogue(NUM_PRODUCTS, NUM_GOALS)
    goals = [
        Item(str(number), goal.product.id, goal.product.kind, {"goal": number, "instruction": goal.instruction})
        for number, goal in enumerate(catalogue.goals)
    ]
    place = f"a shop of our own ({NUM_PRODUCTS} made-up products; not WebShop)"
    return Shopping("shopping", place, in_fair_order(goals), lambda: OwnShop(catalogue))


def _told(seen: Seen) -> str:
    searching = "You can search." if seen.can_search else "You can't search here."
    return f"{seen.text[:_PAGE_CHARACTERS]}\n{searching} Buttons: {', '.join(seen.buttons)}"
