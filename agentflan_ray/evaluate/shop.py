"""Shops to buy in: a WebShop server, and a small shop of the project's own with the same pages and the same reward.

WebShop (Yao et al., arXiv 2207.01206, section 3): pages are texts whose parts are joined by `` [SEP] ``; actions are
``search[words]`` and ``click[button]``; buying ends an episode with a reward between 0 and 1.
"""

from __future__ import annotations

import json
import random
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from agentflan_ray.evaluate.benchmark import EnvironmentDied

ACTION = re.compile(r"(search|click)\[([^\[\]\n]{1,300})\]", re.IGNORECASE)
_PER_PAGE = 10
_RESULTS = 50


class Seen(NamedTuple):
    """A page: its text, whether one can search from it, and what can be clicked. ``reward`` is None until the end."""

    text: str
    can_search: bool
    buttons: tuple[str, ...]
    reward: float | None = None


class Shop(Protocol):
    """A shop in which one episode is played."""

    def enter(self, goal: int) -> Seen:
        """Begin with a goal by its number. Raises :class:`EnvironmentDied`."""

    def act(self, kind: str, argument: str) -> Seen:
        """Search or click; what can't be done leaves the page as it is."""

    def leave(self) -> None:
        """Frees what the shop holds for the episode."""


@dataclass
class WebShopServer:
    """WebShop behind AgentGym's server (``agentenv-webshop``, its routes create, reset, step, available_actions)."""

    url: str
    seconds: float = 60.0
    _environment: int | None = None

    def enter(self, goal: int) -> Seen:
        """See :class:`Shop`."""
        self._environment = int(self._post("create", {}))
        self._post("reset", {"env_idx": self._environment, "session_id": goal})
        return self._look(str(self._get(f"observation?env_idx={self._environment}")), None)

    def act(self, kind: str, argument: str) -> Seen:
        """See :class:`Shop`."""
        answer = self._post("step", {"env_idx": self._environment, "action": f"{kind}[{argument}]"})
        if answer["done"]:
            return Seen(str(answer["state"]), False, (), float(answer["reward"]))
        return self._look(str(answer["state"]), None)

    def leave(self) -> None:
        """See :class:`Shop`."""
        if self._environment is not None:
            number, self._environment = self._environment, None
            self._post("close", {"env_idx": number})

    def _look(self, text: str, reward: float | None) -> Seen:
        actions = self._get(f"available_actions?env_idx={self._environment}")
        return Seen(text, bool(actions["has_search_bar"]), tuple(map(str, actions["clickables"])), reward)

    def _post(self, route: str, body: dict[str, Any]) -> Any:
        return self._ask(urllib.request.Request(f"{self.url}/{route}", json.dumps(body).encode(), _JSON))

    def _get(self, route: str) -> Any:
        return self._ask(urllib.request.Request(f"{self.url}/{route}"))

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                return json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise EnvironmentDied(f"The WebShop server {self.url} failed: {error}") from error


_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Product:
    """Something to buy: ``options`` are choices by name, each with its values."""

    id: str
    kind: str
    title: str
    price: float
    attributes: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Goal:
    """What is to be bought, for less than ``price``; ``product`` fulfils it."""

    product: Product
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    price: float

    @property
    def instruction(self) -> str:
        """The goal in words."""
        wanted = "".join(f", {name} {value}" for name, value in self.options)
        what = f"{' '.join(self.attributes)} {self.product.kind}"
        return f"i want a {what}{wanted}, and price lower than {self.price:.2f} dollars"


class Catalogue:
    """Made-up products and goals of a seed, with a search index (BM25, package ``bm25s``)."""

    def __init__(self, num_products: int, num_goals: int, seed: int = 0) -> None:
        import bm25s

        rng = random.Random(seed)
        self.products = tuple(_product(rng, number) for number in range(num_products))
        self.goals = tuple(_goal(rng, self.products[rng.randrange(num_products)]) for _ in range(num_goals))
        self._by_id = {product.id.lower(): product for product in self.products}
        self._tokenize = bm25s.tokenize
        self._index = bm25s.BM25()
        texts = [f"{product.title} {' '.join(product.attributes)}" for product in self.products]
        self._index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)

    def find(self, words: str) -> list[Product]:
        """At most fifty products, best first."""
        tokens = self._tokenize(words[:300], stopwords="en", return_ids=False, show_progress=False)
        if not tokens[0]:
            return []
        count = min(_RESULTS, len(self.products))
        numbers, scores = self._index.retrieve(tokens, k=count, show_progress=False)
        return [self.products[number] for number, score in zip(numbers[0], scores[0], strict=True) if score > 0]

    def product(self, name: str) -> Product | None:
        """The product of this id, in any case."""
        return self._by_id.get(name.lower())


@dataclass
class OwnShop:
    """A walk through the pages of a catalogue: search, results, product, buy."""

    catalogue: Catalogue
    _goal: Goal | None = None
    _results: Sequence[Product] = ()
    _page: int = 0
    _product: Product | None = None
    _chosen: dict[str, str] | None = None

    def enter(self, goal: int) -> Seen:
        """See :class:`Shop`."""
        self._goal = self.catalogue.goals[goal]
        self._results, self._page, self._product, self._chosen = (), 0, None, None
        return self._seen()

    def act(self, kind: str, argument: str) -> Seen:
        """See :class:`Shop`."""
        now = self._seen()
        if kind == "search" and now.can_search:
            self._results, self._page, self._chosen = self.catalogue.find(argument), 0, {}
            return self._seen()
        button = argument.strip().lower()
        if kind != "click" or button not in (each.lower() for each in now.buttons):
            return now
        if button == "buy now":
            assert self._goal is not None
            assert self._product is not None
            reward = reward_of(self._goal, self._product, self._chosen or {})
            return Seen(
                f"Thank you for shopping with us! [SEP] Your score (min 0.0, max 1.0) {reward:.2f}", False, (), reward
            )
        if button == "back to search":
            self._results, self._page, self._product, self._chosen = (), 0, None, None
        elif button == "< prev" and self._product is not None:
            self._product, self._chosen = None, {}
        elif button in ("next >", "< prev"):
            self._page += 1 if button == "next >" else -1
        elif self._product is None:
            self._product, self._chosen = self.catalogue.product(button), {}
        else:
            assert self._chosen is not None
            name = next(name for name, values in self._product.options if button in values)
            self._chosen[name] = button
        return self._seen()

    def leave(self) -> None:
        """Nothing to free."""

    def _seen(self) -> Seen:
        assert self._goal is not None
        head = ["Instruction:", self._goal.instruction]
        if self._chosen is None:
            return Seen(" [SEP] ".join(["WebShop", *head, "Search"]), True, ("Search",))
        if self._product is None:
            return self._result_page(head)
        parts, buttons = [*head, "Back to Search", "< Prev"], ["Back to Search", "< Prev"]
        for name, values in self._product.options:
            parts += [name, *values]
            buttons += values
        parts += [self._product.title, f"Price: ${self._product.price:.2f}", "Rating: N.A.", "Buy Now"]
        return Seen(" [SEP] ".join(parts), False, (*buttons, "Buy Now"))

    def _result_page(self, head: list[str]) -> Seen:
        shown = self._results[self._page * _PER_PAGE : (self._page + 1) * _PER_PAGE]
        turns = ["< Prev"] * (self._page > 0) + ["Next >"] * (len(self._results) > (self._page + 1) * _PER_PAGE)
        parts = [*head, "Back to Search", f"Page {self._page + 1} (Total results: {len(self._results)})", *turns]
        for product in shown:
            parts += [product.id, product.title, f"${product.price:.2f}"]
        return Seen(" [SEP] ".join(parts), False, ("Back to Search", *turns, *(product.id for product in shown)))


def reward_of(goal: Goal, product: Product, chosen: dict[str, str]) -> float:
    """WebShop's reward (section 3.2): hits of attributes, options and price over all of them, times that of the kind.

    The kind counts 1 where it is the goal's; else 0.5 where a word of its title is in the goal's, and 0.1 where none
    is (WebShop compares categories and nouns of titles, which needs a tagger).
    """
    attributes = sum(attribute in product.attributes for attribute in goal.attributes)
    options = sum(chosen.get(name) == value for name, value in goal.options)
    cheap = product.price <= goal.price
    hits = (attributes + options + cheap) / (len(goal.attributes) + len(goal.options) + 1)
    shared = set(product.title.lower().split()) & set(goal.product.title.lower().split())
    return hits * (1.0 if product.kind == goal.product.kind else 0.5 if shared else 0.1)


_KINDS = {
    "floor lamp": ("led", "dimmable", "adjustable", "brushed steel", "energy saving", "tall"),
    "running shoe": ("lightweight", "breathable", "non slip", "waterproof", "arch support", "lace up"),
    "desk chair": ("ergonomic", "high back", "mesh", "swivel", "lumbar support", "easy assemble"),
    "rain jacket": ("waterproof", "hooded", "machine wash", "windproof", "packable", "lined"),
    "headphone": ("wireless", "noise cancelling", "long lasting", "foldable", "hands free", "deep bass"),
    "tea": ("organic", "caffeine free", "loose leaf", "gluten free", "individually wrapped", "fair trade"),
    "throw pillow": ("machine wash", "memory foam", "super soft", "double sided", "velvet", "plush"),
    "phone case": ("shock proof", "slim", "wireless charging", "scratch resistant", "clear", "anti slip"),
}
_OPTIONS = {
    "color": ("black", "white", "navy", "green", "red", "grey", "yellow"),
    "size": ("small", "medium", "large", "x-large"),
}
_MAKERS = ("Arbent", "Lumora", "Veskal", "Torrin", "Quillby", "Osmond", "Pellan", "Hadley")


def _product(rng: random.Random, number: int) -> Product:
    kind = rng.choice(list(_KINDS))
    attributes = tuple(rng.sample(_KINDS[kind], 3))
    names = rng.sample(list(_OPTIONS), rng.randint(0, 2))
    options = tuple((name, tuple(rng.sample(_OPTIONS[name], rng.randint(2, 4)))) for name in sorted(names))
    title = (
        f"{rng.choice(_MAKERS)} {' '.join(word.capitalize() for word in ' '.join(attributes).split())} {kind.title()}"
    )
    return Product(
        f"B{rng.randrange(36**3):05d}{number:04d}", kind, title, round(rng.uniform(8, 160), 2), attributes, options
    )


def _goal(rng: random.Random, product: Product) -> Goal:
    attributes = tuple(rng.sample(product.attributes, rng.randint(1, 2)))
    options = tuple((name, rng.choice(values)) for name, values in product.options)
    return Goal(product, attributes, options, float(int(product.price / 10 + 1) * 10))
